"""Guards in the file: a gateway may have them alone."""

from __future__ import annotations

from pathlib import Path

from pointsman.config import load
from pointsman.model import FilterLevel, PortRange

GUARD = """\
[gateway]
name = "server"
hash_seed = 1
[[guard]]
name = "coaps"
interface = ["eth0", "eth1", "eth0"]
ports = [5684, "6000-6010"]
[guard.filter]
level = "record"
"""


def test_a_gateway_may_have_guards_alone(tmp_path: Path) -> None:
    file = tmp_path / "g.toml"
    file.write_text(GUARD)
    loaded = load(file)
    assert loaded.warnings == ()
    (guard,) = loaded.gateway.guards
    assert (guard.name, guard.interfaces) == ("coaps", ("eth0", "eth1"))
    assert guard.ports == (PortRange(5684, 5684), PortRange(6000, 6010))
    assert guard.filter.level is FilterLevel.RECORD
    assert loaded.gateway.guarded == ("eth0", "eth1")
