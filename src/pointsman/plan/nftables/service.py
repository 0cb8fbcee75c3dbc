"""The chains, sets and maps of one service."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from pointsman.model import (
    CidPolicy,
    ConnectionIdRange,
    Endpoint,
    Family,
    Listener,
    Node,
    NodeState,
    Protocol,
    Service,
)
from pointsman.plan.inputs import Leaving
from pointsman.plan.nftables import expressions as nft
from pointsman.plan.nftables.expressions import CidBits, FamilyWords
from pointsman.plan.nftables.names import family_name, listener_name, verdict_set
from pointsman.plan.nftables.ruleset import Chain, Set
from pointsman.plan.nftables.tables import MaglevTable, table_of
from pointsman.plan.verdicts import Verdict

BY_CID, BY_FLOW, BY_SCHEDULER = "cid", "flow", "balanced"
"""How a node was chosen: the names of the verdicts' counters."""


def address_chain(family: Family) -> str:
    """The chain that puts the address of the node with the label in the port into the packet."""
    return f"address{family.value}"


def labels_set(family: Family) -> str:
    return f"labels{family.value}"


def leaving_map(family: Family) -> str:
    return f"leaving_address{family.value}"


def count_always(verdict: Verdict) -> str:
    """Count in the set of the verdict's name, which has an element for every protocol that comes here.

    A named counter would do, but for showing one nft reads every element of the table, remembered flows too.
    """
    return f"meta l4proto @{verdict}"


def sent_chain(use: str, family: Family) -> str:
    return f"sent_{use}{family.value}"


@dataclass(frozen=True, slots=True)
class ServiceScene:
    """What a service's part of the table depends on; ``states`` and ``labels`` are in the order of its nodes."""

    service: Service
    states: tuple[NodeState, ...]
    labels: tuple[int, ...]
    hash_seed: int
    leaving: tuple[Leaving, ...]
    retired: tuple[int, ...] = ()

    @property
    def flow_seed(self) -> int:
        """Another seed than the scheduler's, or colliding clients would be those of one slot."""
        return self.hash_seed ^ 0x9E3779B9

    @property
    def table(self) -> MaglevTable | None:
        return table_of(self.service, self.states, self.labels, self.hash_seed)

    def labelled(self) -> list[tuple[int, Node]]:
        """The nodes that the configuration names, with their labels."""
        return list(zip(self.labels, self.service.nodes, strict=True))

    def labelled_with_leaving(self) -> list[tuple[int, Node]]:
        return self.labelled() + [(leaving.label, leaving.node) for leaving in self.leaving]

    def refusing_new(self) -> tuple[int, ...]:
        """Labels of the nodes that take no new flows."""
        pairs = zip(self.labels, self.states, strict=True)
        return tuple(label for label, state in pairs if not state.takes_new_flows)

    def refusing_all(self) -> tuple[int, ...]:
        """Labels that are not followed: of nodes that take nothing, and of nodes that are the service's no more."""
        pairs = zip(self.labels, self.states, strict=True)
        return tuple(label for label, state in pairs if not state.takes_named_packets) + self.retired

    def down_ids(self) -> list[int]:
        pairs = zip(self.service.nodes, self.states, strict=True)
        return [node.id for node, state in pairs if node.id is not None and not state.takes_named_packets]


def _one_of(expression: str, values: Sequence[str]) -> str:
    return f"{expression} {values[0]}" if len(values) == 1 else f"{expression} {{ {', '.join(values)} }}"


def cid_map(scene: ServiceScene, family: Family, where: ConnectionIdRange) -> Set:
    """Node id -> address, shared by the service's listeners of a family, with the counters of records by node.

    A node's state is not in here but in the rules, so that its counter outlives every change of state.
    """
    bits = CidBits(where)
    ids = {
        bits.element(node.id): str(own.address)
        for node in scene.service.nodes
        for own in node.addresses
        if own.family is family and node.id is not None
    }
    return Set(
        f"{family_name(scene.service, family)}/cid",
        f"typeof {bits.field} : {nft.WORDS[family].ip} daddr",
        ids,
        size=roomy(len(ids)),
        counter=True,
    )


def address_elements(scene: ServiceScene, family: Family) -> Mapping[str, str]:
    """Label -> address."""
    return {
        str(label): str(own.address)
        for label, node in scene.labelled()
        for own in node.addresses
        if own.family is family
    }


