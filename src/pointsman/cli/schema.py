"""`pointsman schema`."""

from __future__ import annotations

import json

import click

from pointsman.config import json_schema


@click.command()
def schema() -> None:
    """Print the JSON Schema of the configuration file, for editors that complete."""
    click.echo(json.dumps(json_schema(), indent=2))
