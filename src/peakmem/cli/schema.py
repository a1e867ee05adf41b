"""`peakmem schema`: what a report looks like in JSON."""

from __future__ import annotations

import json

import click

from peakmem.errors import UsageError


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("report", default="estimate", required=False)
def command(report: str) -> None:
    """Print the JSON schema of REPORT: estimate (the default), comparison …"""
    from peakmem.report.codec import REPORTS, schema

    if report not in REPORTS:
        raise UsageError(f"no report is called {report!r}", expected=f"one of {', '.join(REPORTS)}")
    click.echo(json.dumps(schema(report), indent=2))
