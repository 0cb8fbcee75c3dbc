"""What to try in a lab that a file is applied in: commands that end with 0 where it does what it should."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

from pointsman.lab.demo_peers import at
from pointsman.lab.on_gateway import guarded_at
from pointsman.lab.stage import PEER
from pointsman.lab.topology import GATEWAY_WAN, Topology
from pointsman.model import Endpoint, Gateway, Protocol, Service
from pointsman.model.filter import FilterMode, Prefix
from pointsman.model.forwarding import Allow, AllowedProtocol

_CLIENTS = tuple(ip_network(address, strict=False) for address in GATEWAY_WAN)
_SSH = 22

Try = tuple[str, str]
"""The machine, and the command on it."""


def tries(gateway: Gateway, topology: Topology, sender: str) -> Iterator[Try]:
    """For each service, guard and uplink; ``sender`` is the machine of the clients."""
    for service in gateway.services:
        there = service.listeners[0].endpoint
        yield sender, _client(service, there)
        if service.filter is not None and service.filter.mode is FilterMode.ENFORCE:
            yield sender, _ask(Protocol.UDP, str(there.address), there.port, answered=False)
    if gateway.forwarding and not any(_lets_in(rule) for rule in gateway.forwarding.allowed):
        yield (
            sender,
            _ask(
                Protocol.TCP, str(topology.machine("n1").interfaces[0].addresses[0].ip), _SSH, answered=False
            ),
        )
    for guard in gateway.guards:
        there = guarded_at(gateway, topology, guard.name)[0]
        by = sender if "wan0" in guard.interfaces else "n1"
        yield by, _sessions(there)
        yield by, _ask(Protocol.UDP, str(there.address), there.port, answered=False)
    for server in gateway.multihomes:
        for number, world in enumerate(topology.worlds, 1):
            if any(uplink.interface == world.interface for uplink in server.uplinks):
                for own in world.own:
                    address = own.partition("/")[0]
                    yield f"client{number}", _ask(Protocol.UDP, address, server.ports[0].first)


def _client(service: Service, there: Endpoint) -> str:
    if service.protocol is Protocol.DTLS:
        # Without connection IDs a session does not outlive its address.
        return _sessions(there, " --rebind-every 2" if service.connection_id is not None else "")
    return _ask(service.protocol, str(there.address), there.port, 5)


def _sessions(there: Endpoint, more: str = "") -> str:
    to = at(str(there.address), there.port)
    return f"{short(PEER)} client --connect {to} --sessions 3 --requests 6{more} --report-ms 0"


def _ask(protocol: Protocol, address: str, port: int, times: int = 1, *, answered: bool = True) -> str:
    flag = "" if answered else "--unanswered "
    often = f" {times}" if times != 1 else ""
    return f"{short(Path(sys.executable))} -m pointsman.lab.ask {flag}{protocol} {address} {port}{often}"


def short(path: Path) -> str:
    """As it is called from here."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _lets_in(rule: Allow) -> bool:
    """Whether clients may open connections to port 22 of nodes, as far as a rule without a look at nodes says."""
    tcp = rule.protocol in (AllowedProtocol.ANY, AllowedProtocol.TCP)
    ssh = not rule.ports or any(each.first <= _SSH <= each.last for each in rule.ports)
    ends = (rule.sources, rule.destinations) if rule.both_ways else (rule.sources,)
    return tcp and ssh and any(_clients_are_in(each) for each in ends)


def _clients_are_in(prefixes: tuple[Prefix, ...]) -> bool:
    return not prefixes or any(
        prefix.version == clients.version and prefix.overlaps(clients)
        for prefix in prefixes
        for clients in _CLIENTS
    )
