"""What is said to a node and made of its answers, without I/O: bytes in, bytes and an outcome out."""
