"""The command `pointsman`: one file per verb beside this one."""

from __future__ import annotations

import gc
import sys

import click

from pointsman import __version__
from pointsman.cli.apply import apply
from pointsman.cli.check import check
from pointsman.cli.down import down
from pointsman.cli.explain import explain
from pointsman.cli.lab import lab
from pointsman.cli.node import node
from pointsman.cli.plan import plan
from pointsman.cli.schema import schema
from pointsman.cli.status import status
from pointsman.config import ConfigError
from pointsman.kernel.errors import KernelError
from pointsman.lab.errors import LabError

BAD_INPUT = 2
FAILED = 1


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pointsman")
def cli() -> None:
    """Balance DTLS sessions by their connection IDs, in the kernel."""


for command in (apply, check, down, explain, lab, node, plan, schema, status):
    cli.add_command(command)


def main() -> None:
    """Run the command; mistakes of the user and refusals of the machine are lines, never tracebacks."""
    # A command ends before cycles could fill the memory, and at a thousand services looking for them takes a second.
    gc.disable()
    try:
        status_code = cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.exceptions.NoArgsIsHelpError as bare:
        click.echo(bare.format_message())
        sys.exit(BAD_INPUT)
    except click.ClickException as mistake:
        click.echo(f"pointsman: {mistake.format_message()}", err=True)
        sys.exit(BAD_INPUT)
    except ConfigError as mistakes:
        click.echo(str(mistakes), err=True)
        sys.exit(BAD_INPUT)
    except (KernelError, LabError) as refusal:
        click.echo(f"pointsman: {refusal}", err=True)
        sys.exit(FAILED)
    except BrokenPipeError:
        sys.exit(FAILED)
    # Outside of its standalone mode click returns what a command exits with.
    sys.exit(status_code if isinstance(status_code, int) else 0)


if __name__ == "__main__":
    main()
