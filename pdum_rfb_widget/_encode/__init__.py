"""Encoding in worker threads: jobs for pictures, shared encoders of video, the pool."""
