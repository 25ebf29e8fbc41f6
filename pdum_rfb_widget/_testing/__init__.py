"""What `testing` and the benchmark share: pictures in motion, and the packages that these need."""
