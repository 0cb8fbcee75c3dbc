"""``pointsman lab``: a whole site on one machine, to try things in."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import asdict, dataclass
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from pointsman.lab import build, processes, state
from pointsman.lab.errors import LabError
from pointsman.lab.example import example
from pointsman.lab.inside import enter
from pointsman.lab.picture import picture
from pointsman.lab.topology import VIP, Topology, check_name, namespace, parse_namespace

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
@click.option(
    "--name", default=_DEFAULT, show_default=True, help="What the lab is called; several can be up at once."
)
@click.option("--nodes", default=3, show_default=True, help="How many server nodes.")
@click.option("--nats", default=2, show_default=True, help="How many NATs.")
@click.option("--devices", default=1, show_default=True, help="How many devices behind each NAT.")
def up(name: str, nodes: int, nats: int, devices: int) -> None:
    """Build a lab, draw it, and write a configuration file for its gateway."""
    built = build.Lab.up(Topology(name, nodes=nodes, nats=nats, devices_per_nat=devices))
    file = state.example_file(name)
    file.write_text(example(built.topology))
    own = "" if name == _DEFAULT else f" --name {name}"
    sender = "dev1" if nats else "client"
    click.echo(f"Lab {name} is up.\n\n{picture(built.topology)}\n\nTry:")
    for line in (
        f"exec{own} gw -- pointsman apply {file}",
        f"exec{own} gw -- pointsman explain {file} --from {_DEVICE} --to {VIP[4]}:5684 --cid 010203040506",
        f"exec{own} {sender} -- ping -c1 {VIP[6]}",
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
