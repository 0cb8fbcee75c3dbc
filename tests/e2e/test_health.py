"""Every kind of check against real servers on a node, and each with what must make it fail."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from tests.conformance import started
from tests.e2e.conftest import PEER
from tests.e2e.programs import PORTS, needs, running

from pointsman.lab.build import Lab

pytestmark = pytest.mark.netns

POINTSMAN = (sys.executable, "-m", "pointsman.cli.main")
COAP_SERVER = [sys.executable, str(Path(__file__).with_name("coap_server.py"))]
DROP = "table inet dropping {{ chain input {{ type filter hook input priority 0; {} drop; }}; }}"
WWW = b"n1\n"


def configuration(lab: Lab, check: str, protocol: str, nodes: Sequence[str] = ("n1",)) -> str:
    """A service of both families on the nodes, with one check."""
    lines = [
        '[gateway]\nname = "edge"\nhash_seed = 1',
        f'[[service]]\nname = "s"\nprotocol = "{protocol}"',
        'listen = ["192.0.2.10:9", "[2001:db8::10]:9"]',
        f"[[service.check]]\n{check}",
    ]
    for node in (*nodes, "n4"):
        own = ", ".join(f'"{lab.address(node, family)}"' for family in (4, 6))
        lines.append(f'[[service.node]]\nname = "{node}"\naddress = [{own}]')
    return "\n".join([*lines, ""])


class Checks:
    """``pointsman probe`` on the gateway."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.file = lab.scratch / "checks.toml"

    def write(self, check: str, protocol: str) -> None:
        if "timeout" not in check:
            check += '; timeout = "2s"'  # other cases may have the processors
        self.file.write_text(configuration(self.lab, check.replace("; ", "\n"), protocol))

    def results(self, check: str, protocol: str = "tcp") -> list[dict[str, Any]]:
        self.write(check, protocol)
        namespace = self.lab.namespace("gw")
        done = started.run(namespace, ["probe", "--json", str(self.file), "s/n1"], timeout=60)
        found = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(found) == 2, done.stderr
        assert done.returncode == (0 if all(one["ok"] for one in found) else 1)
        return found

    def passes(self, check: str, protocol: str = "tcp") -> list[str]:
        found = self.results(check, protocol)
        assert [one["ok"] for one in found] == [True, True], found
        return [one["said"] for one in found]

    def fails(self, check: str, protocol: str = "tcp") -> set[str]:
        found = self.results(check, protocol)
        assert [one["ok"] for one in found] == [False, False], found
        return {one["said"] for one in found}


@pytest.fixture
def checks(lab: Lab) -> Checks:
    return Checks(lab)


