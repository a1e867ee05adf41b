"""`peakmem formats`: what is read, what each format needs, and what cannot be known from it."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import click

from peakmem.errors import UsageError


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("which", required=False, metavar="[NAME|FILE]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(which: str | None, as_json: bool) -> int:
    """List the formats, or show one of them, or say which one a file has."""
    from peakmem.frontends import recognise
    from peakmem.frontends.formats import Listed, listed

    every = listed()
    chosen: tuple[Listed, ...] = tuple(every.values())
    if which is not None:
        if which not in every and not Path(which).exists():
            raise UsageError(f"no format or file is called {which!r}", expected=f"one of {', '.join(every)}")
        chosen = (every[which if which in every else recognise(Path(which)).name],)
    if as_json:
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(chosen), indent=2).decode())
        return 0
    from peakmem.render.blocks import Block, Lines, Table

    def needs(item: Listed) -> str:
        if not item.extra:
            return "nothing"
        there = find_spec(item.library) is not None
        return f"{item.library} ({'installed' if there else f'''pip install 'peakmem[{item.extra}]' '''.strip()})"

    shown: list[Block] = [
        Table(
            "Formats",
            ("name", "format", "given as", "needs", "what is read", "what cannot be known"),
            tuple(
                (item.name, item.title, ", ".join(item.given_as), needs(item), item.reads, item.unknown)
                for item in chosen
            ),
        )
    ]
    options = [(item.name, name, text) for item in chosen for name, text in item.options.items()]
    if options:
        shown.append(Table("Options (--option NAME=VALUE)", ("format", "option", "meaning"), tuple(options)))
    if which is None:
        shown.append(
            Lines(
                "Not read",
                (
                    "TensorFlow SavedModel: convert it to TFLite (tf.lite.TFLiteConverter.from_saved_model) or to "
                    "ONNX (tf2onnx)",
                    "ONNX Runtime .ort: give the .onnx file it was made from",
                ),
            )
        )
    if sys.stdout.isatty():
        from peakmem.render.terminal import show

        show(shown)
    else:
        from peakmem.render.text import plain

        click.echo(plain(shown), nl=False)
    return 0
