"""The chains, sets and maps of one service."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pointsman.model import (
    CidPolicy,
    ConnectionIdRange,
    Family,
    Listener,
    Node,
    NodeStates,
    Protocol,
    Service,
)
from pointsman.plan.inputs import Leaving
from pointsman.plan.labels import Labels
from pointsman.plan.nftables import expressions as nft
from pointsman.plan.nftables.expressions import CidBits, FamilyWords
from pointsman.plan.nftables.names import family_name, listener_name, verdict_set
from pointsman.plan.nftables.ruleset import Chain, Set
from pointsman.plan.nftables.tables import MaglevTable
from pointsman.plan.verdicts import Verdict


@dataclass(frozen=True, slots=True)
class ServiceScene:
    """Everything that a service's chains depend on."""

    service: Service
    states: NodeStates
    labels: Labels
    table: MaglevTable | None
    hash_seed: int
    leaving: tuple[Leaving, ...]

    @property
    def flow_seed(self) -> int:
        """Another seed than the scheduler's, or colliding clients would be those of one slot."""
        return self.hash_seed ^ 0x9E3779B9

    def label(self, node: Node) -> int:
        return self.labels.of(node)

    def labels_that(self, *, takes: str) -> tuple[int, ...]:
        """Labels of nodes that do not take ``new`` flows, or not even ``named`` packets."""
        refusing = []
        for node in self.service.nodes:
            state = self.states.of(self.service.name, node.name)
            if not (state.takes_new_flows if takes == "new" else state.takes_named_packets):
                refusing.append(self.label(node))
        return tuple(refusing)


def _one_of(expression: str, values: Sequence[str]) -> str:
    return f"{expression} {values[0]}" if len(values) == 1 else f"{expression} {{ {', '.join(values)} }}"


def family_sets(scene: ServiceScene, family: Family) -> Iterator[Set]:
    """The maps that all the service's listeners of a family share: where each node is, with its counters.

    A node's state is not in them but in the rules, so that its counters outlive every change of state.
    """
    service, name = scene.service, family_name(scene.service, family)
    words = nft.WORDS[family]
    addresses = {
        scene.label(node): (node, own.address)
        for node in service.nodes
        for own in node.addresses
        if own.family is family
    }
    if service.connection_id is not None:
        bits = CidBits(service.connection_id)
        ids = {
            bits.element(node.id): str(address) for node, address in addresses.values() if node.id is not None
        }
        yield Set(
            f"{name}/cid",
            f"typeof {bits.field} : {words.ip} daddr",
            ids,
            size=roomy(len(ids)),
            counter=True,
        )
    by_label = {str(label): str(address) for label, (_, address) in addresses.items()}
    for use in ("flow", "balanced"):
        yield Set(
            f"{name}/{use}",
            f"typeof {nft.LABEL} : {words.ip} daddr",
            by_label,
            size=roomy(len(by_label)),
            counter=True,
        )
    gone = {
        str(leaving.label): str(own.address)
        for leaving in scene.leaving
        for own in leaving.node.addresses
        if own.family is family
    }
    if gone:
        yield Set(f"{name}/leaving", f"typeof {nft.LABEL} : {words.ip} daddr", gone)


def roomy(count: int) -> int:
    """A size that a few more nodes do not outgrow: a map of fixed size is the kernel's fastest."""
    return max(16, 1 << (2 * count - 1).bit_length())


