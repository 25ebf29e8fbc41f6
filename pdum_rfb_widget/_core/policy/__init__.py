"""The decisions on how much to send to a viewer, and when: bandwidth, publish rate, costs, degradation, backoff."""
