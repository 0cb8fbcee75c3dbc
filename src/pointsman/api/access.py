"""Who may ask what: by the unix socket's credentials, or by a token."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_OF_NOTHING = frozenset({"0" * 64, sha256(b"").hexdigest()})
"""What stands for no token: the latter is what a shell writes whose variable is empty."""
ALIAS = "pointsman-for"
"""The header by which a command says whom it acts for: text in the log, and only from the unix socket."""
LONGEST_ALIAS = 64


class Scope(StrEnum):
    """``operate`` includes ``read``."""

    READ = "read"
    OPERATE = "operate"


class TokensError(Exception):
    """What is wrong with a file of tokens, one line."""


@dataclass(frozen=True, slots=True)
class Token:
    """``digest`` is the token's SHA-256; the token itself is kept nowhere."""

    name: str
    scope: Scope
    digest: bytes


@dataclass(frozen=True, slots=True)
class Peer:
    """The process at a unix socket's other end: its user and all its groups (SO_PEERCRED, SO_PEERGROUPS)."""

    uid: int
    groups: frozenset[int]
    name: str = ""


@dataclass(frozen=True, slots=True)
class Caller:
    """``who`` is for the log."""

    who: str
    scope: Scope

    def may(self, scope: Scope) -> bool:
        return scope is Scope.READ or self.scope is Scope.OPERATE


@dataclass(frozen=True, slots=True)
class Access:
    """``owner`` is the daemon's user, ``group`` the socket's; who else the socket's mode lets in may read."""

    tokens: tuple[Token, ...] = ()
    owner: int = 0
    group: int | None = None

    def of_peer(self, peer: Peer, alias: str = "") -> Caller:
        """The caller at the unix socket; ``alias`` is whom they say they act for, which grants nothing."""
        may_operate = peer.uid in (0, self.owner) or self.group in peer.groups
        who = f"uid {peer.uid}{f' ({peer.name})' if peer.name else ''}{_for(alias)}"
        return Caller(who, Scope.OPERATE if may_operate else Scope.READ)

    def of_authorization(self, header: str | None) -> Caller | None:
        """The caller who shows ``Bearer TOKEN``; None where that is no token of ours."""
        scheme, _, shown = (header or "").partition(" ")
        token_shown = shown.strip()
        if scheme.lower() != "bearer" or not token_shown:
            return None
        digest = sha256(token_shown.encode()).digest()
        found = None
        for token in self.tokens:  # all of them, so that the time says nothing
            if hmac.compare_digest(token.digest, digest):
                found = token
        return None if found is None else Caller(f"token {found.name}", found.scope)


def _for(alias: str) -> str:
    cut = "".join(character for character in alias[:LONGEST_ALIAS] if character.isprintable())
    return f" for {cut}" if cut else ""


def read_tokens(text: str, filename: str) -> tuple[Token, ...]:
    """Read ``NAME SCOPE SHA256`` lines; raises TokensError, whose message never shows what a line holds."""
    found: dict[str, Token] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        mistake = _mistake(words, found)
        if mistake:
            raise TokensError(f"{filename}:{number}: {mistake}; NAME read|operate SHA256")
        found[words[0]] = Token(words[0], Scope(words[1]), bytes.fromhex(words[2]))
    return tuple(found.values())


def _mistake(words: list[str], names: Iterable[str]) -> str:
    if len(words) != 3:
        return f"{len(words)} words"
    name, scope, digest = words
    if not _NAME.fullmatch(name):
        return "the name is malformed"
    if name in names:
        return "the name is taken by a line above"
    if scope not in list(Scope):
        return "the scope is unknown"
    if not _DIGEST.fullmatch(digest):
        return "the digest is none: 64 lower-case hexadecimal digits"
    if digest in _OF_NOTHING:
        return "the digest is of no token"
    return ""
