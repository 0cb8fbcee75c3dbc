"""Whose turn it is: the order in which a weighted round-robin comes to its members."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from math import gcd


def turns(weights: Sequence[int]) -> list[int]:
    """Each member's index as often as its weight says, in lowest terms, and spread evenly over the round.

    Whoever takes the turns one after the other gives out exact proportions in every round.
    """
    divisor = reduce(gcd, weights, 0)
    shares = [weight // divisor for weight in weights]
    # The k-th of n turns of a member is in the middle of the k-th n-th part of the round.
    places = [((2 * k + 1) / share, index) for index, share in enumerate(shares) for k in range(share)]
    return [index for _, index in sorted(places)]
