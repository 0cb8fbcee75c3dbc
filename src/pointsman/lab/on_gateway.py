"""What a lab's gateway has besides its interfaces: addresses that the file takes for granted, servers of its own."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from pointsman.lab.fit import Server
from pointsman.lab.topology import Topology
from pointsman.model import Address, Endpoint, Gateway, Multihome, MultihomeMode, Protocol

_EVERYWHERE = (ip_address("0.0.0.0"), ip_address("::"))  # noqa: S104 - in a namespace of its own


def carried(gateway: Gateway, topology: Topology) -> tuple[str, ...]:
    """Lines for ``ip -batch``: the sources of full-nat and tunnels, the addresses of multihomed servers."""
    found: dict[Address, str] = {}
    for service in gateway.services:
        for source in service.sources.addresses if service.sources else ():
            # Else the kernel takes it for the gateway's own connections: it is the longest match (RFC 6724, rule 8).
            found[source] = "lan0 nodad preferred_lft 0" if source.version == 6 else "lan0"
    for server in gateway.multihomes:
        for address in server.addresses:
            found[address] = "lo nodad" if address.version == 6 else "lo"
    present = {own.ip for plug in topology.machine("gw").interfaces for own in plug.addresses}
    return tuple(
        f"address add {address}/{address.max_prefixlen} dev {device}"
        for address, device in found.items()
        if address not in present
    )


def own_servers(gateway: Gateway, topology: Topology) -> tuple[Server, ...]:
    """The servers on gw itself: those behind guards, and the multihomed ones."""
    guarded = (
        Server("gw", guard.name, guard.name, Protocol.DTLS, guarded_at(gateway, topology, guard.name))
        for guard in gateway.guards
    )
    multihomed = (
        Server("gw", server.name, server.name, Protocol.UDP, tuple(_bound(server)), cgroup=server.cgroup)
        for server in gateway.multihomes
    )
    return (*guarded, *multihomed)


def guarded_at(gateway: Gateway, topology: Topology, name: str) -> tuple[Endpoint, ...]:
    """The first port of a guard at every address of its interfaces."""
    machine = topology.machine("gw")
    return tuple(
        Endpoint(own.ip, guard.ports[0].first)
        for guard in gateway.guards
        if guard.name == name
        for interface in guard.interfaces
        for own in machine.interface(interface).addresses
    )


def _bound(server: Multihome) -> Iterator[Endpoint]:
    """At the first port of each range."""
    addresses = server.addresses if server.mode is MultihomeMode.ADDRESS else _EVERYWHERE
    return (Endpoint(address, ports.first) for ports in server.ports for address in addresses)
