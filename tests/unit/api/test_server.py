"""The sockets: mode, group, what was left behind, TLS and tokens."""

from __future__ import annotations

import errno
import gc
import os
import pwd
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.unit.api.conftest import Daemon, daemon_at

from pointsman.api import place, server, unix_socket
from pointsman.api.client import Client, DaemonRefusedError, daemon_here
from pointsman.api.documents import OrderRequest, Verb
from pointsman.api.unix_socket import open_socket, peer_of
from pointsman.kernel import netns
from pointsman.kernel.errors import KernelError
from pointsman.model import Api, ApiOverTcp, Endpoint

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="changes users and groups, which takes root")


def test_the_socket_has_its_mode_and_group(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "api.sock"
    opened = open_socket(path, 0o640)
    found = path.stat()
    assert (found.st_mode & 0o777, found.st_gid) == (0o640, opened.group)
    opened.close()
    assert list(path.parent.iterdir()) == []


@needs_root
def test_the_group_is_the_one_that_is_asked_for(tmp_path: Path) -> None:
    opened = open_socket(tmp_path / "s", 0o660, "daemon")
    assert (tmp_path / "s").stat().st_gid == opened.group == 1
    opened.close()


def test_a_group_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match="no group 'nobodys' for the socket; groupadd --system nobodys"):
        open_socket(tmp_path / "s", 0o660, "nobodys")


def test_a_socket_that_nobody_listens_at_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    opened = open_socket(path, 0o600)
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(path))
    opened.close()
    assert not path.exists()


def test_a_socket_that_somebody_listens_at_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    first = open_socket(path, 0o600)
    with pytest.raises(KernelError, match="another daemon does; end it first"):
        open_socket(path, 0o600)
    assert path.lstat().st_ino == first.inode
    first.close()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("mine")
    with pytest.raises(KernelError, match="there is a file that is no socket"):
        open_socket(path, 0o600)
    assert path.read_text() == "mine"


def test_a_socket_that_replaced_ours_survives_our_end(tmp_path: Path) -> None:
    path = tmp_path / "s"
    first = open_socket(path, 0o600)
    path.unlink()
    second = open_socket(path, 0o600)
    first.close()
    assert path.exists()
    second.close()


def test_a_folder_that_cannot_be_made_is_one_line() -> None:
    with pytest.raises(KernelError, match="cannot listen at /proc/none/s: "):
        open_socket(Path("/proc/none/s"), 0o600)


def test_folders_that_it_makes_let_the_group_through_whatever_the_umask(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir(mode=0o700)
    before = os.umask(0o077)
    try:
        opened = open_socket(mine / "new" / "newer" / "s", 0o660)
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)
    folders = (mine, mine / "new", mine / "new" / "newer")
    assert [folder.stat().st_mode & 0o777 for folder in folders] == [0o700, 0o755, 0o755]
    assert opened.path.stat().st_mode & 0o777 == 0o660
    opened.close()


@needs_root
def test_a_link_in_the_sockets_place_changes_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.write_text("")
    other.chmod(0o600)
    made = unix_socket._bound

    def swapped(path: Path, *mode: int) -> socket.socket:
        opened = made(path, *mode)
        path.unlink()
        path.symlink_to(other)
        return opened

    monkeypatch.setattr(unix_socket, "_bound", swapped)
    open_socket(tmp_path / "s", 0o666, "daemon").close()
    assert (other.stat().st_mode & 0o777, other.stat().st_gid) == (0o600, os.getegid())


def test_a_users_name_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, known = [], pwd.getpwuid

    def counted(uid: int) -> pwd.struct_passwd:
        asked.append(uid)
        return known(uid)

    def never(*of: object) -> list[int]:
        raise AssertionError(of)

    monkeypatch.setattr(pwd, "getpwuid", counted)
    monkeypatch.setattr(os, "getgrouplist", never)
    monkeypatch.setattr(unix_socket, "NAMED_FOR", 1e9)
    unix_socket._name.cache_clear()
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        assert peer_of(one) == peer_of(one) == peer_of(other)
    assert asked == [os.geteuid()]


def test_the_kernel_says_who_is_at_the_other_end() -> None:
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        peer = peer_of(one)
    assert peer.uid == os.geteuid()
    assert {os.getegid(), *os.getgroups()} <= peer.groups


