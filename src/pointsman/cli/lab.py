"""``pointsman lab``: a whole site on one machine, to try things in."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from pointsman.lab import build, processes, stage, state
from pointsman.lab.errors import LabError
from pointsman.lab.example import example
from pointsman.lab.inside import enter
from pointsman.lab.picture import picture
from pointsman.lab.topology import VIP, Topology, check_name, namespace, parse_namespace
from pointsman.lab.tries import short, tries

_DEFAULT = "lab"
_DEVICE = "198.51.100.11:40000"  # as it may look from outside its NAT


@dataclass(frozen=True, slots=True)
class _Machine:
    name: str
    namespace: str
    addresses: tuple[str, ...]
    processes: tuple[int, ...]


@click.group()
def lab() -> None:
    """Devices, NATs, a gateway and nodes as network namespaces on this machine."""


@lab.command()
@click.argument("file", metavar="[EXAMPLE]", required=False)
@click.option(
    "--name", default=_DEFAULT, show_default=True, help="What the lab is called; several can be up at once."
)
@click.option("--nodes", type=int, help="How many server nodes, without EXAMPLE.  [default: 3]")
@click.option("--nats", default=2, show_default=True, help="How many NATs.")
@click.option("--devices", default=1, show_default=True, help="How many devices behind each NAT.")
def up(file: str | None, name: str, nodes: int | None, nats: int, devices: int) -> None:
    """Build a lab, draw it, and write a configuration file for its gateway.

    With EXAMPLE, a configuration file or the name of one in examples/, the lab is one that fits it: the file is
    applied, and a server runs at every node.
    """
    if file is not None:
        if nodes is not None:
            raise click.UsageError("--nodes goes without EXAMPLE, whose file says which nodes there are")
        _up_with(file, name, nats, devices)
        return
    built = build.Lab.up(
        Topology(name, nodes=3 if nodes is None else nodes, nats=nats, devices_per_nat=devices)
    )
    written = state.example_file(name)
    written.write_text(example(built.topology))
    own = "" if name == _DEFAULT else f" --name {name}"
    sender = "dev1" if nats else "client"
    _tell(
        built.topology,
        (
            f"exec{own} gw -- pointsman apply {written}",
            f"exec{own} gw -- pointsman explain {written} --from {_DEVICE} --to {VIP[4]}:5684 --cid 010203040506",
            f"exec{own} {sender} -- ping -c1 {VIP[6]}",
        ),
    )


def _up_with(file: str, name: str, nats: int, devices: int) -> None:
    path = stage.find_file(file)
    built, loaded = stage.raise_curtain(path, name, nats=nats, devices=devices)
    own = "" if name == _DEFAULT else f" --name {name}"
    sender = "dev1" if built.topology.nats else "client"
    gateway = loaded.gateway
    runs = ["at every node"] if gateway.services else []
    runs += ["on gw itself"] if gateway.guards or gateway.multihomes else []
    servers = f", and a server runs {' and '.join(runs)}" if runs else ""
    click.echo(f"{short(path)} is applied on gw{servers}.\n")
    lines = [f"exec{own} {machine} -- {line}" for machine, line in tries(gateway, built.topology, sender)]
    vips = [str(each.endpoint.address) for service in gateway.services for each in service.listeners]
    _tell(built.topology, lines, vips)


def _tell(topology: Topology, lines: Sequence[str], vips: Sequence[str] | None = None) -> None:
    """Draw the lab and say what to try in it."""
    name = topology.name
    own = "" if name == _DEFAULT else f" --name {name}"
    click.echo(f"Lab {name} is up.\n\n{picture(topology, vips)}\n\nTry:")
    for line in (
        *lines,
        f"exec{own} gw -- pointsman status",
        "status",
        "down" if name == _DEFAULT else f"down {name}",
    ):
        click.echo(f"  pointsman lab {line}")


@lab.command()
@click.argument("name", default=_DEFAULT)
def down(name: str) -> None:
    """End a lab: its processes, its namespaces, its files."""
    found = build.take_down(name)
    click.echo(f"Lab {name} is down." if found else f"Nothing to do: there is no lab {name}.")


@lab.command(name="exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--name", default=_DEFAULT, show_default=True, help="The lab.")
@click.argument("machine", metavar="NS")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(name: str, machine: str, command: tuple[str, ...]) -> None:
    """Run a command on one of the lab's machines: gw, client, n1, nat1, dev1, ..."""
    if command[0] == "--":
        command = command[1:]
    if not command:
        raise click.UsageError("which command?")
    present = [parse_namespace(each) for each in build.existing(check_name(name))]
    machines = [found[1] for found in present if found]
    if not machines:
        raise LabError(f"there is no lab {name}; pointsman lab up --name {name} builds it")
    if machine not in machines:
        raise LabError(f"lab {name} has no {machine}; it has {', '.join(machines)}")
    enter(namespace(name, machine))
    try:
        os.execvp(command[0], command)  # noqa: S606 - the command is the user's own
    except OSError as error:
        click.echo(f"pointsman: {command[0]}: {error.strerror}", err=True)
        raise SystemExit(127 if isinstance(error, FileNotFoundError) else 126) from error


@lab.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(name: str | None, *, as_json: bool) -> None:
    """Show the labs there are, their machines and addresses."""
    names = [check_name(name)] if name else build.names()
    found = {each: _machines(each) for each in names}
    if as_json:
        labs = [{"name": each, **_kind(each), "machines": [asdict(m) for m in found[each]]} for each in names]
        click.echo(json.dumps({"labs": labs}, indent=2))
        return
    console = Console(highlight=False)
    if not any(found.values()):
        console.print(f"There is no lab {name}." if name else "There is no lab.")
    for each, machines in found.items():
        if not machines:
            continue
        whole = "" if _kind(each)["complete"] else f" (unfinished: pointsman lab down {each} removes it)"
        table = Table(title=f"Lab {each}{whole}", title_justify="left", box=None, pad_edge=False)
        for column in ("machine", "namespace", "addresses", "processes"):
            table.add_column(column, overflow="fold")
        for machine in machines:
            pids = " ".join(map(str, machine.processes))
            table.add_row(machine.name, machine.namespace, ", ".join(machine.addresses), pids)
        console.print(table)


def _kind(name: str) -> dict[str, bool]:
    known = state.load(name)
    return {"complete": known is not None and known.complete}


def _machines(name: str) -> list[_Machine]:
    found = []
    for each in build.existing(name):
        parsed = parse_namespace(each)
        running = tuple(process.pid for process in processes.within([each]))
        found.append(_Machine(parsed[1] if parsed else each, each, _addresses(each), running))
    return found


def _addresses(of: str) -> tuple[str, ...]:
    """What the machine has now, which is more than the lab gave it once a configuration is applied."""
    done = subprocess.run(["ip", "-n", of, "-j", "address"], capture_output=True, text=True, check=False)
    links: list[dict[str, Any]] = json.loads(done.stdout or "[]")
    return tuple(
        f"{own['local']}/{own['prefixlen']}"
        for link in links
        for own in link.get("addr_info", [])
        if own.get("scope") == "global"
    )
