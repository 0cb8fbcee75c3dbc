"""`pointsman serve FILE`."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import click

from pointsman.cli.common import file_argument, show_findings


@click.command()
@file_argument
@click.option(
    "--follow-file", is_flag=True, help="Reload when the file changes, not only by SIGHUP or `reload`."
)
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
def serve(file: Path, *, follow_file: bool, log_format: str) -> None:
    """Keep this machine the gateway that FILE describes: check nodes, repair, take orders. Ends by SIGTERM.

    Forwarding stays when it ends; `pointsman down` takes it away.
    """
    # Only here, as a command that ends at once has no use for a web server.
    from pointsman.api.logs import LogFormat, configure
    from pointsman.daemon.only_one import only_one
    from pointsman.daemon.serve import serve as run
    from pointsman.reconcile.prepare import FatalFindingsError

    gc.enable()
    configure(LogFormat(log_format))
    try:
        with only_one():
            asyncio.run(run(file, follow_file=follow_file))
    except FatalFindingsError as stopping:
        show_findings(stopping.findings)
        raise click.exceptions.Exit(2) from None
