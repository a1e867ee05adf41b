"""What a claim is about: network, batch, dtype and the rest, read and checked; every function counts under one.

Networks are built-in ones or files. Code is never imported for a claim: a file of claims may be anybody's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from fractions import Fraction
from pathlib import Path

from peakmem.dtypes import parse_dtype
from peakmem.errors import UsageError
from peakmem.ledger.value import Item, Shape, Value, said
from peakmem.passes.assume import assumption
from peakmem.zoo import NETWORKS, is_named, parse_spec, spec

OPTIONS: tuple[str, ...] = tuple(
    dict.fromkeys(option.name for network in NETWORKS.values() for option in network.options)
)
# what built-in networks let one choose: width, resolution, classes …
LONGEST_NAME = 1000


@dataclass(frozen=True, slots=True)
class Context:
    """Everything that a function may count under."""

    network: str = ""
    # a built-in network with its options, or the path of a file
    batch: int | None = None
    # None: as the source has it
    dtype: str = ""
    assume: str = ""
    shape: tuple[tuple[str, tuple[int, ...]], ...] = ()
    # whole input shapes by name
    dims: tuple[tuple[str, int], ...] = ()
    hold_inputs: bool = False
    options: tuple[tuple[str, int | float], ...] = ()
    # of a built-in network, those that were chosen; of a config.json the room of its key-value cache
    optimizer: str = ""
    precision: str = ""
    recompute: str = ""
    accumulate: int = 1
    device: str = ""
    # "cuda", "cpu" or a name of the table
    steps: int = 2
    kv_dtype: str = ""
    attention: str = ""
    # of a config.json
    folder: str = ""
    # that relative paths count from

    @property
    def source(self) -> str:
        """What `peakmem.load` takes.

        Raises:
            UsageError: no network is named.
        """
        if not self.network:
            raise UsageError("no network is named", expected="context: {network: mobilenet_v2}")
        if is_built_in(self.network):
            name, own = parse_spec(self.network)
            return spec(name, {**own, **dict(self.options)})
        return str(self.path)

    @property
    def path(self) -> Path:
        """The file that is meant."""
        path = Path(self.network)
        return path if path.is_absolute() else Path(self.folder) / path

    @property
    def reading(self) -> dict[str, str]:
        """Options of `peakmem.load` for files."""
        if not self.network or is_built_in(self.network):
            return {}
        named = {"kv_dtype": self.kv_dtype, "attention": self.attention}
        return {name: str(value) for name, value in self.options} | {one: told for one, told in named.items() if told}

    def option(self, name: str) -> int | float | None:
        """The value of an option that the network has; None for no such option."""
        if not is_built_in(self.network):
            return None
        own_name, own = parse_spec(self.network)
        option = NETWORKS[own_name].option(name)
        if option is None:
            return None
        return dict(self.options).get(name, own.get(name, option.default))


KEYS: tuple[str, ...] = (
    *(field.name for field in fields(Context) if field.name not in ("options", "folder")), *OPTIONS,
)  # fmt: skip


def is_built_in(network: str) -> bool:
    """Whether a network of the zoo is meant."""
    return is_named(network)


def changed(context: Context, given: Mapping[str, object]) -> Context:
    """`context` with other settings; another network starts from its own options.

    Raises:
        UsageError: no such key, or a value that it cannot have.
    """
    if "network" in given:
        context = replace(context, network=network(_text(given["network"], "network"), context.folder), options=())
    for key, value in given.items():
        if key == "network":
            continue
        if key not in KEYS or key == "folder":
            raise unknown_key(key)
        context = _set(context, key, value)
    return context


def unknown_key(key: str) -> UsageError:
    """That nothing is called so, with the nearest name."""
    near = get_close_matches(key, KEYS, n=1, cutoff=0.5)
    return UsageError(
        f"nothing is called {key[:60]!r} in a context", expected=f"one of {', '.join(KEYS)}",
        hint=near[0] if near else "",
    )  # fmt: skip


def network(name: str, folder: str) -> str:
    """The name, if there is such a network or file.

    Raises:
        UsageError: there is none, or it is code.
    """
    if len(name) > LONGEST_NAME or "\0" in name:
        raise UsageError("the name of the network is too long")
    if is_named(name):
        parse_spec(name)
        return name
    written, colon, chosen = name.partition(":")
    usual = _SQUEEZED.get(_squeezed(written))
    if usual is not None:
        parse_spec(f"{usual}{colon}{chosen}")
        return f"{usual}{colon}{chosen}"
    path = Path(name) if Path(name).is_absolute() else Path(folder) / name
    try:
        there = path.exists()
    except OSError:
        there = False
    if there:
        return name
    if path.suffix and ":" not in path.name:
        raise UsageError(f"there is no file {name[:200]!r}", expected="a path from the folder of the claims file")
    code = ":" in name and "." in name.partition(":")[0]
    if code:
        raise UsageError(
            f"{name[:80]!r} is code, which is not run for a claim", expected="a built-in network or a file"
        )
    asked = _squeezed(written)
    found = [one for one in _SQUEEZED if asked and one.startswith(asked)]
    found = found or get_close_matches(asked, _SQUEEZED, n=3, cutoff=0.5)
    near = [_SQUEEZED[one] for one in found]
    raise UsageError(
        f"no network is called {name[:80]!r}", expected=f"one of {', '.join(near or NETWORKS)}, or a file",
        hint=near[0] if near else "",
    )  # fmt: skip


def _squeezed(name: str) -> str:
    """A name without case and signs: "ResNet-50" and "resnet50" are one."""
    return "".join(char for char in name.lower() if char.isalnum())


_SQUEEZED = {_squeezed(name): name for name in NETWORKS}


def _set(context: Context, key: str, value: object) -> Context:
    if key in OPTIONS:
        return _with_option(context, key, value)
    if key == "batch":
        return replace(context, batch=whole(value, key, least=1))
    if key in ("accumulate", "steps"):
        return replace(context, **{key: whole(value, key, least=1)})  # type: ignore[arg-type]
    if key == "dtype":
        return replace(context, dtype=parse_dtype(_text(value, key)).name)
    if key == "assume":
        return replace(context, assume=assumption(_text(value, key)).name)
    if key == "hold_inputs":
        return replace(context, hold_inputs=truth(value, key))
    if key == "shape":
        return replace(context, shape=_shapes(value))
    if key == "dims":
        return replace(context, dims=_dims(value))
    if key in ("kv_dtype", "attention") and is_built_in(context.network):
        raise UsageError(f"{key} is a setting of a config.json", expected="a network that is one")
    if key == "recompute" and value == "":
        return replace(context, recompute="")
    return replace(context, **{key: _text(value, key)})  # type: ignore[arg-type]


def _with_option(context: Context, key: str, value: object) -> Context:
    """An option of the built-in network; a training step of a language model takes its sequence so as well."""
    if not context.network:
        raise UsageError(f"{key} needs a network to belong to", expected="network before it")
    if not is_built_in(context.network) and key == "context":
        return replace(context, options=(("context", whole(value, key, least=1)),))
    if not is_built_in(context.network) and key == "sequence":
        dims = {**dict(context.dims), "sequence": whole(value, key, least=1)}
        return replace(context, dims=tuple(dims.items()))
    if not is_built_in(context.network):
        raise UsageError(
            f"{key} is an option of built-in networks; a file's sizes are in it",
            hint="shape: {input: 1x3x320x320} or dims: {height: 320}",
        )  # fmt: skip
    option = NETWORKS[parse_spec(context.network)[0]].option(key)
    parsed: int | float | str
    if option is not None and isinstance(option.default, float):
        parsed = float(_fraction(value, key))
    elif option is not None:
        parsed = whole(value, key, least=0)
    else:
        parsed = str(said(value) if isinstance(value, Value) else value)
    parse_spec(f"{parse_spec(context.network)[0]}:{key}={parsed}")
    options = {**dict(context.options), key: parsed}
    return replace(context, options=tuple(sorted(options.items())))  # type: ignore[arg-type]


def _fraction(value: object, key: str) -> Fraction:
    if isinstance(value, Value):
        return value.number
    text = str(value).strip().replace("_", "").replace(",", "")
    try:
        if len(text) < 30 and "e" not in text.lower() and "/" not in text:
            return Fraction(text)
    except ValueError:
        pass
    raise UsageError(f"{key} is {str(value)[:60]!r}", expected="a number")


def whole(value: object, key: str, *, least: int = 0) -> int:
    """A whole number.

    Raises:
        UsageError: it is none, or less than `least`.
    """
    found = _fraction(value, key)
    if found.denominator != 1 or found < least or found > 2**40:
        raise UsageError(
            f"{key} is {str(said(value) if isinstance(value, Value) else value)[:60]}",
            expected=f"a whole number from {least}",
        )
    return int(found)


def truth(value: object, key: str) -> bool:
    """Yes or no.

    Raises:
        UsageError: neither.
    """
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in ("yes", "true", "no", "false"):
        return text in ("yes", "true")
    raise UsageError(f"{key} is {str(value)[:60]!r}", expected="yes or no")


def _text(value: object, key: str) -> str:
    if isinstance(value, str) and value.strip():
        return value.strip()
    raise UsageError(f"{key} is {_shown(value)[:60]!r}", expected="a name")


def _shown(value: object) -> str:
    return said(value) if isinstance(value, Value | Shape) else str(value)


def _shapes(value: object) -> tuple[tuple[str, tuple[int, ...]], ...]:
    if isinstance(value, Mapping):
        return tuple((str(name), dims(one)) for name, one in value.items())
    if isinstance(value, str) and "=" in value:
        name, _, size = value.rpartition("=")
        return ((name.strip(), dims(size)),)
    return (("", dims(value)),)


def dims(value: object) -> tuple[int, ...]:
    """The sizes of a shape, from "224x224x3" or a list.

    Raises:
        UsageError: it is no shape.
    """
    if isinstance(value, Shape):
        return value.dims
    if isinstance(value, tuple | list):
        return tuple(whole(one, "a dimension") for one in value)
    text = str(value if not isinstance(value, Value) else said(value)).replace("×", "x").replace(" ", "").lower()
    parts = text.split("x")
    if len(parts) > 16:
        raise UsageError(f"{text[:40]!r} has {len(parts)} dimensions")
    return tuple(whole(part, f"a dimension of {text[:40]!r}") for part in parts)


def _dims(value: object) -> tuple[tuple[str, int], ...]:
    if isinstance(value, Mapping):
        return tuple((str(name), whole(size, f"dims {name}")) for name, size in value.items())
    found = []
    for part in _text(value, "dims").split(","):
        name, _, size = part.partition("=")
        found.append((name.strip(), whole(size, f"dims {name.strip()}")))
    return tuple(found)


def as_item(value: object) -> Item:
    """A setting as an expression sees it."""
    if isinstance(value, bool | str | Value | Shape):
        return value
    return str(value)


def described(context: Context) -> str:
    """The settings that matter, for a reader: `mobilenet_v2, batch 1, float32`."""
    if not context.network:
        return ""
    parts = [context.source if is_built_in(context.network) else context.network]
    parts += [f"batch {context.batch}"] if context.batch is not None else []
    parts += [context.dtype] if context.dtype else []
    parts += [f"{name or 'input'} {Shape(size)}" for name, size in context.shape]
    parts += [f"{name}={size}" for name, size in context.dims]
    parts += [f"{name} {told}" for name, told in context.reading.items()]
    parts += [text for text in (context.assume, context.optimizer, context.precision) if text]
    parts += [f"recompute {context.recompute}"] if context.recompute else []
    parts += [context.device] if context.device else []
    return ", ".join(parts)
