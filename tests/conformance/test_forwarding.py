"""The forwarding policy: nothing but the services' packets and what is allowed, seen from either side."""

from __future__ import annotations

import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from tests.conformance.evidence import machine_state, only_on, wait_for
from tests.conformance.site import COAPS, POINTSMAN, Site, cid, hello
from tests.conformance.tcp import connections, servers
from tests.conformance.test_full_nat import full_nat, with_sources

from pointsman.plan.forwarding import NAME

UDP_PORTS = (53, 123, 5683, COAPS, 5685, 40000)
TCP_PORTS = (22, 80, 443, COAPS, 8080)
SCAN_WAIT = 0.4
PREFIX = {4: ("198.51.100.0/24", "10.0.0.0/24"), 6: ("2001:db8:1::/64", "fd00::/64")}
"""Of the clients' link, and of the nodes'."""


def policy(allow: str = "", interfaces: str = '["wan0", "lan0"]') -> str:
    return f'[forwarding]\npolicy = "drop"\ninterfaces = {interfaces}\n{allow}'


def rule(text: str) -> str:
    return f"[[forwarding.allow]]\n{text}\n"


@contextmanager
def listening(site: Site, machine: str) -> Iterator[tuple[list[socket.socket], list[socket.socket]]]:
    """Sockets on the machine for every port of the scan."""
    address = site.lab.address(machine, site.family)
    udp = [site.lab.socket(machine, site.inet, socket.SOCK_DGRAM) for _ in UDP_PORTS]
    tcp = [site.lab.socket(machine, site.inet, socket.SOCK_STREAM) for _ in TCP_PORTS]
    try:
        for handle, port in zip(udp, UDP_PORTS, strict=True):
            handle.bind((address, port))
        for handle, port in zip(tcp, TCP_PORTS, strict=True):
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            handle.bind((address, port))
            handle.listen()
        yield udp, tcp
    finally:
        for handle in (*udp, *tcp):
            handle.close()


