"""Read the addresses of listeners and nodes, and refuse those that cannot be one."""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address

from pointsman.config.wording import quoted
from pointsman.model import Address, Endpoint, NodeAddress

LISTENER_FORMS = 'an IP address with its port: "192.0.2.10:5684" or "[2001:db8::10]:5684"'
NODE_FORMS = 'an IP address: "10.0.0.11" or "fd00::11", with a port "10.0.0.11:15684" or "[fd00::11]:15684"'

_BRACKETED = re.compile(r"\[([^\[\]]*)\](?::(.*))?", re.DOTALL)
_THIS_NETWORK = IPv4Network("0.0.0.0/8")
_BROADCAST = IPv4Address("255.255.255.255")


class AddressError(ValueError):
    """Why a text is no address for this place: what it is, and what is allowed."""

    def __init__(self, what: str, allowed: str) -> None:
        super().__init__(what, allowed)
        self.what = what
        self.allowed = allowed


MOST_PORTS = 1000
"""Ports of a range: each is a listener of its own to the data planes."""


def listener_range(text: str) -> tuple[Endpoint, int]:
    """Read ``192.0.2.10:8000-8009`` as its first endpoint and the number of ports; raises AddressError."""
    match = re.fullmatch(r"(.*:[0-9]{1,5})-([0-9]{1,5})", text, re.DOTALL)
    if not match:
        return listener_endpoint(text), 1
    first, last = listener_endpoint(match[1]), int(match[2])
    if not first.port < last <= 65535:
        raise AddressError(f"{quoted(text)} has a range of ports that is none", "1..65535, the lower first")
    if last - first.port >= MOST_PORTS:
        raise AddressError(f"{quoted(text)} has {last - first.port + 1} ports", f"at most {MOST_PORTS}")
    return first, last - first.port + 1


def listener_endpoint(text: str) -> Endpoint:
    """Read ``192.0.2.10:5684`` or ``[2001:db8::10]:5684``; raises AddressError."""
    address, port = _split(text, LISTENER_FORMS)
    if port is None:
        host = f"[{address}]" if address.version == 6 else str(address)
        raise AddressError(f"{quoted(text)} has no port", f'with a port: "{host}:5684"')
    return Endpoint(address, port)


def own_endpoint(text: str) -> Endpoint:
    """Read where a socket of this machine is to listen: loopback and the unspecified address as well."""
    address, port = _split(text, LISTENER_FORMS, anywhere=True)
    if port is None:
        raise AddressError(f"{quoted(text)} has no port", LISTENER_FORMS)
    return Endpoint(address, port)


def node_address(text: str) -> NodeAddress:
    """Read an address with or without a port; raises AddressError."""
    return NodeAddress(*_split(text, NODE_FORMS))


def _split(text: str, forms: str, *, anywhere: bool = False) -> tuple[Address, int | None]:
    bracketed = _BRACKETED.fullmatch(text)
    if bracketed:
        host, port = bracketed[1], bracketed[2]
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    else:
        host, port = text, None
    address = _address(host, text, forms)
    if bracketed and address.version == 4:
        raise AddressError(f"{quoted(text)} has an IPv4 address in brackets", forms)
    if not anywhere and (defect := _defect(address)):
        raise AddressError(f"{quoted(text)} is {defect}", "a unicast address of one machine")
    return address, None if port is None else _port(port, text)


def _address(host: str, text: str, forms: str) -> Address:
    try:
        return IPv6Address(host) if ":" in host else IPv4Address(host)
    except AddressValueError:
        pass
    if not host:
        raise AddressError(f"{quoted(text)} has no address", forms)
    if "/" in host:
        raise AddressError(f"{quoted(text)} has a prefix length", f"without it, {forms}")
    if re.search("[g-zG-Z]", host) and ":" not in host:
        raise AddressError(f"{quoted(text)} is a name, which is not looked up", forms)
    raise AddressError(f"{quoted(text)} is not an IP address", forms)


def _port(digits: str, text: str) -> int:
    if not re.fullmatch("[0-9]+", digits):
        raise AddressError(f"{quoted(text)} has no number for a port", "a port, 1..65535")
    # Not int() of whatever length: Python refuses more than 4300 digits with an error of its own.
    port = int(digits) if len(digits) <= 5 else 0
    if not 1 <= port <= 65535:
        raise AddressError(f"{quoted(text)} has a port that is out of range", "1..65535")
    return port


def _defect(address: Address) -> str | None:
    """Why an address can be neither a listener's nor a node's."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return "an IPv4 address mapped into IPv6"
    checks = [
        (address.is_unspecified, "the unspecified address"),
        (address.is_loopback, "a loopback address"),
        (address.is_multicast, "a multicast address"),
        (address.is_link_local, "a link-local address, which has no meaning beyond its link"),
    ]
    if isinstance(address, IPv6Address):
        checks.append((address.scope_id is not None, "an address with a zone"))
    else:
        checks.append((address == _BROADCAST, "the broadcast address"))
        checks.append((address in _THIS_NETWORK, "an address of 0.0.0.0/8, which no machine can have"))
    return next((name for found, name in checks if found), None)
