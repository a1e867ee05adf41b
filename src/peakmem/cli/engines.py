"""`peakmem engines`: what can be measured here, and with which settings."""

from __future__ import annotations

import sys

import click


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1)
def command(names: tuple[str, ...]) -> None:
    """List the engines: installed version, what each reads; with NAMES, the settings of each.

    A setting is given as `peakmem measure MODEL --engine NAME --set NAME.SETTING=VALUE,…`.
    """
    from peakmem.delivery import convertible
    from peakmem.measurement import list_engines
    from peakmem.measuring.engine import engine, installed, said
    from peakmem.render.blocks import Block, Table

    shown: list[Block] = []
    if not names:
        shown.append(
            Table(
                "Engines",
                ("engine", "version", "reads", "install", "settings"),
                tuple(
                    (
                        one.name, one.version() or "not installed", ", ".join(one.reads),
                        f"pip install 'peakmem[{one.extra}]'", str(len(one.settings)),
                    )
                    for one in list_engines()
                ),
                frozenset({"settings"}),
            )
        )  # fmt: skip
    for one in map(convertible, map(engine, names)):
        versions = ", ".join(f"{name} {installed(name) or 'not installed'}" for name in one.distributions)
        shown.append(
            Table(
                f"{one.name}: {versions}",
                ("setting", "default", "values", "what it moves"),
                tuple(
                    (setting.name, said(setting.default), setting.expected, setting.effect) for setting in one.settings
                ),
            )
        )
    if sys.stdout.isatty():
        from peakmem.render.terminal import show

        show(shown)
    else:
        from peakmem.render.text import plain

        click.echo(plain(shown), nl=False)
