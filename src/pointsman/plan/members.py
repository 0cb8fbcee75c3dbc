"""Who takes part in a service's scheduling, and how large a Maglev table is: the same on every data plane."""

from __future__ import annotations

from collections.abc import Sequence

from pointsman.model import FULL_SHARE, NodeState, Service
from pointsman.plan import maglev


def members(
    service: Service, states: Sequence[NodeState], shares: Sequence[int] = ()
) -> list[tuple[str, int]]:
    """The nodes that take new flows, with their weights, by name.

    ``states`` and ``shares`` are in the order of the nodes; without ``shares`` all are full. Backup nodes are among
    them where no other node is. Shares are relative: where all members have the same one, the weights are the
    nodes' own, else they are scaled by the shares.
    """
    rows = zip(service.nodes, states, shares or (FULL_SHARE,) * len(service.nodes), strict=True)
    able = [(node, share) for node, state, share in rows if node.weight and state.takes_new_flows]
    chosen = [(node, share) for node, share in able if not node.backup] or able
    if len({share for _, share in chosen}) <= 1:
        return sorted((node.name, node.weight) for node, _ in chosen)
    return sorted((node.name, node.weight * share) for node, share in chosen)


def size_of(service: Service) -> int:
    return service.maglev_table_size or maglev.table_size(len(service.nodes))
