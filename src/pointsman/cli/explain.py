"""`pointsman explain FILE --from ADDR:PORT --to ADDR:PORT`."""

from __future__ import annotations

import json
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import click

from pointsman.cli.common import file_argument
from pointsman.config import load
from pointsman.model import Endpoint, Gateway, NodeState, NodeStates
from pointsman.plan.explain import Explanation, payload_of_cid
from pointsman.plan.explain import explain as explained


class EndpointType(click.ParamType[Any]):
    """``192.0.2.10:5684`` or ``[2001:db8::10]:5684``."""

    name = "ADDR:PORT"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Endpoint:
        text = str(value)
        address, colon, port = text.rpartition(":")
        try:
            number = int(port)
            if not colon or not 1 <= number <= 65535 or (":" in address) != address.startswith("["):
                raise ValueError
            return Endpoint(ip_address(address.removeprefix("[").removesuffix("]")), number)
        except ValueError:
            self.fail(
                f"{text!r} is no address with a port; 192.0.2.10:5684 or [2001:db8::10]:5684", param, ctx
            )


class HexType(click.ParamType[Any]):
    name = "HEX"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        try:
            return bytes.fromhex(str(value).replace(":", ""))
        except ValueError:
            self.fail(f"{value!r} is not hexadecimal; an even number of digits, like 01a2b3", param, ctx)


@click.command()
@file_argument
@click.option("--from", "client", type=EndpointType(), required=True, help="The client's address and port.")
@click.option("--to", "listener", type=EndpointType(), required=True, help="The listener's address and port.")
@click.option("--cid", type=HexType(), help="The connection ID of the record.")
@click.option("--payload", type=HexType(), help="The whole UDP payload.")
@click.option(
    "--state", "states", multiple=True, metavar="NODE=STATE", help="As if NODE were draining, down ..."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def explain(
    file: Path,
    *,
    client: Endpoint,
    listener: Endpoint,
    cid: bytes | None,
    payload: bytes | None,
    states: tuple[str, ...],
    as_json: bool,
) -> None:
    """Tell which node a datagram would go to, and why, computed without the kernel."""
    if cid is not None and payload is not None:
        raise click.UsageError("--cid and --payload say the same thing twice; give one")
    if client.family is not listener.family:
        raise click.UsageError("--from and --to are of different IP versions")
    loaded = load(file)
    if cid is not None:
        try:
            payload = payload_of_cid(cid)
        except ValueError as mistake:
            raise click.UsageError(f"--cid: {mistake}") from None
    found = explained(loaded.gateway, _states(loaded.gateway, states), client, listener, payload or b"")
    if as_json:
        click.echo(json.dumps(_as_json(found)))
        return
    for step in found.steps:
        click.echo(f"  {step}")
    if found.node is not None:
        click.echo(f"-> {found.service}/{found.node} at {found.target} ({found.verdict})")
    elif found.candidates:
        click.echo(f"-> {found.service}: one of {', '.join(found.candidates)} ({found.verdict})")
    elif found.dropped:
        click.echo(f"-> dropped ({found.verdict})")


def _as_json(found: Explanation) -> dict[str, object]:
    return {
        "service": found.service,
        "node": found.node,
        "target": None if found.target is None else str(found.target),
        "verdict": found.verdict,
        "dropped": found.dropped,
        "candidates": list(found.candidates),
        "steps": list(found.steps),
    }


def _states(gateway: Gateway, orders: tuple[str, ...]) -> NodeStates:
    """``n1=draining`` holds for every service's n1, ``coaps/n1=draining`` for one."""
    states = NodeStates()
    allowed = ", ".join(NodeState)
    for order in orders:
        where, _, word = order.partition("=")
        service, _, name = where.rpartition("/")
        matching = [
            (known.name, name)
            for known in gateway.services
            if service in ("", known.name) and known.node(name) is not None
        ]
        if not matching:
            raise click.UsageError(f"--state {order}: no node {where!r} in the file; NODE or SERVICE/NODE")
        if word not in list(NodeState):
            raise click.UsageError(f"--state {order}: no state {word!r}; one of {allowed}")
        for service_name, node_name in matching:
            states = states.with_state(service_name, node_name, NodeState(word))
    return states
