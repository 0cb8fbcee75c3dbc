"""What no command orders yet: states with shares, and replaced nodes, carried out as orders are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.conformance.site import Site

from pointsman.config import parse
from pointsman.model import NodeStates
from pointsman.reconcile.apply import Wish, applied_inputs, carry_out, propose_states, standing
from pointsman.reconcile.planes import Planes
from pointsman.reconcile.prepare import prepare
from pointsman.reconcile.state import StateFile


@contextmanager
def on_gateway(site: Site) -> Iterator[tuple[Planes, StateFile]]:
    with site.lab.inside("gw"), Planes() as planes:
        file = StateFile()
        with file.locked():
            yield planes, file


def put(site: Site, change: Callable[[NodeStates], NodeStates]) -> None:
    """Put other states in force."""
    with on_gateway(site) as (planes, file):
        carry_out(planes, file, propose_states(planes, file, lambda _, states: change(states)))


def share(site: Site, node: str, percent: int, service: str = "s") -> None:
    """Have the node take so much of its weight."""
    put(site, lambda states: states.with_share(service, node, percent))


def replace_node(site: Site, node: str, *addresses: str, service: str = "s") -> None:
    with on_gateway(site) as (planes, file):
        state, _ = standing(planes, file)
        assert state.text is not None
        wish = Wish(state.states, {**state.replacements, (service, node): addresses})
        carry_out(planes, file, prepare(planes, file, parse(state.text, state.filename), wish).proposal)


def states(site: Site) -> NodeStates:
    """Those in force."""
    with on_gateway(site) as (_, file):
        inputs = applied_inputs(file.read()[0])
    assert inputs is not None
    return inputs.states
