"""Turn the forwarding policy of the document into that of the model."""

from __future__ import annotations

from pointsman.config.document import Document
from pointsman.config.forwarding_tables import AllowTable
from pointsman.config.lines import Path
from pointsman.config.prefixes import port_ranges, prefixes
from pointsman.config.report import Report
from pointsman.model import Allow, AllowedProtocol, Forwarding

_WHERE: Path = ("forwarding",)


def forwarding(document: Document, report: Report) -> Forwarding | None:
    """The policy, None where everything is forwarded; what is wrong with it is reported."""
    table = document.forwarding
    if table is None or report.broken(_WHERE):
        return None
    if not table.interfaces and not report.broken((*_WHERE, "interfaces")):
        report.error(
            (*_WHERE, "interfaces"),
            "interfaces is empty",
            'the interfaces that the policy is for: interfaces = ["wan0", "lan0"]',
        )
    allowed = tuple(
        found
        for index, each in enumerate(table.allow)
        if (found := _allow((*_WHERE, "allow", index), each, report)) is not None
    )
    if table.policy == "accept":
        return None
    return Forwarding(tuple(dict.fromkeys(table.interfaces)), allowed)


def _allow(path: Path, table: AllowTable, report: Report) -> Allow | None:
    if report.broken(path):
        return None
    sources = prefixes((*path, "from"), table.from_, report)
    destinations = prefixes((*path, "to"), table.to, report)
    families = [{one.version for one in each} for each in (sources, destinations) if each]
    if len(families) == 2 and not families[0] & families[1]:
        report.error((*path, "to"), "from and to have no IP version in common", "prefixes of the same one")
    if table.ports and table.protocol not in ("tcp", "udp") and not report.broken((*path, "ports")):
        report.error(
            (*path, "ports"),
            f'ports with protocol = "{table.protocol}"',
            'protocol = "tcp" or "udp", a rule for each',
        )
    keys = ("from", "to", "protocol", "ports", "in_interface", "out_interface")
    if not (table.model_fields_set - {"both_ways"}) and not any(report.broken((*path, key)) for key in keys):
        report.error(path, "this allows everything", 'one condition at least, or policy = "accept"')
    return Allow(
        sources,
        destinations,
        AllowedProtocol(table.protocol),
        tuple(port_ranges((*path, "ports"), table.ports, report)),
        tuple(dict.fromkeys(table.in_interface)),
        tuple(dict.fromkeys(table.out_interface)),
        table.both_ways,
    )
