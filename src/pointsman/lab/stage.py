"""A configuration file on the stage: a lab that fits it, the file applied, a server at every node."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pointsman.config import Loaded, load
from pointsman.lab.build import Lab
from pointsman.lab.control_groups import entering
from pointsman.lab.demo_peers import at
from pointsman.lab.errors import LabError
from pointsman.lab.fit import Server, fit, servers
from pointsman.lab.on_gateway import carried, own_servers
from pointsman.lab.run import ip_batch
from pointsman.model import Gateway, Protocol
from pointsman.plan.node_setup import wanted_of
from pointsman.reconcile import node_side

ROOT = Path(__file__).resolve().parents[3]
PEER = ROOT / "build/peers/cidpeer"


def find_file(example: str) -> Path:
    """A file, or the example of that name beside the source; raise LabError where there is neither."""
    folder = ROOT / "examples"
    for path in (Path(example), folder / example, folder / f"{example}.toml"):
        if path.is_file():
            return path
    known = ", ".join(sorted(path.stem for path in folder.glob("*.toml")))
    raise LabError(
        f"there is no file {example}" + (f", nor an example of that name: {known}" if known else "")
    )


def raise_curtain(path: Path, name: str, *, nats: int, devices: int) -> tuple[Lab, Loaded]:
    """Build the lab, prepare its machines, start the servers and apply the file; what fails is taken down again."""
    loaded = load(path)
    gateway = loaded.gateway
    lab = Lab.up(fit(name, gateway, nats=nats, devices=devices))
    try:
        with lab.inside("gw"):
            ip_batch(carried(gateway, lab.topology))
        there = servers(gateway)
        _set_up_nodes(lab, gateway, there)
        starting = [
            each for server in (*there, *own_servers(gateway, lab.topology)) for each in _start(lab, server)
        ]
        for one in starting:
            one.wait()
        lab.run("gw", [sys.executable, "-m", "pointsman.cli.main", "apply", str(path.resolve())], timeout=120)
    except BaseException:
        lab.down()
        raise
    return lab, loaded


def _set_up_nodes(lab: Lab, gateway: Gateway, there: tuple[Server, ...]) -> None:
    """What `pointsman node-setup --apply` does, on every node that answers clients by itself."""
    machine_of = {(server.service, server.node): server.machine for server in there}
    for service in gateway.services:
        for node in service.nodes:
            wanted = wanted_of(service, node)
            machine = machine_of.get((service.name, node.name))
            if wanted is not None and machine is not None:
                with lab.inside(machine):
                    node_side.apply(f"{service.name}/{node.name}", wanted)


@dataclass(frozen=True, slots=True)
class _Starting:
    child: subprocess.Popen[str]
    server: Server
    log: str

    def wait(self) -> None:
        """Until the server says that it listens."""
        if self.child.stdout is None or not self.child.stdout.readline():
            with suppress(subprocess.TimeoutExpired):
                self.child.wait(1)
            said = Path(self.log).read_text().strip().splitlines()
            why = said[-1] if said else "without a word"
            raise LabError(f"the server for {self.server.service}/{self.server.node} ended: {why}")


def _start(lab: Lab, server: Server) -> Iterator[_Starting]:
    group = lab.control_group(server.cgroup) if server.cgroup else None
    log = lab.scratch / f"{server.machine}-{server.service}.log"
    with log.open("w") as stderr:
        for argv in _commands(server):
            line = argv if group is None else entering(group, argv)
            child = lab.popen(server.machine, line, stdout=subprocess.PIPE, stderr=stderr)
            yield _Starting(child, server, str(log))


def _commands(server: Server) -> Iterator[list[str]]:
    if server.protocol is Protocol.DTLS:
        if not PEER.exists():
            raise LabError(f"{server.service} is dtls, and there is no DTLS server: `make peers` builds it")
        for endpoint in server.listen:
            own = at(str(endpoint.address), endpoint.port)
            yield [str(PEER), "server", "--listen", own, "--name", server.node, *_ids(server), "--quiet"]
        return
    pairs = [word for endpoint in server.listen for word in (str(endpoint.address), str(endpoint.port))]
    yield [sys.executable, "-m", "pointsman.lab.answers", server.node, server.protocol, *pairs]


def _ids(server: Server) -> list[str]:
    where = server.connection_id
    if where is None or server.node_id is None:
        return ["--no-cid"]
    place = ["--cid-offset-bits", str(where.offset), "--cid-bits", str(where.bits)]
    length = ["--cid-length", str(where.length)] if where.length is not None else []
    return ["--cid-id", str(server.node_id), *place, *length]
