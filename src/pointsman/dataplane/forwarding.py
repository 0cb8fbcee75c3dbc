"""The forwarding policy: one nftables table, whatever the data plane of the services."""

from __future__ import annotations

from pointsman.dataplane.protocol import Count
from pointsman.dataplane.sides import Wanted
from pointsman.dataplane.stamps import read_stamp
from pointsman.kernel.nft import Nft
from pointsman.plan.forwarding import APPLIED, TABLE, Accepts, ForwardTable, accepts, compile_forwarding
from pointsman.plan.nftables import removal
from pointsman.plan.verdicts import Verdict


class ForwardingSide:
    """The table ``inet pointsman-forward``."""

    name = "forwarding"

    def __init__(self, nft: Nft) -> None:
        self._nft = nft

    def changes(self, want: Wanted) -> list[str]:
        stands, table = self._stamp(), _table(want)
        if table is None:
            return ["forwarding policy: removed; everything is forwarded"] if stands is not None else []
        if stands == table.stamp:
            return []
        policy = want.inputs.gateway.forwarding
        names = ", ".join(policy.interfaces) if policy is not None else ""
        verb = "new" if stands is None else "changed"
        return [
            f"forwarding policy: {verb}; drop at {names} but for the services' packets and what is allowed"
        ]

    def apply(self, have: Wanted | None, want: Wanted) -> None:
        # The nodes of both: packets go to the old ones until the data plane has changed.
        self._replace(_table(want, accepts(have.inputs, have.plane) if have is not None else Accepts()))

    def settle(self, want: Wanted) -> None:
        table = _table(want)
        if table is not None:
            self._replace(table)
        elif self._stamp() is not None:
            self.remove()

    def _replace(self, table: ForwardTable | None) -> None:
        if table is not None and (transaction := table.transaction(self._stamp())):
            self._nft.apply(transaction)

    def remove(self) -> None:
        self._nft.apply(removal(TABLE))

    def counts(self, want: Wanted) -> list[Count]:
        if want.inputs.gateway.forwarding is None or self._stamp() is None:
            return []
        (found,) = self._nft.listing(f"list counter {TABLE} {Verdict.NOT_FORWARDED}")
        own = found["counter"]
        return [Count("", "", Verdict.NOT_FORWARDED, own["packets"], own["bytes"])]

    def lines(self, want: Wanted) -> list[str]:
        policy = want.inputs.gateway.forwarding
        if policy is None:
            return []
        names = ", ".join(policy.interfaces)
        if (table := _table(want)) is not None and self._stamp() != table.stamp:
            return [
                f"forwarding policy at {names}: gone, or changed by others; `pointsman apply` puts it back"
            ]
        return [f"forwarding policy at {names}: drop"]

    def _stamp(self) -> str | None:
        return read_stamp(self._nft, TABLE, APPLIED)


def _table(want: Wanted, more: Accepts | None = None) -> ForwardTable | None:
    policy = want.inputs.gateway.forwarding
    if policy is None:
        return None
    passing = accepts(want.inputs, want.plane)
    return compile_forwarding(policy, passing | more if more is not None else passing)
