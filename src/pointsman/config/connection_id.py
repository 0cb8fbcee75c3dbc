"""Checks of where connection IDs hold the node id, and of the ids themselves."""

from __future__ import annotations

from pointsman.config.document import ServiceTable
from pointsman.config.lines import Path
from pointsman.config.placed import PlacedNode
from pointsman.config.report import Report
from pointsman.config.values import CALIFORNIUM, LONGEST_CID_BITS
from pointsman.config.wording import shown
from pointsman.model import ConnectionIdRange

# Californium's generator of multi-node connection IDs refuses shorter ones.
SHORTEST_CALIFORNIUM = 5


def connection_id_range(path: Path, table: ServiceTable, report: Report) -> ConnectionIdRange | None:
    """The bit range of a service's connection IDs, checked against their length and the protocol."""
    where, cid = (*path, "connection_id"), table.connection_id
    dtls = table.protocol == "dtls"
    if cid is None:
        for key in ("cid_unknown", "cid_node_down"):
            if key in table.model_fields_set and not report.broken(where):
                way_out = "or set connection_id" if dtls else 'or use protocol = "dtls" with connection_id'
                report.error((*path, key), f"{key} without connection_id", f"leave it out, {way_out}")
        return None
    if not dtls:
        report.error(
            where, f"connection_id on a {table.protocol} service", 'leave it out, or use protocol = "dtls"'
        )
        report.break_(where)
    end = cid.offset + cid.bits
    size = f"offset {cid.offset} and bits {cid.bits}"
    if cid.length is None and end > LONGEST_CID_BITS:
        report.error(
            where,
            f"{size} end at bit {end}",
            f"at most {LONGEST_CID_BITS}: a connection ID has up to 255 bytes",
        )
    elif cid.length is not None and end > 8 * cid.length:
        needed = (end + 7) // 8
        report.error(
            where,
            f"{size} need {needed} bytes and length is {cid.length}",
            f"length {needed}..255" if needed < 255 else "length 255, and offset + bits at most 2040",
        )
    elif (
        cid.length is not None and cid.length < SHORTEST_CALIFORNIUM and _is_californium(cid.offset, cid.bits)
    ):
        report.warn(
            where,
            f"length {cid.length} is less than Californium's node ids come with",
            f"{SHORTEST_CALIFORNIUM} or more if the nodes run Californium",
        )
    return ConnectionIdRange(cid.offset, cid.bits, cid.length)


def _is_californium(offset: int, bits: int) -> bool:
    return {"offset": offset, "bits": bits} == CALIFORNIUM


def check_ids(path: Path, table: ServiceTable, nodes: tuple[PlacedNode, ...], report: Report) -> None:
    """Report node ids that are missing, out of range, taken, or of no use."""
    if report.broken((*path, "connection_id")) or report.broken((*path, "protocol")):
        return
    cid = table.connection_id
    first: dict[int, PlacedNode] = {}
    for one in nodes:
        node_id, where = one.node.id, (*one.path, "id")
        if report.broken(where):
            continue
        if cid is None:
            if node_id is not None:
                way_out = "or set connection_id" if table.protocol == "dtls" else "udp goes by flow"
                report.error(where, f"id {shown(node_id)} without connection_id", f"leave it out, {way_out}")
            continue
        allowed = f"0..{(1 << cid.bits) - 1} ({cid.bits} bit{'' if cid.bits == 1 else 's'})"
        if node_id is None:
            report.error(one.path, "id is missing, which connection_id needs", allowed)
        elif not 0 <= node_id < 1 << cid.bits:
            report.error(where, f"id {shown(node_id)} is out of range", allowed)
        elif node_id in first:
            other = first[node_id]
            report.error(
                where,
                f"id {node_id} is taken by node {other.node.name} on line {report.line(other.path)}",
                f"one of its own, {allowed}",
            )
        else:
            first[node_id] = one
