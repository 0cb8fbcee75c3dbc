"""Record tests/corpus/dtls/*.txt anew, from the DTLS stacks of this machine: `python -m tests.corpus.record` (root).

Debian packages: openssl, gnutls-bin. Besides `make peers peers-wolfssl`. A stack that is not there keeps its file.
All of it runs on the loopback of a network namespace of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.corpus.relay import Relay

from pointsman.lab.inside import inside

HERE = Path(__file__).parent
PEERS = HERE.parents[1] / "build/peers"
SCRATCH = HERE.parents[1] / "build/corpus"
PORT = 5684
PSK = "000102030405060708090a0b0c0d0e0f"
PSK_OPTIONS = ["-psk", PSK, "-psk_identity", "device", "-cipher", "PSK-AES128-GCM-SHA256"]

Session = tuple[str, int, list[bytes]]
"""What it was, the length of the client's connection IDs, and its datagrams."""


@contextmanager
def server(argv: Sequence[str | Path], *, settle: float = 0.6) -> Iterator[None]:
    child = subprocess.Popen(
        [*map(str, argv)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    time.sleep(settle)
    try:
        yield
    finally:
        child.terminate()
        child.wait(5)


def client(
    argv: Callable[[int], Sequence[str | Path]],
    says: Iterable[bytes] = (),
    *,
    lose: tuple[int, ...] = (),
    seconds: float = 6,
) -> list[bytes]:
    """Run a client through a relay, a line of input every half second; its datagrams."""
    with Relay(PORT, lose) as relay:
        child = subprocess.Popen(
            [*map(str, argv(relay.port))],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        stdin = child.stdin
        assert stdin is not None
        try:
            time.sleep(0.6 + 1.2 * len(lose))
            for line in says:
                stdin.write(line)
                stdin.flush()
                time.sleep(0.4)
            stdin.close()
            child.wait(seconds)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            pass
        finally:
            child.terminate()
            child.wait(5)
        time.sleep(0.1)
        return list(relay.sent)


TALK = (b"hello\n", b"a longer line " * 20 + b"\n", b"Q\n")


def certificates() -> list[str]:
    key, cert = SCRATCH / "key.pem", SCRATCH / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650"),
            *("-subj", "/CN=corpus", "-keyout", key, "-out", cert),
        ],
        check=True,
        capture_output=True,
    )
    return ["-cert", str(cert), "-key", str(key)]


def openssl() -> Iterator[Session]:
    own = certificates()

    def to(*more: str) -> Callable[[int], list[str]]:
        return lambda port: ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *more]

    def serving(*more: str) -> list[str]:
        return ["openssl", "s_server", "-accept", f"127.0.0.1:{PORT}", *more]

    session = SCRATCH / "session"
    psk = ["-dtls1_2", *PSK_OPTIONS]
    with server(serving("-nocert", "-client_renegotiation", *psk)):
        yield "full handshake, pre-shared key, close", 0, client(to(*psk, "-sess_out", str(session)), TALK)
        yield "resumption", 0, client(to(*psk, "-sess_in", str(session)), TALK)
        yield "renegotiation", 0, client(to(*psk), (b"one\n", b"R\n", b"two\n", b"R\n", b"three\n", b"Q\n"))
        wrong = ["-dtls1_2", "-psk", "ff" * 16, *PSK_OPTIONS[2:]]
        yield "wrong key: alerts", 0, client(to(*wrong))
    with server(serving("-nocert", "-listen", *psk)):
        yield "HelloVerifyRequest: a second ClientHello, in DTLS 1.0 records", 0, client(to(*psk), TALK)
        yield "flights sent again", 0, client(to(*psk), TALK, lose=(0, 1, 2))
    with server(serving("-dtls1_2", "-Verify", "1", *own)):
        both = ["-dtls1_2", *own]
        yield "certificates of both", 0, client(to(*both), TALK)
        yield (
            "fragmented: an MTU of 256",
            0,
            client(to(*both, "-mtu", "256", "-servername", f"{'a' * 60}.{'b' * 60}.example"), TALK),
        )
        yield "fragmented: an MTU of 300, any version", 0, client(to("-dtls", *own, "-mtu", "300"), TALK)
        yield "CBC", 0, client(to(*both, "-cipher", "ECDHE-RSA-AES128-SHA256"), TALK)
        yield "ChaCha20", 0, client(to(*both, "-cipher", "ECDHE-RSA-CHACHA20-POLY1305"), TALK)
        yield "unknown issuer: an alert", 0, client(to(*both, "-verify_return_error", "-verify", "1"))


