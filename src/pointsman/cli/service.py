"""`pointsman service disable|enable SERVICE`."""

from __future__ import annotations

import click

from pointsman.api.documents import OrderRequest, Verb
from pointsman.cli.asking import complete_service, the_daemon
from pointsman.cli.common import Command
from pointsman.cli.node import checked_reason, order_options


@click.group()
def service() -> None:
    """Give orders about a whole service to the daemon."""


def service_argument(function: Command) -> Command:
    return click.argument("name", metavar="SERVICE", shell_complete=complete_service)(function)


@service.command()
@service_argument
@order_options
def disable(*, name: str, seconds: float | None, reason: str) -> None:
    """Send nothing to any node of the service."""
    _order(name, Verb.DISABLE, seconds, reason)


@service.command()
@service_argument
@order_options
def enable(*, name: str, seconds: float | None, reason: str) -> None:
    """Take the service's order back; those about its nodes go on."""
    _order(name, Verb.ENABLE, seconds, reason)


def _order(name: str, verb: Verb, seconds: float | None, reason: str) -> None:
    asked = OrderRequest(verb=verb, reason=checked_reason(reason), seconds=seconds)
    daemon = the_daemon("an order about a service")
    daemon.order(name, None, asked)
    click.echo(f"{name}: {'disabled' if daemon.service(name).disabled else 'enabled'}")
