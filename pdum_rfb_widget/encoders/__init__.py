"""One module a codec family."""
