"""HTTP, MQTT and a database through nat and full-nat, with the programs that people run."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.programs import PORTS, needs, running

from pointsman.lab.build import Lab
from pointsman.lab.demo_site import Site
from pointsman.lab.topology import VIP
from pointsman.model.abilities import carries

pytestmark = pytest.mark.netns

NODES = ("n1", "n2", "n3")
SOURCES = {4: "10.0.0.200", 6: "fd00::200"}
MANY = [sys.executable, str(Path(__file__).with_name("many.py"))]
CONNECTIONS = int(os.environ.get("POINTSMAN_CONNECTIONS", "1000"))


@pytest.fixture(params=["nat", "full-nat"])
def forward(request: pytest.FixtureRequest, plane: str) -> str:
    if not carries(plane, "forward", request.param):
        pytest.skip(f"not carried by {plane} in this version")
    return str(request.param)


@pytest.fixture
def with_sources(lab: Lab) -> Iterator[None]:
    for family, address in SOURCES.items():
        prefix = f"{address}/{32 if family == 4 else 128}"
        lab.run("gw", ["ip", "addr", "add", prefix, "dev", "lan0", *(["nodad"] if family == 6 else [])])
    yield
    for family, address in SOURCES.items():
        lab.run("gw", ["ip", "addr", "del", f"{address}/{32 if family == 4 else 128}", "dev", "lan0"])


def at(address: str, port: int | str) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def text(site: Site, program: str, forward: str, nodes: Sequence[str] = NODES, settings: str = "") -> str:
    """A TCP service ``s`` of both families on the program's port."""
    listen = ", ".join(f'"{at(VIP[family], PORTS[program])}"' for family in (4, 6))
    lines = [
        "[gateway]",
        'name = "edge"',
        f'dataplane = "{site.plane}"',
        "hash_seed = 0x5eed1234",
        "[[service]]",
        'name = "s"',
        'protocol = "tcp"',
        f"listen = [{listen}]",
        f'forward = "{forward}"',
        settings,
    ]
    if forward == "full-nat":
        lines += [f'source = ["{SOURCES[4]}", "{SOURCES[6]}"]', 'source_ports = "10000-65535"']
    for node in nodes:
        own = ", ".join(f'"{site.lab.address(node, family)}"' for family in (4, 6))
        lines += ["[[service.node]]", f'name = "{node}"', f"address = [{own}]"]
    return "\n".join([*lines, ""])


def apply(site: Site, content: str) -> None:
    path = site.lab.scratch / "programs.toml"
    path.write_text(content)
    site.pointsman("apply", str(path))


def counted(site: Site, verdict: str) -> dict[str, int]:
    status = site.status()
    (service,) = status["services"]
    return {node["name"]: node["counters"].get(verdict, {}).get("packets", 0) for node in service["nodes"]}


@pytest.mark.usefixtures("with_sources")
def test_http_load_goes_on_while_the_node_set_changes(site: Site, forward: str) -> None:
    """No request fails, and no connection, while nodes are drained, added, removed and weighed anew."""
    needs("wrk")
    settings = 'linger = "1m"'
    with running(site.lab, "nginx", NODES):
        apply(site, text(site, "nginx", forward, ["n1", "n2"], settings))
        loads = [
            site.lab.popen(
                "client",
                ["wrk", "-t1", "-c32", "-d60s", f"http://{at(VIP[family], PORTS['nginx'])}/"],
                stdout=subprocess.PIPE,
            )
            for family in (4, 6)
        ]
        apply(site, text(site, "nginx", forward, NODES, settings))
        site.order("drain", "s", "n1")
        changed = text(site, "nginx", forward, ["n1", "n3"], settings)
        apply(site, changed.replace('name = "n3"', 'name = "n3"\nweight = 5'))
        site.order("enable", "s", "n1")
        for load in loads:
            load.send_signal(signal.SIGINT)  # wrk ends, and says what became of it
            said = load.communicate()[0]
            assert "Socket errors" not in said, said
            assert "Non-2xx" not in said, said
            (requests,) = re.findall(r"(\d+) requests in", said)
            assert int(requests) > 500, said
        # The connections stayed where they were, so the nodes that came later had none of them.
        assert counted(site, "flow")["n1"] > 500


