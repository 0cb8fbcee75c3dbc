"""What is done to the daemon and to its machine while all kinds of load pass, and what of the load is lost: nothing.

Short courses by default; POINTSMAN_KILLS, POINTSMAN_RELOADS and POINTSMAN_FLAPPING (seconds) make them longer, as
`make soak` does, and POINTSMAN_FAULTS_SEED repeats one. Each case prints its figures.
"""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import psutil
import pytest
from tests.conformance import site as gateways
from tests.conformance.serving import Daemon, serving
from tests.conformance.site import POINTSMAN, cid
from tests.e2e.doors import PORT, Door, doors
from tests.e2e.mixed import NODES, Figures, servers, text, under_load
from tests.e2e.test_programs import restore_routes

from pointsman.api import place
from pointsman.lab.demo_site import Site
from pointsman.reconcile.state import state_directory

pytestmark = [pytest.mark.peers, pytest.mark.netns, pytest.mark.timeout(240)]

KILLS = int(os.environ.get("POINTSMAN_KILLS", "4"))
RELOADS = int(os.environ.get("POINTSMAN_RELOADS", "12"))
FLAPPING = float(os.environ.get("POINTSMAN_FLAPPING", "3"))
SEED = int(os.environ.get("POINTSMAN_FAULTS_SEED", "0")) or time.time_ns() % 1_000_000
EVERY = (*NODES, "n3")
INTERVAL = 0.1
DAY = 86_400
FOREVER = "86399"
"""Seconds that the hanging script sleeps for; nobody else on the machine does for so long."""


def check(*, rise: int = 2, fall: int = 3, jitter: float = 0) -> str:
    return (
        f'[[service.check]]\ntype = "tcp"\nport = {PORT}\ninterval = "{INTERVAL * 1000:.0f}ms"\n'
        f'timeout = "{INTERVAL * 1000:.0f}ms"\nrise = {rise}\nfall = {fall}\njitter = {jitter}'
    )


@pytest.fixture
def gateway(site: Site) -> Iterator[gateways.Site]:
    """The same site, as the cases about daemons know it."""
    found = gateways.Site(site.lab, site.plane, 4)
    yield found
    found.close()


def states(gateway: gateways.Site, service: str = "records") -> dict[str, str]:
    (found,) = [each for each in gateway.status()["services"] if each["name"] == service]
    return {node["name"]: node["state"] for node in found["nodes"]}


def becomes(daemon: Daemon, node: str, state: str) -> None:
    daemon.until(lambda: states(daemon.site)[node] == state, f"{node} is {state}")


def tell(site: Site, what: str, figures: Figures) -> None:
    print(f"\n{site.plane}: {what}: {figures}")


def process(daemon: Daemon) -> psutil.Process:
    assert daemon.process is not None
    return psutil.Process(daemon.process.pid)


def is_applying(file: Path) -> bool:
    """Whether the journal says that an apply is, or was, under way."""
    return json.loads(file.read_text())["pending"] is not None


@pytest.mark.timeout(240 + 5 * KILLS)
def test_being_killed_at_any_moment_loses_nothing(site: Site, gateway: gateways.Site) -> None:
    moments = random.Random(SEED)
    versions = [text(site), text(site, records=EVERY)]
    applying = 0
    with site.lab.inside("gw"):
        journal = state_directory() / "applied.json"
    with servers(site), serving(gateway, versions[0], afresh=True) as daemon, under_load(site) as load:
        for turn in range(KILLS):
            daemon.file.write_text(versions[turn % 2])
            if turn % 4 == 3:  # at any moment of its start
                daemon.kill()
                daemon.launch()
                time.sleep(moments.random() * 1.5)
            else:
                daemon.reload()
                end = time.monotonic() + (moments.random() * 0.2 if turn % 2 else 5.0)
                while time.monotonic() < end and not (turn % 2 == 0 and is_applying(journal)):
                    pass
                time.sleep(moments.random() * 0.01)
            daemon.kill()
            applying += is_applying(journal)
            daemon.start()
        assert set(states(gateway)) == set(EVERY if KILLS % 2 == 0 else NODES)
    figures = load.stop()
    tell(site, f"killed {KILLS} times, {applying} of them in the middle of an apply (seed {SEED})", figures)
    figures.nothing_lost()


