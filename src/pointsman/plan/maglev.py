"""Weighted Maglev tables: which node a hashed client belongs to, with few moves when the nodes change.

Source: Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, section 3.4.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import cycle, islice
from math import gcd, isqrt

SLOTS_PER_NODE = 100
"""Slots that a table has for each node at least; the paper's balance and disruption are for this ratio."""

TABLE_SIZES = (1009, 2039, 4093, 8191, 16381, 32749, 65537, 131071, 262139, 524287, 1048573)
"""The primes that tables come in, each about twice the one before.

A table of another size sends nearly every client elsewhere, so the size must not follow every node that
comes or goes: it changes where the number of nodes doubles, and for up to ten nodes never.
"""

MAX_MEMBERS = 0xFFFF
"""Members are numbered in 16 bits, which keeps a table at two bytes a slot."""


def is_prime(number: int) -> bool:
    """Tell whether ``number`` is prime, by trial division: meant for table sizes, not for cryptography."""
    if number < 4:
        return number in (2, 3)
    return number % 2 == 1 and all(number % divisor for divisor in range(3, isqrt(number) + 1, 2))


def next_prime(number: int) -> int:
    """Find the smallest prime that is not below ``number``, for a table size that the operator asked for."""
    candidate = max(number, 2)
    while not is_prime(candidate):
        candidate += 1
    return candidate


def table_size(nodes: int) -> int:
    """Choose the number of slots for a service of ``nodes`` nodes: at least ``SLOTS_PER_NODE`` for each.

    Count the nodes that the service has, not those that are up, or a failure would change the size.
    Raises ``ValueError`` beyond 10,485 nodes.
    """
    for size in TABLE_SIZES:
        if size >= SLOTS_PER_NODE * nodes:
            return size
    raise ValueError(f"{nodes} nodes need a table of more than {TABLE_SIZES[-1]} slots")


@lru_cache(maxsize=64)
def _check_size(size: int) -> None:
    # Every skip has to reach every slot: that is what the size is prime for.
    if size < 3 or not is_prime(size):
        raise ValueError(f"a Maglev table of {size} slots: the size must be an odd prime")


@lru_cache(maxsize=16)
def _scatter(size: int) -> list[int]:
    """The inverse of every number modulo ``size`` (0 for 0): a permutation that breaks up equal steps."""
    inverses = [0, 1]
    for number in range(2, size):
        inverses.append((size - size // number) * inverses[size % number] % size)
    return inverses


def _permutation(name: str, size: int, key: bytes) -> tuple[int, int, int]:
    """A member's offset, skip and shift: from its name and the seed alone, so others never change them.

    The paper's permutation is ``offset + j * skip``. Two members whose skips are alike, or small
    multiples of each other, then follow each other around a small table, and when one leaves, the other's
    slots move too: with 3 nodes on 509 slots up to 36 % of the table, for one seed in 3,000, and a site
    keeps its seed. So the j-th choice here is ``scatter[offset + j * skip] + shift``, which does as well
    as permutations drawn at random (the paper allows any): 4 % at most there.
    """
    digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=24, key=key).digest()
    offset = int.from_bytes(digest[:8], "big") % size
    skip = int.from_bytes(digest[8:16], "big") % (size - 1) + 1
    # Negative: Python's lists then count from their end, which saves a division in the loop that counts.
    shift = int.from_bytes(digest[16:], "big") % size - size
    return offset, skip, shift


def _turns(weights: Sequence[int], size: int) -> list[int]:
    """The order in which members choose slots, to be repeated: positions in ``weights``.

    A member has its turns at the times (j + 1/2) / weight, j = 0, 1, 2 ..., whoever else there is. With
    the weights divided by their common divisor that repeats at time 1. Turns that ``size`` never reaches
    are not made.
    """
    divisor = gcd(*weights)
    reduced = [weight // divisor for weight in weights]
    total = sum(reduced)
    if total == len(reduced):
        return list(range(len(reduced)))
    # Each member's turns are its weight times the time, rounded: by the time (size + members / 2) / total
    # there have been ``size`` of them at least.
    last = 2 * size + len(reduced)
    turns = [
        ((2 * turn + 1) / weight, position)
        for position, weight in enumerate(reduced)
        for turn in range(min(weight, weight * last // (2 * total) + 1))
    ]
    turns.sort()
    return [position for _, position in turns]


def build(members: Sequence[tuple[str, int]], size: int, seed: int) -> array[int]:
    """Fill a table of ``size`` slots with indexes of ``members``, which are (name, weight) pairs.

    Names alone decide which slots a member prefers: the order of ``members`` changes nothing but the indexes.

    Balance: where the weights sum to W, a member of weight w gets ``share = size * w / W`` slots, give or
    take ``1 + share * members / (2 * size)``: one slot, and half a percent at ``SLOTS_PER_NODE``. Equal
    weights differ by one slot at most. Weight 0 gets none, and a share below one slot may get none.
    Without any weight the table is empty.

    Disruption: when a member leaves, its slots are dealt to the others, and at ``SLOTS_PER_NODE`` some 2 % of
    the table changes hands between those that stay; 8 % is a bound that 110,000 random tables kept.

    ``size`` is an odd prime, ``seed`` below 2**64. Raises ``ValueError`` for another size or seed, a negative
    weight, a name that comes twice, or too many members.
    """
    _check_size(size)
    if not 0 <= seed < 1 << 64:
        raise ValueError(f"seed {seed} is out of range 0..2**64-1")
    if len(members) > MAX_MEMBERS:
        raise ValueError(f"{len(members)} members: a table numbers {MAX_MEMBERS} at most")
    if len({name for name, _ in members}) != len(members):
        raise ValueError("a member's name comes twice")
    if any(weight < 0 for _, weight in members):
        raise ValueError("a member's weight is negative")
    # By name: whose turn it is first must not depend on the caller's order.
    chosen = sorted((name, index) for index, (name, weight) in enumerate(members) if weight)
    if not chosen:
        return array("H")

    key = seed.to_bytes(8, "big")
    permutations = [_permutation(name, size, key) for name, _ in chosen]
    # Where a member looks next, before scattering; a slot once taken stays taken, so nobody ever steps back.
    following = [offset for offset, _, _ in permutations]
    skips = [skip for _, skip, _ in permutations]
    shifts = [shift for _, _, shift in permutations]
    indexes = [index for _, index in chosen]
    turns = _turns([members[index][1] for index in indexes], size)

    # The loop that counts: size * ln(size) looks at ``taken`` in all, and a list of bools is the fastest
    # to ask.
    scatter = _scatter(size)
    taken = [False] * size
    table = [0] * size
    for member in islice(cycle(turns), size):
        place = following[member]
        shift = shifts[member]
        slot = scatter[place] + shift
        if taken[slot]:
            skip = skips[member]
            place = (place + skip) % size
            slot = scatter[place] + shift
            while taken[slot]:
                place = (place + skip) % size
                slot = scatter[place] + shift
            following[member] = place
        taken[slot] = True
        table[slot] = indexes[member]
    return array("H", table)
