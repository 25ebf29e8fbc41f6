"""Pixels and changes in them: validation, tile maps and damage, the store of the newest frames."""
