from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.plan.xdp import abi
from pointsman.plan.xdp.ports import port_table, slot

INTERFACES = st.sets(st.integers(1, 0xFFFFFFFF), max_size=32)


@given(INTERFACES, st.integers(0, 0xFFFFFFFF))
def test_every_interface_is_in_its_slot_and_nothing_else_is(interfaces: set[int], standing: int) -> None:
    rows = [abi.Port(interface=each, lower=each, mac=b"abcdef") for each in interfaces]
    multiplier, table = port_table(rows, standing)
    assert len(table) == abi.PORTS * abi.Port.FORMAT.size
    for row in rows:
        assert abi.Port.unpack(table, slot(row.interface, multiplier) * abi.Port.FORMAT.size) == row
    found = [abi.Port.unpack(table, at * abi.Port.FORMAT.size).interface for at in range(abi.PORTS)]
    assert sorted(filter(None, found)) == sorted(interfaces)


@given(st.sets(st.integers(1, 1000), min_size=1, max_size=8))
def test_a_multiplier_that_will_do_is_kept(interfaces: set[int]) -> None:
    rows = [abi.Port(interface=each) for each in interfaces]
    multiplier, table = port_table(rows, 1 << 24)
    assert port_table(rows, multiplier) == (multiplier, table)
    assert port_table(rows[1:], multiplier)[0] == multiplier


def test_more_interfaces_than_can_be_kept_apart_are_refused() -> None:
    with pytest.raises(ValueError, match="at most"):
        port_table([abi.Port(interface=each) for each in range(1, abi.PORTS)], 1)
