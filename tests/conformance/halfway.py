"""``pointsman`` as it is, but killed at its STEP-th effect on the machine, before that is done: STEP ARGUMENTS.

STEP 0 kills nothing; then the last line of stderr says how many effects there were. STEP -1 kills it, and the child
that holds nftables' library, between the two transactions of a change.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

from pointsman.cli import main
from pointsman.kernel import bpf_attach, bpf_cgroup, bpffs, iproute, sysctl
from pointsman.kernel.bpf_attach import Link
from pointsman.kernel.bpf_map import Map
from pointsman.kernel.nft import Nft
from pointsman.reconcile.state import StateFile

KILLED = 137
METHODS: list[tuple[type, str]] = [
    (StateFile, "_replace"),
    (StateFile, "remove"),
    (Nft, "apply"),
    (Map, "update"),
    (Map, "update_percpu"),
    (Map, "update_batch"),
    (Map, "delete"),
    (Map, "delete_batch"),
    (Link, "update"),
]
FUNCTIONS: list[tuple[Any, str]] = [
    (sysctl, "write"),
    (iproute, "add_to_loopback"),
    (iproute, "add_address"),
    (iproute, "remove_address"),
    (iproute, "carry_out"),
    (bpf_attach, "attach_xdp"),
    (bpf_attach, "attach_tc"),
    (bpf_attach, "detach_tc"),
    (bpf_cgroup, "attach_cgroup"),
    (bpffs, "remove"),
]


class Effects:
    def __init__(self, last: int) -> None:
        self.last, self.count = last, 0

    def counted(self, effect: Callable[..., Any]) -> Callable[..., Any]:
        def instead(*arguments: Any, **named: Any) -> Any:
            self.count += 1
            if self.count == self.last:
                os._exit(KILLED)
            return effect(*arguments, **named)

        return instead


def watch(effects: Effects) -> None:
    for owner, name in METHODS:
        setattr(owner, name, effects.counted(getattr(owner, name)))
    for module, name in FUNCTIONS:
        known = getattr(module, name)
        instead = effects.counted(known)
        for each in list(sys.modules.values()):
            for own, value in list(vars(each).items()) if each.__name__.startswith("pointsman") else ():
                if value is known:
                    setattr(each, own, instead)


def die_between_transactions() -> None:
    known = Nft.apply

    def make_alone(self: Nft, transaction: str, afterwards: str = "") -> None:
        known(self, transaction)
        if afterwards:
            os._exit(KILLED)

    Nft.apply = make_alone  # type: ignore[method-assign]


if __name__ == "__main__":
    for verb in sorted(set(main.PLACES.values())):  # all names for effects are to be the watched ones
        importlib.import_module(f"pointsman.cli.{verb}")
    found = Effects(int(sys.argv.pop(1)))
    if found.last < 0:
        die_between_transactions()
    else:
        watch(found)
    try:
        main.main()
    finally:
        print(found.count, file=sys.stderr)
