"""What another process must know to use a lab or to end it: one file per lab."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from pointsman.lab.errors import LabError
from pointsman.lab.processes import Process
from pointsman.lab.topology import Topology
from pointsman.lab.uplinks import World

DIRECTORY: Final = Path("/run/pointsman-lab")


@dataclass(frozen=True, slots=True)
class State:
    topology: Topology
    processes: tuple[Process, ...] = ()
    complete: bool = False


def dump(state: State) -> str:
    return json.dumps(asdict(state), indent=1) + "\n"


def parse(text: str) -> State:
    found = json.loads(text)
    return State(
        topology=_topology(found["topology"]),
        processes=tuple(Process(**each) for each in found["processes"]),
        complete=bool(found["complete"]),
    )


def _topology(found: dict[str, Any]) -> Topology:
    nodes = tuple(tuple(each) for each in found.get("node_addresses", ()))
    worlds = tuple(
        World(each["interface"], tuple(each["own"]), tuple(each["routers"]))
        for each in found.get("worlds", ())
    )
    return Topology(**{**found, "node_addresses": nodes, "worlds": worlds})


def state_file(name: str) -> Path:
    return DIRECTORY / f"{name}.json"


def example_file(name: str) -> Path:
    return DIRECTORY / f"{name}.toml"


def scratch(name: str) -> Path:
    """A directory for the lab's temporary files."""
    return DIRECTORY / f"{name}.d"


def claim(state: State) -> None:
    """Take the name, atomically; written before anything is built, so that a half-built lab can be found."""
    name = state.topology.name
    DIRECTORY.mkdir(mode=0o755, exist_ok=True)
    try:
        with state_file(name).open("x") as file:
            file.write(dump(state))
    except FileExistsError:
        raise LabError(f"lab {name} is up already; end it with: pointsman lab down {name}") from None


def save(state: State) -> None:
    path = state_file(state.topology.name)
    aside = path.with_suffix(f".json.{os.getpid()}")
    aside.write_text(dump(state))
    aside.replace(path)


def load(name: str) -> State | None:
    """None where there is no file that makes sense: the lab's namespaces are then known by name only."""
    try:
        return parse(state_file(name).read_text())
    except (OSError, ValueError, KeyError, TypeError, LabError):
        return None


def names() -> list[str]:
    return sorted(path.stem for path in DIRECTORY.glob("*.json"))


def remove(name: str) -> bool:
    """Remove all files of a lab; tell whether there was any."""
    paths = [state_file(name), example_file(name), *DIRECTORY.glob(f"{name}.json.*")]
    found = [path for path in paths if path.exists()]
    for path in found:
        path.unlink(missing_ok=True)
    there = scratch(name).is_dir()
    shutil.rmtree(scratch(name), ignore_errors=True)
    with suppress(OSError):  # not empty: other labs are up
        DIRECTORY.rmdir()
    return bool(found) or there
