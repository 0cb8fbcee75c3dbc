"""The child that holds libnftables."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from pointsman.kernel.nft import CHILD


def test_half_a_transaction_is_not_run() -> None:
    """As when the parent is killed while it writes."""
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", str(CHILD)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    if "ready" not in json.loads(child.stdout.readline()):
        child.kill()
        pytest.skip("libnftables is not installed")
    text = b"list tables\nlist tables\n"
    request = {"lengths": [len(text)], "flags": 0, "dry_run": True}
    out, _ = child.communicate(json.dumps(request).encode() + b"\n" + text[: len(text) // 2], timeout=10)
    assert (child.returncode, out) == (1, b"")
