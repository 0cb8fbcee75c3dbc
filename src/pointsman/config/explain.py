"""Say in the operator's words what pydantic found, and repair the document for the checks that follow."""

from __future__ import annotations

import copy
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from pointsman.config.api_tables import ApiTable
from pointsman.config.check_tables import CheckTable
from pointsman.config.document import (
    AffinityTable,
    ConnectionIdTable,
    Document,
    GatewayTable,
    ListenerTable,
    NodeTable,
    ServiceTable,
)
from pointsman.config.filter_tables import BudgetsTable, CidBudgetsTable, FilterTable, GuardTable
from pointsman.config.forwarding_tables import AllowTable, ForwardingTable
from pointsman.config.lines import Path
from pointsman.config.multihome_tables import MultihomeTable, UplinkTable
from pointsman.config.report import Report
from pointsman.config.values import Allowed
from pointsman.config.wording import key, kind, one_of, shown

Keys = tuple[str, ...]

_TABLES: dict[Keys, type[BaseModel]] = {
    (): Document,
    ("gateway",): GatewayTable,
    ("service",): ServiceTable,
    ("service", "connection_id"): ConnectionIdTable,
    ("service", "listen"): ListenerTable,
    ("service", "node"): NodeTable,
    ("service", "affinity"): AffinityTable,
    ("service", "check"): CheckTable,
    ("service", "filter"): FilterTable,
    ("service", "filter", "hello"): BudgetsTable,
    ("service", "filter", "cid"): CidBudgetsTable,
    ("guard",): GuardTable,
    ("guard", "filter"): FilterTable,
    ("guard", "filter", "hello"): BudgetsTable,
    ("guard", "filter", "cid"): CidBudgetsTable,
    ("forwarding",): ForwardingTable,
    ("forwarding", "allow"): AllowTable,
    ("multihome",): MultihomeTable,
    ("multihome", "uplink"): UplinkTable,
    ("api",): ApiTable,
}
_HEADERS: dict[Keys, str] = {
    (): "the file's top level",
    ("gateway",): "[gateway]",
    ("service",): "[[service]]",
    ("service", "node"): "[[service.node]]",
    ("service", "filter"): "[service.filter]",
    ("service", "check"): "[[service.check]]",
    ("guard",): "[[guard]]",
    ("guard", "filter"): "[guard.filter]",
    ("forwarding",): "[forwarding]",
    ("forwarding", "allow"): "[[forwarding.allow]]",
    ("multihome",): "[[multihome]]",
    ("multihome", "uplink"): "[[multihome.uplink]]",
    ("api",): "[api]",
}
# What operators of other balancers write, by table.
_OTHER_WORDS: dict[Keys, dict[str, str]] = {
    ("service",): dict.fromkeys(
        ("address", "bind", "port", "vip", "virtual_ip", "interface", "node_port"), "listen"
    )
    | dict.fromkeys(("backend", "backends", "member", "members", "server", "servers"), "node")
    | dict.fromkeys(("cid", "cid_scheme"), "connection_id"),
    ("service", "node"): dict.fromkeys(("host", "ip", "port", "server"), "address") | {"node_id": "id"},
    ("service", "listen"): dict.fromkeys(("ip", "port"), "address") | {"device": "interface"},
}
# Stand-ins for required values that are wrong; no check looks at them, because their paths are broken.
_STAND_INS: dict[Keys, Any] = {
    ("gateway",): {"name": "x"},
    ("gateway", "name"): "x",
    ("service",): [],
    ("service", "name"): "x",
    ("service", "protocol"): "dtls",
    ("service", "listen"): [],
    ("service", "node"): [],
    ("service", "node", "name"): "x",
    ("service", "node", "address"): [],
    ("service", "check", "type"): "tcp",
    ("guard",): [],
    ("guard", "name"): "x",
    ("guard", "interface"): [],
    ("guard", "ports"): [],
    ("guard", "filter"): {},
    ("forwarding",): {"policy": "drop"},
    ("forwarding", "policy"): "drop",
    ("multihome",): [],
    ("multihome", "name"): "x",
    ("multihome", "mode"): "address",
    ("multihome", "ports"): [],
    ("multihome", "uplink"): [],
    ("multihome", "uplink", "interface"): "x",
}
_ELEMENT_STAND_INS: dict[Keys, Any] = {
    ("service",): {"name": "x", "protocol": "dtls", "listen": [], "node": []},
    ("service", "listen"): "192.0.2.1:1",
    ("service", "node"): {"name": "x", "address": []},
    ("service", "check"): {"type": "tcp"},
    ("guard",): {"name": "x", "interface": [], "ports": [], "filter": {}},
    ("forwarding", "allow"): {},
    ("multihome",): {"name": "x", "mode": "address", "ports": [], "uplink": []},
    ("multihome", "uplink"): {"interface": "x"},
}
_ABSENT = object()


