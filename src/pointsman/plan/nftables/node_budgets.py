"""The budgets that a filter gives to each node, held against a packet once its node is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pointsman.model import Filter, FilterMode, Listener, Service
from pointsman.plan.nftables import expressions as nft
from pointsman.plan.nftables.expressions import CidBits, FamilyWords
from pointsman.plan.nftables.filter import COOKIE_SHARE, allowed_sources, cid_records, limit_over
from pointsman.plan.nftables.names import node_verdict_set, roomy
from pointsman.plan.nftables.ruleset import Chain, Set
from pointsman.plan.verdicts import Verdict


@dataclass(frozen=True)
class NodeBudgets:
    """One listener's part of them; the buckets are the service's, one for each node that a packet can name.

    A node is named by its label, or by the record's connection ID. ``labels`` are those that packets can
    have. ``listener_name`` begins the names of the listener's chains.
    """

    service: Service
    own: Filter
    listener: Listener
    listener_name: str
    labels: tuple[int, ...]
    words: FamilyWords

    def sets(self) -> Iterator[Set]:
        labels = {str(label): "" for label in self.labels}
        for kind, rate, burst in self._by_label():
            yield Set(
                self._bucket(kind, rate, burst),
                f"typeof {self.words.label_type}",
                labels,
                size=roomy(len(labels)),
                limit=limit_over(rate, burst),
            )
        if self.own.cid.per_node and (where := self.service.connection_id) is not None:
            bits = CidBits(where)
            ids = {bits.element(node.id): "" for node in self.service.nodes if node.id is not None}
            yield Set(
                self._bucket("id", self.own.cid.per_node, self.own.cid.burst),
                f"typeof {bits.field}",
                ids,
                size=roomy(len(ids)),
                limit=limit_over(self.own.cid.per_node, self.own.cid.burst),
            )
        for verdict in self._verdicts():
            yield Set(
                node_verdict_set(self.listener_name, verdict), "type inet_proto", {"udp": ""}, counter=True
            )

    def chains(self) -> Iterator[Chain]:
        end = "drop" if self.own.mode is FilterMode.ENFORCE else "return"
        for verdict in self._verdicts():
            counted = f"meta l4proto @{node_verdict_set(self.listener_name, verdict)}"
            yield Chain(self._over(verdict), (f"{counted} {end}",))
        yield Chain(f"{self.listener_name}/budget", tuple(self._labelled()))
        if self._named_by_id:
            yield Chain(f"{self.listener_name}/cid_budget", tuple(self._named()))

    def before_labelled(self) -> Iterator[str]:
        """What a packet with a label meets before it is remembered."""
        yield f"jump {self.listener_name}/budget"

    def before_named(self) -> Iterator[str]:
        """What a record meets before it goes to the node of its connection ID."""
        if self._named_by_id:
            yield f"jump {self.listener_name}/cid_budget"

    @property
    def _named_by_id(self) -> bool:
        return bool(self.own.cid.per_node) and self.service.connection_id is not None

    def _verdicts(self) -> Iterator[Verdict]:
        if self.own.hello.per_node:
            yield Verdict.HELLO_OVER_NODE
        if self.own.cid.per_node:
            yield Verdict.CID_OVER_NODE

    def _by_label(self) -> Iterator[tuple[str, int, int]]:
        hello, cid = self.own.hello, self.own.cid
        if hello.per_node:
            yield "hello", hello.per_node, hello.burst
            yield "cookie", hello.per_node * COOKIE_SHARE, hello.burst
        if cid.per_node:
            yield "cid", cid.per_node, cid.burst

    def _bucket(self, kind: str, rate: int, burst: int) -> str:
        return f"{self.service.name}/{kind}_node-{rate}x{burst}"

    def _over(self, verdict: Verdict) -> str:
        return f"{self.listener_name}/over/{verdict}"

    def _exempt(self) -> Iterator[str]:
        for allowed in allowed_sources(self.own, (self.listener.family,)):
            yield f"{allowed} return"

    def _labelled(self) -> Iterator[str]:
        yield from self._exempt()
        for kind, rate, burst in self._by_label():
            over = f"{self.words.label} @{self._bucket(kind, rate, burst)} goto"
            if kind == "hello":
                yield f"{nft.FIRST_CLIENT_HELLO} {over} {self._over(Verdict.HELLO_OVER_NODE)}"
            elif kind == "cookie":
                yield f"{nft.COOKIE_CLIENT_HELLO} {over} {self._over(Verdict.HELLO_OVER_NODE)}"
            else:
                for record in cid_records(self.own):
                    yield f"{record} {over} {self._over(Verdict.CID_OVER_NODE)}"

    def _named(self) -> Iterator[str]:
        where = self.service.connection_id
        if where is None:
            return
        yield from self._exempt()
        bucket = self._bucket("id", self.own.cid.per_node, self.own.cid.burst)
        yield f"{CidBits(where).expression} @{bucket} goto {self._over(Verdict.CID_OVER_NODE)}"
