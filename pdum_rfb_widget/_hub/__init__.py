"""The asyncio side: admission, the HTTP API, one object a stream and a connection, callbacks, status."""
