"""Which keys of a service make sense together, and why others do not."""

from __future__ import annotations

from collections.abc import Callable

from pointsman.config.document import ServiceTable
from pointsman.config.lines import Path
from pointsman.config.report import Report

_Wrong = Callable[[str, str, str], None]

_OF_FORWARD = {
    "source_ports": "full-nat",
    "encapsulation": "tunnel",
    "gue_port": "tunnel",
    "mss_clamp": "tunnel",
}


def check_combinations(path: Path, table: ServiceTable, report: Report) -> None:
    """Report keys that have no meaning beside others, and those that contradict each other."""

    def wrong(key: str, what: str, allowed: str) -> None:
        where = (*path, key)
        if not report.broken(where):
            report.error(where, what, allowed)

    given = table.model_fields_set
    if "source" in given and table.forward not in ("full-nat", "tunnel"):
        wrong(
            "source",
            f'source with forward = "{table.forward}"',
            'leave it out; it is for forward = "full-nat" and "tunnel"',
        )
    for key, forward in _OF_FORWARD.items():
        if key in given and table.forward != forward:
            wrong(
                key,
                f'{key} with forward = "{table.forward}"',
                f'leave it out; it is for forward = "{forward}"',
            )
    if "gue_port" in given and table.forward == "tunnel" and table.encapsulation != "gue":
        wrong(
            "gue_port",
            f'gue_port with encapsulation = "{table.encapsulation}"',
            'encapsulation = "gue", or no gue_port',
        )
    if table.mss_clamp and table.protocol != "tcp":
        wrong("mss_clamp", f"mss_clamp on a {table.protocol} service", "leave it out; only TCP has segments")
    if "maglev_table_size" in given and table.scheduler != "maglev":
        wrong(
            "maglev_table_size",
            f'maglev_table_size with scheduler = "{table.scheduler}"',
            'scheduler = "maglev"',
        )
    _slow_start(path, table, report)
    if table.protocol == "dtls":
        _dtls(table, wrong)
    elif table.filter is not None:
        wrong(
            "filter",
            f"filter on a {table.protocol} service",
            'leave it out; it knows the form of DTLS (protocol = "dtls")',
        )
    if table.passive == "count" and table.forward in ("dsr", "tunnel"):
        wrong(
            "passive",
            f'passive = "count" with forward = "{table.forward}", whose answers pass by',
            '"show" or "off", and [[service.check]]',
        )
    if table.forward in ("dsr", "tunnel"):
        _answered_by_nodes(path, table, report)


def _slow_start(path: Path, table: ServiceTable, report: Report) -> None:
    where = (*path, "slow_start")
    taking = [node for node in table.node if node.weight]
    if table.slow_start and len(taking) == 1 and not report.broken(where):
        report.warn(
            where,
            "slow_start with one node that takes new flows: there is none to take the rest meanwhile",
            "two nodes with a weight or more, or no slow_start",
        )


def _dtls(table: ServiceTable, wrong: _Wrong) -> None:
    if table.forward == "full-nat":
        wrong(
            "forward",
            'forward = "full-nat" on a dtls service would need a port and its state for each peer, which connection '
            "IDs are there to avoid",
            '"nat", "dsr" or "tunnel", or protocol = "udp"',
        )
    if table.affinity is not None:
        wrong(
            "affinity",
            "affinity on a dtls service",
            "leave it out; handshakes go by flow, sessions by connection ID",
        )
    if "linger" in table.model_fields_set:
        wrong(
            "linger",
            "linger on a dtls service",
            "leave it out; handshake_timeout says how long a removed node is served",
        )
    if table.scheduler == "least-connections":
        wrong(
            "scheduler",
            "least-connections on a dtls service: sessions with connection IDs are not counted anywhere",
            '"maglev", "random" or "round-robin"',
        )


def _answered_by_nodes(path: Path, table: ServiceTable, report: Report) -> None:
    why = f'with forward = "{table.forward}" packets keep their address and port'
    for index, listener in enumerate(table.listen):
        where = (*path, "listen", index, "node_port")
        if listener.node_port is not None and not report.broken(where):
            report.error(where, f"node_port: {why}", "leave it out")
    for index, node in enumerate(table.node):
        for place, text in enumerate(node.address):
            where = (*path, "node", index, "address", place)
            if ("]:" in text or text.count(":") == 1) and not report.broken(where):
                report.error(where, f"a port in address: {why}", "the address alone")
    if table.filter is not None and table.filter.amplification:
        where = (*path, "filter", "amplification")
        if not report.broken(where):
            report.error(
                where,
                f'amplification with forward = "{table.forward}": answers do not pass the gateway',
                "leave it out",
            )
