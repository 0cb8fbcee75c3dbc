"""Pointsman: a layer-4 load balancer that routes DTLS records by their connection ID."""

__version__ = "0.1.0"
