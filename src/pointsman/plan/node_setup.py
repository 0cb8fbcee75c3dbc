"""What a node needs to answer clients by itself: the VIPs, quietly, and the end of its tunnels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pointsman.model import Address, Encapsulation, Endpoint, Forward, Node, Service, family_of

LOOPBACK = "lo"
ALL = "net/ipv4/conf/all"
QUIET = ((f"{ALL}/arp_ignore", 1), (f"{ALL}/arp_announce", 2))
"""Settings by path below /proc/sys, and the least value: answer ARP only for what the asked interface carries, and
never name the VIP in questions of one's own (Documentation/networking/ip-sysctl.rst)."""

STRICT, LOOSE = 1, 2
"""Values of rp_filter."""


@dataclass(frozen=True, slots=True)
class Tunnel:
    """From the gateway to a node, for packets to a VIP: ``port`` is GUE's, 0 for IPIP and IP6IP6."""

    source: Address
    destination: Address
    vip: Address
    port: int = 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the file asks of a node. ``own`` are its addresses, by which its links are found."""

    vips: tuple[Address, ...]
    own: tuple[Address, ...]
    tunnels: tuple[Tunnel, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What was found: interfaces by the address that they carry, alone (/32, /128) on the loopback or not.

    ``alone`` are the addresses that the loopback carries with the full prefix length, ``settings`` are by path below
    /proc/sys, ``tunnels`` what is taken off already, by interface.
    """

    carried: Mapping[Address, frozenset[str]] = field(default_factory=dict)
    alone: frozenset[Address] = frozenset()
    settings: Mapping[str, str] = field(default_factory=dict)
    tunnels: Mapping[str, frozenset[Tunnel]] = field(default_factory=dict)

    def link_of(self, address: Address) -> str | None:
        return min(self.carried.get(address, ()), default=None)


@dataclass(frozen=True, slots=True)
class Setting:
    path: str
    value: str


@dataclass(frozen=True, slots=True)
class End:
    """A tunnel that is to be taken off at an interface."""

    interface: str
    tunnel: Tunnel


@dataclass(frozen=True, slots=True)
class Missing:
    """What is to be done, each with the line that tells of it; ``troubles`` are the operator's to mend."""

    addresses: Mapping[Address, str] = field(default_factory=dict)
    settings: Mapping[Setting, str] = field(default_factory=dict)
    ends: Mapping[End, str] = field(default_factory=dict)
    troubles: tuple[str, ...] = ()

    @property
    def lines(self) -> list[str]:
        return [*self.troubles, *self.addresses.values(), *self.settings.values(), *self.ends.values()]


def wanted_of(service: Service, node: Node) -> Wanted | None:
    """None where the service's nodes need nothing, as their answers go through the gateway."""
    if not service.forward.answers_pass_by:
        return None
    own = {address.family: address.address for address in node.addresses}
    listeners = [listener for listener in service.listeners if listener.family in own]
    vips = tuple(dict.fromkeys(listener.endpoint.address for listener in listeners))
    ends = {tunnel_to(service, own[listener.family], listener.endpoint.address) for listener in listeners}
    tunnels = tuple(sorted((end for end in ends if end is not None), key=str))
    return Wanted(vips, tuple(address.address for address in node.addresses), tunnels)


def tunnel_to(service: Service, own: Address, vip: Address) -> Tunnel | None:
    """The tunnel by which a node's address gets what is for a VIP; None where the service has none."""
    if service.forward is not Forward.TUNNEL or service.sources is None or service.tunnel is None:
        return None
    port = service.tunnel.port if service.tunnel.encapsulation is Encapsulation.GUE else 0
    return Tunnel(service.sources.of(family_of(own))[0], own, vip, port)


def settings_read(interfaces: Iterator[str] | list[str]) -> list[str]:
    """The settings that ``missing`` looks at."""
    filters = [f"net/ipv4/conf/{name}/rp_filter" for name in ("all", *interfaces)]
    return [*(path for path, _ in QUIET), *filters]


