"""The nftables data plane."""

from __future__ import annotations

from typing import Any

from pointsman.dataplane.protocol import Count
from pointsman.kernel.nft import Nft, NftError
from pointsman.model import ConnectionIdRange, Family, Service
from pointsman.plan.inputs import Capabilities, PlaneInputs
from pointsman.plan.nftables import TABLE, add_applied, changes, compile_ruleset, scaffold
from pointsman.plan.nftables import stamp as stamp_lines
from pointsman.plan.nftables.expressions import CidBits
from pointsman.plan.nftables.names import family_name, verdict_set
from pointsman.plan.nftables.ruleset import APPLIED, FAMILY, NAME
from pointsman.plan.verdicts import MEANINGS, Scope, Verdict

_TPROXY_PROBE = """\
table inet pointsman-probe {
	chain probe {
		meta l4proto udp tproxy ip to 127.0.0.1:1
		meta l4proto udp tproxy ip6 to [::1]:1
	}
}
"""


class NftablesPlane:
    """One table, ``inet pointsman``; see docs/ARCHITECTURE.md, "The nftables plane"."""

    name = "nftables"

    def __init__(self, nft: Nft) -> None:
        self._nft = nft

    def capabilities(self) -> Capabilities:
        return Capabilities(defragment_by_tproxy=self._nft.accepts(_TPROXY_PROBE))

    def stamp(self) -> str | None:
        try:
            found = self._nft.listing(f"list set {TABLE} {APPLIED}")
        except NftError as problem:
            if "No such file" in str(problem):
                return None
            raise
        for element in found[0]["set"].get("elem", []):
            if isinstance(element, dict):
                comment = element["elem"].get("comment")
                return str(comment) if comment else None
        return None

    def transaction(self, have: PlaneInputs | None, want: PlaneInputs) -> str:
        return changes(None if have is None else compile_ruleset(have), compile_ruleset(want))

    def apply(self, have: PlaneInputs | None, want: PlaneInputs, stamp: str) -> None:
        if have is None and not self._table_stands():
            self._build(want, stamp)
        else:
            self._nft.apply(self.transaction(have, want) + stamp_lines(stamp))

    def _table_stands(self) -> bool:
        tables = (entry.get("table", {}) for entry in self._nft.listing("list tables"))
        return any((table.get("family"), table.get("name")) == (FAMILY, NAME) for table in tables)

    def _build(self, want: PlaneInputs, stamp: str) -> None:
        """Make the first table: what no packet sees yet in pieces, then everything that acts in one transaction."""
        ruleset = compile_ruleset(want)
        sets, pieces = scaffold(ruleset)
        try:
            for piece in pieces:
                self._nft.apply(piece)
            self._nft.apply(changes(sets, ruleset) + add_applied() + stamp_lines(stamp))
        except NftError:
            self.remove()
            raise

    def remove(self) -> None:
        self._nft.apply(f"add table {TABLE}\ndelete table {TABLE}\n")

    def counts(self, inputs: PlaneInputs) -> list[Count]:
        found: list[Count] = []
        for service in inputs.gateway.services:
            for family in Family:
                if service.connection_id is not None and service.listeners_of(family):
                    found += self._cid_counts(service, service.connection_id, family)
        families = {listener.family for service in inputs.gateway.services for listener in service.listeners}
        for family in sorted(families):
            found += self._endpoint_counts(inputs, family)
            found += self._listener_counts(inputs, family)
            hairpins = [counter for _, counter in self._elements("set", f"hairpin{family.value}")]
            found.append(_of_gateway(Verdict.HAIRPIN, hairpins))
        for verdict in (Verdict.FLOW_TABLE_FULL, Verdict.ICMP_SUPPRESSED):
            found.append(_of_gateway(verdict, [counter for _, counter in self._elements("set", verdict)]))
        return _merged(found)

    def _elements(self, kind: str, name: str) -> list[tuple[Any, dict[str, int]]]:
        """Keys and counters of a set or map."""
        listed = self._nft.listing(f"list {kind} {TABLE} {name}")[0][kind].get("elem", [])
        keys = [row[0] if kind == "map" else row for row in listed]
        return [(key["elem"]["val"], key["elem"]["counter"]) for key in keys]

    def _cid_counts(self, service: Service, where: ConnectionIdRange, family: Family) -> list[Count]:
        bits = CidBits(where)
        names = {int(bits.element(node.id), 16): node.name for node in service.nodes if node.id is not None}
        return [
            Count(service.name, names[key], Verdict.CID, counter["packets"], counter["bytes"])
            for key, counter in self._elements("map", f"{family_name(service, family)}/cid")
            if key in names
        ]

    def _endpoint_counts(self, inputs: PlaneInputs, family: Family) -> list[Count]:
        """The counters that are kept by a node's address and port, which belong to one listener."""
        owners = {
            (str(endpoint.address), endpoint.port): (service.name, node.name)
            for service in inputs.gateway.services
            for listener in service.listeners_of(family)
            for node in service.nodes
            if (endpoint := node.endpoint(listener)) is not None
        }
        kinds = {Verdict.FLOW: "set", Verdict.BALANCED: "set", Verdict.REPLY: "map"}
        return [
            Count(*owners[owner], verdict, counter["packets"], counter["bytes"])
            for verdict, kind in kinds.items()
            for key, counter in self._elements(kind, f"{verdict}{family.value}")
            if (owner := tuple(key["concat"])) in owners
        ]

    def _listener_counts(self, inputs: PlaneInputs, family: Family) -> list[Count]:
        owners = {
            (str(listener.endpoint.address), listener.endpoint.port): (service.name, str(listener.endpoint))
            for service in inputs.gateway.services
            for listener in service.listeners_of(family)
        }
        return [
            Count(*owners[owner], verdict, counter["packets"], counter["bytes"])
            for verdict, meaning in MEANINGS.items()
            if meaning.scope is Scope.LISTENER
            for key, counter in self._elements("set", verdict_set(verdict, family))
            if (owner := tuple(key["concat"])) in owners
        ]


def _of_gateway(verdict: Verdict, counters: list[dict[str, int]]) -> Count:
    packets = sum(counter["packets"] for counter in counters)
    return Count("", "", verdict, packets, sum(counter["bytes"] for counter in counters))


def _merged(counts: list[Count]) -> list[Count]:
    """Add up the families."""
    totals: dict[tuple[str, str, Verdict], tuple[int, int]] = {}
    for count in counts:
        key = (count.service, count.subject, count.verdict)
        packets, size = totals.get(key, (0, 0))
        totals[key] = (packets + count.packets, size + count.bytes)
    return [Count(*key, *total) for key, total in sorted(totals.items())]
