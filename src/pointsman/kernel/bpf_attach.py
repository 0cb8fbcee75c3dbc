"""Where programs are attached: XDP by links that can be pinned, tc by filters. Interfaces are this thread's."""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Self

from pointsman.kernel.bpf import Program
from pointsman.kernel.bpf_library import BpfError, Handle, check, info, library, reason

_BPF_XDP: Final = 37
_XDP_FLAGS_SKB_MODE: Final = 1 << 1
_XDP_FLAGS_DRV_MODE: Final = 1 << 2
_INGRESS: Final = 1 << 0
_EGRESS: Final = 1 << 1
_REPLACE: Final = 1 << 0
_CLSACT_INGRESS, _CLSACT_EGRESS = 0xFFFFFFF2, 0xFFFFFFF3
_RTM_NEWTFILTER, _RTM_GETTFILTER = 44, 46
_NLM_F_REQUEST_DUMP: Final = 0x301
_NLMSG_ERROR, _NLMSG_DONE = 2, 3

Mode = Literal["native", "generic", "offload"]


class _LinkCreateOpts(ctypes.Structure):
    """Mirrors the beginning of struct bpf_link_create_opts."""

    _fields_ = (("sz", ctypes.c_size_t), ("flags", ctypes.c_uint32), ("pad", ctypes.c_uint32))


class _XdpQueryOpts(ctypes.Structure):
    """Mirrors struct bpf_xdp_query_opts as of libbpf 1.0."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("prog_id", ctypes.c_uint32),
        ("drv_prog_id", ctypes.c_uint32),
        ("hw_prog_id", ctypes.c_uint32),
        ("skb_prog_id", ctypes.c_uint32),
        ("attach_mode", ctypes.c_uint8),
    )


class _TcHook(ctypes.Structure):
    """Mirrors struct bpf_tc_hook."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("ifindex", ctypes.c_int),
        ("attach_point", ctypes.c_int),
        ("parent", ctypes.c_uint32),
    )


