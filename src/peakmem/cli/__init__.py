"""The command line: a lazy group of verbs, one file each; a bare model means `estimate`.

Exit codes: 0 answered (and within the budget), 1 over the budget, not the same, or a claim that is not right, 2 could
not be answered.
"""

from __future__ import annotations

import errno
import os
import sys
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from peakmem.errors import PeakmemError, UsageError

UNWRITTEN = (errno.ENOSPC, errno.EIO, errno.EBADF, errno.EDQUOT)
# faults of a stream that takes no more
LONGEST_MESSAGE = 4000
# characters of an error that are shown

VERBS = {
    "check-claims": ("peakmem.cli.check_claims:command", "Recompute published claims: right, wrong or ambiguous."),
    "check": ("peakmem.cli.check:command", "Check the budgets of peakmem.toml."),
    "check-table": ("peakmem.cli.check_table:command", "Check a published layer table row by row."),
    "cost": ("peakmem.cli.cost:command", "What storing copies of a model costs, per dtype."),
    "devices": ("peakmem.cli.devices:command", "List devices with their memory, and who says each figure."),
    "compare": ("peakmem.cli.compare:command", "Which operators added the bytes between two states of a network."),
    "engines": ("peakmem.cli.engines:command", "List the engines that can be measured, and their settings."),
    "estimate": ("peakmem.cli.estimate:command", "How much memory a network needs (the default verb)."),
    "convert-check": ("peakmem.cli.convert_check:command", "Compare two readings of one network tensor by tensor."),
    "fit": ("peakmem.cli.fit:command", "Does it fit a device, how far could it grow, what would make it fit."),
    "formats": ("peakmem.cli.formats:command", "List what is read, what it needs, what cannot be known from it."),
    "measure": ("peakmem.cli.measure:command", "Run a network on engines and tell what memory it took."),
    "reconcile": (
        "peakmem.cli.reconcile:command",
        "Predict a network on an engine, run it, account for every byte between.",
    ),
    "replay": ("peakmem.cli.replay:command", "Run a recorded CUDA trace through the simulated allocator."),
    "schema": ("peakmem.cli.schema:command", "Print the JSON schema of a report."),
    "size": ("peakmem.cli.size:command", "How large the model file would be, by format and dtype."),
    "train": ("peakmem.cli.train:command", "What a training step needs, and whether it fits a device."),
    "verify-train": ("peakmem.cli.verify_train:command", "Run a training step and hold the prediction against it."),
    "zoo": ("peakmem.cli.zoo:command", "List the built-in networks, or write one out as an ONNX file."),
}


class LazyGroup(click.Group):
    """Imports a verb when it is called, so that `--help` stays fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = VERBS.get(cmd_name)
        if entry is None:
            return None
        module, _, attribute = entry[0].partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in VERBS and args[0] not in ("--help", "-h", "--version"):
            _mistyped(args[0])
            args = ["estimate", *args]
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(name, entry[1]) for name, entry in sorted(VERBS.items())])


def _mistyped(word: str) -> None:
    """Refuse a word that is nearly a verb and names no file; any other word is a model.

    Raises:
        UsageError: with the verb that is meant.
    """
    near = get_close_matches(word, VERBS, n=1, cutoff=0.8)
    if near and not Path(word).exists():
        raise UsageError(f"no verb and no file is called {word!r}", hint=f"peakmem {near[0]} …")


EPILOG = """\b
Examples:
  peakmem mobilenet_v1
  peakmem model.onnx --batch 8 --shape input=8x3x320x320 --dtype int8
  peakmem model.onnx --layers --top 10 --json - --write csv=layers.csv
  peakmem resnet50 --conventions
  peakmem Llama-3-8B/config.json --context 8192 --kv-dtype fp8
  peakmem torchvision.models:resnet50 --input 1x3x224x224
  peakmem convert-check model.onnx model.tflite
  peakmem measure mobilenet_v2 --engine ncnn,onnxruntime --set ncnn.lightmode=on,off
  peakmem train resnet50 --batch 32 --optimizer adam --device v100-16gb
"""


def _version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        from peakmem._version import __version__

        click.echo(f"peakmem {__version__}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
    subcommand_metavar="MODEL [OPTIONS] | VERB …",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print the version."
)
def group() -> None:
    """How much memory a neural network needs, before it runs.

    MODEL is a model file (peakmem formats lists what is read), a folder with a config.json, a
    built-in network (peakmem zoo lists them) or package.module:factory. Nothing is executed and no
    weight is loaded. `peakmem estimate --help` shows all options.
    """


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line and exit with its code."""
    if sys.stdout is None:  # closed by who called us
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 as long as the process
    try:
        code = group.main(args=arguments, prog_name="peakmem", standalone_mode=False)
        sys.stdout.flush()
    except PeakmemError as fault:
        _fail(str(fault), fault.exit_code)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as fault:
        _fail(f"{fault.format_message()} (peakmem --help shows how)", 2)
    except (click.Abort, KeyboardInterrupt):
        _fail("interrupted", 130)
    except BrokenPipeError:
        # The reader of our output went away; nothing is wrong and nobody is listening.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as fault:
        if os.environ.get("PEAKMEM_DEBUG"):
            raise
        if isinstance(fault, OSError) and fault.errno in UNWRITTEN and fault.filename is None:
            _fail(f"the answer cannot be written: {fault.strerror}", 2)
        _fail(f"internal error, please report it: {type(fault).__name__}: {fault} (PEAKMEM_DEBUG=1 shows where)", 2)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> None:
    """One printable line on standard error: names in a file may hold anything and be of any length."""
    line = " ".join("".join(char if char.isprintable() else " " for char in message[:LONGEST_MESSAGE]).split())
    if len(message) > LONGEST_MESSAGE:
        line += " …"
    print(f"peakmem: error: {line}", file=sys.stderr)
    sys.exit(code)
