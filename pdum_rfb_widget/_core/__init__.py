"""The rules of one stream, sans-I/O: no clock, no socket, no thread. Tested with lists of inputs."""