def explain(error: ValidationError, raw: dict[str, Any], report: Report) -> None:
    """Report everything that pydantic found in the raw document, and put stand-ins where it was."""
    found: list[tuple[Path, str, str]] = [
        (line["loc"], line["type"], line["msg"])
        for line in error.errors(include_url=False, include_input=False)
    ]
    unknown = [path for path, error_type, _ in found if error_type == "extra_forbidden"]
    wrong = [(path, error_type, msg) for path, error_type, msg in found if error_type != "extra_forbidden"]
    for path in unknown:
        _unknown(path, raw, report)
    for path, error_type, msg in wrong:
        if not report.broken(path):
            _wrong(path, error_type, msg, raw, report)
    for path in unknown:
        _put(raw, path, _ABSENT)
    for path, _, _ in wrong:
        _repair(raw, path, report)


def missing_table(keys: Keys) -> tuple[str, str]:
    """What to say about a table that a document must have at least one of, and what is allowed."""
    return f"no {_HEADERS[keys]}", _allowed(_field(keys))


def _unknown(path: Path, raw: dict[str, Any], report: Report) -> None:
    table, name = _keys(path[:-1]), str(path[-1])
    known = list(_fields(table))
    like = name[:64].lower().replace("-", "_")
    homes = [home for keys, home in _HEADERS.items() if like in _fields(keys)]
    nearest = like if like in known else _OTHER_WORDS.get(table, {}).get(like)
    if not (nearest or homes):
        nearest = next(iter(get_close_matches(like, known, n=1)), None)
    if nearest:
        advice = f"did you mean {nearest}? Known here: {', '.join(known)}"
        if nearest not in _at(raw, path[:-1]):
            # What is missing, or follows from its being missing, is this same mistake.
            report.break_((*path[:-1], nearest))
    elif table == () and like == "node":
        advice = "[[service.node]], below its [[service]]"
    elif homes:
        advice = f"a key of {' and '.join(homes)}"
        if table == ("service", "node") and homes == ["[[service]]"]:
            advice += ", to be written above the first [[service.node]]"
    else:
        advice = f"known here: {', '.join(known)}"
    inside = "" if table in _HEADERS else f" in {table[-1]}"
    report.error(path, f"unknown key {key(name)}{inside}", advice)


def _wrong(path: Path, error_type: str, msg: str, raw: dict[str, Any], report: Report) -> None:
    value = _at(raw, path)
    keys = _keys(path)
    field = _field(keys)
    # "connection_id.bits", but "weight": the service and node are named already.
    name = keys[-1] if keys[:-1] in _HEADERS else ".".join(keys[-2:])
    subject = f"{name} {shown(value)}" if not isinstance(value, (dict, list)) else name
    allowed = _allowed(field)
    if error_type == "missing":
        what = f"no {_HEADERS[keys]}" if keys in _HEADERS else f"{name} is missing"
    elif error_type == "literal_error" and isinstance(value, str):
        what = f"{subject} is unknown"
    elif error_type in ("greater_than_equal", "less_than_equal"):
        what = f"{subject} is out of range"
    elif error_type == "string_pattern_mismatch":
        what = f"{subject} is malformed" if value else f"{name} is empty"
    elif error_type in ("malformed", "unknown_scheme"):
        what = f"{subject} {msg}"
    elif isinstance(path[-1], int):
        what = f"{name} holds {kind(value)}"
    else:
        what = f"{subject} is {kind(value)}"
    report.error(path, what, allowed)


def _repair(raw: dict[str, Any], path: Path, report: Report) -> None:
    """Put a stand-in at the smallest thing around the path that can be one, and note it as broken."""
    if path[2:3] == ("connection_id",):
        path = path[:3]
    elif path[2:3] == ("listen",) and path[4:] == ("address",):
        path = path[:4]
    keys = _keys(path)
    if isinstance(path[-1], int) and keys in _ELEMENT_STAND_INS:
        stand_in = _ELEMENT_STAND_INS[keys]
    else:
        while isinstance(path[-1], int):
            path = path[:-1]
        stand_in = _STAND_INS.get(keys, _ABSENT)
    report.break_(path)
    _put(raw, path, stand_in)


def _put(raw: dict[str, Any], path: Path, value: object) -> None:
    parent: Any = _at(raw, path[:-1])
    if isinstance(parent, list):
        parent[path[-1]] = copy.deepcopy(value)  # type: ignore[index]  # a list's part of a path is an index
    elif isinstance(parent, dict) and value is _ABSENT:
        parent.pop(path[-1], None)
    elif isinstance(parent, dict):
        parent[path[-1]] = copy.deepcopy(value)


def _at(raw: Any, path: Path) -> Any:
    for part in path:
        if isinstance(raw, str) and isinstance(part, int):
            return raw  # alone where an array may stand
        try:
            raw = raw[part]
        except (KeyError, IndexError, TypeError):
            return None
    return raw


def _keys(path: Path) -> Keys:
    return tuple(part for part in path if isinstance(part, str))


def _field(keys: Keys) -> FieldInfo:
    return _fields(keys[:-1])[keys[-1]]


def _fields(table: Keys) -> dict[str, FieldInfo]:
    """By the names that the file has them by: some are words of Python's."""
    return {field.alias or name: field for name, field in _TABLES[table].model_fields.items()}


def _allowed(field: FieldInfo) -> str:
    for note in field.metadata:
        if isinstance(note, Allowed):
            return note.text
    return one_of(get_args(field.annotation))
