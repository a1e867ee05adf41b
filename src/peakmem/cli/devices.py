"""`peakmem devices`: the table of devices, and one with all its sources."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import cast

import click

from peakmem.devices.device import KINDS, Device
from peakmem.errors import UsageError
from peakmem.units import UNITS, Units


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("name", required=False)
@click.option("--kind", type=click.Choice(KINDS), help="Only devices of that kind.")
@click.option(
    "--device-file", "files", multiple=True, metavar="FILE", help="Devices of your own, as TOML, beside the table."
)
@click.option("--units", type=click.Choice(UNITS), default="iec", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(name: str | None, kind: str | None, files: tuple[str, ...], units: str, as_json: bool) -> None:
    """List the devices that --device knows; with NAME, one of them and who says each figure.

    RAM and storage stand apart. What a process gets is what the driver or the system tells it; with ≈ where nobody
    says it and all of memory is taken. A file of your own has the same form: see the guide on devices.
    """
    from peakmem.devices import using
    from peakmem.render.devices import listing, one, plain_data

    rows = using(files)
    if name is not None and kind:
        raise UsageError("a name and --kind", expected="one of them", hint=f"peakmem devices {name}")
    chosen = (_named(name, rows),) if name is not None else tuple(row for row in rows if kind in (None, row.kind))
    if as_json:
        data = plain_data(chosen[0]) if name is not None else [plain_data(row) for row in chosen]
        click.echo(json.dumps(data, indent=2, ensure_ascii=False))
        return
    shown = one(chosen[0], cast(Units, units)) if name is not None else listing(chosen, cast(Units, units))
    if sys.stdout.isatty():
        from peakmem.render.terminal import show

        show(shown)
    else:
        from peakmem.render.text import plain

        click.echo(plain(shown), nl=False)


def _named(name: str, rows: Sequence[Device]) -> Device:
    from peakmem.devices import find

    try:
        return find(name, rows)
    except UsageError as fault:
        near = fault.hint.startswith("--device ") and "--capacity" not in fault.hint
        raise UsageError(
            fault.what, expected=fault.expected if near else "a name of the list",
            hint=fault.hint.replace("--device", "peakmem devices") if near else "peakmem devices",
        ) from fault  # fmt: skip