@pytest.mark.usefixtures("with_sources")
def test_many_connections_and_a_node_fails_in_mid_load(site: Site, forward: str) -> None:
    with running(site.lab, "nginx", NODES):
        apply(site, text(site, "nginx", forward))
        crowd = site.lab.popen(
            "client",
            [*MANY, VIP[4], str(PORTS["nginx"]), str(CONNECTIONS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            assert crowd.stdout is not None
            assert crowd.stdout.readline() == "open\n"

            def ask() -> dict[str, Any]:
                assert crowd.stdin is not None
                assert crowd.stdout is not None
                crowd.stdin.write("\n")
                crowd.stdin.flush()
                found: dict[str, Any] = json.loads(crowd.stdout.readline())
                return found

            first = ask()
            assert sum(first["answered"].values()) == CONNECTIONS, first
            assert counted(site, "balanced") == first["answered"]
            # Six standard deviations of what is drawn at random; the clients' ports nearly are.
            off = 6 * math.sqrt(CONNECTIONS * 2 / 9)
            assert all(abs(first["answered"].get(node, 0) - CONNECTIONS / 3) < off for node in NODES), first
            site.lab.run("n3", ["ip", "link", "set", "eth0", "down"])
            site.order("disable", "s", "n3")
            second = ask()
            assert second["lost"] == {"n3": first["answered"]["n3"]}
            assert second["answered"] == {node: first["answered"][node] for node in ("n1", "n2")}
            assert second["moved"] == 0
        finally:
            crowd.kill()
            crowd.wait()
            site.lab.run("n3", ["ip", "link", "set", "eth0", "up"])
            restore_routes(site.lab, "n3")


def served(site: Site, node: str) -> int:
    """Commands that the node's Redis has carried out."""
    own = ["redis-cli", "-h", site.lab.address(node, 4), "-p", str(PORTS["redis-server"])]
    (found,) = re.findall(
        r"total_commands_processed:(\d+)", site.lab.run(node, [*own, "info", "stats"]).stdout
    )
    return int(found)


def restore_routes(lab: Lab, node: str) -> None:
    """What the kernel forgot when the link went down."""
    for plug in lab.topology.machine(node).interfaces:
        for own in plug.addresses:
            lab.run(node, ["ip", "addr", "replace", str(own), "dev", plug.name, "nodad"])
    for route in lab.topology.machine(node).routes:
        via = ["via", str(route.via)] if route.via else []
        lab.run(
            node, ["ip", f"-{route.family.value}", "route", "replace", "default", *via, "dev", route.device]
        )


@pytest.mark.usefixtures("with_sources")
def test_mqtt_subscribers_and_publishers_of_one_client_meet_by_affinity(
    site: Site, forward: str, plane: str
) -> None:
    needs("mosquitto_sub", "mosquitto_pub")
    if not carries(plane, "affinity"):
        pytest.skip(f"not carried by {plane} in this version")
    apply(site, text(site, "mosquitto", forward, settings='affinity = "client-address"'))
    with running(site.lab, "mosquitto", NODES):
        port = str(PORTS["mosquitto"])
        listening = site.lab.popen(
            "client",
            ["mosquitto_sub", "-h", VIP[6], "-p", port, "-t", "t/#", "-q", "1", "-C", "10", "-W", "20"],
            stdout=subprocess.PIPE,
        )
        time.sleep(0.5)
        busy = [node for node, count in counted(site, "balanced").items() if count]
        for number in range(10):
            if number == 5:  # a drained node would lose the publishers, so it is the others that are
                for other in set(NODES) - set(busy):
                    site.order("drain", "s", other)
            message = ["-t", "t/x", "-q", "1", "-m", f"message {number}"]
            site.lab.run("client", ["mosquitto_pub", "-h", VIP[6], "-p", port, *message])
        assert listening.communicate(timeout=25)[0].splitlines() == [f"message {n}" for n in range(10)]
        assert [node for node, count in counted(site, "balanced").items() if count] == busy


@pytest.mark.usefixtures("with_sources")
def test_redis_under_load_while_another_node_fails(site: Site, forward: str) -> None:
    needs("redis-cli", "redis-benchmark")
    apply(site, text(site, "redis-server", forward, ["n1"]))
    with running(site.lab, "redis-server", ["n1", "n2"]) as servers:
        to = ["-h", VIP[4], "-p", str(PORTS["redis-server"])]
        # It ends at the first connection that breaks, else when it is told to.
        load = site.lab.popen(
            "client",
            ["redis-benchmark", *to, "-c", "50", "-n", "100000000", "-t", "set", "-d", "500", "--csv"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            while sum(counted(site, "balanced").values()) < 50:
                assert load.poll() is None
            apply(site, text(site, "redis-server", forward, ["n1", "n2"]))
            servers["n2"].kill()
            site.order("disable", "s", "n2")
            before = served(site, "n1")
            time.sleep(1.0)
            assert load.poll() is None, load.communicate()
            assert served(site, "n1") > before + 100
        finally:
            load.kill()
            load.wait()
        big = "x" * 1_000_000
        site.lab.run("client", ["redis-cli", *to, "-x", "set", "big"], text=big)
        assert site.lab.run("client", ["redis-cli", *to, "get", "big"]).stdout.strip() == big
