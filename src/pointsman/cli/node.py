"""`pointsman node drain|enable|disable SERVICE/NODE` and `pointsman node replace`."""

from __future__ import annotations

import os
import time

import click

from pointsman.api.client import Client, daemon_here
from pointsman.api.documents import OrderRequest, ReplaceRequest, Verb
from pointsman.cli.asking import (
    Duration,
    complete_node,
    named_by,
    service_and_node,
    show_applied,
    the_daemon,
)
from pointsman.cli.common import Command
from pointsman.cli.draining import wait_until_quiet
from pointsman.daemon.only_one import refuse_beside_daemon
from pointsman.model import Gateway, NodeState, NodeStates
from pointsman.model.orders import STATES as ORDERED
from pointsman.model.orders import Order
from pointsman.reconcile.apply import carry_out, propose_states
from pointsman.reconcile.planes import Planes
from pointsman.reconcile.state import StateFile
from pointsman.reconcile.store import Store

STATES = {Verb.DRAIN: NodeState.DRAINING, Verb.DISABLE: NodeState.DISABLED, Verb.ENABLE: NodeState.UP}


@click.group()
def node() -> None:
    """Give orders about a node; they hold until the next order, over every apply."""


def node_argument(function: Command) -> Command:
    return click.argument("which", metavar="SERVICE/NODE", shell_complete=complete_node)(function)


def order_options(function: Command) -> Command:
    function = click.option("--reason", metavar="TEXT", default="", help="Why, for the log.")(function)
    return click.option(
        "--for", "seconds", type=Duration(), metavar="2h", help="How long the order holds (with the daemon)."
    )(function)


@node.command()
@node_argument
@order_options
@click.option("--wait", is_flag=True, help="End when nothing names the node any more (with the daemon).")
@click.option(
    "--quiet", type=Duration(), metavar="15m", default="15m", help="How long nothing must have named it."
)
@click.option(
    "--timeout", type=Duration(), metavar="24h", default="1d", help="Give up waiting; exit status 1."
)
def drain(
    *, which: str, seconds: float | None, reason: str, wait: bool, quiet: float, timeout: float
) -> None:
    """Send no new handshakes to the node; sessions and flows that name it go on."""
    service, name = service_and_node(which)
    if seconds is not None and wait:
        raise click.UsageError("--for with --wait: the order may end before the waiting; one of them")
    daemon = order(which, Verb.DRAIN, seconds, reason, needs_daemon="--wait" if wait else "")
    if daemon is None:
        return
    if wait:
        wait_until_quiet(daemon, service, name, quiet, timeout)
    else:
        found = daemon.drained(service, name)
        click.echo(f"{which} is named by: {named_by(found, found)}")


@node.command()
@node_argument
@order_options
def disable(*, which: str, seconds: float | None, reason: str) -> None:
    """Send nothing to the node; the service's policies say what becomes of records that name it."""
    order(which, Verb.DISABLE, seconds, reason)


@node.command()
@node_argument
@order_options
def enable(*, which: str, seconds: float | None, reason: str) -> None:
    """Take the node's order back: it takes everything again."""
    order(which, Verb.ENABLE, seconds, reason)


@node.command()
@node_argument
@click.argument("addresses", metavar="ADDRESS...", nargs=-1, required=True)
@click.option("--reason", metavar="TEXT", default="", help="Why, for the log.")
def replace(*, which: str, addresses: tuple[str, ...], reason: str) -> None:
    """Have another machine take over the node's name and id in one step; ADDRESS as in the file."""
    service, name = service_and_node(which)
    if len(addresses) > 2:
        raise click.UsageError("one address of each family at most")
    by = ReplaceRequest(address=list(addresses), reason=checked_reason(reason))
    show_applied(the_daemon("node replace").replace(service, name, by))


def checked_reason(reason: str) -> str:
    if len(reason) > 500:
        raise click.UsageError("--reason has more than 500 characters")
    return reason


def order(
    which: str, verb: Verb, seconds: float | None, reason: str, *, needs_daemon: str = ""
) -> Client | None:
    """Give an order by the daemon, which is returned, or where none runs in the kernel at once."""
    service, name = service_and_node(which)
    asked = OrderRequest(verb=verb, reason=checked_reason(reason), seconds=seconds)
    needs_daemon = "--for" if seconds is not None else needs_daemon
    daemon = the_daemon(needs_daemon) if needs_daemon else daemon_here()
    if daemon is None:
        _set_state(which, STATES[verb], asked.reason)
        return None
    before = _state(daemon, service, name)
    daemon.order(service, name, asked)
    click.echo(f"{which}: {before} -> {_state(daemon, service, name)}")
    return daemon


def _state(daemon: Client, service: str, name: str) -> str:
    found = [one.state for one in daemon.service(service).nodes if one.name == name]
    return found[0] if found else "unknown"


def _set_state(which: str, state: NodeState, reason: str) -> None:
    """Set the state of one node of the applied configuration."""
    service, name = service_and_node(which)

    def change(gateway: Gateway, states: NodeStates) -> NodeStates:
        _must_exist(gateway, service, name)
        return states.with_state(service, name, state)

    refuse_beside_daemon()
    with Planes() as planes:
        state_file = StateFile()
        with state_file.locked():
            proposal = propose_states(planes, state_file, change)
            carry_out(planes, state_file, proposal)
            _note(service, name, state, reason)
    click.echo(f"{which}: {proposal.state.states.of(service, name)} -> {state}")


def _note(service: str, name: str, state: NodeState, reason: str) -> None:
    """Have a daemon that comes later know the order."""
    store = Store()
    book = store.orders().without(service, name)
    verb = {of: each for each, of in ORDERED.items()}.get(state)
    if verb is not None:
        book = book.with_order(Order(service, name, verb, f"uid {os.getuid()}", time.time(), reason))
    store.write_orders(book)


def _must_exist(gateway: Gateway, service: str, name: str) -> None:
    found = gateway.service(service)
    if found is None:
        known = ", ".join(known.name for known in gateway.services)
        way_out = f"one of {known}, as SERVICE/NODE" if known else "the file has none"
        raise click.UsageError(f"no service {service!r}; {way_out}")
    if found.node(name) is None:
        known = ", ".join(known.name for known in found.nodes)
        raise click.UsageError(f"service {service} has no node {name!r}; one of {known}")