def gnutls() -> Iterator[Session]:
    own = certificates()
    keys = SCRATCH / "psk.txt"
    keys.write_text(f"device:{PSK}\n")
    priority = "NORMAL:-VERS-ALL:+VERS-DTLS1.2:+ECDHE-PSK:+PSK"

    def to(*more: str) -> Callable[[int], list[str]]:
        return lambda port: ["gnutls-cli", "--udp", "-p", str(port), "--insecure", *more, "127.0.0.1"]

    listening = ["gnutls-serv", "--udp", "-p", str(PORT), "--echo", "--priority", priority]
    listening += ["--x509certfile", own[1], "--x509keyfile", own[3], "--pskpasswd", str(keys), "--heartbeat"]
    talk = (b"hello\n", b"a longer line " * 20 + b"\n")
    with server(listening):
        common = ["--priority", priority]
        yield "certificates", 0, client(to(*common), talk)
        yield "any version", 0, client(to("--priority", "NORMAL"), talk)
        psk = ["--priority", "NORMAL:-KX-ALL:+PSK:-VERS-ALL:+VERS-DTLS1.2", "--pskusername", "device"]
        yield "pre-shared key", 0, client(to(*psk, "--pskkey", PSK), talk)
        yield "wrong key", 0, client(to(*psk, "--pskkey", "ff" * 16), talk)
        yield "resumption", 0, client(to(*common, "--resume"), talk, seconds=10)
        yield "rehandshake", 0, client(to(*common, "--rehandshake"), talk, seconds=10)
        yield "with heartbeats agreed on", 0, client(to(*common, "--heartbeat"), talk)
        yield "an MTU of 300", 0, client(to(*common, "--mtu", "300"), talk)
        yield "flights sent again", 0, client(to(*common), talk, lose=(1, 2), seconds=10)


def peers(program: str, *more: str) -> Iterator[Session]:
    """Clients of the project's own peers, which end by themselves."""
    peer = PEERS / program

    def to(*options: str) -> Callable[[int], list[str | Path]]:
        fast = ["--requests", "4", "--gap-ms", "30", "--timeout-ms", "400", "--retries", "2"]
        return lambda port: [peer, "client", "--connect", f"127.0.0.1:{port}", *fast, *options]

    listen: list[str | Path] = [peer, "server", "--listen", f"127.0.0.1:{PORT}", "--cid-prefix", "01", *more]
    with server(listen):
        yield "connection IDs of 6 bytes", 6, client(to())
        yield "a new address after each request", 6, client(to("--rebind-every", "1"))
        yield "the client has one as well", 6, client(to("--cid", "c0ffee"))
        yield "without connection IDs", 0, client(to("--cid", "none"))
        yield "large requests", 6, client(to("--payload-bytes", "1200"))
        yield (
            "flights sent again",
            6,
            client(to("--handshake-timeout-ms", "200:1600"), lose=(0, 1, 2), seconds=10),
        )
    with server([*listen, "--cid-length", "20"]):
        yield "connection IDs of 20 bytes", 20, client(to())
    with server([*listen[:4], "--cid-length", "1", *more]):
        yield "connection IDs of 1 byte", 1, client(to())


def dtls13() -> Iterator[Session]:
    program = SCRATCH / "dtls13"
    unpacked = PEERS / "sid/usr"
    library = next(unpacked.rglob("libwolfssl.a"))
    subprocess.run(
        ["cc", f"-I{unpacked}/include", "-o", program, HERE / "dtls13.c", library, "-lm", "-lpthread"],
        check=True,
    )
    for what, cid, options in (
        ("full handshake, data, new keys", 0, ["1400"]),
        ("connection IDs of 6 bytes", 6, ["1400"]),
        ("connection IDs of 6 bytes, an MTU of 900", 6, ["900"]),
        ("acknowledgements: the server's second datagram is lost", 0, ["1400", "1"]),
        ("the server's third datagram is lost", 6, ["1400", "2"]),
        ("the server's fourth datagram is lost", 6, ["1400", "3"]),
        ("connection IDs of 20 bytes", 20, ["1400"]),
    ):
        found = subprocess.run([program, str(cid), *options], capture_output=True, text=True, check=False)
        yield what, cid, [bytes.fromhex(line) for line in found.stdout.split()]


def write(name: str, heading: str, sessions: Iterator[Session]) -> None:
    lines = [f"# {heading}"]
    total = 0
    for what, cid, datagrams in sessions:
        assert datagrams, f"{name}: {what}: nothing was sent"
        lines += ["", f"== {what}", f"cid {cid}", *(datagram.hex() for datagram in datagrams)]
        total += len(datagrams)
        print(f"{name}: {what}: {len(datagrams)} datagrams", flush=True)
    (HERE / "dtls" / f"{name}.txt").write_text("\n".join(lines) + "\n")
    print(f"{name}: {total} datagrams")


def version(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()[0].strip()


def main(wanted: Sequence[str]) -> None:
    SCRATCH.mkdir(parents=True, exist_ok=True)
    stacks: dict[str, Callable[[], tuple[str, Iterator[Session]]]] = {}
    if shutil.which("openssl"):
        stacks["openssl"] = lambda: (version("openssl", "version").partition(" (")[0], openssl())
    if shutil.which("gnutls-cli"):
        stacks["gnutls"] = lambda: (version("gnutls-cli", "--version"), gnutls())
    if (PEERS / "cidpeer").exists():
        stacks["mbedtls"] = lambda: ("Mbed TLS 3.6, peers/", peers("cidpeer"))
    if (PEERS / "wolfpeer").exists():
        stacks["wolfssl"] = lambda: ("wolfSSL 5.9, peers/", peers("wolfpeer"))
        stacks["wolfssl-dtls13"] = lambda: ("wolfSSL 5.9, DTLS 1.3, tests/corpus/dtls13.c", dtls13())
    for name in wanted or stacks:
        write(name, *stacks[name]())


if __name__ == "__main__":
    namespace = f"pm-corpus{os.getpid()}"
    subprocess.run(["ip", "netns", "add", namespace], check=True)
    try:
        with inside(namespace):
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            # Threads, which the relay starts, are born in the namespace of the one that starts them.
            main(sys.argv[1:])
    finally:
        subprocess.run(["ip", "netns", "del", namespace], check=True)