def test_orders_are_signed_with_the_callers_user(client: Client) -> None:
    told = client.order("coaps", "n1", OrderRequest(verb=Verb.DRAIN, reason="disk"))
    assert told.who.startswith(f"uid {os.geteuid()}")


ASK = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from pointsman.api.client import Client, DaemonRefusedError
Client(Path(sys.argv[2])).status()  # whatever is imported late: another user may not read it
os.setgroups([int(group) for group in sys.argv[4].split(",") if group])
os.setgid(int(sys.argv[3])); os.setuid(int(sys.argv[3]))
client = Client(Path(sys.argv[2]))
print(client.status().gateway)
try:
    client.reload()
    print("may operate")
except DaemonRefusedError as refusal:
    print(refusal.status)
"""


@needs_root
@pytest.mark.parametrize(("groups", "answer"), [("", "403"), ("1", "may operate")])
def test_members_of_the_sockets_group_operate_and_others_read(groups: str, answer: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / "s"
        with daemon_at(Api(socket=str(path), socket_mode=0o666, socket_group="daemon")):
            command = [sys.executable, "-c", ASK, "src", str(path), "61234", groups]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.split("\n")[:2] == ["edge-1", answer], done.stderr


NOT_LET_IN = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pointsman.api.client import daemon_here
from pointsman.kernel.errors import KernelError
os.environ["POINTSMAN_SOCKET"] = sys.argv[2]
assert daemon_here() is not None
os.setgroups([]); os.setgid(61234); os.setuid(61234)
try:
    daemon_here()
except KernelError as refusal:
    print(refusal)
"""


@needs_root
def test_who_is_not_let_in_is_told_what_it_takes() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / "s"
        with daemon_at(Api(socket=str(path), socket_mode=0o660, socket_group="daemon")):
            command = [sys.executable, "-c", NOT_LET_IN, "src", str(path)]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == f"cannot ask the daemon at {path}: be root, or a member of the socket's group\n", (
        done.stderr
    )


def test_the_default_place_is_beside_the_states(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(place.ENVIRONMENT, raising=False)
    monkeypatch.setenv(place.STATE_ENVIRONMENT, "/run/x/")
    assert place.socket_to_ask() == Path("/run/x-api/api.sock")
    monkeypatch.setenv(place.ENVIRONMENT, "/run/y.sock")
    assert place.socket_to_ask() == Path("/run/y.sock")
    assert place.default_socket() == Path("/run/x-api/api.sock")
    monkeypatch.delenv(place.STATE_ENVIRONMENT)
    assert place.default_socket().is_relative_to("/run/pointsman-api")


def test_without_a_daemon_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(place.ENVIRONMENT, str(tmp_path / "s"))
    assert daemon_here() is None
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "s"))
    assert daemon_here() is None


@pytest.mark.usefixtures("daemon")
def test_the_daemon_is_found_where_the_environment_says() -> None:
    found = daemon_here()
    assert found is not None
    assert found.status().gateway == "edge-1"


def test_the_socket_is_gone_when_the_daemon_is(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with daemon_at(Api(socket=str(path))):
        assert path.is_socket()
    assert not path.exists()


def test_a_second_daemon_is_refused_and_the_first_goes_on(daemon: Daemon, client: Client) -> None:
    with pytest.raises(KernelError, match="another daemon does"):
        Daemon(daemon.api).start()
    assert client.status().gateway == "edge-1"


def test_who_connects_and_says_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REQUEST_SECONDS", 0.2)
    path = tmp_path / "s"
    with daemon_at(Api(socket=str(path))), socket.socket(socket.AF_UNIX) as silent:
        silent.settimeout(10)
        silent.connect(str(path))
        silent.send(b"GET /v1/healthz HTTP/1.1\r\n")
        assert silent.recv(1) == b""


def test_a_second_request_that_does_not_end_is_left_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "REQUEST_SECONDS", 0.5)
    path = tmp_path / "s"
    with daemon_at(Api(socket=str(path))), socket.socket(socket.AF_UNIX) as slow:
        slow.settimeout(10)
        slow.connect(str(path))
        slow.send(b"GET /v1/healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        read = b""
        while b'"ok"' not in read:
            read += slow.recv(1000)
        slow.send(b"GET")  # which ends uvicorn's own patience with idle connections
        while rest := slow.recv(1000):
            read += rest
    assert read.endswith(b"}")


def test_a_stream_is_not_left_though_nothing_is_asked_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "REQUEST_SECONDS", 0.3)
    path = tmp_path / "s"
    with daemon_at(Api(socket=str(path))) as served:
        following = Client(path).follow()
        later = threading.Timer(1.0, lambda: served.does(lambda: served.operator.happen("order", "late")))
        later.start()
        assert next(following).text == "late"
        later.join()


