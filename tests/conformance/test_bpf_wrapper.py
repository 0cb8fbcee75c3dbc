"""The wrapper on libbpf against the kernel: objects, maps, links, filters, and the place of pins."""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from pointsman.kernel import bpffs
from pointsman.kernel.bpf import BpfError, Map, MapType, Object, Program, RingBuffer, possible_cpus, unpin
from pointsman.kernel.bpf_attach import (
    Link,
    Mode,
    XdpState,
    attach_tc,
    attach_xdp,
    detach_tc,
    tc_attached,
    tc_filters,
    xdp_on,
)

CLONE_NEWNET = 0x40000000
XDP_DROP, XDP_PASS = 1, 2
FRAME = bytes(12) + b"\x08\x00" + bytes(range(50))
T = TypeVar("T")

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(shutil.which("clang") is None, reason="needs clang to compile BPF programs"),
    pytest.mark.skipif(not Path("/usr/include/bpf/bpf_helpers.h").exists(), reason="needs libbpf-dev"),
]

HEAD = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char _license[] SEC("license") = "GPL";
"""
MANY = """
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __type(key, __u32); __type(value, __u64); }
    many SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(map_flags, BPF_F_MMAPABLE); __uint(max_entries, 1000);
         __type(key, __u32); __uint(value_size, 12); } flat SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 2); __type(key, __u32);
         __uint(value_size, 12); } each SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 2); __type(key, __u32); __type(value, __u32); }
    next SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 65536); } events SEC(".maps");

