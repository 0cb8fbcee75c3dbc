"""Run libnftables for the parent process; started as a program, never imported.

Some input makes the library abort (nft 1.0.6). Here it takes this child along and not the control plane.

Protocol: on stdin a line of JSON {"length", "flags", "dry_run"} and then that many bytes of nft commands; on stdout a
line {"rc", "out", "err"} of lengths and the two texts. It ends when stdin does.
"""

import ctypes
import json
import sys
from typing import Any


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


def main() -> int:
    try:
        library = load()
    except OSError as problem:
        greet({"missing": str(problem)})
        return 1
    context = library.nft_ctx_new(0)
    library.nft_ctx_buffer_output(context)
    library.nft_ctx_buffer_error(context)
    greet({"ready": True})
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    while line := stdin.readline():
        request = json.loads(line)
        text = stdin.read(request["length"])
        if len(text) != request["length"]:
            return 1  # the parent is gone: half a transaction is none
        library.nft_ctx_output_set_flags(context, request["flags"])
        library.nft_ctx_set_dry_run(context, request["dry_run"])
        rc = library.nft_run_cmd_from_buffer(context, text)
        out = library.nft_ctx_get_output_buffer(context) or b""
        err = library.nft_ctx_get_error_buffer(context) or b""
        stdout.write(json.dumps({"rc": rc, "out": len(out), "err": len(err)}).encode() + b"\n" + out + err)
        stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
