"""The chains, sets and maps of one service."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from pointsman.model import (
    Affinity,
    CidPolicy,
    ConnectionIdRange,
    Endpoint,
    Family,
    Listener,
    Protocol,
    Service,
)
from pointsman.plan.nftables import affinity, full_nat, tcp
from pointsman.plan.nftables import expressions as nft
from pointsman.plan.nftables.expressions import CidBits, FamilyWords
from pointsman.plan.nftables.names import (
    TCP,
    family_name,
    filter_name,
    listener_name,
    roomy,
    verdict_set,
)
from pointsman.plan.nftables.node_budgets import NodeBudgets
from pointsman.plan.nftables.ruleset import Chain, Set
from pointsman.plan.nftables.scene import ServiceScene
from pointsman.plan.verdicts import Verdict

BY_CID, BY_FLOW, BY_SCHEDULER = "cid", "flow", "balanced"
"""How a node was chosen: the names of the verdicts' counters."""


FLOW_TABLE_SIZE = 65536
"""Flows of a listener whose service does not say how many."""


def address_map(family: Family) -> str:
    return f"address{family.value}"


def address_chain(words: FamilyWords) -> str:
    """The chain that puts the address of the node with the label in the port into the packet."""
    return f"address{words.tag}"


def labels_set(family: Family) -> str:
    return f"labels{family.value}"


def leaving_map(family: Family) -> str:
    return f"leaving_address{family.value}"


def count_always(verdict: Verdict) -> str:
    """Count in the set of the verdict's name, which has an element for every protocol that comes here.

    A named counter would do, but for showing one nft reads every element of the table, remembered flows too.
    """
    return f"meta l4proto @{verdict}"


