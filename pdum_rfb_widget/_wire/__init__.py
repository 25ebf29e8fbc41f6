"""The wire protocol: parsing viewers' messages, building the hub's, negotiation. Pure functions, no I/O."""
