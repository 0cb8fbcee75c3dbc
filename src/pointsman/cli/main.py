"""The command `pointsman`: one file per verb beside this one."""

from __future__ import annotations

import gc
import os
import sys
from importlib import import_module

import click

from pointsman import __version__
from pointsman.config.errors import ConfigError
from pointsman.kernel.errors import KernelError
from pointsman.lab.errors import LabError

BAD_INPUT = 2
FAILED = 1
PLACES = {
    **{
        name: name
        for name in ("apply", "check", "completion", "counters", "down", "events", "explain", "flows", "lab")
    },
    **{name: name for name in ("node", "plan", "probe", "schema", "serve", "service", "status", "top")},
    **dict.fromkeys(("confirm", "history", "reload", "restore"), "kept"),
    "node-setup": "node_setup",
}
"""The module of each verb."""


class Verbs(click.Group):
    """Imports a verb when it is asked for: all of them together take most of a second."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        return sorted(PLACES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        if cmd_name not in PLACES:
            return None
        module = import_module(f"pointsman.cli.{PLACES[cmd_name]}")
        found = getattr(module, cmd_name.replace("-", "_"))
        return found if isinstance(found, click.Command) else None


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pointsman")
def cli() -> None:
    """Balance DTLS sessions by their connection IDs, in the kernel."""


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
    except KernelError as refusal:
        click.echo(f"pointsman: {refusal}", err=True)
        sys.exit(BAD_INPUT if refusal.is_mistake else FAILED)
    except LabError as refusal:
        click.echo(f"pointsman: {refusal}", err=True)
        sys.exit(FAILED)
    except OSError as problem:
        _give_up_output()
        if not isinstance(problem, BrokenPipeError):
            about = f": {problem.filename}" if problem.filename else ""
            said = problem.strerror or str(problem)
            click.echo(f"pointsman: {said[:1].lower()}{said[1:]}{about}", err=True)
        sys.exit(FAILED)
    except ValueError as problem:
        words = _mistake_of(problem)
        if words is None:
            raise
        click.echo(f"pointsman: {words}", err=True)
        sys.exit(BAD_INPUT)
    # Outside of its standalone mode click returns what a command exits with.
    sys.exit(status_code if isinstance(status_code, int) else 0)


def _mistake_of(problem: ValueError) -> str | None:
    """What an argument has that no request can carry, None where the problem is another one."""
    # Only who has imported them can have raised their errors, and for others they take a tenth of a second.
    pydantic, core = sys.modules.get("pydantic"), sys.modules.get("pydantic_core")
    if pydantic is not None and isinstance(problem, pydantic.ValidationError):
        first = problem.errors(include_input=False, include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    if isinstance(problem, UnicodeEncodeError):
        return "an argument is not UTF-8"
    if core is not None and isinstance(problem, core.PydanticSerializationError):
        return "an argument is not UTF-8"
    return None


def _give_up_output() -> None:
    """Have the interpreter's end flush into nothing what could not be written."""
    try:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)
    except (OSError, ValueError):
        return


if __name__ == "__main__":
    main()
