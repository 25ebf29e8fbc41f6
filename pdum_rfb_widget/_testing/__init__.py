"""Shared by `testing` and the benchmark: pictures in motion, and the packages that these need."""
