"""Primes of the size of a Maglev table."""

from __future__ import annotations

from math import isqrt


def is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, isqrt(number) + 1))


def nearest_prime(number: int, least: int, most: int) -> int:
    """The prime in ``least..most`` that is nearest to the number; ``most`` must be a prime."""
    centre = min(max(number, least), most)
    for distance in range(most - least + 1):
        for candidate in (centre - distance, centre + distance):
            if least <= candidate <= most and is_prime(candidate):
                return candidate
    return most