def sent_chain(use: str, words: FamilyWords, *, tracked: bool = False) -> str:
    return f"{'tracked' if tracked else 'sent'}_{use}{words.tag}"


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
        for leaving in scene.own.leaving
        for own in leaving.node.addresses
        if own.family is family
    }


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
        return nft.words_of(self.listener.family, self.scene.transport)

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

    @property
    def closing(self) -> str:
        """TCP: the flows that are about to end."""
        return f"{self.name}/closing"

    @property
    def networks(self) -> str:
        """The map of the service's affinity, which its listeners share."""
        return f"{family_name(self.service, self.listener.family)}/networks"

    @property
    def by_tcp(self) -> bool:
        return self.scene.transport == TCP

    @property
    def flow_key(self) -> str:
        return self.words.flow_key(self.scene.flow_seed)

    @property
    def flow_count(self) -> int:
        return self.service.flow_table_size or FLOW_TABLE_SIZE

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
        return (
            "notrack accept"
            if use == BY_CID
            else f"goto {sent_chain(use, self.words, tracked=self.scene.tracked)}"
        )

    @cached_property
    def budgets(self) -> NodeBudgets | None:
        """What the filter lets each node have."""
        scene, own = self.scene, self.service.filter
        if own is None or not (own.hello.per_node or own.cid.per_node):
            return None
        labels = tuple(label for label, _ in scene.labelled_with_leaving())
        return NodeBudgets(self.service, own, self.listener, self.name, labels, self.words)

    def sets(self) -> Iterator[Set]:
        if self.budgets is not None:
            yield from self.budgets.sets()
        for name in (self.flows, self.closing) if self.by_tcp else (self.flows,):
            yield Set(
                name,
                f"{self.words.flow_key_type} : {self.words.label_type}",
                size=self.flow_count,
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
        if self.budgets is not None:
            yield from self.budgets.chains()
        yield Chain(f"{self.name}/touch", tuple(self._touch()))
        yield Chain(f"{self.name}/remember", tuple(self._remember()))
        if self.service.affinity is not None:
            yield from self._affine(self.service.affinity)
        yield Chain(f"{self.name}/new", tuple(self._new()))
        yield Chain(f"{self.name}/renew", tuple(self._renew()))
        if self.service.protocol is not Protocol.DTLS and self._leaving_labels:
            yield Chain(f"{self.name}/leaving", (f"jump {self.name}/touch", self._deliver_leaving()))
        yield Chain(f"{self.name}/flow", tuple(self._flow(f"{self.name}/touch")))
        if self.by_tcp:
            touch = tcp.touch_closing(
                self.closing, self.flow_key, self.service.flow_timeout, self.words, f"{self.name}/touch"
            )
            yield Chain(f"{self.name}/touch_closing", tuple(touch))
            yield Chain(f"{self.name}/flow_closing", tuple(self._flow(f"{self.name}/touch_closing")))
        if self.service.connection_id is not None:
            if self.scene.down_ids():
                yield Chain(f"{self.name}/cid_down", tuple(self._cid_down()))
            yield Chain(f"{self.name}/cid", tuple(self._cid(self.service.connection_id)))
        yield Chain(self.entry, tuple(self._in()))
        yield from self._reply_chains()

    def _reply_chains(self) -> Iterator[Chain]:
        if self.scene.tracked:
            yield Chain(f"{self.name}/answer", tuple(self._reply()))
            yield Chain(self.reply, full_nat.only_ours(self.words, f"{self.name}/answer"))
        else:
            yield Chain(self.reply, tuple(self._reply()))

    def _count(self, verdict: Verdict) -> str:
        return f"{self.words.listener} @{verdict_set(verdict, self.listener.family, self.scene.transport)}"

    def _follow(self) -> Iterator[str]:
        """Go by the remembered flow, else by the scheduler."""
        yield f"{self._label(f'{self.flow_key} map @{self.flows}')} goto {self.name}/flow"
        if self.by_tcp:
            yield f"{self._label(f'{self.flow_key} map @{self.closing}')} goto {self.name}/flow_closing"
        yield f"goto {self.name}/new"

    def _in(self) -> Iterator[str]:
        # Here and not before the look-up, as replies, which never come from lo, need not pay for it.
        yield 'iif "lo" goto from_gateway'
        if self.service.filter is not None:
            yield f"jump {filter_name(self.service)}"
        yield from self._left_alone()
        if self.service.connection_id is not None:
            yield f"{nft.CID_RECORD} goto {self.name}/cid"
        yield from self._follow()

    def _cid(self, where: ConnectionIdRange) -> Iterator[str]:
        bits, down = CidBits(where), self.scene.down_ids()
        if down:
            yield f"{_one_of(bits.expression, [bits.element(i) for i in down])} goto {self.name}/cid_down"
        if self.budgets is not None:
            yield from self.budgets.before_named()
        yield from self._to_named(bits)
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

    @cached_property
    def _leaving_labels(self) -> tuple[int, ...]:
        """One that has no address of this listener's family is not in this family's map."""
        return tuple(item.label for item in self.scene.own.leaving if item.node.endpoint(self.listener))

    @property
    def _opens(self) -> str | None:
        """What begins something new: it follows its flow only to a node that takes new ones."""
        if self.service.protocol is Protocol.DTLS:
            return nft.FIRST_CLIENT_HELLO
        return tcp.OPENS if self.by_tcp else None

    def _flow(self, touch: str) -> Iterator[str]:
        """The label is there: follow it, unless its node does not take this packet."""
        refusing, leaving, label = self.scene.refusing_all(), self._leaving_labels, self.words.label
        not_up = self.scene.refusing_new() + leaving
        if leaving:
            yield from self._flow_to_leaving(leaving)
        # A flow may outlive its node's label.
        yield f"{label} != @{labels_set(self.listener.family)} goto {self.name}/renew"
        if refusing:
            yield f"{_one_of(label, [*map(str, refusing)])} goto {self.name}/renew"
        if self._opens is not None:
            if not_up:
                # A NAT port in use again and again would otherwise feed a draining node for ever.
                yield f"{self._opens} {_one_of(label, [*map(str, not_up)])} goto {self.name}/renew"
            if self.budgets is not None:
                yield from self.budgets.before_labelled()
            yield f"jump {touch}"
        else:
            draining = [str(label) for label in not_up if label not in refusing]
            # Not refreshed, so that a sender who never pauses leaves a draining node, too.
            stays = f"{label} != {{ {', '.join(draining)} }} " if draining else ""
            yield f"{stays}jump {touch}"
        yield from self._to_labelled(BY_FLOW)

    def _flow_to_leaving(self, labels: Sequence[int]) -> Iterator[str]:
        """Gone with the kernel's timeout, so a removed node keeps no steady sender.

        A handshake has no more time than its flow; what ``linger`` is for is refreshed until then.
        """
        label = self.words.label
        if self._opens is not None:
            yield f"{self._opens} {_one_of(label, [*map(str, labels)])} goto {self.name}/renew"
        if self.service.protocol is Protocol.DTLS:
            if self.budgets is not None:
                mine = _one_of(label, [*map(str, labels)])
                yield from (f"{mine} {rule}" for rule in self.budgets.before_labelled())
            yield f"{self._while_leaving()} {self._deliver_leaving()}"
        else:
            yield f"{self._while_leaving()} goto {self.name}/leaving"

    # How a label is written and what follows from it: services that are passed by do it otherwise (direct.py).

    def _label(self, source: str) -> str:
        """Write the label of a node, if the source has one."""
        return nft.set_label(source)

    def _unlabel(self) -> Iterator[str]:
        """What is due before a packet whose label led nowhere is looked at again."""
        yield nft.raw_dport(self.port)

    def _left_alone(self) -> Iterator[str]:
        """Leave packets to the kernel that cannot be sent on."""
        yield from ()

    def _from_itself(self) -> Iterator[str]:
        """Drop what a node would get of itself."""
        if not self.scene.tracked:  # else the answer comes back here
            yield f"{self.words.ip} saddr . {self.words.label} @hairpin{self.listener.family.value} drop"

    def _to_labelled(self, use: str) -> Iterator[str]:
        """Send to the node of the label."""
        yield f"jump {address_chain(self.words)}"
        yield self._deliver(use)

    def _to_named(self, bits: CidBits) -> Iterator[str]:
        """Send to the node of the connection ID, if there is one."""
        family = family_name(self.service, self.listener.family)
        to_node = f"{self.words.ip} daddr set {bits.expression} map @{family}/cid"
        if self.one_port == self.port:
            yield f"{to_node} {self._sent(BY_CID)}"
        elif self.one_port is not None:
            yield f"{to_node} goto {self._port_chain(BY_CID, self.one_port)}"
        else:
            yield to_node
            yield f"{bits.expression} vmap @{self.name}/cid_port"

    def _while_leaving(self) -> str:
        """The match of a label whose node is leaving and has time left."""
        return f"{self.words.ip} daddr set {self.words.label} map @{leaving_map(self.listener.family)}"

    def _deliver_leaving(self) -> str:
        return self._deliver(BY_FLOW)

    def _deliver(self, use: str) -> str:
        """What follows once the node's address is in place: its port instead of the label, and off."""
        if self.one_port == self.port:
            return f"{nft.raw_dport(self.port)} {self._sent(use)}"
        if self.one_port is not None:
            return f"goto {self._port_chain(use, self.one_port)}"
        return f"{self.words.label} vmap @{self.name}/{use}_port"

    def _touch(self) -> Iterator[str]:
        """Remember the label in the port for this client, or refresh it; a full table is counted and nothing more."""
        if self.service.affinity is not None:
            yield affinity.remember(self.networks, self.service.affinity, self.words, self.scene.flow_seed)
        if self.service.protocol is Protocol.DTLS:
            yield f"{nft.EPOCH_0} {self._update(self.service.handshake_timeout)} return"
        if self.by_tcp:
            timeout = self.service.flow_timeout
            yield tcp.close(self.flows, self.closing, self.flow_key, timeout, self.words)
        yield f"{self._update(self.service.flow_timeout)} return"
        # An update that fails, as the table is full, ends its rule.
        yield count_always(Verdict.FLOW_TABLE_FULL)

    def _update(self, seconds: int) -> str:
        return f"update @{self.flows} {{ {self.flow_key} timeout {seconds}s : {self.words.label} }}"

    def _renew(self) -> Iterator[str]:
        """Forget the flow. An update alone would keep the old label: it only refreshes what is there."""
        yield from self._unlabel()
        yield f"delete @{self.flows} {{ {self.flow_key} : {self.words.label} }}"
        if self.by_tcp:
            yield tcp.delete(self.closing, self.flow_key, self.words.label)
        yield f"goto {self.name}/new"

    def _new(self) -> Iterator[str]:
        if self.service.affinity is not None:
            key = affinity.network_key(self.service.affinity, self.words, self.scene.flow_seed)
            yield f"{self._label(f'{key} map @{self.networks}')} goto {self.name}/affine"
        yield from self._schedule()

    def _schedule(self) -> Iterator[str]:
        pick = self.scene.pick
        if pick is not None:
            label = self._label(pick.expression(self.words, self.scene.own.hash_seed))
            yield f"{label} goto {self.name}/remember"
        yield self._count(Verdict.NO_NODE)
        yield "drop"

    def _affine(self, wanted: Affinity) -> Iterator[Chain]:
        """The label in the port is that of the network's node: go by it as long as it takes new flows."""
        label, anew = self.words.label, f"{self.name}/affine_anew"
        rules = [f"{label} != @{labels_set(self.listener.family)} goto {anew}"]
        without = self.scene.without_new()
        if without:
            rules.append(f"{_one_of(label, [*map(str, without)])} goto {anew}")
        forget = affinity.forget(self.networks, wanted, self.words, self.scene.flow_seed)
        yield Chain(anew, (*self._unlabel(), *forget, *self._schedule()))
        yield Chain(f"{self.name}/affine", (*rules, f"goto {self.name}/remember"))

    def _remember(self) -> Iterator[str]:
        yield from self._from_itself()
        if self.budgets is not None:
            yield from self.budgets.before_labelled()
        # A connection that is reset needs no memory.
        yield f"{tcp.NO_RESET} jump {self.name}/touch" if self.by_tcp else f"jump {self.name}/touch"
        yield from self._to_labelled(BY_SCHEDULER)

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
        if not self.by_tcp:
            yield f"{nft.NO_CHECKSUM} {nft.raw_dport(port)} {self._sent(use)}"
        yield f"{self.words.label} set {port} {self._sent(use)}"

    def _reply(self) -> Iterator[str]:
        address = f"{self.words.ip} saddr set {self.listener.endpoint.address}"
        if self.one_port == self.port:
            yield f"{address} accept"
            return
        source_port = f"{self.scene.transport} sport"
        yield address
        yield f"{source_port} {self.port} accept"
        if not self.by_tcp:
            yield f"{nft.NO_CHECKSUM} {nft.raw_sport(self.port)} accept"
        yield f"{source_port} set {self.port} accept"


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
        for item in scene.own.leaving
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
