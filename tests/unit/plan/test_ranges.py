"""Neighbouring ports are shown as a range."""

from __future__ import annotations

from ipaddress import ip_address

from pointsman.model import Endpoint
from pointsman.plan.ranges import in_ranges


def ends(*texts: str) -> list[Endpoint]:
    pairs = (text.rpartition(":") for text in texts)
    return [Endpoint(ip_address(address), int(port)) for address, _, port in pairs]


def test_ranges() -> None:
    assert in_ranges([]) == []
    assert in_ranges(ends("192.0.2.1:80")) == ["192.0.2.1:80"]
    assert in_ranges(ends("192.0.2.1:80", "192.0.2.1:81", "192.0.2.1:83")) == [
        "192.0.2.1:80-81",
        "192.0.2.1:83",
    ]
    assert in_ranges(ends("192.0.2.1:80", "192.0.2.2:81")) == ["192.0.2.1:80", "192.0.2.2:81"]
    assert in_ranges(ends("2001:db8::1:80", "2001:db8::1:81")) == ["[2001:db8::1]:80-81"]
