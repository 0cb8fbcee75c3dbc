"""`pointsman down`."""

from __future__ import annotations

import click

from pointsman.api import place
from pointsman.api.client import daemon_here
from pointsman.daemon.only_one import refuse_beside_daemon
from pointsman.kernel.errors import KernelError
from pointsman.reconcile.apply import take_down
from pointsman.reconcile.planes import Planes
from pointsman.reconcile.state import StateFile
from pointsman.reconcile.store import Store


@click.command()
def down() -> None:
    """Leave this machine as it was found: no table, no program, no addresses of ours, settings as they were."""
    if daemon_here() is not None:
        raise KernelError("a daemon serves here, and would put everything back; stop it first")
    refuse_beside_daemon()
    with Planes() as planes:
        state_file = StateFile()
        with state_file.locked():
            take_down(planes, state_file)
            Store().forget()
            place.forget()
    click.echo("down")
