"""Integration with notebooks: discovery of hubs, hub proxies, the notebook context, saved pictures."""
