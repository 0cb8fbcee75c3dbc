"""This kernel's verifier takes the XDP programs; the first to run on another kernel."""

from __future__ import annotations

from pointsman.dataplane.xdp_maps import object_path
from pointsman.kernel.bpf import Object
from pointsman.plan.xdp.abi import TAIL_PROGRAMS


def test_every_program_is_accepted() -> None:
    with Object.open(object_path()) as built:
        built.load()
        for name in ("pointsman", "pointsman_neighbour", "pointsman_guard", *TAIL_PROGRAMS.values()):
            with built.program(name) as program:
                assert program.id > 0
