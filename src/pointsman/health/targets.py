"""What is to be checked of a gateway's nodes, each distinct thing once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from urllib.parse import quote

from pointsman.model import (
    Address,
    Check,
    CheckKind,
    Endpoint,
    Gateway,
    Node,
    Require,
    Service,
    family_of,
)
from pointsman.model.health import CoapTerms, HttpTerms
from pointsman.plan.node_setup import Tunnel, tunnel_to


@dataclass(frozen=True, slots=True)
class Target:
    """One check of one address of a node; equal ones are the same, whichever services name them.

    ``port`` is None where the check has none. ``vip`` is what is asked at the node, where that answers as the VIP,
    and ``tunnel`` what leads there.
    """

    check: Check
    address: Address
    port: int | None
    vip: Endpoint | None = None
    tunnel: Tunnel | None = None

    @property
    def host(self) -> str:
        """What is asked, without for what: an address with its port, if it has one."""
        if self.vip is not None:
            return str(self.vip)
        return str(self.address) if self.port is None else str(Endpoint(self.address, self.port))

    def __str__(self) -> str:
        at = "" if self.vip is None else f" at {self.address}"
        return f"{self.host}{_path(self.check)}{at}"


@dataclass(frozen=True, slots=True)
class Watched:
    """A node of a service: for each of its checks, in their order, the targets that must all pass it."""

    service: str
    node: str
    require: Require
    checks: tuple[tuple[Target, ...], ...]

    @property
    def targets(self) -> Iterator[Target]:
        return (target for check in self.checks for target in check)


def words_of(one: Watched) -> tuple[str, ...]:
    """Each of the node's targets in words; later ones of one kind that would read the same have a number."""
    counts: dict[tuple[CheckKind, str], int] = {}
    found = []
    for target in one.targets:
        words = str(target)
        counts[target.check.kind, words] = number = counts.get((target.check.kind, words), 0) + 1
        found.append(words if number == 1 else f"{words} #{number}")
    return tuple(found)


def _path(check: Check) -> str:
    """The path that is asked for, unless it is /; without its query, in which secrets may be."""
    if isinstance(check.terms, HttpTerms):
        path = check.terms.path.partition("?")[0]
        return "" if path == "/" else path
    if isinstance(check.terms, CoapTerms):
        return "".join(f"/{quote(part)}" for part in check.terms.path)
    return ""


def watched(gateway: Gateway) -> Iterator[Watched]:
    """Every node of the services that have checks."""
    for service in gateway.services:
        if service.checks:
            for node in service.nodes:
                checks = tuple(tuple(_targets(service, node, check)) for check in service.checks)
                yield Watched(service.name, node.name, service.require, checks)


def _targets(service: Service, node: Node, check: Check) -> Iterator[Target]:
    """An address for each family listened on, at each port; of a range of ports the first stands for all."""
    found: dict[Target, None] = {}
    for listener in service.listeners:
        endpoint = node.endpoint(listener)
        if endpoint is None or listener.offset:
            continue
        port = (check.port or endpoint.port) if check.kind.has_port else None
        target = Target(check, endpoint.address, port)
        if service.forward.answers_pass_by and port is not None and check.kind is not CheckKind.SCRIPT:
            vip = listener.endpoint.address
            tunnel = tunnel_to(service, endpoint.address, vip)
            target = replace(target, vip=Endpoint(vip, port), tunnel=tunnel)
        found.setdefault(target)
    yield from found


def combined(node: Watched, of: Callable[[Target], bool | None]) -> bool | None:
    """Whether a node is healthy, by the verdicts about its targets; None as long as that is open."""
    checks = [every(of(target) for target in check) for check in node.checks]
    if node.require is Require.ALL:
        return every(iter(checks))
    opposite = every(None if one is None else not one for one in checks)
    return None if opposite is None else not opposite


def every(verdicts: Iterator[bool | None]) -> bool | None:
    """False if one is, True if all are, else open."""
    found: bool | None = True
    for one in verdicts:
        if one is False:
            return False
        if one is None:
            found = None
    return found


def source_of(target: Target) -> Address | None:
    """The address that the target is asked from, where the check says one."""
    return target.check.source(family_of(target.address))
