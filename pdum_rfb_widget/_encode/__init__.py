"""Encoding in worker threads: jobs for images, workers of shared video encoders, the pool."""
