"""How much to send, how fine and when: bandwidth, publish rate, costs, degradation and backoff."""
