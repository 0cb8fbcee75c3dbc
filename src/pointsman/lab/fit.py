"""A lab that fits a configuration file: its nodes at the addresses that the file has for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_network

from pointsman.lab.errors import LabError
from pointsman.lab.fit_uplinks import worlds
from pointsman.lab.topology import Topology
from pointsman.model import (
    Address,
    ConnectionIdRange,
    Endpoint,
    Forward,
    Gateway,
    Listener,
    Node,
    Protocol,
    Service,
)

INTERFACES = ("wan0", "lan0")
LAN = (ip_network("10.0.0.0/24"), ip_network("fd00::/64"))


@dataclass(frozen=True, slots=True)
class Server:
    """What runs on a machine of the lab for a service's node: ``listen`` are the endpoints that it answers at.

    On gw ``service`` is a guard or a multihomed server; that one may have a control group.
    """

    machine: str
    service: str
    node: str
    protocol: Protocol
    listen: tuple[Endpoint, ...]
    node_id: int | None = None
    connection_id: ConnectionIdRange | None = None
    cgroup: str = ""


def fit(name: str, gateway: Gateway, *, nats: int, devices: int) -> Topology:
    """The lab for a gateway; raise LabError where its file names interfaces that no lab has."""
    if gateway.multihomes:
        return Topology(name, nodes=1, nats=0, offload=False, worlds=worlds(gateway))
    for whose, interface in _interfaces(gateway):
        if interface not in INTERFACES:
            raise LabError(
                f"{whose}: interface {interface} is none of a lab's; its gateway has {' and '.join(INTERFACES)}"
            )
    machines = _machines(gateway)
    return Topology(
        name,
        nodes=len(machines) or 1,
        nats=nats,
        devices_per_nat=devices,
        offload=False,  # XDP sends frames on as they come, and would send unfinished checksums on
        node_addresses=tuple(tuple(map(str, addresses)) for addresses in machines),
        direct=any(service.forward.answers_pass_by for service in gateway.services),
        router=_behind_router(gateway, machines),
    )


def _interfaces(gateway: Gateway) -> Iterator[tuple[str, str]]:
    """Those that the file names, and where it does."""
    for service in gateway.services:
        for listener in service.listeners:
            if listener.interface is not None:
                yield f"service {service.name}", listener.interface
    for guard in gateway.guards:
        for interface in guard.interfaces:
            yield f"guard {guard.name}", interface
    for interface in gateway.interfaces:
        yield "interfaces", interface


def _behind_router(gateway: Gateway, machines: list[tuple[Address, ...]]) -> bool:
    """Whether nodes are where a tunnel leads: none of them on the gateway's link."""
    tunnels = any(service.forward is Forward.TUNNEL for service in gateway.services)
    return tunnels and not any(address in lan for own in machines for address in own for lan in LAN)


def servers(gateway: Gateway) -> tuple[Server, ...]:
    """A server for every node, at all the endpoints where packets of its service arrive."""
    where = {
        address: f"n{number}"
        for number, addresses in enumerate(_machines(gateway), 1)
        for address in addresses
    }
    return tuple(
        Server(
            where[node.addresses[0].address],
            service.name,
            node.name,
            service.protocol,
            endpoints,
            node.id,
            service.connection_id,
        )
        for service in gateway.services
        for node in service.nodes
        if (endpoints := tuple(_endpoints(service, node)))
    )


def _endpoints(service: Service, node: Node) -> Iterator[Endpoint]:
    for listener in service.listeners:
        endpoint = _arrival(service, listener, node)
        if endpoint is not None:
            yield endpoint


def _arrival(service: Service, listener: Listener, node: Node) -> Endpoint | None:
    """Where what came to the listener arrives at the node: as it was sent, where nodes answer by themselves."""
    return listener.endpoint if service.forward.answers_pass_by else node.endpoint(listener)


def _machines(gateway: Gateway) -> list[tuple[Address, ...]]:
    """Addresses by machine: nodes of several services that share one are on one machine."""
    machines: list[list[Address]] = []
    for service in gateway.services:
        for node in service.nodes:
            own = [each.address for each in node.addresses]
            known = next((machine for machine in machines if set(machine) & set(own)), None)
            if known is None:
                machines.append(list(dict.fromkeys(own)))
            else:
                known += [address for address in own if address not in known]
    return [tuple(machine) for machine in machines]