def test_the_default_socket_has_a_folder_that_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(place.STATE_ENVIRONMENT, str(tmp_path / "state"))
    with daemon_at(Api()):
        assert (tmp_path / "state-api" / "api.sock").is_socket()
        assert (tmp_path / "state-api").stat().st_mode & 0o777 == 0o755
    assert not (tmp_path / "state-api").exists()


def test_the_first_namespaces_socket_is_found_by_number_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(place.STATE_ENVIRONMENT, raising=False)
    monkeypatch.delenv(place.ENVIRONMENT, raising=False)
    monkeypatch.setattr(place, "ROOT", tmp_path)
    monkeypatch.setattr(netns, "FIRST", netns.OWN)
    with daemon_at(Api()):
        assert (tmp_path / "api.sock").is_socket()
        # as for a user who may not look at process 1
        monkeypatch.setattr(netns, "FIRST", tmp_path / "none")
        assert place.socket_to_ask().parent != tmp_path
        assert daemon_here() is not None


def test_a_link_that_cannot_be_made_keeps_no_api_from_serving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.delenv(place.STATE_ENVIRONMENT, raising=False)
    monkeypatch.setattr(place, "ROOT", tmp_path)
    monkeypatch.setattr(netns, "FIRST", netns.OWN)
    monkeypatch.setattr(Path, "symlink_to", full)
    with daemon_at(Api()):
        assert (tmp_path / "api.sock").is_socket()


# TLS


def certificate(folder: Path, name: str = "tls") -> tuple[Path, Path]:
    crt, key = folder / f"{name}.crt", folder / f"{name}.key"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,IP:::1"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
    command = ["openssl", "req", "-x509", *curve, *subject, "-keyout", str(key), "-out", str(crt)]
    subprocess.run(command, check=True, capture_output=True)
    return crt, key


def free_port(host: str) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def over_tcp(tmp_path: Path) -> Api:
    crt, key = certificate(tmp_path)
    tokens = tmp_path / "tokens"
    digests = {name: sha256(f"secret-of-{name}".encode()).hexdigest() for name in ("ci", "prom")}
    tokens.write_text(f"ci operate {digests['ci']}\nprom read {digests['prom']}\n")
    tokens.chmod(0o600)
    listen = Endpoint(ip_address("127.0.0.1"), free_port("127.0.0.1"))
    return Api(socket=str(tmp_path / "s"), tcp=ApiOverTcp(listen, str(crt), str(key), str(tokens)))


def tcp_of(api: Api) -> ApiOverTcp:
    assert api.tcp is not None
    return api.tcp


def asking(api: Api, name: str | None, *, trusting: str | None = None) -> httpx.Client:
    tcp = tcp_of(api)
    context = ssl.create_default_context(cafile=trusting or tcp.certificate)
    headers = {} if name is None else {"authorization": f"Bearer secret-of-{name}"}
    return httpx.Client(base_url=f"https://{tcp.listen}", verify=context, headers=headers, timeout=10)


def test_over_tcp_tokens_say_who_may_what(over_tcp: Api) -> None:
    with daemon_at(over_tcp):
        assert asking(over_tcp, None).get("/v1/status").status_code == 401
        assert asking(over_tcp, "nobody").get("/v1/status").status_code == 401
        assert asking(over_tcp, "prom").get("/metrics").status_code == 200
        assert asking(over_tcp, "prom").post("/v1/reload").status_code == 403
        assert asking(over_tcp, "ci").post("/v1/reload").status_code == 200
        assert asking(over_tcp, None).get("/v1/healthz").json()["status"] == "ok"


def test_over_ipv6_too(over_tcp: Api) -> None:
    listen = Endpoint(ip_address("::1"), free_port("::1"))
    api = replace(over_tcp, tcp=replace(tcp_of(over_tcp), listen=listen))
    with daemon_at(api):
        assert asking(api, "ci").get("/v1/status").status_code == 200