@pytest.mark.timeout(240 + 2 * RELOADS)
def test_reloads_lose_nothing_and_leave_nothing_behind(site: Site, gateway: gateways.Site) -> None:
    versions = [text(site), text(site, records=EVERY)]
    with servers(site), serving(gateway, versions[0], afresh=True) as daemon:
        own = process(daemon)
        with under_load(site) as load:
            for turn in range(RELOADS):
                if turn == RELOADS // 2:
                    memory, files = own.memory_info().rss, own.num_fds()
                daemon.file.write_text(versions[turn % 2])
                gateway.pointsman("reload")
        daemon.until(lambda: own.num_fds() <= files, f"{files} descriptors as before")
        grown = own.memory_info().rss - memory
        figures = load.stop()
        tell(
            site,
            f"{RELOADS} reloads, in whose second half memory grew by {grown >> 10} KiB from {memory >> 20} MiB",
            figures,
        )
        figures.nothing_lost()
        assert grown < 16 << 20
        assert len(daemon.events("refused") + daemon.events("failed")) == 0


@pytest.fixture
def disk(site: Site, gateway: gateways.Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file system of their own, and a small one, for the daemon's state, orders and history."""
    where = site.lab.scratch / "disk"
    where.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k,mode=700", "tmpfs", str(where)], check=True)
    monkeypatch.setenv("POINTSMAN_STATE_DIR", str(where / "state"))
    monkeypatch.setenv("POINTSMAN_STORE_DIR", str(where / "store"))
    try:
        yield where
        gateway.pointsman("down")
    finally:
        subprocess.run(["umount", str(where)], check=True)


@contextmanager
def full(disk: Path) -> Iterator[None]:
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as out:
        try:
            while True:
                out.write(bytes(4096))
        except OSError:
            pass
    try:
        yield
    finally:
        ballast.unlink()


@contextmanager
def read_only(disk: Path) -> Iterator[None]:
    """A view of it that takes nothing lies over it; itself it has an open file, the daemon's lock, and stays."""
    subprocess.run(["mount", "--bind", str(disk), str(disk)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(disk)], check=True)
        yield
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def written(disk: Path) -> dict[str, str]:
    """Node states other than up, in the state's file."""
    (file,) = disk.glob("state/**/applied.json")
    return {node: state for _, node, state in json.loads(file.read_text())["applied"]["states"]}


Fault = Callable[[Path], AbstractContextManager[None]]


@pytest.mark.parametrize(
    ("fault", "says"),
    [(full, "No space left on device"), (read_only, "Read-only file system")],
    ids=["full", "read-only"],
)
def test_a_disk_that_takes_nothing_is_told_of_and_waited_for(
    site: Site, gateway: gateways.Site, disk: Path, fault: Fault, says: str
) -> None:
    with (
        servers(site),
        doors(site.lab, EVERY) as ports,
        serving(gateway, text(site, records=EVERY, more=check()), afresh=True) as daemon,
        under_load(site) as load,
    ):
        becomes(daemon, "n3", "up")
        gateway.pointsman("node", "drain", "records/n2", "--for", "2s")
        with fault(disk):
            assert states(gateway) == {"n1": "up", "n2": "draining", "n3": "up"}
            ports["n3"].shut()
            daemon.wait_for("failed", says)
            becomes(daemon, "n3", "down")
            refused = gateway.pointsman("node", "drain", "sessions/n2", check=False)
            assert (refused.returncode, says in refused.stderr) == (1, True), refused.stderr
            known = daemon.file.read_text()
            daemon.file.write_text(text(site, records=NODES, more=check()))
            refused = gateway.pointsman("reload", check=False)
            assert (refused.returncode, says in refused.stderr) == (1, True), refused.stderr
            daemon.file.write_text(known)
            daemon.wait_for("order_ended", "records/n2")
            becomes(daemon, "n2", "up")
        daemon.until(lambda: written(disk).get("n3") == "down", "the state is written")
        assert states(gateway) == {"n1": "up", "n2": "up", "n3": "down"}
        ports["n3"].open()
        becomes(daemon, "n3", "up")
        gateway.pointsman("reload")
        with fault(disk):
            daemon.kill()
            if fault is full:
                daemon.start()
                becomes(daemon, "n3", "up")
            else:  # there is no place for its socket
                another = site.lab.run("gw", [*POINTSMAN, "serve", str(daemon.file)], check=False)
                assert (another.returncode, says in another.stderr) == (1, True), another.stderr
                assert "Traceback" not in another.stderr
        if fault is read_only:
            daemon.start()
    tell(site, f"a disk with {says!r}", figures := load.stop())
    figures.nothing_lost()


def test_a_clock_that_jumps_ends_nothing_early_or_late(site: Site, gateway: gateways.Site) -> None:
    library, jump = site.lab.scratch / "jump.so", site.lab.scratch / "jump"
    source = Path(__file__).with_name("jump.c")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    jump.write_text("0")
    clock = ("env", f"LD_PRELOAD={library}", f"JUMP={jump}")
    with (
        servers(site),
        doors(site.lab, EVERY) as ports,
        serving(gateway, text(site, records=EVERY, more=check()), prefix=clock) as daemon,
        under_load(site) as load,
    ):
        becomes(daemon, "n3", "up")
        for offset in (DAY, -DAY):
            began = time.monotonic()
            gateway.pointsman("node", "drain", "records/n2", "--for", "3s")
            jump.write_text(str(offset))
            gateway.pointsman("node", "drain", "sessions/n2")
            gateway.pointsman("node", "enable", "sessions/n2")
            off = daemon.events("order")[-1]["at"] - time.time()
            assert abs(off - offset) < 100  # it has come
            becomes(daemon, "n2", "up")
            assert time.monotonic() - began >= 3.0
            ports["n3"].shut()
            becomes(daemon, "n3", "down")
            ports["n3"].open()
            becomes(daemon, "n3", "up")
        trial = daemon.file.with_name("trial.toml")
        trial.write_text(text(site, records=NODES, more=check()))
        gateway.pointsman("apply", str(trial), "--confirm", "2s")
        jump.write_text(str(-2 * DAY))
        daemon.wait_for("rolled_back")
        assert set(states(gateway)) == set(EVERY)
    tell(site, "a clock that jumps by a day, forth and back", figures := load.stop())
    figures.nothing_lost()


def sleeping() -> int:
    found = 0
    for each in psutil.process_iter(["cmdline"]):
        found += FOREVER in (each.info["cmdline"] or ())
    return found


def test_a_check_script_that_hangs_stops_no_other_and_leaves_nothing(
    site: Site, gateway: gateways.Site
) -> None:
    script = site.lab.scratch / "hangs"
    script.write_text(
        "#!/bin/sh\n"
        f'case "$POINTSMAN_ADDRESS" in {site.lab.address("n3", 4)}|{site.lab.address("n3", 6)})\n'
        f"  trap '' TERM; sleep {FOREVER} & sleep {FOREVER};;\nesac\n"
    )
    script.chmod(0o700)
    scripts = (
        f'[[service.check]]\ntype = "script"\ncommand = ["{script}"]\ninterval = "1s"\ntimeout = "500ms"\n'
    )
    content = text(site, records=EVERY, more=f"{scripts}{check()}")
    with servers(site), doors(site.lab, EVERY) as ports, serving(gateway, content, afresh=True) as daemon:
        with under_load(site) as load:
            becomes(daemon, "n3", "down")
            ports["n2"].shut()
            began = time.monotonic()
            becomes(daemon, "n2", "down")
            noticed = time.monotonic() - began
            ports["n2"].open()
            becomes(daemon, "n2", "up")
        most = sleeping()
        daemon.file.write_text(text(site, records=EVERY, more=check()))
        gateway.pointsman("reload")
        daemon.until(lambda: not sleeping(), "no script is left")
        becomes(daemon, "n3", "up")
        assert process(daemon).children() == []
    tell(
        site,
        f"a script that hangs: another check noticed a failure in {noticed:.2f} s; "
        f"{most} processes of it at a time, none in the end",
        figures := load.stop(),
    )
    figures.nothing_lost()


def flap(door: Door, seconds: float) -> None:
    """Shut and open ten times a second; it is left open."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        door.shut()
        time.sleep(0.05)
        door.open()
        time.sleep(0.05)


@pytest.mark.timeout(240 + 2 * FLAPPING)
def test_a_node_that_flaps_changes_the_tables_no_oftener_than_rise_and_fall_let_it(
    site: Site, gateway: gateways.Site
) -> None:
    changes = {}
    with (
        servers(site),
        doors(site.lab, EVERY) as ports,
        serving(gateway, text(site), afresh=True) as daemon,
        under_load(site) as load,
    ):
        # The second is the control, without dampening; with jitter, or checks would beat with the flapping.
        for rise, fall in ((2, 3), (1, 1)):
            daemon.file.write_text(text(site, records=EVERY, more=check(rise=rise, fall=fall, jitter=0.5)))
            gateway.pointsman("reload")
            becomes(daemon, "n3", "up")
            before = len(daemon.events("node_state"))
            flap(ports["n3"], FLAPPING)
            changes[rise, fall] = len(daemon.events("node_state")) - before
            becomes(daemon, "n3", "up")
        assert set(states(gateway).values()) == {"up"}
    tell(
        site,
        f"a node flapping at 10 Hz for {FLAPPING:g} s: {changes[2, 3]} changes of the tables, "
        f"{changes[1, 1]} without dampening",
        figures := load.stop(),
    )
    figures.nothing_lost()
    assert changes[2, 3] <= FLAPPING / (INTERVAL * 2.5) + 2
    assert changes[1, 1] > 0  # the flapping reached the checks


class Flood:
    """Callers of the API who ask without end, and others who send it what is no request."""

    def __init__(self, site: Site, askers: int, senders: int) -> None:
        with site.lab.inside("gw"):
            self._path = str(place.default_socket())
        self.asked = self.sent = 0
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=each, daemon=True)
            for each in (*(self._ask for _ in range(askers)), *(self._send for _ in range(senders)))
        ]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()

    def _connected(self) -> socket.socket:
        handle = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        handle.settimeout(10)
        handle.connect(self._path)
        return handle

    def _ask(self) -> None:
        while not self._over.is_set():
            with self._connected() as handle:
                handle.sendall(b"GET /v1/status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                self.asked += handle.recv(12).endswith(b" 200")
                while handle.recv(1 << 16):
                    pass

    def _send(self) -> None:
        garbage = random.Random(SEED)
        while not self._over.is_set():
            what = garbage.choice(
                (
                    garbage.randbytes(2000),
                    b"GET " + b"/" * 100_000 + b" HTTP/1.1\r\n\r\n",
                    b"POST /v1/apply HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
                    b"content-length: 40\r\n\r\n" + garbage.randbytes(40),
                    b"GET /v1/status HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nffffffff\r\nx",
                    b"\r\n" * 5000,
                )
            )
            try:
                with self._connected() as handle:
                    handle.sendall(what)
                    handle.shutdown(socket.SHUT_WR)
                    while handle.recv(1 << 16):
                        pass
            except OSError:
                pass  # it hung up, as it may
            self.sent += 1


def order_takes(gateway: gateways.Site, times: int = 4) -> float:
    """Seconds until an order is in force and acknowledged, the median."""
    took = []
    for turn in range(times):
        began = time.monotonic()
        gateway.pointsman("node", ("drain", "enable")[turn % 2], "records/n2")
        took.append(time.monotonic() - began)
    return sorted(took)[times // 2]


def test_an_api_that_is_flooded_and_sent_garbage_checks_and_obeys_all_the_same(
    site: Site, gateway: gateways.Site
) -> None:
    content = text(site, records=EVERY, more=check())
    with servers(site), doors(site.lab, EVERY) as ports, serving(gateway, content, afresh=True) as daemon:
        becomes(daemon, "n3", "up")
        quiet = order_takes(gateway)
        with under_load(site) as load:
            flood = Flood(site, 4, 4)
            try:
                busy = order_takes(gateway)
                ports["n3"].shut()
                becomes(daemon, "n3", "down")
                ports["n3"].open()
                becomes(daemon, "n3", "up")
                gateway.pointsman("reload")
            finally:
                flood.end()
        assert min(flood.asked, flood.sent) > 10
    tell(
        site,
        f"{flood.asked} questions and {flood.sent} times garbage; "
        f"an order took {busy * 1000:.0f} ms, before that {quiet * 1000:.0f} ms",
        figures := load.stop(),
    )
    figures.nothing_lost()


def test_orders_that_come_at_once_are_all_kept(site: Site, gateway: gateways.Site) -> None:
    """Each is written beside the others, whoever comes first."""
    with serving(gateway, text(site, records=EVERY), afresh=True) as daemon:
        for verb, state in (("drain", "draining"), ("enable", "up")) * 3:
            threads = [
                threading.Thread(target=gateway.pointsman, args=("node", verb, f"records/{node}"))
                for node in EVERY
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)
            assert set(states(gateway).values()) == {state}
        gateway.pointsman("node", "drain", "records/n1")
        daemon.kill()
        daemon.start()
        assert states(gateway) == {"n1": "draining", "n2": "up", "n3": "up"}


def test_an_interface_that_goes_down_and_comes_up_serves_as_before(
    site: Site, gateway: gateways.Site
) -> None:
    with servers(site), serving(gateway, text(site), afresh=True) as daemon, under_load(site) as before:
        figures = before.stop()
        figures.nothing_lost()
        gateway.nodes(NODES, PORT)
        began = time.monotonic()
        site.lab.run("gw", ["ip", "link", "set", "lan0", "down"])
        time.sleep(0.5)
        site.lab.run("gw", ["ip", "link", "set", "lan0", "up"])
        restore_routes(site.lab, "gw")
        client = gateway.client()

        def arrives() -> bool:
            client.sendto(cid(1), (gateway.vip, 5684))
            return bool(gateway.arrivals(wait=0.1))

        gateway.node("n1")
        daemon.until(arrives, "packets reach nodes again")
        gone = time.monotonic() - began
        gateway.close_node("n1")
        assert daemon.process is not None
        assert daemon.process.poll() is None
        with under_load(site) as load:
            time.sleep(1.0)
    tell(site, f"behind an interface that was down (nothing passed for {gone:.2f} s)", figures := load.stop())
    figures.nothing_lost()


def test_a_ruleset_that_others_flush_is_put_back_at_once(site: Site, gateway: gateways.Site) -> None:
    with servers(site), serving(gateway, text(site), afresh=True) as daemon:
        with under_load(site) as load:
            site.lab.run("gw", ["nft", "flush", "ruleset"])
            if site.plane == "nftables":
                daemon.wait_for("repaired", "are gone")
            time.sleep(0.5)
        figures = load.stop()
        tell(site, "the ruleset flushed by others", figures)
        if site.plane == "xdp":
            figures.nothing_lost()
        with under_load(site) as after:
            pass
        after.stop().nothing_lost()
