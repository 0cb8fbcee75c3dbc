"""The sockets and processes that checks go by."""
