"""Checks of nodes that answer by themselves ask the VIP at the node: one that lacks it fails."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from tests.conformance import started
from tests.e2e.programs import PORTS, running
from tests.e2e.test_health import COAP_SERVER, POINTSMAN, listening, server

from pointsman.lab.demo_site import Site
from pointsman.lab.topology import VIP

pytestmark = pytest.mark.netns

BOUND = """
import socket, sys
handle = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
handle.bind((sys.argv[1], int(sys.argv[2])))
while True:
    data, sender = handle.recvfrom(2048)
    handle.sendto(b"pong", sender)
"""


def prefix(family: int) -> str:
    return f"{VIP[family]}/{32 if family == 4 else 128}"


def file_of(site: Site, protocol: str, port: int, check: str) -> str:
    return service_file(site, protocol, port, check, 'forward = "dsr"')


def service_file(site: Site, protocol: str, port: int, check: str, settings: str) -> str:
    lines = [
        f'[gateway]\nname = "edge"\nhash_seed = 1\ndataplane = "{site.plane}"',
        f'[[service]]\nname = "s"\nprotocol = "{protocol}"\n{settings}',
        f'listen = [{{ address = "{VIP[4]}:{port}", interface = "wan0" }}, '
        f'{{ address = "[{VIP[6]}]:{port}", interface = "wan0" }}]',
        f"[[service.check]]\n{check}",
    ]
    for node in ("n1", "n2"):
        own = ", ".join(f'"{site.lab.address(node, family)}"' for family in (4, 6))
        lines.append(f'[[service.node]]\nname = "{node}"\naddress = [{own}]')
    path = site.lab.scratch / "vips.toml"
    path.write_text("\n".join([*lines, ""]))
    return str(path)


def probed(site: Site, file: str, by: Sequence[str] = ()) -> list[dict[str, Any]]:
    """What ``probe`` tells of n1; ``by`` is a command that runs it."""
    arguments = ["probe", "--json", file, "s/n1"]
    if by:
        done = site.lab.run("gw", [*by, *POINTSMAN, *arguments], check=False)
    else:
        done = started.run(site.lab.namespace("gw"), arguments, timeout=60)
    return [json.loads(line) for line in done.stdout.splitlines()]


def asked(site: Site, file: str) -> list[dict[str, Any]]:
    found = probed(site, file)
    assert [one["target"].split(" at ")[1] for one in found] == [
        site.lab.address("n1", each) for each in (4, 6)
    ]
    tables = site.lab.run("gw", ["nft", "list", "tables"]).stdout
    assert "pointsman_probe" not in tables
    return found


@pytest.fixture
def vips(site: Site) -> Iterator[None]:
    """The VIPs on n1, as node-setup would have them."""
    silent = {"net.ipv4.conf.all.arp_ignore": "1", "net.ipv4.conf.all.arp_announce": "2"}
    before = {key: site.lab.sysctl("n1", key) for key in silent}
    for key, value in silent.items():
        site.lab.sysctl("n1", key, value)
    for family in (4, 6):
        more = ["nodad"] if family == 6 else []
        site.lab.run("n1", ["ip", "addr", "add", prefix(family), "dev", "lo", *more])
    yield
    for family in (4, 6):
        site.lab.run("n1", ["ip", "addr", "del", prefix(family), "dev", "lo"], check=False)
    for key, value in before.items():
        site.lab.sysctl("n1", key, value)


def carried_by_xdp_alone(site: Site, protocol: str) -> None:
    """The nftables plane has no TCP with dsr."""
    if protocol == "tcp" and site.plane == "nftables":
        pytest.skip("not carried by nftables in this version")


@pytest.mark.usefixtures("vips")
@pytest.mark.parametrize("check", ['type = "tcp"', 'type = "http"\nbody = "^n1$"'], ids=["tcp", "http"])
def test_a_node_without_its_vip_fails_over_tcp(site: Site, check: str) -> None:
    carried_by_xdp_alone(site, "tcp")
    file = file_of(site, "tcp", PORTS["nginx"], f'{check}\ntimeout = "2s"')
    site.pointsman("apply", file)
    with running(site.lab, "nginx", ["n1"]):
        for _ in range(3):  # again and again from the same port
            assert [one["ok"] for one in asked(site, file)] == [True, True]
        site.lab.run("n1", ["ip", "addr", "del", prefix(4), "dev", "lo"])
        found = asked(site, file)
        assert [one["ok"] for one in found] == [False, True]
        assert found[0]["said"] == "no answer in time"
        site.lab.run("n1", ["ip", "addr", "del", prefix(6), "dev", "lo"])
        assert [one["ok"] for one in asked(site, file)] == [False, False]


@pytest.mark.usefixtures("vips")
def test_a_node_without_its_vip_fails_over_udp(site: Site) -> None:
    file = file_of(site, "udp", 5300, 'type = "udp"\nsend = "ping"\nexpect = "pong"\ntimeout = "2s"')
    site.pointsman("apply", file)
    argv = [[sys.executable, "-c", BOUND, VIP[family], "5300"] for family in (4, 6)]
    with (
        server(site.lab, argv[0], listening(site.lab, 5300, "u")),
        server(site.lab, argv[1], listening(site.lab, 5300, "u", 2)),
    ):
        for _ in range(3):
            assert [one["ok"] for one in asked(site, file)] == [True, True]
        for family in (4, 6):
            site.lab.run("n1", ["ip", "addr", "del", prefix(family), "dev", "lo"])
        assert [one["ok"] for one in asked(site, file)] == [False, False]


@pytest.mark.usefixtures("vips")
def test_a_server_that_answers_from_the_nodes_own_address_fails(site: Site) -> None:
    """As it would for clients, who know the VIP only: it is bound to every address, and the kernel chooses."""
    file = file_of(site, "udp", 5683, 'type = "coap"\ntimeout = "2s"')
    site.pointsman("apply", file)
    with server(site.lab, [*COAP_SERVER, "5683"], listening(site.lab, 5683, "u")):
        assert [one["said"] for one in asked(site, file)] == ["no answer in time"] * 2


def test_watching_takes_its_table_away_at_the_end(site: Site) -> None:
    file = file_of(site, "udp", 5683, 'type = "coap"')
    watching = site.lab.popen("gw", [*POINTSMAN, "probe", "--watch", file])
    try:
        tables = ""
        while "pointsman_probe" not in tables:
            assert watching.poll() is None
            tables = site.lab.run("gw", ["nft", "list", "tables"]).stdout
    finally:
        watching.send_signal(2)
        watching.wait(20)
    assert "pointsman_probe" not in site.lab.run("gw", ["nft", "list", "tables"]).stdout
