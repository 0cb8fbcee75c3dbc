"""Run libnftables for the parent process; started as a program, never imported.

Some input makes the library abort (nft 1.0.6). Here it takes this child along and not the control plane.

Protocol: on stdin a line of JSON {"lengths", "flags", "dry_run"} and then that many bytes of nft commands, for all
transactions; on stdout a line {"rc", "out", "err"} of lengths and the two texts, of the last that was run. The second
is run once no packet is under way that came before the first. It ends when stdin does.
"""

import ctypes
import json
import platform
import signal
import sys
import time
from typing import Any

MEMBARRIER = {"x86_64": 324, "aarch64": 283, "riscv64": 283, "ppc64le": 365, "s390x": 356}
MEMBARRIER_CMD_GLOBAL = 1
"""Returns after an RCU grace period, within which every packet that was under way is through: membarrier(2)."""
PATIENCE = 0.1
"""Seconds, where the kernel has no such call (nohz_full): a packet takes microseconds."""


def load() -> Any:
    library: Any = ctypes.CDLL("libnftables.so.1")
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    for name in ("nft_ctx_buffer_output", "nft_ctx_buffer_error"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
    for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
        getattr(library, name).restype = ctypes.c_char_p
    library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
    library.nft_ctx_set_dry_run.argtypes = [ctypes.c_void_p, ctypes.c_bool]
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    return library


def greet(words: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


def let_packets_pass() -> None:
    number = MEMBARRIER.get(platform.machine())
    if number is None or ctypes.CDLL(None).syscall(number, MEMBARRIER_CMD_GLOBAL, 0, 0) != 0:
        time.sleep(PATIENCE)


def main() -> int:
    try:
        library = load()
    except OSError as problem:
        greet({"missing": str(problem)})
        return 1
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # a terminal's is for the parent: what has begun is carried out
    context = library.nft_ctx_new(0)
    library.nft_ctx_buffer_output(context)
    library.nft_ctx_buffer_error(context)
    greet({"ready": True})
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    while line := stdin.readline():
        request = json.loads(line)
        texts = [stdin.read(length) for length in request["lengths"]]
        if [len(text) for text in texts] != request["lengths"]:
            return 1  # the parent is gone: half a transaction is none
        library.nft_ctx_output_set_flags(context, request["flags"])
        library.nft_ctx_set_dry_run(context, request["dry_run"])
        rc, out, err = 0, b"", b""
        for i, text in enumerate(texts):
            if i:
                let_packets_pass()
            rc = library.nft_run_cmd_from_buffer(context, text)
            out = library.nft_ctx_get_output_buffer(context) or b""
            err = library.nft_ctx_get_error_buffer(context) or b""
            if rc != 0:
                break
        stdout.write(json.dumps({"rc": rc, "out": len(out), "err": len(err)}).encode() + b"\n" + out + err)
        stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
