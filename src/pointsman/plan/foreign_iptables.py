"""Other people's iptables rules as ``foreign.Rule``, from what ``iptables -S`` prints (iptables-extensions(8))."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping

from pointsman.plan.foreign import UNTOLD, Field, Match, Rule, Value, span

_QUIET_MODULES = ("udp", "tcp", "conntrack", "state", "comment", "multiport", "icmp", "icmp6")
"""Match modules that ask for nothing but what their options say."""
_VERDICTS = {"ACCEPT": "accept", "DROP": "drop", "REJECT": "drop", "RETURN": "return"}


def _interface(text: str) -> Value:
    return f"{text[:-1]}*" if text.endswith("+") else text


def _protocol(text: str) -> Value:
    return {"17": "udp", "6": "tcp", "all": "*", "0": "*"}.get(text, text)


def _ports(text: str) -> Value:
    return span(text.replace(":", "-"))


def _state(text: str) -> Value:
    return text.lower()


_OPTIONS: Mapping[str, tuple[Field, Callable[[str], Value]]] = {
    "-i": (Field.IIF, _interface),
    "-o": (Field.OIF, _interface),
    "-s": (Field.SADDR, span),
    "-d": (Field.DADDR, span),
    "-p": (Field.PROTOCOL, _protocol),
    "--sport": (Field.SPORT, _ports),
    "--dport": (Field.DPORT, _ports),
    "--sports": (Field.SPORT, _ports),
    "--dports": (Field.DPORT, _ports),
    "--ctstate": (Field.STATE, _state),
    "--state": (Field.STATE, _state),
}


def read(text: str) -> tuple[dict[str, tuple[Rule, ...]], dict[str, str]]:
    """The chains of one table, and the policies of those that have one."""
    chains: dict[str, list[Rule]] = {}
    policies: dict[str, str] = {}
    lines = [words for line in text.splitlines() if (words := shlex.split(line))]
    for words in lines:
        if words[0] in ("-P", "-N"):
            chains[words[1]] = []
        if words[0] == "-P":
            policies[words[1]] = words[2].lower()
    for words in lines:
        if words[0] == "-A":
            chains.setdefault(words[1], []).append(_rule(words[2:], chains))
    return {name: tuple(rules) for name, rules in chains.items()}, policies


def _rule(words: list[str], chains: Mapping[str, object]) -> Rule:
    matches: list[Match] = []
    negated = False
    rest = iter(words)
    for word in rest:
        if word == "!":
            negated = True
            continue
        if word in ("-j", "-g"):
            return _ending(word, next(rest, ""), chains, tuple(matches))
        if word == "-m":
            if next(rest, "") not in _QUIET_MODULES:
                matches.append(UNTOLD)
        elif word in _OPTIONS:
            field, value = _OPTIONS[word]
            matches.append(Match(field, tuple(value(each) for each in next(rest, "").split(",")), negated))
        elif word == "--comment":
            next(rest, "")
        else:
            matches.append(UNTOLD)  # an option that is not read, or its argument
        negated = False
    return Rule(tuple(matches), "")


def _ending(word: str, target: str, chains: Mapping[str, object], matches: tuple[Match, ...]) -> Rule:
    if target in _VERDICTS:
        return Rule(matches, _VERDICTS[target])
    if target in chains:
        return Rule(matches, "goto" if word == "-g" else "jump", target)
    return Rule(matches, "")  # LOG, MARK and the like