def leaving_addresses(scene: ServiceScene, family: Family) -> Mapping[str, tuple[int, str]]:
    """Label -> address of leaving nodes, with the seconds that are left."""
    return {
        str(leaving.label): (leaving.seconds, str(own.address))
        for leaving in scene.leaving
        for own in leaving.node.addresses
        if own.family is family
    }


def roomy(count: int) -> int:
    """A size that a few more nodes do not outgrow: a map of fixed size is the kernel's fastest."""
    return max(64, 1 << (2 * count - 1).bit_length())


@dataclass(frozen=True)
class ListenerChains:
    """The rules of one listener; every method is one chain, in the order a packet may meet them."""

    scene: ServiceScene
    listener: Listener

    @property
    def service(self) -> Service:
        return self.scene.service

    @cached_property
    def words(self) -> FamilyWords:
        return nft.WORDS[self.listener.family]

    @cached_property
    def name(self) -> str:
        return listener_name(self.service, self.listener.endpoint)

    @property
    def port(self) -> int:
        return self.listener.endpoint.port

    @property
    def entry(self) -> str:
        return f"{self.name}/in"

    @property
    def reply(self) -> str:
        return f"{self.name}/reply"

    @property
    def flows(self) -> str:
        return f"{self.name}/flows"

    @cached_property
    def node_ports(self) -> dict[int, int]:
        """The port of each node by label, leaving ones too."""
        ports = {}
        for label, node in self.scene.labelled_with_leaving():
            endpoint = node.endpoint(self.listener)
            if endpoint is not None:
                ports[label] = endpoint.port
        return ports

    @cached_property
    def one_port(self) -> int | None:
        """The port that all nodes have, if they do."""
        ports = set(self.node_ports.values())
        return ports.pop() if len(ports) == 1 else None

    def _port_chain(self, use: str, port: int) -> str:
        return f"{self.name}/{use}-{port}"

    def _sent(self, use: str) -> str:
        """How a packet that has its node's address and port goes on its way."""
        return "notrack accept" if use == BY_CID else f"goto {sent_chain(use, self.listener.family)}"

    def sets(self) -> Iterator[Set]:
        yield Set(
            self.flows,
            f"{self.words.flow_key_type} : {nft.LABEL}",
            size=self.service.flow_table_size,
            flags="dynamic,timeout",
            owned_by_packets=True,
        )
        if self.one_port is None:
            ports = self.node_ports
            for use in (BY_FLOW, BY_SCHEDULER):
                yield Set(
                    f"{self.name}/{use}_port",
                    f"typeof {nft.LABEL} : verdict",
                    {str(label): f"goto {self._port_chain(use, port)}" for label, port in ports.items()},
                )
            if self.service.connection_id is not None:
                bits = CidBits(self.service.connection_id)
                yield Set(
                    f"{self.name}/cid_port",
                    f"typeof {bits.field} : verdict",
                    {
                        bits.element(node.id): f"goto {self._port_chain(BY_CID, ports[label])}"
                        for label, node in self.scene.labelled()
                        if node.id is not None
                    },
                )

    def chains(self) -> Iterator[Chain]:
        yield from self._port_chains()
        yield Chain(f"{self.name}/touch", tuple(self._touch()))
        yield Chain(f"{self.name}/remember", tuple(self._remember()))
        yield Chain(f"{self.name}/new", tuple(self._new()))
        yield Chain(f"{self.name}/renew", tuple(self._renew()))
        yield Chain(f"{self.name}/flow", tuple(self._flow()))
        if self.service.connection_id is not None:
            if self.scene.down_ids():
                yield Chain(f"{self.name}/cid_down", tuple(self._cid_down()))
            yield Chain(f"{self.name}/cid", tuple(self._cid(self.service.connection_id)))
        yield Chain(self.entry, tuple(self._in()))
        yield Chain(self.reply, tuple(self._reply()))

    def _count(self, verdict: Verdict) -> str:
        return f"{self.words.listener} @{verdict_set(verdict, self.listener.family)}"

    def _follow(self) -> Iterator[str]:
        """Go by the remembered flow, else by the scheduler."""
        key = self.words.flow_key(self.scene.flow_seed)
        yield f"{nft.set_label(f'{key} map @{self.flows}')} goto {self.name}/flow"
        yield f"goto {self.name}/new"

    def _in(self) -> Iterator[str]:
        # Here and not before the look-up, as replies, which never come from lo, need not pay for it.
        yield 'iif "lo" goto from_gateway'
        if self.service.connection_id is not None:
            yield f"{nft.CID_RECORD} goto {self.name}/cid"
        yield from self._follow()

    def _cid(self, where: ConnectionIdRange) -> Iterator[str]:
        bits, family = CidBits(where), family_name(self.service, self.listener.family)
        down = self.scene.down_ids()
        if down:
            yield f"{_one_of(bits.expression, [bits.element(i) for i in down])} goto {self.name}/cid_down"
        to_node = f"{self.words.ip} daddr set {bits.expression} map @{family}/cid"
        if self.one_port == self.port:
            yield f"{to_node} {self._sent(BY_CID)}"
        elif self.one_port is not None:
            yield f"{to_node} goto {self._port_chain(BY_CID, self.one_port)}"
        else:
            yield to_node
            yield f"{bits.expression} vmap @{self.name}/cid_port"
        yield self._count(Verdict.CID_UNKNOWN)
        yield from self._by_policy(self.service.cid_unknown)

    def _cid_down(self) -> Iterator[str]:
        yield self._count(Verdict.CID_NODE_DOWN)
        yield from self._by_policy(self.service.cid_node_down)

    def _by_policy(self, policy: CidPolicy) -> Iterator[str]:
        if policy is CidPolicy.BALANCE:
            yield from self._follow()
        else:
            yield "drop"

    def _flow(self) -> Iterator[str]:
        """The label is in the port: follow it, unless its node does not take this packet."""
        refusing = self.scene.refusing_all()
        # One that has no address of this listener's family is not in this family's map.
        leaving = tuple(item.label for item in self.scene.leaving if item.node.endpoint(self.listener))
        not_up = self.scene.refusing_new() + leaving
        if leaving:
            yield from self._flow_to_leaving(leaving)
        # A flow may outlive its node's label.
        yield f"{nft.LABEL} != @{labels_set(self.listener.family)} goto {self.name}/renew"
        if refusing:
            yield f"{_one_of(nft.LABEL, [*map(str, refusing)])} goto {self.name}/renew"
        if self.service.protocol is Protocol.DTLS:
            if not_up:
                # A NAT port in use again and again would otherwise feed a draining node for ever.
                labels = _one_of(nft.LABEL, [*map(str, not_up)])
                yield f"{nft.FIRST_CLIENT_HELLO} {labels} goto {self.name}/renew"
            yield f"jump {self.name}/touch"
        else:
            draining = [str(label) for label in not_up if label not in refusing]
            # Not refreshed, so that a sender who never pauses leaves a draining node, too.
            stays = f"{nft.LABEL} != {{ {', '.join(draining)} }} " if draining else ""
            yield f"{stays}jump {self.name}/touch"
        yield f"jump {address_chain(self.listener.family)}"
        yield self._deliver(BY_FLOW)

    def _flow_to_leaving(self, labels: Sequence[int]) -> Iterator[str]:
        """Not refreshed, and gone with the kernel's timeout: a removed node keeps no steady sender."""
        if self.service.protocol is Protocol.DTLS:
            mine = _one_of(nft.LABEL, [*map(str, labels)])
            yield f"{nft.FIRST_CLIENT_HELLO} {mine} goto {self.name}/renew"
        to_address = f"{self.words.ip} daddr set {nft.LABEL} map @{leaving_map(self.listener.family)}"
        yield f"{to_address} {self._deliver(BY_FLOW)}"

    def _deliver(self, use: str) -> str:
        """What follows once the node's address is in place: its port instead of the label, and off."""
        if self.one_port == self.port:
            return f"{nft.raw_dport(self.port)} {self._sent(use)}"
        if self.one_port is not None:
            return f"goto {self._port_chain(use, self.one_port)}"
        return f"{nft.LABEL} vmap @{self.name}/{use}_port"

    def _touch(self) -> Iterator[str]:
        """Remember the label in the port for this client, or refresh it; a full table is counted and nothing more."""
        if self.service.protocol is Protocol.DTLS:
            yield f"{nft.EPOCH_0} {self._update(self.service.handshake_timeout)} return"
        yield f"{self._update(self.service.flow_timeout)} return"
        # An update that fails, as the table is full, ends its rule.
        yield count_always(Verdict.FLOW_TABLE_FULL)

    def _update(self, seconds: int) -> str:
        key = self.words.flow_key(self.scene.flow_seed)
        return f"update @{self.flows} {{ {key} timeout {seconds}s : {nft.LABEL} }}"

    def _renew(self) -> Iterator[str]:
        """Forget the flow. An update alone would keep the old label: it only refreshes what is there."""
        yield nft.raw_dport(self.port)
        key = self.words.flow_key(self.scene.flow_seed)
        yield f"delete @{self.flows} {{ {key} : {nft.LABEL} }}"
        yield f"goto {self.name}/new"

    def _pick(self) -> str | None:
        table = self.scene.table
        if table is None:
            return None
        return nft.set_label(f"{self.words.slot(table.size, self.scene.hash_seed)} map @{table.name}")

    def _new(self) -> Iterator[str]:
        pick = self._pick()
        if pick:
            yield f"{pick} goto {self.name}/remember"
        yield self._count(Verdict.NO_NODE)
        yield "drop"

    def _remember(self) -> Iterator[str]:
        yield f"{self.words.ip} saddr . {nft.LABEL} @hairpin{self.listener.family.value} drop"
        yield f"jump {self.name}/touch"
        yield f"jump {address_chain(self.listener.family)}"
        yield self._deliver(BY_SCHEDULER)

    def _port_chains(self) -> Iterator[Chain]:
        if self.one_port == self.port:
            return
        uses = [BY_FLOW, BY_SCHEDULER, *([BY_CID] if self.service.connection_id is not None else [])]
        for port in sorted(set(self.node_ports.values())):
            for use in uses:
                yield Chain(self._port_chain(use, port), tuple(self._to_port(use, port)))

    def _to_port(self, use: str, port: int) -> Iterator[str]:
        # First the port that the checksum was made for, in place of a label.
        if port == self.port:
            yield f"{nft.raw_dport(port)} {self._sent(use)}"
            return
        yield nft.raw_dport(self.port)
        yield f"{nft.NO_CHECKSUM} {nft.raw_dport(port)} {self._sent(use)}"
        yield f"udp dport set {port} {self._sent(use)}"

    def _reply(self) -> Iterator[str]:
        address = f"{self.words.ip} saddr set {self.listener.endpoint.address}"
        if self.one_port == self.port:
            yield f"{address} accept"
            return
        yield address
        yield f"udp sport {self.port} accept"
        yield f"{nft.NO_CHECKSUM} {nft.raw_sport(self.port)} accept"
        yield f"udp sport set {self.port} accept"