@dataclass(frozen=True, slots=True)
class ListenerChains:
    """The rules of one listener; every method is one chain, in the order a packet may meet them."""

    scene: ServiceScene
    listener: Listener

    @property
    def service(self) -> Service:
        return self.scene.service

    @property
    def words(self) -> FamilyWords:
        return nft.WORDS[self.listener.family]

    @property
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

    def node_ports(self) -> dict[int, int]:
        """The port of each node by label, leaving ones too."""
        nodes = [(self.scene.label(node), node) for node in self.service.nodes]
        nodes += [(leaving.label, leaving.node) for leaving in self.scene.leaving]
        ports = {}
        for label, node in nodes:
            endpoint = node.endpoint(self.listener)
            if endpoint is not None:
                ports[label] = endpoint.port
        return ports

    @property
    def one_port(self) -> int | None:
        """The port that all nodes have, if they do."""
        ports = set(self.node_ports().values())
        return ports.pop() if len(ports) == 1 else None

    def _port_chain(self, port: int) -> str:
        return f"{self.name}/port-{port}"

    @property
    def out(self) -> str:
        if self.one_port is None or self.one_port == self.port:
            return f"{self.name}/out"
        return self._port_chain(self.one_port)

    def sets(self) -> Iterator[Set]:
        yield Set(
            self.flows,
            f"{self.words.flow_key_type} : {nft.LABEL}",
            size=self.service.flow_table_size,
            flags="dynamic,timeout",
            owned_by_packets=True,
        )
        if self.one_port is None:
            ports = self.node_ports()
            yield Set(
                f"{self.name}/port",
                f"typeof {nft.LABEL} : verdict",
                {str(label): f"goto {self._port_chain(port)}" for label, port in ports.items()},
            )
            if self.service.connection_id is not None:
                bits = CidBits(self.service.connection_id)
                yield Set(
                    f"{self.name}/cid_port",
                    f"typeof {bits.field} : verdict",
                    {
                        bits.element(node.id): f"goto {self._port_chain(ports[self.scene.label(node)])}"
                        for node in self.service.nodes
                        if node.id is not None
                    },
                )

    def chains(self) -> Iterator[Chain]:
        yield from self._out()
        yield Chain(f"{self.name}/remember", tuple(self._remember()))
        yield Chain(f"{self.name}/new", tuple(self._new()))
        yield Chain(f"{self.name}/renew", tuple(self._renew()))
        yield Chain(f"{self.name}/flow", tuple(self._flow()))
        if self.service.connection_id is not None:
            if self._down_ids():
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
        if self.service.connection_id is not None:
            yield f"{nft.CID_RECORD} goto {self.name}/cid"
        yield from self._follow()

    def _down_ids(self) -> list[int]:
        return [
            node.id
            for node in self.service.nodes
            if node.id is not None
            and not self.scene.states.of(self.service.name, node.name).takes_named_packets
        ]

    def _cid(self, where: ConnectionIdRange) -> Iterator[str]:
        bits, family = CidBits(where), family_name(self.service, self.listener.family)
        down = self._down_ids()
        if down:
            yield f"{_one_of(bits.expression, [bits.element(i) for i in down])} goto {self.name}/cid_down"
        to_node = f"{self.words.ip} daddr set {bits.expression} map @{family}/cid"
        if self.one_port == self.port:
            yield f"{to_node} notrack accept"
        elif self.one_port is not None:
            yield f"{to_node} goto {self.out}"
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
        refusing = self.scene.labels_that(takes="named")
        not_up = self.scene.labels_that(takes="new") + tuple(node.label for node in self.scene.leaving)
        if refusing:
            yield f"{_one_of(nft.LABEL, [*map(str, refusing)])} goto {self.name}/renew"
        if self.service.protocol is Protocol.DTLS:
            if not_up:
                # A NAT port in use again and again would otherwise feed a draining node for ever.
                labels = _one_of(nft.LABEL, [*map(str, not_up)])
                yield f"{nft.FIRST_CLIENT_HELLO} {labels} goto {self.name}/renew"
            yield f"{nft.EPOCH_0} {self._update(self.service.handshake_timeout)}"
            yield f"{nft.EPOCH} != 0 {self._update(self.service.flow_timeout)}"
        else:
            draining = [str(label) for label in not_up if label not in refusing]
            # Not refreshed, so that a sender who never pauses leaves a draining node, too.
            stays = f"{nft.LABEL} != {{ {', '.join(draining)} }} " if draining else ""
            yield f"{stays}{self._update(self.service.flow_timeout)}"
        family = family_name(self.service, self.listener.family)
        maps = ["flow", *(["leaving"] if self.scene.leaving else [])]
        for use in maps:
            yield f"{self.words.ip} daddr set {nft.LABEL} map @{family}/{use} goto {self.out}"
        yield f"goto {self.name}/renew"

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
        if self.scene.table is None:
            return None
        table = self.scene.table
        return nft.set_label(f"{self.words.slot(table.size, self.scene.hash_seed)} map @{table.name}")

    def _new(self) -> Iterator[str]:
        pick = self._pick()
        if pick:
            yield f"{pick} goto {self.name}/remember"
        yield self._count(Verdict.NO_NODE)
        yield "drop"

    def _remember(self) -> Iterator[str]:
        family = family_name(self.service, self.listener.family)
        deliver = f"{self.words.ip} daddr set {nft.LABEL} map @{family}/balanced goto {self.out}"
        yield f"{self.words.ip} saddr . {nft.LABEL} @hairpin{self.listener.family.value} drop"
        if self.service.protocol is Protocol.DTLS:
            yield f"{nft.EPOCH_0} {self._update(self.service.handshake_timeout)} {deliver}"
        yield f"{self._update(self.service.flow_timeout)} {deliver}"
        # Reached when the table is full: an update that fails ends its rule.
        yield nft.raw_dport(self.port)
        yield self._count(Verdict.FLOW_TABLE_FULL)
        pick = self._pick()
        if pick:
            yield f"{pick} {deliver}"
        yield "drop"

    def _out(self) -> Iterator[Chain]:
        ports = sorted(set(self.node_ports().values()))
        if self.one_port is None:
            for port in ports:
                yield Chain(self._port_chain(port), tuple(self._to_port(port)))
            yield Chain(self.out, (f"{nft.LABEL} vmap @{self.name}/port", "drop"))
        else:
            yield Chain(self.out, tuple(self._to_port(self.one_port)))

    def _to_port(self, port: int) -> Iterator[str]:
        if port == self.port:
            yield f"{nft.raw_dport(port)} notrack accept"
            return
        yield nft.raw_dport(self.port)
        yield f"{nft.NO_CHECKSUM} {nft.raw_dport(port)} notrack accept"
        yield f"udp dport set {port} notrack accept"

    def _reply(self) -> Iterator[str]:
        address = f"{self.words.ip} saddr set {self.listener.endpoint.address}"
        if self.one_port == self.port:
            yield f"{address} accept"
            return
        yield address
        yield f"udp sport {self.port} accept"
        yield f"{nft.NO_CHECKSUM} {nft.raw_sport(self.port)} accept"
        yield f"udp sport set {self.port} accept"


def reply_elements(scene: ServiceScene, family: Family) -> Mapping[str, str]:
    """``node address . port`` -> ``goto`` the reply chain of the one listener that it answers for."""
    return {
        f"{endpoint.address} . {endpoint.port}": f"goto {ListenerChains(scene, listener).reply}"
        for listener in scene.service.listeners_of(family)
        for node in scene.service.nodes
        if (endpoint := node.endpoint(listener)) is not None
    }
