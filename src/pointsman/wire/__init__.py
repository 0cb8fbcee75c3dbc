"""Codecs without I/O: DTLS records, connection IDs, checksums, address announcements."""
