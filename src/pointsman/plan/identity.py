"""Remembering what was compiled from an object, by the object itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, eq=False)
class ByIdentity(Generic[Value]):
    """A cache key that is equal for the same object only.

    Comparing, or hashing, a thousand services by value costs more than compiling one of them anew.
    """

    value: Value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ByIdentity) and self.value is other.value
