"""The filter and the guard on the XDP plane: what it alone does, and how it does it."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.conformance.evidence import only_on
from tests.conformance.site import COAPS, PATIENCE, QUIET, Site, cid, hello
from tests.conformance.test_fragments_xdp import fragments, send_raw

from pointsman.wire import dtls

pytestmark = only_on("xdp", because="what both planes do is in test_filter.py")

COOKIE = bytes(range(20))
DNS = bytes.fromhex("16fefd00000100010000000007") + b"example\3com\0\0\1\0\1" + bytes(16)
REQUEST = dtls.handshake_record(3, dtls.DTLS_1_0 + bytes((len(COOKIE),)) + COOKIE, version=dtls.DTLS_1_0)
FLIGHT = dtls.handshake_record(11, bytes(900), message_seq=2)


def heard(client: socket.socket, wait: float = QUIET) -> list[bytes]:
    """All that reaches a client until nothing comes any more."""
    found = []
    client.settimeout(wait)
    try:
        while True:
            found.append(client.recv(70000))
    except TimeoutError:
        return found


def test_records_behind_the_first_are_read_and_without_a_filter_are_not(site: Site) -> None:
    site.serve()
    site.nodes(["n1", "n2"])
    client = site.client()
    site.send(client, DNS)
    site.serve(settings='filter.level = "record"')
    site.dropped(client, DNS)
    site.dropped(client, cid(2) + b"junk")
    assert site.send(client, cid(2) + cid(2)).node == "n2"
    assert site.counted("not_dtls") == 2
    site.serve(settings='filter.level = "record"\nfilter.mode = "monitor"')
    site.send(client, DNS)
    assert site.counted("not_dtls") == 3


def test_a_stranger_is_answered_so_many_times_its_bytes_until_it_returns_the_cookie(site: Site) -> None:
    site.serve(settings="filter.amplification = 3")
    site.nodes(["n1", "n2"])
    client = site.client()
    for second, all_of_it in (
        (hello(message_seq=1, cookie=bytes(20)), False),
        (hello(message_seq=1, cookie=COOKIE), True),
    ):
        first = site.send(client, hello())
        site.answer(first, REQUEST)
        assert client.recv(2000) == REQUEST
        for _ in range(4):
            site.answer(site.send(client, second), FLIGHT)
        answers = heard(client)
        assert (len(answers) == 4) is all_of_it
        assert sum(map(len, answers)) <= 3 * 5 * (len(second) + 8) or all_of_it
        client.settimeout(PATIENCE)
    assert site.counted("unproven") > 0


def test_a_session_that_moves_is_answered_and_without_the_limit_so_is_a_stranger(site: Site) -> None:
    site.serve(settings="filter.amplification = 1")
    site.nodes(["n1", "n2"])
    moved, stranger = site.client(), site.client()
    site.answer(site.send(moved, cid(1)), dtls.application_data(body=bytes(800)))
    assert len(heard(moved)) == 1
    site.answer(site.send(stranger, hello()), FLIGHT)
    assert heard(stranger) == []
    site.serve(settings="filter.amplification = 0")
    site.answer(site.send(stranger, hello()), FLIGHT)
    assert heard(stranger) == [FLIGHT]


def test_a_storm_of_hellos_stops_at_the_nodes_budget_while_sessions_go_on(site: Site) -> None:
    site.serve(nodes=1, settings="filter.hello = { per_node = 20, burst = 2 }")
    site.node("n1")
    client = site.client()
    site.send(client, cid(1))
    storm = [site.client() for _ in range(100)]
    begin = time.monotonic()
    for each in storm:
        each.sendto(hello(), (site.vip, COAPS))
    arrived = len(site.arrivals(len(storm), wait=QUIET))
    took = time.monotonic() - begin
    assert 40 <= arrived <= 40 + 20 * took + 1
    assert site.counted("hello_over_node") == len(storm) - arrived
    for _ in range(3):
        site.send(client, cid(1))


def test_a_filter_changes_without_losing_a_record(once: Site) -> None:
    site = once
    prefixes = ", ".join(f'"10.{n >> 8}.{n & 255}.0/24"' for n in range(2000))
    site.serve()
    site.nodes(["n1", "n2"])
    client = site.client()
    for own in (
        'filter.level = "record"',
        f'filter.level = "header"\nfilter.deny = [{prefixes}]',
        f'filter.level = "header"\nfilter.allow = [{prefixes}]\nfilter.drop_source_ports = ["reflectors"]',
        "",
    ):
        site.serve(settings=own)
        assert site.send(client, cid(1)).node == "n1"
        assert site.pointsman("plan", str(site.file(site.config(settings=own)))).stdout.endswith(
            "nothing to change\n"
        )
    with site.maps() as maps:
        assert not list(maps.maps["prefixes4"].items_batch())


# guards


def guard(site: Site, own: str = 'level = "record"', interface: str = "eth0") -> str:
    return (
        f'[gateway]\nname = "server"\nhash_seed = 1\ndataplane = "{site.plane}"\n[[guard]]\nname = "coaps"\n'
        f'interface = "{interface}"\nports = [{COAPS}, "6000-6002"]\n[guard.filter]\n{own}\n'
    )


@contextmanager
def guarded(site: Site, own: str = 'level = "record"') -> Iterator[None]:
    """n1 guards its own server."""
    site.pointsman("apply", str(site.file(guard(site, own))), machine="n1")
    try:
        yield
    finally:
        site.pointsman("down", machine="n1")


def guard_counts(site: Site) -> dict[str, int]:
    status = json.loads(site.pointsman("status", "--json", machine="n1").stdout)
    assert status["services"] == []
    counters = status["guards"][0]["counters"]
    return {verdict: count["packets"] for verdict, count in counters.items() if count["packets"]}


def reaches(site: Site, sender: socket.socket, payload: bytes, port: int = COAPS) -> bool:
    sender.sendto(payload, (site.node_address("n1"), port))
    return [arrival.payload for arrival in site.arrivals(wait=QUIET)] == [payload]


def test_a_guard_filters_before_a_server_on_its_own_machine(site: Site) -> None:
    for port in (COAPS, 6001, 7000):
        site.node("n1", port)
    sender = site.client(machine="n2")
    assert reaches(site, sender, DNS)
    with guarded(site):
        for port in (COAPS, 6001):
            assert not reaches(site, sender, DNS, port)
            assert reaches(site, sender, hello(), port)
        assert reaches(site, sender, DNS, 7000)
        assert guard_counts(site) == {"not_dtls": 2}
        told = site.pointsman("status", machine="n1").stdout
        assert "guard coaps, ports 5684, 6000-6002 on eth0: not_dtls 2" in told
        site.pointsman("apply", str(site.file(guard(site, 'mode = "monitor"'))), machine="n1")
        assert reaches(site, sender, b"junk")
        assert guard_counts(site) == {"not_dtls": 3}
    assert reaches(site, sender, DNS)
    assert "xdp" not in site.lab.run("n1", ["ip", "link", "show", "dev", "eth0"]).stdout


def test_a_guard_lets_fragments_through_whose_first_one_is_dtls(site: Site) -> None:
    site.node("n1")
    sender = site.client(machine="n2")
    to = (site.node_address("n1"), COAPS)
    with guarded(site):
        for number, (payload, arrives) in enumerate(
            (
                (dtls.application_data(body=bytes(1500)), True),
                (b"junk" + dtls.application_data(body=bytes(1500)), False),
            )
        ):
            send_raw(
                site, "n2", to[0], fragments(site, sender.getsockname()[:2], to, payload, number=90 + number)
            )
            assert [each.payload for each in site.arrivals(wait=QUIET)] == ([payload] if arrives else [])
        assert guard_counts(site) == {"not_dtls": 1}


def test_a_guards_budget_is_one_for_all_senders(site: Site) -> None:
    site.node("n1")
    senders = [site.client(machine=name) for name in ("n2", "n3")]
    with guarded(site, "hello = { total = 5, burst = 2 }"):
        begin = time.monotonic()
        for n in range(40):
            senders[n % 2].sendto(hello(), (site.node_address("n1"), COAPS))
        arrived = len(site.arrivals(40, wait=QUIET))
        assert 10 <= arrived <= 10 + 5 * (time.monotonic() - begin) + 1
        assert guard_counts(site).keys() == {"hello_over_total"}
        assert reaches(site, senders[0], cid(1))


def test_what_a_guard_sees_is_a_whole_handshake(once: Site) -> None:
    """OpenSSL's server behind a guard; the same client has no luck where the guard allows no such port."""
    common = ["-dtls1_2", "-psk", "000102030405060708090a0b0c0d0e0f", "-cipher", "PSK-AES128-GCM-SHA256"]
    at = f"{once.node_address('n1')}:{COAPS}"
    argv = ["openssl", "s_server", "-accept", at, "-nocert", "-quiet", "-listen", *common]
    server = once.lab.popen("n1", argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    client = ["timeout", "3", "openssl", "s_client", "-connect", at, "-psk_identity", "d", *common]
    try:
        with guarded(once, 'level = "record"\nhello = { per_prefix = 10 }\ndrop_source_ports = [4444]'):
            time.sleep(0.3)
            bad = once.lab.run("n2", [*client, "-bind", f"{once.node_address('n2')}:4444"], check=False)
            assert "Verify return code" not in bad.stdout
            assert guard_counts(once).keys() == {"source_port"}
            good = once.lab.run("n2", client, check=False)
            assert "Cipher    : PSK-AES128-GCM-SHA256" in good.stdout, good.stdout + good.stderr
            assert guard_counts(once).keys() == {"source_port"}
    finally:
        server.kill()
        server.communicate()


def test_a_guard_and_a_service_share_no_interface(site: Site) -> None:
    site.node("n1")
    added = '[[guard]]\nname = "own"\ninterface = "lan0"\nports = [5685]\n[guard.filter]\n'
    refused = site.pointsman("check", str(site.file(site.config(more=added))), check=False)
    assert refused.returncode == 2
    assert "guard own: lan0 is used by service s, node n1 too" in refused.stderr
    assert "[service.filter]" in refused.stderr
    refused = site.pointsman("apply", str(site.file(guard(site, interface="eth7"))), check=False)
    assert refused.returncode == 2
    assert "guard coaps: there is no interface eth7" in refused.stderr


def test_a_gateway_changes_between_its_roles(once: Site) -> None:
    """wan0 serves, is guarded, and serves again; nothing of either is left behind."""
    once.nodes(["n1", "n2"])
    client = once.client()
    for role in ("service", "guard", "service"):
        once.apply(guard(once, interface="wan0") if role == "guard" else once.config())
        attached = {port["name"] for port in once.status()["interfaces"]}
        assert attached == ({"wan0"} if role == "guard" else {"lan0", "wan0"})
        if role == "service":
            assert once.send(client, cid(2)).node == "n2"
