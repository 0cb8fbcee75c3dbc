from __future__ import annotations

from array import array

from hypothesis import given
from hypothesis import strategies as st

from pointsman.plan.xdp.abi import PROBES
from pointsman.plan.xdp.words import GOLDEN, KeyTable, key_table, slot_words, unpack_words

KEYS = st.one_of(st.integers(0, 0xFFFFFFFF), st.integers(0, 300))


def find_word(table: KeyTable, key: int) -> int | None:
    """The twin of find_word() in bpf/choose.h."""
    words, mask = unpack_words(table.words), (1 << table.bits) - 1
    slot = (key * GOLDEN & 0xFFFFFFFF) >> (32 - table.bits)
    for probe in range(PROBES):
        word = words[(slot + probe) & mask]
        if not word & 0xFFFFFFFF:
            return None
        if word >> 32 == key:
            return (word & 0xFFFFFFFF) - 1
    return None


@given(st.dictionaries(KEYS, st.integers(0, 0xFFFF), max_size=300), st.lists(KEYS, max_size=50))
def test_every_key_is_found_and_no_other(entries: dict[int, int], others: list[int]) -> None:
    table = key_table(entries)
    assert table.length == 1 << table.bits
    assert {key: find_word(table, key) for key in entries} == entries
    assert all(find_word(table, key) is None for key in others if key not in entries)


@given(st.integers(1, 3000))
def test_numbers_in_a_row_take_a_table_of_sensible_size(count: int) -> None:
    assert key_table({key: key for key in range(count)}).length <= 8 * count + 2


def test_without_keys_there_is_still_a_word_to_look_at() -> None:
    assert find_word(key_table({}), 0) is None


@given(st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=50))
def test_slots_are_four_to_a_word_the_first_lowest(slots: list[int]) -> None:
    words = unpack_words(slot_words(array("H", slots)))
    assert [words[at // 4] >> at % 4 * 16 & 0xFFFF for at in range(len(slots))] == slots
    assert len(words) == -(-len(slots) // 4)
