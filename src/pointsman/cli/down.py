"""`pointsman down`."""

from __future__ import annotations

import click

from pointsman.dataplane.nftables import NftablesPlane
from pointsman.kernel.nft import Nft
from pointsman.reconcile.apply import take_down
from pointsman.reconcile.state import StateFile


@click.command()
def down() -> None:
    """Leave this machine as it was found: no table, no addresses of ours, settings as they were."""
    with Nft() as nft:
        state_file = StateFile()
        with state_file.locked():
            take_down(NftablesPlane(nft), state_file)
    click.echo("down")
