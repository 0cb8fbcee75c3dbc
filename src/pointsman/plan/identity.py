"""Remembering what was compiled from an object, by the object itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import _lru_cache_wrapper, lru_cache
from typing import Any, Generic, ParamSpec, TypeVar, cast

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


_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
_memories: list[_lru_cache_wrapper[Any]] = []


def remembered(
    most: int,
) -> Callable[[Callable[_Arguments, _Result]], Callable[_Arguments, _Result]]:
    """Remember the results of a function of objects that are told apart by identity; see ``forget_beyond``."""

    def decorate(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
        memory = lru_cache(maxsize=most)(function)
        _memories.append(memory)
        return cast(Callable[_Arguments, _Result], memory)

    return decorate


def forget_beyond(most: int) -> None:
    """Forget all results of the functions that remember more: those of objects that are gone are never asked for."""
    for memory in _memories:
        if memory.cache_info().currsize > most:
            memory.cache_clear()
