"""`pointsman node drain|enable|disable SERVICE/NODE`."""

from __future__ import annotations

import click

from pointsman.dataplane.nftables import NftablesPlane
from pointsman.kernel.nft import Nft
from pointsman.model import Gateway, NodeState, NodeStates
from pointsman.reconcile.apply import carry_out, propose_states
from pointsman.reconcile.state import StateFile


@click.group()
def node() -> None:
    """Give orders about a node; they hold until the next order, over every apply."""


@node.command()
@click.argument("which", metavar="SERVICE/NODE")
def drain(which: str) -> None:
    """Send no new handshakes to the node; sessions and flows that name it go on."""
    order(which, NodeState.DRAINING)


@node.command()
@click.argument("which", metavar="SERVICE/NODE")
def disable(which: str) -> None:
    """Send nothing to the node; the service's policies say what becomes of records that name it."""
    order(which, NodeState.DISABLED)


@node.command()
@click.argument("which", metavar="SERVICE/NODE")
def enable(which: str) -> None:
    """Take the node's order back: it takes everything again."""
    order(which, NodeState.UP)


def order(which: str, state: NodeState) -> None:
    """Set the state of one node of the applied configuration."""
    service, _, name = which.partition("/")

    def change(gateway: Gateway, states: NodeStates) -> NodeStates:
        _must_exist(gateway, service, name)
        return states.with_state(service, name, state)

    with Nft() as nft:
        plane, state_file = NftablesPlane(nft), StateFile()
        with state_file.locked():
            proposal = propose_states(plane, state_file, change)
            carry_out(plane, state_file, proposal)
    click.echo(f"{which}: {proposal.state.states.of(service, name)} -> {state}")


def _must_exist(gateway: Gateway, service: str, name: str) -> None:
    found = gateway.service(service)
    if found is None:
        known = ", ".join(known.name for known in gateway.services)
        raise click.UsageError(f"no service {service!r}; one of {known}, as SERVICE/NODE")
    if found.node(name) is None:
        known = ", ".join(known.name for known in found.nodes)
        raise click.UsageError(f"service {service} has no node {name!r}; one of {known}")