def entry_elements(scene: ServiceScene, family: Family) -> Mapping[str, str]:
    """``VIP . port`` -> ``goto`` the chain that the listener's packets start in."""
    return {
        _key(listener.endpoint): f"goto {ListenerChains(scene, listener).entry}"
        for listener in scene.service.listeners_of(family)
    }


def reply_elements(scene: ServiceScene, family: Family) -> Mapping[str, str]:
    """``node address . port`` -> ``goto`` the reply chain of the one listener that it answers for."""
    return {
        _key(endpoint): f"goto {ListenerChains(scene, listener).reply}"
        for listener in scene.service.listeners_of(family)
        for node in scene.service.nodes
        if (endpoint := node.endpoint(listener)) is not None
    }


def leaving_elements(scene: ServiceScene, family: Family) -> Mapping[str, tuple[int, str]]:
    """The same for leaving nodes, with the seconds that are left."""
    return {
        _key(endpoint): (item.seconds, f"goto {ListenerChains(scene, listener).reply}")
        for listener in scene.service.listeners_of(family)
        for item in scene.leaving
        if (endpoint := item.node.endpoint(listener)) is not None
    }


def node_endpoints(scene: ServiceScene, family: Family) -> set[Endpoint]:
    """Where the service's nodes are, leaving ones too."""
    return {
        endpoint
        for listener in scene.service.listeners_of(family)
        for _, node in scene.labelled_with_leaving()
        if (endpoint := node.endpoint(listener)) is not None
    }


def _key(endpoint: Endpoint) -> str:
    return f"{endpoint.address} . {endpoint.port}"
