"""Nodes that another machine has taken over: the gateway of the file, with other addresses for them.

A replaced node keeps its name, id, weight and place. The addresses are held against the rest of the gateway as those
of a file are, see ``config.across``; only the lines are missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pointsman.config.addresses import AddressError, node_address
from pointsman.model import Address, Family, Gateway, Listener, Node, NodeAddress, Protocol, Service

Replacements = Mapping[tuple[str, str], Sequence[str]]
"""Addresses in the file's spelling, by service and node."""


class ReplacementError(ValueError):
    """Why a node cannot have these addresses, as one line; ``what`` and ``allowed`` are its parts."""

    def __init__(self, service: str, node: str, what: str, allowed: str) -> None:
        super().__init__(f"service {service}, node {node}: {what}; {allowed}")
        self.service, self.node, self.what, self.allowed = service, node, what, allowed


@dataclass(frozen=True, slots=True)
class _Way:
    """From a listener to the endpoint of a node, whose replies are told by it alone."""

    service: Service
    listener: Listener
    node: Node

    @property
    def key(self) -> tuple[Address, int, bool] | None:
        endpoint = self.node.endpoint(self.listener)
        if endpoint is None:
            return None
        return endpoint.address, endpoint.port, self.service.protocol is Protocol.TCP


def with_replacements(gateway: Gateway, replacements: Replacements) -> Gateway:
    """The gateway with these addresses; without replacements it is ``gateway`` itself. Raises ReplacementError."""
    if not replacements:
        return gateway
    services = {service.name: service for service in gateway.services}
    for (name, node), texts in sorted(replacements.items()):
        if name not in services:
            raise ReplacementError(name, node, "there is no such service", f"one of {_listed(services)}")
        services[name] = _replaced(services[name], node, texts)
    made = replace(gateway, services=tuple(services[service.name] for service in gateway.services))
    for service, node in sorted(replacements):
        _check_across(made, services[service], node)
    return made


def in_force(
    replacements: Replacements, before: Gateway, after: Gateway
) -> dict[tuple[str, str], tuple[str, ...]]:
    """Those that hold when the file's gateway becomes ``after``: the file still says of the node what it said before.

    Where it names other addresses, or has no such node any more, the file is the truth again.
    """
    return {
        (service, node): tuple(texts)
        for (service, node), texts in replacements.items()
        if (known := _addresses(after, service, node)) is not None
        and known == _addresses(before, service, node)
    }


def _addresses(gateway: Gateway, service: str, node: str) -> tuple[NodeAddress, ...] | None:
    found = own.node(node) if (own := gateway.service(service)) is not None else None
    return found.addresses if found is not None else None


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none, as the file has no service"


def _replaced(service: Service, name: str, texts: Sequence[str]) -> Service:
    node = service.node(name)
    if node is None:
        known = _listed(node.name for node in service.nodes)
        raise ReplacementError(service.name, name, "there is no such node", f"one of {known}")
    renewed = replace(node, addresses=_read(service, name, texts))
    return replace(service, nodes=tuple(renewed if each is node else each for each in service.nodes))


def _read(service: Service, name: str, texts: Sequence[str]) -> tuple[NodeAddress, ...]:
    """What the texts mean, held against the service's listeners."""

    def wrong(what: str, allowed: str) -> ReplacementError:
        return ReplacementError(service.name, name, what, allowed)

    found: dict[Family, NodeAddress] = {}
    longest = max((listener.offset for listener in service.listeners), default=0)
    for text in texts:
        try:
            own = node_address(text)
        except AddressError as error:
            raise wrong(f"address {error.what}", error.allowed) from None
        if own.family in found:
            raise wrong(f'address "{text}" is a second one of IPv{own.family}', "one of each family")
        if own.port is not None and service.forward.answers_pass_by:
            what = (
                f'a port in address: with forward = "{service.forward}" packets keep their address and port'
            )
            raise wrong(what, "the address alone")
        if own.port is not None and own.port + longest > 65535:
            what = f"address {own.address} with port {own.port} has no {longest + 1} ports behind it"
            raise wrong(what, f"at most {65535 - longest}")
        found[own.family] = own
    for listener in service.listeners:
        if listener.family not in found:
            raise wrong(
                f"no IPv{listener.family} address for listener {listener.endpoint}",
                "an address of every family that the service listens on",
            )
    return tuple(found.values())


def _check_across(gateway: Gateway, service: Service, name: str) -> None:
    """Hold a replaced node's addresses against VIPs, sources, and the endpoints of all nodes."""

    def wrong(what: str, allowed: str) -> ReplacementError:
        return ReplacementError(service.name, name, what, allowed)

    node = service.node(name)
    own = {each.address for each in node.addresses} if node is not None else set()
    for other in gateway.services:
        for listener in other.listeners:
            if listener.endpoint.address in own:
                raise wrong(
                    f"address {listener.endpoint.address} is that of listener {listener.endpoint} of service "
                    f"{other.name}",
                    "an address of a server behind the gateway",
                )
        for source in other.sources.addresses if other.sources is not None else ():
            if source in own:
                raise wrong(f"address {source} is the source of service {other.name}", "a server's address")
    for mine, theirs in _clashes(gateway, service, name):
        endpoint = mine.node.endpoint(mine.listener)
        if theirs.service.name == service.name and theirs.node.name != name:
            what = f"address {endpoint} is that of node {theirs.node.name}"
            raise wrong(what, "an address of its own, or a port of its own")
        raise wrong(
            f"listener {mine.listener.endpoint} reaches it at {endpoint}, as does listener "
            f"{theirs.listener.endpoint} of service {theirs.service.name}, and replies would not tell which",
            "another port (docs/adr/0004-stateless-replies.md says why)",
        )


def _clashes(gateway: Gateway, service: Service, name: str) -> Iterator[tuple[_Way, _Way]]:
    """Ways to the node, each with another one to the same endpoint."""
    first: dict[tuple[Address, int, bool], _Way] = {}
    every = [way for each in gateway.services for way in _ways(each)]
    # The node's own first, so that whatever meets one of them is found.
    every.sort(key=lambda way: (way.service.name, way.node.name) != (service.name, name))
    for way in every:
        if way.key is None:
            continue
        other = first.setdefault(way.key, way)
        if other is not way and (other.service.name, other.node.name) == (service.name, name):
            yield other, way


def _ways(service: Service) -> Iterator[_Way]:
    if service.forward.answers_pass_by:  # nothing is told by where replies come from
        return
    for listener in service.listeners:
        for node in service.nodes:
            yield _Way(service, listener, node)
