"""Skip a case on a plane that does not carry what it is about, as long as model.abilities says so."""

from __future__ import annotations

import pytest

from pointsman.model import Filter, Gateway, Guard, PortRange, Protocol, Service
from pointsman.model.abilities import lacks

FILTER = Gateway("g", (Service("s", Protocol.DTLS, (), (), filter=Filter()),), 0)
GUARD = Gateway("g", (), 0, guards=(Guard("g", ("eth0",), (PortRange(1, 1),), Filter()),))


def require(plane: str, gateway: Gateway) -> None:
    lack = next(lacks(gateway, plane), None)
    if lack is not None:
        pytest.skip(f"{lack.what} is not carried by {plane} in this version")