def missing(wanted: Wanted, facts: NodeFacts) -> Missing:
    """What the node lacks; nothing where it can be sent packets as it is."""
    return Missing(
        dict(_addresses(wanted, facts)),
        dict(_settings(wanted, facts)),
        dict(_ends(wanted, facts)),
        tuple(_troubles(wanted, facts)),
    )


def _addresses(wanted: Wanted, facts: NodeFacts) -> Iterator[tuple[Address, str]]:
    for vip in wanted.vips:
        if vip not in facts.alone:
            yield vip, f"{vip} is not on {LOOPBACK}: `{add_address(vip)}`"


def add_address(vip: Address) -> str:
    quiet = " nodad preferred_lft 0" if vip.version == 6 else ""
    return f"ip address add {vip}/{vip.max_prefixlen} dev {LOOPBACK}{quiet}"


def _settings(wanted: Wanted, facts: NodeFacts) -> Iterator[tuple[Setting, str]]:
    if not any(vip.version == 4 for vip in wanted.vips):
        return
    why = {
        "arp_ignore": "the node answers ARP for the VIP on its links, and takes clients from the gateway",
        "arp_announce": "the node names the VIP as sender when it asks for neighbours, and takes it from the gateway",
    }
    for path, least in QUIET:
        found = facts.settings.get(path, "0")
        if int(found) < least:
            yield Setting(path, str(least)), _line(path, found, least, why[path.rpartition("/")[2]])
    for link in _links(wanted, facts, 4):
        path = f"net/ipv4/conf/{link}/rp_filter"
        own = int(facts.settings.get(path, "0"))
        # The larger of the two is in force.
        if max(own, int(facts.settings.get(f"{ALL}/rp_filter", "0"))) == STRICT:
            said = "packets of clients whose answers leave by another link are dropped"
            yield Setting(path, str(LOOSE)), _line(path, str(STRICT), LOOSE, said)


def _line(path: str, found: str, value: int, why: str) -> str:
    name = dotted(path)
    return f"{name} is {found}: {why}; `sysctl -w {name}={value}`"


def dotted(path: str) -> str:
    """A setting's name as sysctl has it, where dots and slashes have changed places in an interface's name."""
    return path.translate(str.maketrans("./", "/."))


def _links(wanted: Wanted, facts: NodeFacts, version: int) -> list[str]:
    links = (facts.link_of(own) for own in wanted.own if own.version == version)
    return sorted({link for link in links if link is not None})


def _ends(wanted: Wanted, facts: NodeFacts) -> Iterator[tuple[End, str]]:
    for tunnel in wanted.tunnels:
        link = facts.link_of(tunnel.destination)
        if link is not None and tunnel not in facts.tunnels.get(link, frozenset()):
            kind = (
                f"GUE on port {tunnel.port}"
                if tunnel.port
                else "IPIP"
                if tunnel.vip.version == 4
                else "IP6IP6"
            )
            yield (
                End(link, tunnel),
                f"{link} does not take off {kind} from {tunnel.source} for {tunnel.vip}: "
                "`pointsman node-setup --apply` does it",
            )


def _troubles(wanted: Wanted, facts: NodeFacts) -> Iterator[str]:
    for own in wanted.own:
        if own not in facts.carried:
            yield f"no interface of this machine carries {own}, the node's address: is this the node?"
    for vip in wanted.vips:
        for link in sorted(facts.carried.get(vip, frozenset()) - {LOOPBACK}):
            yield (
                f"{vip} is on {link}, where the machine answers for it and takes clients from the gateway: "
                f"`ip address del {vip} dev {link}`"
            )


def endpoints(service: Service, node: Node) -> list[Endpoint]:
    """What the server has to listen on."""
    own = {address.family for address in node.addresses}
    return [listener.endpoint for listener in service.listeners if listener.family in own]