class _TcOpts(ctypes.Structure):
    """Mirrors struct bpf_tc_opts."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("prog_fd", ctypes.c_int),
        ("flags", ctypes.c_uint32),
        ("prog_id", ctypes.c_uint32),
        ("handle", ctypes.c_uint32),
        ("priority", ctypes.c_uint32),
    )


@dataclass(frozen=True, slots=True)
class LinkInfo:
    """What the kernel says of an XDP link; ``ifindex`` is 0 when the interface is gone."""

    id: int
    program: int
    ifindex: int


@dataclass(frozen=True, slots=True)
class XdpState:
    """The XDP program of an interface, whoever attached it: its mode, id and name, all None without one.

    The name alone is None where the program went while it was asked for.
    """

    mode: Mode | None = None
    program: int | None = None
    name: str | None = None


class Link(Handle):
    """An XDP program on an interface. It is detached when the last descriptor and pin of its link is gone."""

    KIND = "bpf-link"

    @classmethod
    def from_pin(cls, path: Path) -> Self:
        """Open a pinned link; raise BpfError."""
        return cls(cls._pinned(path))

    def update(self, program: Program) -> None:
        """Replace the program, so that every packet meets the old or the new one; raise BpfError."""
        check(
            library().bpf_link_update(self.fd, program.fd, None),
            f"cannot replace the program by {program.name}",
        )

    def info(self) -> LinkInfo:
        """The link's id, its program's, and the interface; raise BpfError."""
        _kind, number, program, ifindex = struct.unpack("=III4xI", info(self.fd, 20))
        return LinkInfo(number, program, ifindex)


def attach_xdp(program: Program, ifindex: int, *, native: bool) -> Link:
    """Attach to an interface that has no XDP program, in the driver or in generic mode; raise BpfError."""
    opts = _LinkCreateOpts(
        ctypes.sizeof(_LinkCreateOpts), _XDP_FLAGS_DRV_MODE if native else _XDP_FLAGS_SKB_MODE
    )
    fd = library().bpf_link_create(program.fd, ifindex, _BPF_XDP, ctypes.byref(opts))
    if fd < 0:
        # EBUSY: of the same mode; EEXIST: of the other. The kernel's own words go to a tracepoint only.
        words = "an XDP program is there already" if -fd in (errno.EBUSY, errno.EEXIST) else reason(-fd)
        mode = "native" if native else "generic"
        raise BpfError(f"cannot attach XDP to {_name(ifindex)} in {mode} mode: {words}", -fd)
    return Link(fd)


def xdp_on(ifindex: int) -> XdpState:
    """Which XDP program an interface has, whoever attached it; raise BpfError."""
    opts = _XdpQueryOpts(ctypes.sizeof(_XdpQueryOpts))
    check(library().bpf_xdp_query(ifindex, 0, ctypes.byref(opts)), f"cannot ask {_name(ifindex)} for XDP")
    # One in the driver and one in the hardware can be there at a time.
    found: tuple[tuple[Mode, int], ...] = (
        ("native", opts.drv_prog_id),
        ("generic", opts.skb_prog_id),
        ("offload", opts.hw_prog_id),
    )
    for mode, number in found:
        if number:
            try:
                with Program.from_id(number) as program:
                    return XdpState(mode, number, program.name)
            except BpfError as problem:
                if problem.number not in (errno.ENOENT, errno.EPERM):
                    raise
                return XdpState(mode, number)
    return XdpState()


def attach_tc(program: Program, ifindex: int, *, handle: int, priority: int, egress: bool = False) -> bool:
    """Attach a direct-action filter, replacing the one of this handle and priority; raise BpfError.

    Returns whether the qdisc clsact was made for it. The kernel does not say whose a replaced filter was.
    """
    hook = _hook(ifindex, _EGRESS if egress else _INGRESS)
    made = library().bpf_tc_hook_create(ctypes.byref(hook))
    if made != -errno.EEXIST:
        check(made, f"cannot add clsact to {_name(ifindex)}")
    opts = _TcOpts(
        sz=ctypes.sizeof(_TcOpts), prog_fd=program.fd, flags=_REPLACE, handle=handle, priority=priority
    )
    result = library().bpf_tc_attach(ctypes.byref(hook), ctypes.byref(opts))
    if result < 0:
        if made == 0:
            _remove_clsact(ifindex)
        check(result, f"cannot attach {program.name} to {_name(ifindex)}")
    return bool(made == 0)


def detach_tc(ifindex: int, *, handle: int, priority: int, remove_qdisc: bool, egress: bool = False) -> None:
    """Remove a filter if it is there, and clsact with ``remove_qdisc`` if no other filter is; raise BpfError.

    An interface that is gone has lost both.
    """
    hook = _hook(ifindex, _EGRESS if egress else _INGRESS)
    opts = _TcOpts(sz=ctypes.sizeof(_TcOpts), handle=handle, priority=priority)
    result = library().bpf_tc_detach(ctypes.byref(hook), ctypes.byref(opts))
    # EINVAL: there is no clsact.
    if -result not in (errno.ENOENT, errno.EINVAL, errno.ENODEV):
        check(result, f"cannot detach from {_name(ifindex)}")
    if remove_qdisc and not tc_filters(ifindex):
        _remove_clsact(ifindex)


def tc_attached(ifindex: int, *, handle: int, priority: int, egress: bool = False) -> bool:
    """Whether the filter of this handle and priority is there, whoever added it; raise BpfError."""
    hook = _hook(ifindex, _EGRESS if egress else _INGRESS)
    opts = _TcOpts(sz=ctypes.sizeof(_TcOpts), handle=handle, priority=priority)
    result = library().bpf_tc_query(ctypes.byref(hook), ctypes.byref(opts))
    if -result in (errno.ENOENT, errno.EINVAL, errno.ENODEV):
        return False
    check(result, f"cannot list the filters of {_name(ifindex)}")
    return True


def tc_filters(ifindex: int) -> bool:
    """Whether clsact of an interface has any filter, whoever added it; raise BpfError."""
    return any(_has_filters(ifindex, parent) for parent in (_CLSACT_INGRESS, _CLSACT_EGRESS))


def _has_filters(ifindex: int, parent: int) -> bool:
    # libbpf can only ask for a filter whose priority and handle are known.
    body = struct.pack("=BxxxiIII", socket.AF_UNSPEC, ifindex, 0, parent, 0)
    header = struct.pack("=IHHII", 16 + len(body), _RTM_GETTFILTER, _NLM_F_REQUEST_DUMP, 1, 0)
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
    ) as route:
        route.send(header + body)
        found = False
        while True:
            answer = route.recv(1 << 16)
            while answer:
                length, kind = struct.unpack_from("=IH", answer)
                if kind == _RTM_NEWTFILTER:
                    found = True
                elif kind in (_NLMSG_ERROR, _NLMSG_DONE):
                    number = -struct.unpack_from("=i", answer, 16)[0]
                    if number not in (0, errno.ENODEV, errno.EINVAL, errno.ENOENT):
                        raise BpfError(
                            f"cannot list the filters of {_name(ifindex)}: {reason(number)}", number
                        )
                    return found
                answer = answer[(length + 3) & ~3 :]


def _remove_clsact(ifindex: int) -> None:
    hook = _hook(ifindex, _INGRESS | _EGRESS)  # one alone would remove its filters and leave the qdisc
    result = library().bpf_tc_hook_destroy(ctypes.byref(hook))
    if -result not in (errno.ENOENT, errno.EINVAL, errno.ENODEV):
        check(result, f"cannot remove clsact from {_name(ifindex)}")


def _hook(ifindex: int, attach_point: int) -> _TcHook:
    return _TcHook(ctypes.sizeof(_TcHook), ifindex, attach_point)


def _name(ifindex: int) -> str:
    try:
        return socket.if_indextoname(ifindex)
    except OSError:
        return f"interface {ifindex}"
