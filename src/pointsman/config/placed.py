"""Resolved services, listeners and nodes together with the paths of the tables that they come from."""

from __future__ import annotations

from dataclasses import dataclass

from pointsman.config.lines import Path
from pointsman.model import Listener, Node, Service


@dataclass(frozen=True, slots=True)
class PlacedListener:
    path: Path
    listener: Listener


@dataclass(frozen=True, slots=True)
class PlacedNode:
    """``address_paths`` has the path of each of the node's addresses, in their order."""

    path: Path
    node: Node
    address_paths: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class PlacedService:
    path: Path
    service: Service
    listeners: tuple[PlacedListener, ...]
    nodes: tuple[PlacedNode, ...]
