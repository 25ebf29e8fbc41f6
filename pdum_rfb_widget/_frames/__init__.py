"""Pixels and what changed of them: validation, tile maps and damage, the store of the newest frames."""