@contextmanager
def server(lab: Lab, argv: Sequence[str], ready: Callable[[], bool]) -> Iterator[subprocess.Popen[str]]:
    """A process on n1 that is ready, and ended behind it."""
    process = lab.popen(
        "n1", argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        end = time.monotonic() + 20
        while not ready():
            assert process.poll() is None, f"{argv[0]} has ended: {process.returncode}"
            assert time.monotonic() < end, f"{argv[0]} is not ready"
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait(10)


def listening(lab: Lab, port: int, kind: str, count: int = 1) -> Callable[[], bool]:
    def ready() -> bool:
        found = lab.run("n1", ["ss", "-Hln", f"-{kind}", f"sport = :{port}"]).stdout.splitlines()
        return len(found) >= count

    return ready


@contextmanager
def dropping(lab: Lab, what: str) -> Iterator[None]:
    lab.run("n1", ["nft", "-f", "-"], text=DROP.format(what))
    try:
        yield
    finally:
        lab.run("n1", ["nft", "delete", "table", "inet", "dropping"])


def test_tcp_is_refused_accepted_or_filtered(lab: Lab, checks: Checks) -> None:
    check = f'type = "tcp"; port = {PORTS["redis-server"]}'
    assert checks.fails(check) == {"connection refused"}
    with running(lab, "redis-server", ["n1"]):
        assert checks.passes(check) == ["connected", "connected"]
        with dropping(lab, f"tcp dport {PORTS['redis-server']}"):
            assert checks.fails(check) == {"no answer in time"}
    assert checks.fails(check) == {"connection refused"}


def test_http_goes_by_code_and_body(lab: Lab, checks: Checks) -> None:
    check = f'type = "http"; port = {PORTS["nginx"]}'
    with running(lab, "nginx", ["n1"]):
        assert checks.passes(check) == ["200 OK", "200 OK"]
        assert checks.fails(f"{check}; codes = [204]") == {"200 OK, not 204"}
        checks.passes(f'{check}; body = "^n[0-9]$"; method = "GET"; host = "www.example.com"')
        checks.fails(f'{check}; body = "^n2$"')
        checks.passes(f'{check}; body_sha256 = "{sha256(WWW).hexdigest()}"')
        checks.fails(f'{check}; body_sha256 = "{sha256(b"other").hexdigest()}"')
        checks.passes(f'{check}; method = "HEAD"')
        with dropping(lab, f"tcp dport {PORTS['nginx']}"):
            assert checks.fails(check) == {"no answer in time"}
    assert checks.fails(check) == {"connection refused"}
    with running(lab, "redis-server", ["n1"]):
        (said,) = checks.fails(f'type = "http"; port = {PORTS["redis-server"]}')
        assert said != "connection refused"


def test_mqtt_is_asked_by_a_script(lab: Lab, checks: Checks) -> None:
    needs("mosquitto_pub")
    script = lab.scratch / "check-broker"
    script.write_text(
        '#!/bin/sh\nexec mosquitto_pub -h "$POINTSMAN_ADDRESS" -p "$POINTSMAN_PORT" -t health -m "$1"\n'
    )
    script.chmod(0o755)
    check = f'type = "script"; port = {PORTS["mosquitto"]}; command = ["{script}", "a b"]'
    check += '; interval = "5s"; timeout = "5s"'
    with running(lab, "mosquitto", ["n1"]):
        assert checks.passes(check) == ["exit status 0", "exit status 0"]
    (said,) = checks.fails(check)
    assert "refused" in said


@pytest.fixture
def certificate(lab: Lab) -> Path:
    """For www.example.com, signed by itself."""
    folder = lab.scratch
    lab.run(
        "n1",
        [
            *[
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
            ],
            *["-days", "2", "-subj", "/CN=www.example.com", "-addext", "subjectAltName=DNS:www.example.com"],
            *["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")],
        ],
    )
    return folder / "cert.pem"


def test_tls_and_https_finish_a_handshake(lab: Lab, checks: Checks, certificate: Path) -> None:
    key = certificate.with_name("key.pem")
    argv = ["openssl", "s_server", "-accept", "4433", "-www", "-cert", str(certificate), "-key", str(key)]
    tls, https = 'type = "tls"; port = 4433', 'type = "https"; port = 4433'
    trusted = f'verify = true; ca = "{certificate}"; server_name = "www.example.com"'
    assert checks.fails(tls) == {"connection refused"}
    with server(lab, argv, listening(lab, 4433, "t")):
        assert all(said.startswith("TLSv1.3 ") for said in checks.passes(tls))
        checks.passes(f"{tls}; {trusted}")
        (said,) = checks.fails(f'{tls}; verify = true; server_name = "www.example.com"')
        assert said == "TLS: self-signed certificate"
        (said,) = checks.fails(f"{tls}; {trusted}".replace('"www.', '"ftp.'))
        assert "Hostname mismatch" in said
        two = checks.fails(f'{tls}; verify = true; ca = "{certificate}"')
        assert len(two) == 2  # it is not for these addresses
        assert all("IP address mismatch" in said for said in two)
        missing = checks.results(f'{tls}; verify = true; ca = "/nonexistent.pem"')
        assert [one["ok"] for one in missing] == [None, None]
        checks.passes(f'{https}; {trusted}; body = "s_server"')
        assert checks.fails(f"{https}; {trusted}; codes = [500]") == {"200 ok, not 500"}
        with dropping(lab, "tcp dport 4433"):
            assert checks.fails(tls) == {"no answer in time"}
    with running(lab, "nginx", ["n1"]):
        (said,) = checks.fails(f'type = "tls"; port = {PORTS["nginx"]}')
        assert said == "TLS: wrong version number"


def test_udp_asks_a_name_server(lab: Lab, checks: Checks) -> None:
    needs("dnsmasq")
    argv = [
        "dnsmasq",
        "-k",
        "-p",
        "5300",
        "-C",
        "/dev/null",
        "-R",
        "-h",
        "-A",
        "/x.example/10.9.8.7",
        "-u",
        "root",
    ]
    question = "beef 0100 0001 0000 0000 0000 0178 0765 7861 6d70 6c65 00 0001 0001"
    check = f'type = "udp"; port = 5300; send_hex = "{question}"'
    with server(lab, [*argv, "-x", ""], listening(lab, 5300, "u", 2)):
        checks.passes(check, "udp")
        checks.passes(f'{check}; expect_hex = "beef ???? *0a090807"', "udp")
        checks.fails(f'{check}; expect_hex = "beef ???? *0a090808"', "udp")
        with dropping(lab, "udp dport 5300"):
            assert checks.fails(check, "udp") == {"no answer in time"}
    assert checks.fails(check, "udp") == {"connection refused"}