SEC("xdp") int count(struct xdp_md *ctx)
{
    __u32 zero = 0, *own = bpf_map_lookup_elem(&each, &zero);
    __u64 *seen;
    void *event;

    if (own)
        ++*own;
    zero = ctx->ingress_ifindex;
    seen = bpf_map_lookup_elem(&many, &zero);
    if (seen)
        __sync_fetch_and_add(seen, 1);
    event = bpf_ringbuf_reserve(&events, 8, 0);
    if (event) {
        *(__u64 *)event = ctx->ingress_ifindex;
        bpf_ringbuf_submit(event, 0);
    }
    bpf_tail_call(ctx, &next, 0);
    return XDP_PASS;
}
SEC("xdp") int drop(struct xdp_md *ctx) { return XDP_DROP; }
SEC("xdp") int grow(struct xdp_md *ctx)
{
    __u8 *data;

    if (bpf_xdp_adjust_head(ctx, -4))
        return XDP_DROP;
    data = (void *)(long)ctx->data;
    if (data + 4 > (__u8 *)(long)ctx->data_end)
        return XDP_DROP;
    __builtin_memset(data, 0xab, 4);
    return XDP_PASS;
}
SEC("xdp") int peek(struct xdp_md *ctx)
{
    __u32 *meta = (void *)(long)ctx->data_meta;

    return (void *)(meta + 1) > (void *)(long)ctx->data ? XDP_DROP : *meta;
}
SEC("tc") int shape(struct __sk_buff *skb) { return 0; }
"""
BAD = """
SEC("xdp") int bad(struct xdp_md *ctx)
{
    void *data = (void *)(long)ctx->data;

    return *(__u8 *)(data + 100);
}
"""


def compile_bpf(folder: Path, name: str, source: str) -> Path:
    (folder / f"{name}.c").write_text(HEAD + source)
    built = folder / f"{name}.o"
    include = f"/usr/include/{platform.machine()}-linux-gnu"
    command = [
        "clang",
        "-O2",
        "-g",
        "-target",
        "bpf",
        "-mcpu=v3",
        f"-I{include}",
        "-c",
        f"{name}.c",
        "-o",
        str(built),
    ]
    subprocess.run(command, check=True, cwd=folder, timeout=60)
    return built


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_bpf(tmp_path_factory.mktemp("bpf"), "many", MANY)


@pytest.fixture
def loaded(many: Path) -> Iterator[Object]:
    with Object.open(many) as opened:
        opened.load()
        yield opened


@pytest.fixture
def namespace() -> Iterator[str]:
    """A namespace with the veth pair ``one`` (ifindex 11) and ``two`` (12), up."""
    name = f"pmbpf-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        for words in (
            "link add one index 11 type veth peer name two index 12",
            "link set lo up",
            "link set one up",
            "link set two up",
        ):
            subprocess.run(["ip", "-n", name, *words.split()], check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


@pytest.fixture
def pins() -> Iterator[Path]:
    folder = bpffs.folder(f"test-{os.getpid()}")
    try:
        yield folder
    finally:
        bpffs.remove(folder)


def inside(namespace: str, action: Callable[[], T]) -> T:
    """Carry out something in a thread that goes to the namespace."""
    results: list[T] = []
    problems: list[BaseException] = []

    def go() -> None:
        try:
            with open(f"/run/netns/{namespace}") as entrance:  # noqa: PTH123
                assert ctypes.CDLL(None).setns(entrance.fileno(), CLONE_NEWNET) == 0
            results.append(action())
        except BaseException as problem:  # it is raised again, where pytest sees it
            problems.append(problem)

    thread = threading.Thread(target=go)
    thread.start()
    thread.join()
    if problems:
        raise problems[0]
    return results[0]


def tool(namespace: str, *words: str) -> str:
    command = ["ip", "netns", "exec", namespace, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout


def python(code: str, *arguments: str, namespace: str = "") -> str:
    """Run code in a new process, in a namespace as ``ip netns exec`` enters it."""
    prefix = ["ip", "netns", "exec", namespace] if namespace else []
    source = Path(__file__).parents[2] / "src"
    done = subprocess.run(
        [*prefix, sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "PYTHONPATH": str(source)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def key(number: int) -> bytes:
    return struct.pack("=I", number)


def value(number: int) -> bytes:
    return struct.pack("=Q", number)


def test_the_file_tells_of_its_maps(many: Path) -> None:
    with Object.open(many) as opened:
        specs = opened.maps()

    assert (specs["many"].type, specs["many"].key_size, specs["many"].value_size) == (MapType.HASH, 4, 8)
    assert specs["many"].max_entries == 8
    assert specs["flat"].flags == 1 << 10


def test_a_program_runs_on_a_frame(loaded: Object) -> None:
    with loaded.program("count") as count, loaded.program("drop") as drop, loaded.program("grow") as grow:
        assert (count.test_run(FRAME).retval, drop.test_run(FRAME, repeat=1000).retval) == (
            XDP_PASS,
            XDP_DROP,
        )
        assert count.test_run(FRAME).data == FRAME
        assert grow.test_run(FRAME).data == b"\xab" * 4 + FRAME
        assert count.name == "count"
        assert count.id != drop.id
        assert count.tag != drop.tag


def test_a_program_reads_metadata(loaded: Object) -> None:
    with loaded.program("peek") as peek:
        run = peek.test_run(FRAME, meta=key(7))
        assert (run.retval, run.meta, run.data) == (7, key(7), FRAME)


def test_a_tc_program_runs_too(loaded: Object) -> None:
    with loaded.program("shape") as shape:
        assert shape.test_run(FRAME).retval == 0


def test_descriptors_outlive_the_object(many: Path) -> None:
    with Object.open(many) as opened:
        opened.load()
        program, found = opened.program("drop"), opened.map("many")

    with program, found:
        assert program.test_run(FRAME).retval == XDP_DROP
        assert found.lookup(key(1)) is None


def test_a_map_is_resized_and_another_reused(many: Path, loaded: Object) -> None:
    with Object.open(many) as again, loaded.map("flat") as flat:
        again.resize("many", 50_000)
        again.reuse("flat", flat.fd)
        again.load()
        with again.map("many") as found, again.map("flat") as same:
            assert found.info.max_entries == 50_000
            assert same.info.id == flat.info.id


def test_names_that_are_not_there_are_refused(loaded: Object) -> None:
    for wrong in (
        lambda: loaded.map("none"),
        lambda: loaded.program("none"),
        lambda: loaded.resize("none", 1),
    ):
        with pytest.raises(BpfError, match="none"):
            wrong()


def test_hash(loaded: Object) -> None:
    with loaded.map("many") as many:
        assert many.lookup(key(5)) is None
        many.update(key(5), value(50))
        many.update(key(6), value(60))
        assert many.lookup(key(5)) == value(50)
        assert sorted(many.keys()) == [key(5), key(6)]
        assert (many.delete(key(5)), many.delete(key(5))) == (True, False)
        assert (many.info.name, many.info.type) == ("many", MapType.HASH)
        with Map.from_id(many.info.id) as same:
            assert same.lookup(key(6)) == value(60)
        for number in range(10, 17):
            many.update(key(number), value(0))
        with pytest.raises(BpfError, match=r"cannot write to the map many: Argument list too long"):
            many.update(key(17), value(0))


def test_a_wrong_size_never_reaches_the_kernel(loaded: Object) -> None:
    with loaded.map("many") as many:
        for wrong in (
            lambda: many.lookup(b"abc"),
            lambda: many.update(key(1), b"short"),
            lambda: many.update_batch(key(1), value(1), 2),
            lambda: many.delete_batch(key(1), 2),
        ):
            with pytest.raises(BpfError, match="bytes here"):
                wrong()


def test_batches(many: Path) -> None:
    with Object.open(many) as opened:
        opened.resize("many", 50_000)
        opened.load()
        with opened.map("many") as found:
            keys = b"".join(map(key, range(30_000)))
            values = b"".join(value(number * 3) for number in range(30_000))
            assert list(found.items_batch()) == []
            found.update_batch(keys, values, 30_000)
            assert dict(found.items_batch()) == {key(n): value(n * 3) for n in range(30_000)}
            assert found.delete(key(17))
            assert found.delete_batch(keys[: 4 * 100], 100) == 99
            assert found.delete_batch(keys[: 4 * 100], 100) == 0
            assert len(list(found.keys())) == 29_900
            found.update_batch(b"", b"", 0)


def test_a_batch_grows_to_a_buckets_size(loaded: Object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pointsman.kernel.bpf_map._FIRST_BATCH", 1)
    with loaded.map("many") as many, loaded.map("flat") as flat:
        for number in range(8):
            many.update(key(number), value(number))
        assert dict(many.items_batch()) == {key(n): value(n) for n in range(8)}
        assert [each for each, _ in flat.items_batch()] == [key(n) for n in range(1000)]


def test_a_batch_that_does_not_fit_says_how_far_it_came(loaded: Object) -> None:
    with loaded.map("many") as many, pytest.raises(BpfError, match="8 of 9 elements done"):
        many.update_batch(b"".join(map(key, range(9))), value(0) * 9, 9)
    with loaded.map("next") as jump, pytest.raises(BpfError, match="map next: not supported by this kernel"):
        jump.update_batch(key(0), key(0), 1)


def test_an_arrays_memory_can_be_mapped(loaded: Object) -> None:
    with loaded.map("flat") as flat:
        flat.update(key(999), b"twelve bytes")
        with flat.mmap() as memory:
            assert flat.stride == 16
            assert len(memory) % mmap.PAGESIZE == 0
            assert memory[999 * 16 : 999 * 16 + 12] == b"twelve bytes"
            memory[16:28] = b"written here"
        assert flat.lookup(key(1)) == b"written here"
        with flat.mmap(writable=False) as memory, pytest.raises(TypeError):
            memory[0:1] = b"x"
    with loaded.map("many") as many, pytest.raises(BpfError, match="cannot map the memory"):
        many.mmap()


def test_per_cpu_values(loaded: Object) -> None:
    with loaded.map("each") as each, loaded.program("count") as count:
        each.update_percpu(key(0), struct.pack("=III", 5, 6, 7))
        count.test_run(FRAME, repeat=10)
        found = each.lookup_percpu(key(0))
        assert found is not None
        assert len(found) == possible_cpus()
        assert sum(struct.unpack("=III", one)[0] for one in found) == 5 * possible_cpus() + 10
        assert all(one[4:] == struct.pack("=II", 6, 7) for one in found)
        assert each.lookup_percpu(key(2)) is None


def test_a_prog_array_leads_to_another_program(loaded: Object) -> None:
    with loaded.map("next") as jump, loaded.program("count") as count, loaded.program("drop") as drop:
        jump.update(key(0), drop.as_value)
        assert count.test_run(FRAME).retval == XDP_DROP
        assert jump.lookup(key(0)) == key(drop.id)
        jump.delete(key(0))
        assert count.test_run(FRAME).retval == XDP_PASS


def test_a_ring_buffer(loaded: Object) -> None:
    with loaded.map("events") as events, RingBuffer(events) as ring, loaded.program("count") as count:
        assert ring.consume() == []
        assert ring.poll(0) == []
        count.test_run(FRAME)
        count.test_run(FRAME)
        assert ring.epoll_fd >= 0
        records = ring.poll(1000)
        assert [len(record) for record in records] == [8, 8]
        count.test_run(FRAME)
        assert len(ring.consume()) == 1
    with loaded.map("many") as many, pytest.raises(BpfError, match="cannot read the ring buffer many"):
        RingBuffer(many)


def test_the_verifiers_refusal_is_one_line_and_stderr_stays_silent(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Object.open(compile_bpf(tmp_path, "bad", BAD)) as opened, pytest.raises(BpfError) as caught:
        opened.load()

    line = str(caught.value)
    assert line.startswith("cannot load bad.o: Permission denied; the verifier says of bad: ")
    assert "invalid access to packet" in line
    assert "\n" not in line
    assert "processed" in caught.value.log
    assert capfd.readouterr().err == ""


def test_what_is_no_object_file_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.o").write_text("no object file")
    for name in ("text.o", "absent.o"):
        with pytest.raises(BpfError, match=f"cannot read {tmp_path}/{name}: "):
            Object.open(tmp_path / name)
    assert capfd.readouterr().err == ""


def test_pins_are_taken_over_by_a_new_process(loaded: Object, pins: Path) -> None:
    with loaded.map("many") as many, loaded.program("drop") as drop:
        many.update(key(3), value(33))
        many.pin(pins / "many")
        drop.pin(pins / "drop")
        with pytest.raises(BpfError, match="File exists"):
            many.pin(pins / "many")
        with pytest.raises(BpfError, match="no dot"):
            many.pin(pins / "many.new")
        with pytest.raises(BpfError, match="it is no bpf-prog but a"):
            Program.from_pin(pins / "many")
    loaded.close()

    code = """
