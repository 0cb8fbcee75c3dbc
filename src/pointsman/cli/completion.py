"""`pointsman completion bash|zsh|fish`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

PROGRAM = "pointsman"
VARIABLE = "_POINTSMAN_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, *, shell: str) -> None:
    """Print what completes commands in your shell; in bash: eval "$(pointsman completion bash)"."""
    made = get_completion_class(shell)
    assert made is not None  # noqa: S101 - click has these three
    click.echo(made(ctx.find_root().command, {}, PROGRAM, VARIABLE).source())