def test_icmp_is_answered_until_it_is_filtered(lab: Lab, checks: Checks) -> None:
    check = 'type = "icmp"'
    assert checks.passes(check) == ["echo reply", "echo reply"]
    with dropping(lab, "meta l4proto { icmp, icmpv6 } @th,0,8 { 8, 128 }"):
        assert checks.fails(check) == {"no answer in time"}
    assert checks.passes(f'{check}; interface = "lan0"') == ["echo reply", "echo reply"]
    checks.fails(f'{check}; interface = "wan0"')
    sources = [lab.address("gw", family, "lan0") for family in (4, 6)]
    checks.passes(f"{check}; source = {json.dumps(sources)}")
    # An address that this machine has not is its own fault, and not the node's.
    foreign = checks.results(f'{check}; source = ["10.77.0.1", "fd77::1"]')
    assert [one["ok"] for one in foreign] == [None, None]
    assert {one["said"] for one in foreign} == {"not tried: cannot assign requested address"}


def test_hundreds_of_silent_neighbours_leave_room_for_pings_to_others(lab: Lab, checks: Checks) -> None:
    """Pings wait for a neighbour's address in this machine, all at the cost of one socket's buffer."""
    few = 700  # as a table of neighbours holds 1,024
    silent = [f"10.78.{index // 250}.{index % 250 + 1}" for index in range(few)]
    lines = [
        '[gateway]\nname = "edge"\nhash_seed = 1',
        '[[service]]\nname = "s"\nprotocol = "udp"\nlisten = ["192.0.2.10:9"]',
        '[[service.check]]\ntype = "icmp"\ntimeout = "2s"',
    ]
    for index, address in enumerate([*silent, lab.address("n1", 4)]):
        lines.append(f'[[service.node]]\nname = "m{index}"\naddress = "{address}"')
    checks.passes('type = "icmp"')  # it is a neighbour already
    checks.file.write_text("\n".join([*lines, ""]))
    lab.run("gw", ["ip", "route", "add", "10.78.0.0/16", "dev", "lan0"])
    try:
        done = lab.run("gw", [*POINTSMAN, "probe", "--json", str(checks.file)], check=False)
    finally:
        lab.run("gw", ["ip", "route", "del", "10.78.0.0/16"])
    *dead, healthy = [json.loads(line) for line in done.stdout.splitlines()]
    assert healthy["said"] == "echo reply", done.stderr
    assert [one["said"] for one in dead if one["ok"] is None] == []


def test_an_interface_that_is_made_anew_is_pinged_by_again(lab: Lab, checks: Checks) -> None:
    checks.write('type = "icmp"; interface = "again0"; interval = "200ms"; timeout = "200ms"', "udp")

    def make() -> None:
        lab.run("gw", ["ip", "link", "add", "again0", "type", "veth", "peer", "name", "again1"])
        for link in ("again0", "again1"):
            lab.run("gw", ["ip", "link", "set", link, "up"])
        lab.run("gw", ["ip", "address", "add", "10.79.0.1/24", "dev", "again0"])
        lab.run("gw", ["ip", "address", "add", "fd79::1/64", "dev", "again0", "nodad"])
        lab.run("gw", ["ip", "route", "add", lab.address("n1", 6), "dev", "again0"])

    one = "import asyncio, sys; from pathlib import Path\n"
    one += "from pointsman.config import load; from pointsman.health.engine import Engine\n"
    one += "engine = Engine(print); engine.want(load(Path(sys.argv[1])).gateway)\n"
    one += "async def tell():\n"
    one += "    task = asyncio.create_task(engine.run())\n"
    one += "    while True:\n"
    one += (
        "        print('said', *{each.said for each in engine.results()['s', 'n1']}, sep=': ', flush=True)\n"
    )
    one += "        await asyncio.sleep(0.1)\n"
    one += "asyncio.run(tell())\n"
    make()
    process = lab.popen("gw", [sys.executable, "-c", one, str(checks.file)], stdout=subprocess.PIPE)
    assert process.stdout is not None

    def until(said: str) -> None:
        assert process.stdout is not None
        end = time.monotonic() + 20
        while process.stdout.readline().strip() != f"said: {said}":
            assert time.monotonic() < end, said

    try:
        until("no answer in time")
        lab.run("gw", ["ip", "link", "del", "again0"])
        until("no such device")
        make()
        until("no answer in time")
    finally:
        process.kill()
        process.wait(10)
        lab.run("gw", ["ip", "link", "del", "again0"], check=False)


