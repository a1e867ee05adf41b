"""Options that say which training step is meant, shared by the verbs that ask about one, and the Scenario they make."""

from __future__ import annotations

import re
from collections.abc import Callable
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_args

import click

from peakmem.errors import UsageError
from peakmem.training.scenario import Device, Implementation, Lora, Optimizer, Precision, Scenario

if TYPE_CHECKING:
    from peakmem.devices import Device as Card

Command = TypeVar("Command", bound=Callable[..., Any])

IMPLEMENTATIONS: tuple[Implementation, ...] = get_args(Implementation)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
_PLACE = re.compile(r"\*|[^=\s]+:\d+")
# what a declared value belongs to: every read, or those of one line of code


_OPTIONS = (
    click.option("--batch", type=click.IntRange(min=1), metavar="N", help="Samples of one forward."),
    click.option("--sequence", type=click.IntRange(min=1), metavar="N", help="Tokens of one sample."),
    click.option("--resolution", type=click.IntRange(min=1), metavar="N", help="Side of an image, in pixels."),
    click.option(
        "--optimizer", metavar="NAME[:HOW]",
        help="sgd, momentum, adam, adamw, adafactor, lion, adam8bit …; with :single, :foreach or :fused. "
        "Default: the step's own, or adamw.",
    ),
    click.option("--precision", type=click.Choice(PRECISIONS), default="float32", show_default=True),
    click.option(
        "--recompute", metavar="WHAT", default="",
        help="Drop activations and make them again: blocks, every-2, or a pattern of module paths.",
    ),
    click.option(
        "--accumulate", type=click.IntRange(min=1), default=1, show_default=True, metavar="N",
        help="Forwards and backwards before the optimizer's step.",
    ),
    click.option("--no-set-to-none", is_flag=True, help="Gradients are set to zero and stay allocated."),
    click.option("--freeze", multiple=True, metavar="PATTERN", help="Parameters that are not trained."),
    click.option(
        "--lora", metavar="RANK[:PATTERN,…][:nf4]",
        help="Train small products beside frozen linear layers: 8, or 16:q_proj,v_proj, or 8:nf4.",
    ),
    click.option("--steps", type=click.IntRange(min=1, max=100), default=2, show_default=True, metavar="N"),
    click.option(
        "--value", "values", multiple=True, metavar="FILE:LINE=VALUE",
        help="What a read of a tensor's content gives there; *=VALUE for all.",
    ),
    click.option(
        "--input", "inputs", multiple=True, metavar="[NAME=]DIMS[:DTYPE]",
        help="What a torch.nn.Module is called with: 8x3x224x224, ids=4x128:int64.",
    ),
    click.option(
        "--device", default="cpu", show_default=True, metavar="NAME",
        help="cpu, cuda, or a device by name: v100-16gb, a100-80gb, rtx-4090 … (peakmem devices lists all).",
    ),
    click.option(
        "--device-file", "device_files", multiple=True, metavar="FILE", help="Devices of your own, as TOML.",
    ),
)  # fmt: skip


def options(command: Command) -> Command:
    """The options, to be put under `click.command`; `scenario_of` reads all but --input."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def scenario_of(**given: Any) -> tuple[Scenario, Card | None]:
    """The scenario that the options ask for, and the card where one was named.

    Raises:
        UsageError: an optimizer, an adapter, a value or a device that is not understood.
    """
    device, card = given["device"].strip().lower(), None
    if device not in get_args(Device):
        from peakmem import devices

        card = devices.find(given["device"], devices.using(given.get("device_files", ())))
        device = card.processor
    scenario = Scenario(
        device=cast(Device, device), batch=given["batch"], sequence=given["sequence"], resolution=given["resolution"],
        optimizer=parse_optimizer(given["optimizer"]) if given["optimizer"] else None, precision=given["precision"],
        recompute=given["recompute"], accumulate=given["accumulate"], set_to_none=not given["no_set_to_none"],
        freeze=tuple(given["freeze"]), lora=parse_lora(given["lora"]) if given["lora"] else None, steps=given["steps"],
        values=tuple(map(parse_value, given["values"])),
    )  # fmt: skip
    return scenario, card


def parse_optimizer(text: str) -> Optimizer:
    """`adamw:fused` → Optimizer("adamw", "fused"); options follow: `sgd:foreach,momentum=0.9,nesterov`.

    Raises:
        UsageError: not an optimizer's name, not one of its implementations, or an option without a number.
    """
    from peakmem.training.optimizers import KNOWN

    head, *rest = text.strip().split(",")
    name, colon, how = (part.strip().lower() for part in head.partition(":"))
    if name not in KNOWN:
        near = get_close_matches(name, KNOWN, n=1, cutoff=0.5)
        raise UsageError(
            f"--optimizer {text[:200]!r} is not known", expected=f"one of {', '.join(KNOWN)}",
            hint=f"--optimizer {near[0] if near else 'adamw'}",
        )  # fmt: skip
    if colon and how not in IMPLEMENTATIONS:
        near = get_close_matches(how, IMPLEMENTATIONS, n=1, cutoff=0.4)
        raise UsageError(
            f"--optimizer {text[:200]!r} has no such implementation", expected=f"one of {', '.join(IMPLEMENTATIONS)}",
            hint=f"--optimizer {name}:{near[0] if near else 'fused'}",
        )  # fmt: skip
    options = []
    for part in rest:
        option, equals, said = (piece.strip() for piece in part.partition("="))
        value = _number(said) if equals else True
        if value is None or not option:
            raise UsageError(f"--optimizer {text[:200]!r} is not understood", expected="OPTION=NUMBER",
                             hint="--optimizer sgd,momentum=0.9,nesterov")  # fmt: skip
        options.append((option, value))
    return Optimizer(name, cast(Implementation, how) if colon else None, tuple(options))


def _number(said: str) -> int | float | bool | None:
    known = {"true": True, "false": False}.get(said.lower())
    if known is not None:
        return known
    for kind in (int, float):
        try:
            return kind(said)
        except ValueError:
            continue
    return None


def parse_lora(text: str) -> Lora:
    """`16:q_proj,v_proj:nf4` → Lora(16, ("q_proj", "v_proj"), quantised=True).

    Raises:
        UsageError: it does not begin with a rank.
    """
    rank, *rest = text.split(":")
    quantised = bool(rest) and rest[-1].lower() == "nf4"
    rest = rest[:-1] if quantised else rest
    if not (rank.isascii() and rank.isdigit() and 0 < int(rank[:9]) < 1 << 20) or len(rank) > 9 or len(rest) > 1:
        raise UsageError(
            f"--lora {text[:200]!r} is not understood", expected="RANK[:PATTERN,…][:nf4]", hint="--lora 8:q_proj,v_proj"
        )
    return Lora(int(rank), tuple(one for one in rest[0].split(",") if one) if rest else (), quantised)


def parse_value(text: str) -> tuple[str, object]:
    """`model.py:41=3` → ("model.py:41", 3); several numbers for a read of several elements: `model.py:41=64,64,128`.

    Raises:
        UsageError: not a place and numbers, true or false.
    """
    place, equals, said = text.rpartition("=")
    found = tuple(_number(part.strip()) for part in said.split(","))
    if not equals or None in found or not _PLACE.fullmatch(place):
        raise UsageError(
            f"--value {text[:200]!r} is not understood", expected="FILE:LINE=VALUE or *=VALUE",
            hint="--value model.py:41=3",
        )  # fmt: skip
    return place, found if len(found) > 1 else found[0]