import sys
from pathlib import Path
from pointsman.kernel.bpf import Map, Program
with Map.from_pin(Path(sys.argv[1]) / "many") as many, Program.from_pin(Path(sys.argv[1]) / "drop") as drop:
    print(many.lookup((3).to_bytes(4, sys.byteorder))[0], drop.name, drop.test_run(bytes(64)).retval)
"""
    assert python(code, str(pins)) == "33 drop 1"
    unpin(pins / "many")
    unpin(pins / "many")
    with pytest.raises(BpfError, match="No such file"):
        Map.from_pin(pins / "many")


def send_to(namespace: str, interface: str, count: int) -> None:
    def send() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
            sender.bind((interface, 0))
            for _ in range(count):
                sender.send(FRAME)

    inside(namespace, send)


@pytest.mark.parametrize("native", [True, False], ids=["native", "generic"])
def test_a_link_is_attached_updated_and_closed(
    loaded: Object, namespace: str, *, native: bool, pins: Path
) -> None:
    mode: Mode = "native" if native else "generic"
    with loaded.program("count") as count, loaded.program("drop") as drop, loaded.map("many") as many:
        many.update(key(11), value(0))
        assert inside(namespace, lambda: xdp_on(11)) == XdpState()
        link = inside(namespace, lambda: attach_xdp(count, 11, native=native))
        assert inside(namespace, lambda: xdp_on(11)) == XdpState(mode, count.id, "count")
        assert (link.info().program, link.info().ifindex) == (count.id, 11)

        send_to(namespace, "two", 20)
        before = many.lookup(key(11)) or b""
        assert struct.unpack("=Q", before)[0] >= 20

        link.update(drop)
        assert link.info().program == drop.id
        send_to(namespace, "two", 20)
        assert many.lookup(key(11)) == before

        link.pin(pins / "link")
        link.close()
        assert inside(namespace, lambda: xdp_on(11)).program == drop.id
        with Link.from_pin(pins / "link") as again:
            again.update(count)
            unpin(pins / "link")
            assert inside(namespace, lambda: xdp_on(11)).program == count.id
        assert inside(namespace, lambda: xdp_on(11)) == XdpState()


def test_a_frame_comes_in_by_an_interface(loaded: Object, namespace: str) -> None:
    with loaded.program("count") as count, loaded.map("many") as many:
        many.update(key(11), value(0))
        with pytest.raises(BpfError, match="cannot run count: No such device"):
            inside(namespace, lambda: count.test_run(FRAME, ifindex=99))
        with inside(namespace, lambda: attach_xdp(count, 11, native=True)):
            inside(namespace, lambda: count.test_run(FRAME, ifindex=11, repeat=5))
            assert struct.unpack("=Q", many.lookup(key(11)) or b"")[0] >= 5
            with loaded.program("drop") as drop:
                inside(
                    namespace,
                    lambda: drop.test_run(FRAME, ifindex=11, repeat=128, live_frames=True, batch=32),
                )


def test_a_foreign_program_is_seen_and_not_replaced(loaded: Object, many: Path, namespace: str) -> None:
    tool(namespace, "ip", "link", "set", "dev", "one", "xdpgeneric", "obj", str(many), "sec", "xdp")

    seen = inside(namespace, lambda: xdp_on(11))

    assert seen.mode == "generic"
    assert seen.program
    assert seen.name
    with loaded.program("count") as count:
        for native in (True, False):
            with pytest.raises(
                BpfError, match=r"cannot attach XDP to one in .* an XDP program is there already"
            ):
                inside(namespace, lambda native=native: attach_xdp(count, 11, native=native))  # type: ignore[misc]
    assert inside(namespace, lambda: xdp_on(11)) == seen


def test_interfaces_that_are_not_there(loaded: Object, namespace: str) -> None:
    with loaded.program("count") as count, loaded.program("shape") as shape:
        for wrong in (
            lambda: attach_xdp(count, 99, native=True),
            lambda: attach_tc(shape, 99, handle=1, priority=1),
        ):
            with pytest.raises(BpfError, match="interface 99"):
                inside(namespace, wrong)
        inside(namespace, lambda: detach_tc(99, handle=1, priority=1, remove_qdisc=True))


def test_a_link_of_a_vanished_interface(loaded: Object, namespace: str) -> None:
    with loaded.program("count") as count:
        link = inside(namespace, lambda: attach_xdp(count, 11, native=True))
        tool(namespace, "ip", "link", "delete", "one")
        with link:
            assert link.info().ifindex == 0
            with pytest.raises(BpfError, match="cannot replace"):
                link.update(count)


def test_tc_attach_and_detach_leave_no_clsact(
    loaded: Object, namespace: str, capfd: pytest.CaptureFixture[str]
) -> None:
    before = tool(namespace, "tc", "qdisc", "show")
    with loaded.program("shape") as shape:
        assert inside(namespace, lambda: attach_tc(shape, 11, handle=7, priority=9))
        assert not inside(namespace, lambda: attach_tc(shape, 11, handle=7, priority=9))  # replaced
        shown = tool(namespace, "tc", "filter", "show", "dev", "one", "ingress")
    assert shown.count("direct-action") == 1
    assert "pref 9" in shown
    assert inside(namespace, lambda: tc_filters(11))
    assert inside(namespace, lambda: tc_attached(11, handle=7, priority=9))
    assert not inside(namespace, lambda: tc_attached(11, handle=8, priority=9))
    assert not inside(namespace, lambda: tc_attached(11, handle=7, priority=8))
    assert not inside(namespace, lambda: tc_attached(11, handle=7, priority=9, egress=True))
    for _ in range(2):
        inside(namespace, lambda: detach_tc(11, handle=7, priority=9, remove_qdisc=True))
        assert tool(namespace, "tc", "qdisc", "show") == before
    assert not inside(namespace, lambda: tc_filters(11))
    assert not inside(namespace, lambda: tc_attached(11, handle=7, priority=9))
    assert capfd.readouterr().err == ""


def test_tc_leaves_what_is_not_its_own(loaded: Object, many: Path, namespace: str) -> None:
    foreign = ["tc", "filter", "add", "dev", "one", "egress", "bpf", "da", "obj", str(many), "sec", "tc"]
    with loaded.program("shape") as shape:
        assert inside(namespace, lambda: attach_tc(shape, 11, handle=7, priority=9))
        tool(namespace, *foreign)
        inside(namespace, lambda: detach_tc(11, handle=7, priority=9, remove_qdisc=True))
    assert "direct-action" in tool(namespace, "tc", "filter", "show", "dev", "one", "egress")
    assert "bpf" not in tool(namespace, "tc", "filter", "show", "dev", "one", "ingress")


def test_a_refused_filter_takes_clsact_back(loaded: Object, namespace: str) -> None:
    before = tool(namespace, "tc", "qdisc", "show")
    with loaded.program("drop") as wrong, pytest.raises(BpfError, match="cannot attach drop to one"):
        inside(namespace, lambda: attach_tc(wrong, 11, handle=7, priority=9))
    assert tool(namespace, "tc", "qdisc", "show") == before


MAKE = """
import sys
from pathlib import Path
from pointsman.kernel import bpffs
from pointsman.kernel.bpf import Object
with Object.open(Path(sys.argv[1])) as opened:
    opened.load()
    with opened.map("many") as many:
        many.update(bytes(4), b"\\5" + bytes(7))
        many.pin(bpffs.folder(sys.argv[2]) / "many")
