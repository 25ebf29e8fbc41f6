"""How much to send to a viewer, at which quality, and when: bandwidth, publish rate, costs, degradation, backoff."""