def test_what_is_no_tls_gets_nothing(over_tcp: Api) -> None:
    listen = tcp_of(over_tcp).listen
    with daemon_at(over_tcp), socket.create_connection((str(listen.address), listen.port)) as plain:
        plain.settimeout(10)
        plain.send(b"GET /v1/healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"HTTP" not in plain.recv(100)


def test_tls_before_1_2_is_refused(over_tcp: Api) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    listen = tcp_of(over_tcp).listen
    where = (str(listen.address), listen.port)
    with daemon_at(over_tcp):
        for version, accepted in ((ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True)):
            old.minimum_version, old.maximum_version = ssl.TLSVersion.MINIMUM_SUPPORTED, version
            with socket.create_connection(where) as plain:
                try:
                    old.wrap_socket(plain).close()
                except (ssl.SSLError, ConnectionResetError):
                    assert not accepted
                else:
                    assert accepted


def test_tokens_and_certificates_are_renewed_while_it_runs(over_tcp: Api, tmp_path: Path) -> None:
    tcp = tcp_of(over_tcp)
    with daemon_at(over_tcp) as served:
        before = tmp_path / "before.crt"
        before.write_bytes(Path(tcp.certificate).read_bytes())
        crt, key = certificate(tmp_path, "new")
        crt.replace(tcp.certificate)
        key.replace(tcp.key)
        Path(tcp.tokens).write_text(f"new read {sha256(b'secret-of-new').hexdigest()}\n")
        served.serving.renew()
        assert asking(over_tcp, "new").get("/v1/status").status_code == 200
        assert asking(over_tcp, "ci").get("/v1/status").status_code == 401
        with pytest.raises(httpx.ConnectError):
            asking(over_tcp, "new", trusting=str(before)).get("/v1/status")


def test_a_broken_certificate_leaves_the_one_of_before(over_tcp: Api, tmp_path: Path) -> None:
    tcp = tcp_of(over_tcp)
    before = tmp_path / "before.crt"
    before.write_bytes(Path(tcp.certificate).read_bytes())
    crt, key = certificate(tmp_path, "new")
    half = key.read_bytes()[:100]
    with daemon_at(over_tcp) as served:
        crt.replace(tcp.certificate)
        for broken in (None, half, b""):  # the key of before, and what a writer is not done with
            if broken is not None:
                Path(tcp.key).write_bytes(broken)
            with pytest.raises(KernelError, match=f"cannot use {tcp.certificate} with {tcp.key}: "):
                served.serving.renew()
            assert asking(over_tcp, "ci", trusting=str(before)).get("/v1/status").status_code == 200
        Path(tcp.key).unlink()
        with pytest.raises(KernelError, match="No such file"):
            served.serving.renew()
        assert asking(over_tcp, "ci", trusting=str(before)).get("/v1/status").status_code == 200
        key.replace(tcp.key)
        served.serving.renew()
        assert asking(over_tcp, "ci").get("/v1/status").status_code == 200


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_certificate_is_shown_to_who_names_no_server_too(over_tcp: Api, version: ssl.TLSVersion) -> None:
    listen = tcp_of(over_tcp).listen
    context = ssl.create_default_context(cafile=tcp_of(over_tcp).certificate)
    context.check_hostname = False
    context.minimum_version = context.maximum_version = version
    with (
        daemon_at(over_tcp),
        socket.create_connection((str(listen.address), listen.port)) as plain,
        context.wrap_socket(plain) as caller,
    ):
        assert caller.version() == version.name.replace("v1_", "v1.")


def descriptors() -> int:
    gc.collect()  # what earlier tests have left
    return len(list(Path("/proc/self/fd").iterdir()))


def within(seconds: float, true: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def is_answered(api: Api) -> bool:
    try:
        with asking(api, "ci") as client:
            return client.get("/v1/status").status_code == 200
    except httpx.TransportError:
        return False


def silent(listen: Endpoint, count: int, stack: ExitStack) -> None:
    for _ in range(count):
        stack.enter_context(socket.create_connection((str(listen.address), listen.port)))


def test_who_connects_and_begins_no_handshake_keeps_others_out_for_seconds_only(
    over_tcp: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 20)
    monkeypatch.setattr(server, "MORE_CONNECTIONS", 5)
    monkeypatch.setattr(server, "HANDSHAKE_SECONDS", 4.0)
    with daemon_at(over_tcp), ExitStack() as stack:
        before = descriptors()
        silent(tcp_of(over_tcp).listen, 100, stack)
        assert within(3, lambda: descriptors() - before - 100 == 25)
        assert not is_answered(over_tcp), "the control"
        assert within(15, lambda: is_answered(over_tcp))


def test_who_says_nothing_after_the_handshake_is_left(over_tcp: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REQUEST_SECONDS", 0.3)
    monkeypatch.setattr(server, "CLOSING_SECONDS", 1)
    context = ssl.create_default_context(cafile=tcp_of(over_tcp).certificate)
    listen = tcp_of(over_tcp).listen
    with daemon_at(over_tcp):
        before = descriptors()
        plain = socket.create_connection((str(listen.address), listen.port))
        with context.wrap_socket(plain, server_hostname="127.0.0.1"):
            assert descriptors() == before + 2
            assert within(10, lambda: descriptors() == before + 1), (
                "though the other end does not say farewell"
            )


def test_a_few_too_many_are_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 3)
    monkeypatch.setattr(server, "MORE_CONNECTIONS", 1)
    path = tmp_path / "s"
    request = b"GET /v1/healthz HTTP/1.1\r\nhost: x\r\n\r\n"
    with daemon_at(Api(socket=str(path))), ExitStack() as stack:
        callers = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(5)]
        for caller in callers:
            caller.settimeout(10)
            caller.connect(str(path))
        time.sleep(0.5)
        assert callers[4].recv(100) == b"", "one too many"
        callers[3].send(request)
        assert b" 503 " in callers[3].recv(100)
        for caller in callers[1:]:
            caller.close()
        time.sleep(0.5)
        again = stack.enter_context(socket.socket(socket.AF_UNIX))
        again.settimeout(10)
        again.connect(str(path))
        again.send(request)
        assert b" 200 " in again.recv(100)


def test_a_broken_file_of_tokens_leaves_those_of_before(over_tcp: Api) -> None:
    with daemon_at(over_tcp) as served:
        Path(tcp_of(over_tcp).tokens).write_text("ci operate\n")
        with pytest.raises(KernelError, match=r"tokens:1: 2 words"):
            served.serving.renew()
        assert asking(over_tcp, "ci").get("/v1/status").status_code == 200


@pytest.mark.parametrize(
    ("field", "says"),
    [("certificate", "cannot use .*No such file"), ("key", "cannot use"), ("tokens", "cannot read")],
)
def test_a_file_that_is_missing_is_one_line_and_nothing_is_served(
    over_tcp: Api, field: str, says: str
) -> None:
    missing: Any = {field: "/nonexistent"}
    api = replace(over_tcp, tcp=replace(tcp_of(over_tcp), **missing))
    with pytest.raises(KernelError, match=says):
        Daemon(api).start()
    assert not Path(api.socket).exists()


def test_a_file_of_tokens_that_others_may_write_is_refused(over_tcp: Api) -> None:
    Path(tcp_of(over_tcp).tokens).chmod(0o664)
    with pytest.raises(KernelError, match="can be written by others than its owner; chmod go-w"):
        Daemon(over_tcp).start()


def test_an_address_that_is_taken_is_one_line(over_tcp: Api) -> None:
    listen = tcp_of(over_tcp).listen
    with (
        socket.create_server((str(listen.address), listen.port)),
        pytest.raises(KernelError, match=f"cannot listen at {listen}: "),
    ):
        Daemon(over_tcp).start()


def test_a_client_that_is_refused_says_what_the_daemon_said(client: Client) -> None:
    with pytest.raises(DaemonRefusedError, match=r"^the daemon refused: no configuration 9; 1$") as caught:
        client.restore(9)
    assert caught.value.is_mistake
    with pytest.raises(DaemonRefusedError, match="nothing waits to be confirmed") as caught:
        client.confirm()
    assert not caught.value.is_mistake


def test_the_daemon_ends_soon_while_callers_follow(daemon: Daemon, client: Client) -> None:
    daemon.does(lambda: daemon.operator.happen("order", "first"))
    following = client.follow()
    next(following)
    begun = time.monotonic()
    daemon.stop()
    assert time.monotonic() - begun < 15
    assert list(following) == []