def scan(site: Site, origin: str, target: str, source_port: int = 0) -> set[str]:
    """What of ``target`` can be reached from ``origin``: udp/53, tcp/22, ..., icmp."""
    there = site.lab.address(target, site.family)
    found: set[str] = set()
    with listening(site, target) as (udp, tcp):
        ping = site.lab.popen(
            origin,
            ["ping", "-c", "1", "-W", "0.4", there],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        sender = site.lab.socket(origin, site.inet, socket.SOCK_DGRAM)
        callers = {port: site.lab.socket(origin, site.inet, socket.SOCK_STREAM) for port in TCP_PORTS}
        try:
            sender.bind((site.lab.address(origin, site.family), source_port))
            for port in UDP_PORTS:
                sender.sendto(b"scan", (there, port))
            for port, caller in callers.items():
                caller.setblocking(False)
                caller.connect_ex((there, port))
            end = time.monotonic() + SCAN_WAIT
            while (left := end - time.monotonic()) > 0:
                for handle in select.select([*udp, *tcp], [], [], left)[0]:
                    own = handle.getsockname()[1]
                    if handle in udp:
                        handle.recv(100)
                        found.add(f"udp/{own}")
                    else:
                        handle.accept()[0].close()
                        found.add(f"tcp/{own}")
        finally:
            sender.close()
            for caller in callers.values():
                caller.close()
        if ping.wait() == 0:
            found.add("icmp")
    return found


EVERYTHING = {f"udp/{port}" for port in UDP_PORTS} | {f"tcp/{port}" for port in TCP_PORTS} | {"icmp"}


def works(site: Site, nodes: Sequence[str] = ("n1", "n2")) -> None:
    """The service forwards records, handshakes and answers."""
    site.nodes(nodes)
    client = site.client()
    for name in nodes:
        assert site.ask(client, cid(int(name[1:]))).node == name
    site.ask(client, hello())
    for name in nodes:
        site.close_node(name)


def test_nothing_but_the_services_packets_is_forwarded(site: Site) -> None:
    site.serve()
    assert scan(site, "client", "n1") == EVERYTHING, "the control: without a policy"
    assert scan(site, "n3", "client") == EVERYTHING
    site.apply(site.config(more=policy()))
    works(site)
    assert site.counted("not_forwarded") == 0
    assert scan(site, "client", "n1") == set()
    assert scan(site, "client", "n3") == set(), "nor to a machine that is no node"
    between = site.counted("not_forwarded")
    assert between >= 2 * len(EVERYTHING)
    assert scan(site, "n1", "client") == set()
    assert site.counted("not_forwarded") >= between + len(EVERYTHING)
    site.lab.run("gw", ["ip", "neigh", "flush", "dev", "lan0"])  # the first packet waits for the neighbour
    works(site)


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_full_nat_passes_and_its_nodes_are_not_reached_directly(site: Site, protocol: str) -> None:
    """Connection tracking knows these packets, and the direct ones as well."""
    port = 5683
    with with_sources(site):
        site.serve(nodes=1, protocol=protocol, settings=full_nat(site), more=policy())
        if protocol == "udp":
            site.nodes(["n1"], port)
            client = site.client()
            assert [site.send(client, b"\1\2\3\4", port=port).node for _ in range(3)] == ["n1"] * 3
            site.close_node("n1", port)
        else:
            with servers(site, "n1"), connections(site, 4) as found:
                assert all(each.echoes() for each in found)
        assert site.counted("not_forwarded") == 0
        assert scan(site, "client", "n1") == set()
        assert site.counted("not_forwarded") >= len(EVERYTHING)


@only_on(
    "nftables", because="XDP takes what has a node's source for a node's where clients may be on any link"
)
def test_what_clients_send_with_a_nodes_source_is_not_forwarded(site: Site) -> None:
    site.serve(more=policy())
    target = site.node("n2", 40000)
    with site.lab.socket("client", site.inet, socket.SOCK_DGRAM) as sender:
        transparent = (socket.SOL_IP, 19) if site.family == 4 else (socket.IPPROTO_IPV6, 75)
        sender.setsockopt(*transparent, 1)
        sender.bind((site.node_address("n1"), COAPS))
        sender.sendto(b"spoofed", (site.node_address("n2"), 40000))
        assert not select.select([target], [], [], SCAN_WAIT)[0]


def test_what_is_allowed_is_forwarded_and_answered(site: Site) -> None:
    clients, nodes = PREFIX[site.family]
    allow = rule(f'from = "{clients}"\nto = ["{nodes}"]\nprotocol = "tcp"\nports = [80, "440-450"]')
    allow += rule(f'to = "{nodes}"\nprotocol = "udp"\nports = [53]\nin_interface = "wan0"')
    allow += rule(
        f'from = "{nodes}"\nto = "{clients}"\nprotocol = "icmp"\nin_interface = "lan0"\n'
        'out_interface = "wan0"\nboth_ways = true'
    )
    allow += rule('protocol = "tcp"\nports = [22]\nin_interface = "lan0"\nout_interface = ["wan0", "lan0"]')
    site.serve(more=policy(allow))
    assert scan(site, "client", "n1") == {"tcp/80", "tcp/443", "udp/53", "icmp"}
    assert scan(site, "n3", "client") == {"icmp", "tcp/22"}
    works(site)


def test_a_policy_and_its_nodes_come_and_go(once: Site) -> None:
    before = machine_state(once.lab)
    once.serve(nodes=1)
    plan = once.pointsman("plan", str(once.file(once.config(nodes=1, more=policy()))))
    assert "forwarding policy: new" in plan.stdout
    once.apply(once.config(nodes=1, more=policy()))
    works(once, ["n1"])
    assert scan(once, "client", "n1") == set()
    counted = once.counted("not_forwarded")
    once.apply(once.config(nodes=["n2", "n3"], more=policy()))
    assert once.counted("not_forwarded") == counted > 0, "a change keeps the counter"
    works(once, ["n2", "n3"])
    assert "nothing to change" in once.apply(once.config(nodes=["n2", "n3"], more=policy())).stdout
    assert "forwarding policy at wan0, lan0: drop" in once.pointsman("status").stdout
    once.lab.run("gw", ["nft", "delete", "table", "inet", NAME])
    assert "gone, or changed by others" in once.pointsman("status").stdout
    once.apply(once.config(nodes=["n2", "n3"], more=policy()))
    assert scan(once, "client", "n2") == set()
    assert "forwarding policy: removed" in once.apply(once.config()).stdout
    assert NAME not in once.lab.run("gw", ["nft", "list", "tables"]).stdout
    once.apply(once.config(more=policy()))
    once.pointsman("down")
    assert machine_state(once.lab) == before


def test_a_policy_without_any_service_and_for_other_interfaces(once: Site) -> None:
    text = f'[gateway]\nname = "edge"\nhash_seed = 1\ndataplane = "{once.plane}"\n'
    for key in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
        once.lab.sysctl("gw", key, "1")
    try:
        once.apply(text + policy(interfaces='["elsewhere0"]'))
        assert scan(once, "client", "n1") == EVERYTHING, "forwarding of others is left alone"
        once.apply(text + policy())
        assert scan(once, "client", "n1") == set()
        assert once.counted("not_forwarded") >= len(EVERYTHING)
        assert "nothing to change" in once.apply(text + policy()).stdout
    finally:
        for key in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
            once.lab.sysctl("gw", key, "0")


def test_apply_killed_at_any_moment_is_mended_or_taken_down(once: Site) -> None:
    before = machine_state(once.lab)
    for turn in range(5):
        file = once.file(once.config(nodes=1 + turn % 2, more=policy() if turn % 3 else ""))
        process = once.lab.popen("gw", [*POINTSMAN, "apply", str(file)], stdout=subprocess.DEVNULL)
        time.sleep(0.35 + 0.08 * turn)
        process.send_signal(signal.SIGKILL)
        process.wait()
    once.apply(once.config(more=policy()))
    assert scan(once, "client", "n1") == set()
    works(once)
    once.pointsman("down")
    wait_for(lambda: machine_state(once.lab) == before)
