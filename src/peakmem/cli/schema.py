"""`peakmem schema`: what a report looks like in JSON."""

from __future__ import annotations

import json

import click


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Print the JSON schema of a report."""
    from peakmem.report.codec import schema

    click.echo(json.dumps(schema(), indent=2))
