"""What is wrong with a configuration file, each mistake with its line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake: where it is, what it is, and what is allowed instead.

    ``line`` counts from 1; 0 means the file as a whole (it cannot be read).
    ``where`` names the service and node, or is empty.
    """

    line: int
    where: str
    what: str
    allowed: str

    def render(self, filename: str) -> str:
        """One line of text: ``gateway.toml:12: service coaps, node n3: what; what is allowed``."""
        place = f"{filename}:{self.line}" if self.line else filename
        message = f"{self.what}; {self.allowed}" if self.allowed else self.what
        return ": ".join(part for part in (place, self.where, message) if part)


class ConfigError(Exception):
    """Everything that is wrong with one file, in the order of its lines."""

    def __init__(self, filename: str, problems: Iterable[Problem]) -> None:
        self.filename = filename
        self.problems = tuple(sorted(dict.fromkeys(problems), key=lambda problem: problem.line))
        super().__init__(filename, self.problems)

    def __str__(self) -> str:
        return "\n".join(problem.render(self.filename) for problem in self.problems)