def test_openssl_answers_a_hello_with_a_cookie(lab: Lab, checks: Checks, certificate: Path) -> None:
    argv = ["openssl", "s_server", "-dtls1_2", "-accept", "5684", "-cert", str(certificate)]
    argv += ["-key", str(certificate.with_name("key.pem"))]
    check = 'type = "dtls"; port = 5684'
    assert checks.fails(check, "dtls") == {"connection refused"}
    for family in (4, 6):
        with server(lab, [*argv, f"-{family}"], listening(lab, 5684, "u")):
            results = checks.results(check, "dtls")
            answered = next(one for one in results if ("[" in one["target"]) == (family == 6))
            assert (answered["ok"], answered["said"]) == (True, "HelloVerifyRequest")


@pytest.mark.peers
@pytest.mark.parametrize(
    ("options", "said"),
    [([], "HelloVerifyRequest"), (["--no-cookie"], "ServerHello")],
    ids=["cookie", "none"],
)
def test_mbed_tls_answers_a_hello(lab: Lab, checks: Checks, options: list[str], said: str) -> None:
    check = 'type = "dtls"; port = 5684'
    listen = [f"{lab.address('n1', 4)}:5684", f"[{lab.address('n1', 6)}]:5684"]
    argv = [[str(PEER), "server", "--quiet", "--name", "n1", "--listen", each, *options] for each in listen]
    with (
        server(lab, argv[0], listening(lab, 5684, "u")),
        server(lab, argv[1], listening(lab, 5684, "u", 2)),
    ):
        assert checks.passes(check, "dtls") == [said, said]
        with dropping(lab, "udp dport 5684"):
            assert checks.fails(check, "dtls") == {"no answer in time"}
    with server(lab, [*COAP_SERVER, "5684"], listening(lab, 5684, "u")):
        assert checks.fails(check, "dtls") == {
            "no answer in time"
        }  # to who knows no CoAP, a CoAP server says nothing


def test_coap_is_pinged_and_asked(lab: Lab, checks: Checks) -> None:
    ping, get = 'type = "coap"; port = 5683', 'type = "coap"; port = 5683; path = "/health?full"'
    assert checks.fails(ping, "udp") == {"connection refused"}
    with server(lab, [*COAP_SERVER, "5683"], listening(lab, 5683, "u")):
        assert checks.passes(ping, "udp") == ["reset, which answers a ping"] * 2
        assert checks.passes(get, "udp") == ["2.05", "2.05"]
        assert checks.fails(get.replace("health", "other"), "udp") == {"4.04, not 2.05"}
        checks.passes(get.replace("health", "other") + '; codes = ["4.04"]', "udp")
        assert checks.passes(get.replace("health", "separate"), "udp") == ["2.05", "2.05"]
        with dropping(lab, "udp dport 5683"):
            assert checks.fails(ping, "udp") == {"no answer in time"}


def test_watching_tells_when_a_server_goes_and_comes_back(lab: Lab, checks: Checks) -> None:
    """From failure to report it takes no longer than the documents say."""
    check = (
        f'type = "http"; port = {PORTS["nginx"]}; interval = "400ms"; timeout = "300ms"; rise = 2; fall = 3'
    )
    checks.write(check, "tcp")
    watching = lab.popen(
        "gw", [*POINTSMAN, "probe", "--watch", "--json", str(checks.file), "s/n1"], stdout=subprocess.PIPE
    )
    assert watching.stdout is not None
    try:
        with running(lab, "nginx", ["n1"]):
            while not (change := json.loads(watching.stdout.readline()))["healthy"]:
                pass
            assert (change["service"], change["node"]) == ("s", "n1")
            with dropping(lab, f"tcp dport {PORTS['nginx']}"):
                failed = time.time()
                change = json.loads(watching.stdout.readline())
                assert not change["healthy"]
                assert change["reason"].endswith("no answer in time")
                assert 3 * 0.3 < change["at"] - failed < 3 * 0.4 * 1.1 + 0.3 + 0.5
            assert json.loads(watching.stdout.readline())["healthy"]
    finally:
        watching.kill()
        watching.wait(10)
