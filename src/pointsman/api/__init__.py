"""The HTTP API: what can be asked of a running daemon, and its client."""
