"""Names of chains, sets and maps, made to be read in ``nft list table inet pointsman``.

All of a service's names start with ``SERVICE/``, which no nft keyword does.
"""

from __future__ import annotations

from pointsman.model import Endpoint, Family, Service


def listener_name(service: Service, endpoint: Endpoint) -> str:
    """``coaps/192.0.2.10-5684``; nft takes no colons in names."""
    return f"{service.name}/{str(endpoint.address).replace(':', '_')}-{endpoint.port}"


def family_name(service: Service, family: Family) -> str:
    return f"{service.name}/ip{family.value}"


def verdict_set(verdict: str, family: Family) -> str:
    return f"verdict{family.value}/{verdict}"
