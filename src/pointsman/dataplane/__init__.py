"""The data planes behind one protocol."""
