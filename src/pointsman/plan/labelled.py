"""Whose a label is: what a remembered flow says of its node."""

from __future__ import annotations

from dataclasses import dataclass

from pointsman.model import Service
from pointsman.plan.inputs import PlaneInputs


@dataclass(frozen=True, slots=True)
class Labelled:
    """``services`` are those that have the node under this label; ``leaving``: the file names it no more."""

    services: tuple[str, ...]
    node: str
    leaving: bool = False


NOBODY = Labelled((), "")
"""Of a node that is gone: its flows are scheduled anew when they are heard of."""


def labelled_in(inputs: PlaneInputs, service: Service) -> dict[int, Labelled]:
    """By label, the nodes that a service's flows may go to."""
    leaving = {
        item.label: Labelled((service.name,), item.node.name, leaving=True)
        for item in inputs.leaving
        if item.service == service.name
    }
    return leaving | {inputs.labels.of(node): Labelled((service.name,), node.name) for node in service.nodes}


def labelled(inputs: PlaneInputs, services: list[Service]) -> dict[int, Labelled]:
    """The same for several services, which may have a node, and its label, in common."""
    found: dict[int, Labelled] = {}
    for service in services:
        for label, own in labelled_in(inputs, service).items():
            before = found.get(label, Labelled((), own.node, leaving=True))
            found[label] = Labelled(
                (*before.services, service.name), own.node, leaving=before.leaving and own.leaving
            )
    return found