"""
READ = """
import sys
from pointsman.kernel import bpffs
from pointsman.kernel.bpf import Map
folder = bpffs.existing(sys.argv[1])
with Map.from_pin(folder / "many") as many:
    print(many.lookup(bytes(4))[0])
"""
REMOVE = """
import sys
from pointsman.kernel import bpffs
bpffs.remove(bpffs.existing(sys.argv[1]))
print(bpffs.existing(sys.argv[1]))
"""


@pytest.mark.parametrize("maker_inside", [True, False], ids=["made inside", "made outside"])
def test_pins_are_the_same_inside_and_outside_ip_netns_exec(
    many: Path, namespace: str, *, maker_inside: bool
) -> None:
    name = f"both-{os.getpid()}"
    maker, reader = (namespace, "") if maker_inside else ("", namespace)
    try:
        python(MAKE, str(many), name, namespace=maker)
        assert python(READ, name, namespace=reader) == "5"
        assert python(READ, name, namespace=maker) == "5"
        assert python(REMOVE, name, namespace=reader) == "None"
    finally:
        bpffs.remove(bpffs.folder(name))


def test_the_bpffs_goes_with_its_last_folder() -> None:
    one, two = f"one-{os.getpid()}", f"two-{os.getpid()}"
    first = bpffs.folder(one)
    others = any(
        each.name.count("-") and each != first for each in first.parent.iterdir()
    )  # tests beside this one
    second = bpffs.folder(two)
    assert first.parent == second.parent == bpffs.root()
    assert (first.stat().st_mode & 0o777, first.parent.stat().st_mode & 0o777) == (0o700, 0o700)
    bpffs.remove(first)
    assert second.is_dir()
    bpffs.remove(second)
    bpffs.remove(second)
    if not others:
        assert not first.parent.exists()
        assert bpffs.existing(one) is None


def test_what_iproute2_leaves_in_it_goes_too_unless_it_holds_pins(loaded: Object) -> None:
    folder = bpffs.folder(f"own-{os.getpid()}")
    place = folder.parent
    (place / "tc" / "globals").mkdir(parents=True, exist_ok=True)
    if not (place / "tc" / "self").is_symlink():  # else iproute2 was here, for a case beside this one
        (place / "tc" / "self").symlink_to("/nowhere")
    with loaded.map("many") as many:
        many.pin(place / "tc" / "globals" / "foreign")
    bpffs.remove(folder)
    assert (place / "tc" / "globals" / "foreign").exists()

    unpin(place / "tc" / "globals" / "foreign")
    bpffs.remove(folder)

    assert not (place / "tc").exists() or any(each.name.count("-") for each in place.iterdir())


@pytest.mark.parametrize("propagation", ["private", "shared"])
def test_pid_1s_mount_namespace_is_the_place(
    many: Path, namespace: str, tmp_path: Path, propagation: str
) -> None:
    """In a PID namespace, so that its PID 1 is one that we may look into, whatever sandbox this is."""
    for name, code in (("make", MAKE), ("read", READ), ("remove", REMOVE)):
        (tmp_path / f"{name}.py").write_text(code)
    script = f"""
        set -e
        mkdir -p -m 700 /run/pointsman
        mount -t tmpfs own /run/pointsman  # tests beside this one use the machine's
        inside() {{ ip netns exec {namespace} "$@"; }}
        python() {{ {sys.executable} {tmp_path}/"$@"; }}
        inside {sys.executable} {tmp_path}/make.py {many} machine
        inside {sys.executable} {tmp_path}/read.py machine
        inside setsid {sys.executable} {tmp_path}/read.py machine
        python read.py machine
        ls -d /run/pointsman/bpf/machine
        inside {sys.executable} {tmp_path}/remove.py machine
        ! test -e /run/pointsman/bpf/machine
        ! grep -q /run/pointsman/bpf /proc/mounts
        python make.py {many} again
        inside {sys.executable} {tmp_path}/read.py again
        inside sh -c '{sys.executable} {tmp_path}/remove.py again; ! test -e /run/pointsman/bpf/again'
    """
    done = subprocess.run(
        ["unshare", "-pfm", "--mount-proc", "--propagation", propagation, "sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["5", "5", "5", "/run/pointsman/bpf/machine", "None", "5", "None"]


def test_many_commands_at_once_share_one_bpffs(namespace: str) -> None:
    code = """
import sys
from pointsman.kernel import bpffs
for _ in range(50):
    folder = bpffs.folder(sys.argv[1])
    (folder / "inner").mkdir()
    bpffs.remove(folder)
"""
    names = [f"crowd-{os.getpid()}-{number}" for number in range(6)]
    problems: list[BaseException] = []

    def run(number: int, name: str) -> None:
        try:
            python(code, name, namespace=namespace if number % 2 else "")
        except BaseException as problem:  # shown below
            problems.append(problem)

    threads = [threading.Thread(target=run, args=each) for each in enumerate(names)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
