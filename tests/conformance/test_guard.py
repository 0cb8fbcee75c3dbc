"""A guard: the filter before a server on this machine itself, which changes nothing else about it."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conformance.abilities import GUARD, require
from tests.conformance.junk import FOREIGN, HELLO, REASONS
from tests.conformance.site import PATIENCE, QUIET, Site, cid, hello
from tests.corpus.sessions import sessions

from pointsman.wire import dtls

PORT, OTHER_PORT = 5690, 5691


@pytest.fixture(autouse=True)
def carried(plane: str) -> None:
    require(plane, GUARD)


class Server:
    """A UDP server on the gateway itself."""

    def __init__(self, site: Site, address: str, port: int) -> None:
        self.site, self.address, self.port = site, address, port
        self.handle = site.lab.socket("gw", site.inet, socket.SOCK_DGRAM)
        self.handle.bind((address, port))

    def heard(self, count: int = 1, wait: float = PATIENCE) -> list[bytes]:
        """Up to ``count`` datagrams that arrive within ``wait`` seconds."""
        found: list[bytes] = []
        end = time.monotonic() + wait
        while len(found) < count and (left := end - time.monotonic()) > 0:
            self.handle.settimeout(left)
            try:
                payload, source = self.handle.recvfrom(70000)
            except TimeoutError:
                break
            self.handle.sendto(b"answer", source)
            found.append(payload)
        return found

    def asked(self, client: socket.socket, payload: bytes) -> bool:
        """Whether the datagram arrives, and its answer."""
        client.sendto(payload, (self.address, self.port))
        if self.heard() != [payload]:
            return False
        answer, source = client.recvfrom(100)
        return (answer, source[:2]) == (b"answer", (self.address, self.port))

    def deaf(self, client: socket.socket, payloads: list[bytes]) -> bool:
        for payload in payloads:
            client.sendto(payload, (self.address, self.port))
        return self.heard(wait=QUIET) == []


def guarding(site: Site, settings: str = "", *, services: str = "", interface: str = '"wan0"') -> str:
    """A file with a guard, and no service but those of ``services``."""
    head = services or f'[gateway]\nname = "edge"\ndataplane = "{site.plane}"\nhash_seed = 1\n'
    return (
        f'{head}\n[[guard]]\nname = "local"\ninterface = {interface}\nports = [{PORT}, "5700-5702"]\n'
        f"[guard.filter]\n{settings}\n"
    )


def the_guard(site: Site) -> dict[str, Any]:
    (found,) = site.status()["guards"]
    return dict(found)


def held(site: Site) -> dict[str, int]:
    counters = the_guard(site)["counters"]
    return {verdict: count["packets"] for verdict, count in counters.items() if count["packets"]}


@pytest.fixture
def server(site: Site) -> Iterator[Server]:
    found = Server(site, site.lab.address("gw", site.family), PORT)
    yield found
    found.handle.close()


def test_what_is_no_dtls_does_not_reach_the_server(site: Site, server: Server) -> None:
    client = site.client()
    every = [payload for junk in REASONS.values() for payload in junk.values()]
    for payload in every:  # the control: without the guard all of it arrives
        client.sendto(payload, (server.address, PORT))
    assert len(server.heard(len(every))) == len(every)
    for _ in every:
        client.recvfrom(100)
    site.apply(guarding(site))
    assert server.deaf(client, every)
    assert held(site) == {reason: len(junk) for reason, junk in REASONS.items()}
    for payload in (HELLO, hello(message_seq=1), cid(9), dtls.application_data(), bytes(HELLO) + cid(1)):
        assert server.asked(client, payload)
    assert site.tracked() == 0
    text = site.pointsman("status").stdout
    assert f"bad_epoch 2, bad_length {len(REASONS['bad_length'])}, not_dtls {len(FOREIGN)}" in text
    assert "guard local" in text
    site.pointsman("down")
    assert server.asked(client, FOREIGN["DNS answer"])


def test_nothing_that_real_clients_sent_is_dropped(site: Site, server: Server) -> None:
    site.apply(guarding(site, 'level = "record"\ndtls13 = true'))
    client = site.client()
    for session in sessions():
        for datagram in session.datagrams:
            client.sendto(datagram, (server.address, PORT))
        assert sorted(server.heard(len(session.datagrams))) == sorted(session.datagrams), str(session)
    assert held(site) == {}


def test_the_guard_leaves_everything_else_alone(site: Site, server: Server) -> None:
    """Other ports, other interfaces, and what the machine is."""
    family = "ipv4" if site.family == 4 else "ipv6"
    forwarding = site.lab.sysctl("gw", f"net.{family}.conf.all.forwarding")
    routes = site.lab.run("gw", ["ip", "-j", "address"]).stdout
    site.apply(guarding(site))
    junk, client = FOREIGN["DNS answer"], site.client()
    assert server.deaf(client, [junk])
    other = Server(site, server.address, OTHER_PORT)
    assert other.asked(client, junk)
    inside = Server(site, site.lab.address("gw", site.family, "lan0"), PORT)
    neighbour = site.client(machine="n1")
    assert inside.asked(neighbour, junk)
    ranged = Server(site, server.address, 5701)
    assert ranged.deaf(client, [junk])
    assert ranged.asked(client, HELLO)
    assert site.lab.sysctl("gw", f"net.{family}.conf.all.forwarding") == forwarding
    addresses = [link["addr_info"] for link in json.loads(routes)]
    now = json.loads(site.lab.run("gw", ["ip", "-j", "address"]).stdout)
    assert [link["addr_info"] for link in now] == addresses


def test_any_local_address_is_guarded(site: Site) -> None:
    """Also one that another interface carries."""
    site.apply(guarding(site))
    far = Server(site, site.lab.address("gw", site.family, "lan0"), PORT)
    client = site.client()
    assert far.deaf(client, [FOREIGN["NTP answer"]])
    assert far.asked(client, HELLO)


def test_fragmented_datagrams_are_filtered_by_their_first_fragment(site: Site, server: Server) -> None:
    site.apply(guarding(site))
    client = site.client()
    assert server.asked(client, dtls.application_data(body=bytes(4000)))
    assert server.deaf(client, [b"\x45" * 4000])
    assert held(site) == {"not_dtls": 1}


def test_sources_budgets_and_monitor(site: Site, server: Server) -> None:
    pool = "198.19.{}.{}" if site.family == 4 else "2001:db8:19::{:x}:{:x}"
    denied = "198.19.1.0/24" if site.family == 4 else "2001:db8:19::1:0/112"
    settings = (
        f'deny = ["{denied}"]\ndrop_source_ports = [6123]\nprefix6 = 112\n'
        "hello = { per_prefix = 20, burst = 1 }\ncid = { per_prefix = 20, burst = 1 }"
    )
    site.apply(guarding(site, settings))
    assert server.deaf(site.client(pool.format(1, 5)), [HELLO])
    assert server.deaf(site.client(port=6123), [HELLO])
    for number, (payload, reason) in enumerate(
        ((HELLO, "hello_over_prefix"), (cid(1), "cid_over_prefix")), 3
    ):
        client = site.client(pool.format(number, 1))
        start = time.monotonic()
        for _ in range(200):
            client.sendto(payload, (server.address, PORT))
        elapsed = time.monotonic() - start
        passed = len(server.heard(200, wait=QUIET))
        assert 20 <= passed <= 20 * (1 + elapsed) + 2
        assert held(site)[reason] == 200 - passed
    site.apply(guarding(site, f'mode = "monitor"\n{settings}'))
    assert server.asked(site.client(pool.format(1, 6)), HELLO)
    assert server.asked(site.client(), FOREIGN["SSDP answer"])
    assert held(site).items() >= {"denied": 2, "source_port": 1, "not_dtls": 1}.items()
    assert "(monitor)" in site.pointsman("status").stdout


def test_every_command_works_without_a_service(once: Site) -> None:
    site = once
    file = str(site.file(guarding(site, 'level = "record"')))
    assert "services: 0, nodes: 0, guards: 1" in site.pointsman("check", file).stdout
    said = site.pointsman("plan", file)
    assert "guard local: new" in said.stdout
    assert said.stderr.count("first record") == (1 if site.plane == "nftables" else 0)
    site.pointsman("apply", file)
    assert "nothing to change" in site.pointsman("plan", file).stdout
    assert site.status()["services"] == []
    refused = site.pointsman("node", "drain", "s/n1", check=False)
    assert (refused.returncode, "Traceback" in refused.stderr) == (2, False)
    assert "no service" in refused.stderr
    site.apply(guarding(site, 'mode = "monitor"'))
    if site.plane == "nftables":  # on XDP they want interfaces of their own
        site.apply(guarding(site, services=site.config()))
    else:
        site.apply(site.config())
    site.apply(guarding(site))
    assert "guard local: removed" in site.pointsman("plan", str(site.file(site.config()))).stdout
    site.pointsman("down")
    assert site.pointsman("status", check=False).stdout.strip() == "nothing is applied"


def test_an_interface_that_is_not_there_is_refused(once: Site) -> None:
    refused = once.pointsman("apply", str(once.file(guarding(once, interface='"wan7"'))), check=False)
    assert refused.returncode == 2
    assert "error: guard local: there is no interface wan7; one of" in refused.stderr


@pytest.mark.only_on("nftables", because="XDP's guards and listeners have interfaces of their own")
def test_a_guard_beside_a_service_on_the_same_interface(site: Site, server: Server) -> None:
    site.apply(guarding(site, services=site.config(more="[service.filter]")))
    site.nodes(["n1", "n2"])
    client, junk = site.client(), FOREIGN["DNS answer"]
    site.dropped(client, junk)
    assert site.ask(client, HELLO)
    assert site.ask(client, cid(1)).node == "n1"
    assert server.deaf(client, [junk])
    assert server.asked(client, HELLO)
    # The listener's address, at the guard's port, is this machine's like any other.
    site.lab.run("gw", ["ip", "address", "add", site.vip, "dev", "wan0"])
    at_vip = Server(site, site.vip, PORT)
    try:
        assert at_vip.deaf(client, [junk])
        assert at_vip.asked(client, HELLO)
    finally:
        at_vip.handle.close()
        site.lab.run("gw", ["ip", "address", "del", site.vip, "dev", "wan0"])
    assert held(site) == {"not_dtls": 2}
    assert site.counted("not_dtls") == 1


@pytest.mark.only_on("nftables", because="on XDP nothing of it is in an nftables table")
def test_the_table_of_a_guard_alone_hooks_nothing_else(once: Site) -> None:
    once.apply(guarding(once))
    listed = once.lab.run("gw", ["nft", "list", "table", "inet", "pointsman"]).stdout
    hooks = [line for line in listed.splitlines() if "hook" in line]
    assert len(hooks) == 1
    assert "hook input" in hooks[0]
    assert not any(word in listed for word in ("notrack", "ct state", "tproxy"))
    assert not Path("/proc/sys/net/netfilter/nf_conntrack_count").exists() or once.tracked() == 0
