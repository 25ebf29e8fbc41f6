"""Shared by `testing` and the benchmark: moving pictures, and the packages that these need."""
