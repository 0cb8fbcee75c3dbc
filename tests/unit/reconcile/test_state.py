from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from pointsman.kernel.errors import KernelError
from pointsman.model import Node, NodeAddress, NodeState, NodeStates
from pointsman.plan.host import CarriedAddress
from pointsman.plan.inputs import Capabilities, Leaving
from pointsman.plan.labels import Labels, node_key
from pointsman.reconcile.state import AppliedState, Departure, StateFile

NODE = Node("n1", (NodeAddress(ip_address("10.0.0.11"), 15684), NodeAddress(ip_address("fd00::11"))), 7, 3)
STATE = AppliedState(
    filename="gateway.toml",
    text="[gateway]\n",
    states=NodeStates({("coaps", "n1"): NodeState.DRAINING}, {("coaps", "n2"): 30}),
    labels=Labels({node_key(NODE): 5}, {6: 12.5}),
    departures=(Departure(Leaving("coaps", NODE, 5, 120), 99.5),),
    capabilities=Capabilities(defragment_by_tproxy=False),
    settings={"net/ipv4/ip_forward": "0"},
    addresses=(CarriedAddress(ip_address("192.0.2.10"), "wan0"),),
    dataplane="xdp",
    dataplane_reason="as configured",
    interfaces=("lan0", "wan0"),
    replacements={("coaps", "n1"): ("10.0.0.21", "fd00::21")},
)


def test_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = StateFile(tmp_path)
    file.write(STATE, pending=AppliedState())
    assert file.read() == (STATE, AppliedState())
    file.write(STATE)
    assert file.read() == (STATE, None)


def test_stamp_tells_what_the_tables_are_made_from_and_nothing_of_the_machine() -> None:
    same = (
        replace(STATE, settings={}),
        replace(STATE, addresses=()),
        replace(STATE, dataplane_reason="auto: every interface has it in its driver"),
        replace(STATE, interfaces=("wan0",)),
    )
    assert {state.stamp() for state in same} == {STATE.stamp()}
    others = (
        replace(STATE, dataplane="nftables"),
        replace(STATE, text=""),
        replace(STATE, states=NodeStates()),
        replace(STATE, states=replace(STATE.states, shares={})),
        replace(STATE, departures=()),
        replace(STATE, replacements={}),
    )
    assert STATE.stamp() not in {state.stamp() for state in others}


def test_state_without_shares_and_replacements_is_read_as_one_that_has_none(tmp_path: Path) -> None:
    file = StateFile(tmp_path)
    file.write(STATE)
    content = json.loads((tmp_path / "applied.json").read_text())
    del content["applied"]["shares"], content["applied"]["replacements"]
    (tmp_path / "applied.json").write_text(json.dumps(content))
    older = replace(STATE, states=replace(STATE.states, shares={}), replacements={})
    assert file.read() == (older, None)


def test_no_file_is_an_empty_state(tmp_path: Path) -> None:
    assert StateFile(tmp_path).read() == (AppliedState(), None)


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    StateFile(tmp_path).write(STATE)
    assert (tmp_path / "applied.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"version": 0}', '{"version": 1}', "null", '{"version": 1, "pending": null}']
)
def test_strange_file_is_one_line_with_the_way_out(tmp_path: Path, content: str) -> None:
    (tmp_path / "applied.json").write_text(content)
    with pytest.raises(KernelError, match="remove it"):
        StateFile(tmp_path).read()


def test_nobody_else_can_open_the_folder_and_hold_its_lock(tmp_path: Path) -> None:
    folder = tmp_path / "pointsman"
    folder.mkdir(mode=0o755)
    with StateFile(folder).locked():
        assert folder.stat().st_mode & 0o777 == 0o700
        StateFile(folder).write(STATE)


def test_folder_goes_with_the_state(tmp_path: Path) -> None:
    folder = tmp_path / "pointsman"
    file = StateFile(folder)
    with file.locked():
        file.write(STATE)
    assert folder.is_dir()
    with file.locked():
        file.remove()
    assert not folder.exists()


def test_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KernelError, match="cannot use"), StateFile(tmp_path / "file" / "below").locked():
        pass


def test_the_version_before_is_understood(tmp_path: Path) -> None:
    """An upgrade finds the settings that `down` is to put back."""
    file = StateFile(tmp_path)
    file.write(STATE)
    written = tmp_path / "applied.json"
    data = json.loads(written.read_text())
    data["version"] = 2
    del data["applied"]["departures"][0]["node"]["backup"]
    written.write_text(json.dumps(data))
    assert file.read() == (STATE, None)


@pytest.mark.parametrize(
    "content",
    [b"{", b"\xff\xfe", b"[]", b'{"version": 99}', b'{"version": 3, "pending": null, "applied": 1}'],
)
def test_a_strange_file_is_moved_away_once_and_kept(tmp_path: Path, content: bytes) -> None:
    file = StateFile(tmp_path)
    assert file.set_aside() == []
    file.write(STATE)
    assert file.set_aside() == []
    (tmp_path / "applied.json").write_bytes(content)
    told = file.set_aside()
    assert len(told) == 1
    assert "applied.json.strange" in told[0]
    assert (tmp_path / "applied.json.strange").read_bytes() == content
    assert file.read() == (AppliedState(), None)
    assert file.set_aside() == []


def test_a_patient_one_holds_in_memory_what_the_disk_does_not_take_until_it_does(tmp_path: Path) -> None:
    file, obstacle = StateFile(tmp_path, patient=True), tmp_path / "applied.new"
    file.write(AppliedState())
    obstacle.mkdir()
    with pytest.raises(KernelError, match="cannot write"):
        file.write(STATE)
    file.write(STATE, needed=False)
    assert file.read() == (STATE, None)
    assert "cannot write" in file.unwritten
    assert StateFile(tmp_path).read() == (AppliedState(), None)
    obstacle.rmdir()
    with file.locked():
        assert file.unwritten == ""
    assert StateFile(tmp_path).read() == (STATE, None)


def test_one_that_is_not_patient_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / "applied.new").mkdir()
    with pytest.raises(KernelError, match="cannot write"):
        StateFile(tmp_path).write(STATE, needed=False)
