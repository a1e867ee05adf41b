"""What can be turned: the batch, an option of a built-in network, a symbolic dimension, an axis, the image's sides.

A `Knob` gives the bound graph of a network at one value; the value may be a number that remembers. Which values make
sense, and what they give, is none of its concern.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from peakmem import zoo
from peakmem.binding import bound
from peakmem.errors import UsageError
from peakmem.ir.dims import Symbol, format_shape
from peakmem.ir.graph import Graph, Tensor
from peakmem.ir.shapes.infer import unbound
from peakmem.pipeline import is_live, load

USUAL_RESOLUTION = 224
USUAL_LENGTH = 128
LENGTHS = re.compile(r"seq|context|token|len|time", re.IGNORECASE)
# names that a length of text or time goes by
LENGTH_NAMES = ("sequence", "context", "length", "tokens")
IMAGE_NAMES = ("resolution", "size")
MOST_CHANNELS = 4
# of an image; an axis of more is none of its colours


@dataclass(frozen=True, slots=True)
class Knob:
    """One size of a network that is turned while everything else stays."""

    name: str
    meaning: str
    # what it sets, in words
    low: int
    high: int | None
    # values that can be asked for, both included
    usual: int
    # the value when nobody turns it
    graph: Callable[[int], Graph]
    # the bound graph at a value
    others: tuple[str, ...] = ()
    # "batch = 1": what was set beside it
    traced: bool = True
    # whether a number that remembers may be put in; false where each value is another capture
    source: str = ""
    # where the network came from
    format: str = ""
    title: str = ""
    # what it is called


@dataclass(frozen=True, slots=True)
class Question:
    """The network and everything that is set beside the knob."""

    source: str | Path | Graph | object
    inputs: object = None
    batch: int | None = None
    shapes: Mapping[str, Sequence[int]] | None = None
    dims: Mapping[str, int] | None = None
    form: str = ""
    options: Mapping[str, str] | None = None

    @property
    def said(self) -> tuple[str, ...]:
        """What was set beside the knob, one text each."""
        told = [] if self.batch is None else [f"batch = {self.batch}"]
        told += [f"{name} = {value}" for name, value in (self.dims or {}).items()]
        told += [f"{name or 'the input'} = {format_shape(tuple(shape))}" for name, shape in (self.shapes or {}).items()]
        return tuple(told)


def find_knob(asked: Question, name: str) -> Knob:
    """The knob called `name` of a network.

    Raises:
        UsageError: the network has none of that name, or nothing in it has a size.
        PeakmemError: see `load`.
    """
    from peakmem.scaling.captured import captured_knob

    batch = asked.batch if is_live(asked.source) else None
    given = load(asked.source, inputs=asked.inputs, batch=batch, form=asked.form, options=asked.options)
    if given.bound:
        return captured_knob(asked, given, name)
    if given.weights_only:
        raise UsageError(
            f"the source holds weights and no operators, so nothing depends on {name!r}", where=given.source
        )
    if name == "batch" and not given.batched:
        raise UsageError(
            f"{given.format} runs one image at a time, so there is no batch to turn", where=given.source,
            expected=f"one of {', '.join(_names(given, None))}",
        )  # fmt: skip
    network = zoo.NETWORKS.get(given.name.partition(":")[0]) if given.format == "zoo" else None
    if network is not None and not isinstance(asked.source, Graph):
        option = network.option(name) or (_synonym(network) if name in LENGTH_NAMES else None)
        if option is not None:
            return _zoo_knob(asked, given, network, option)
    found = _graph_knob(asked, given, name)
    if found is None:
        raise _no_knob(given, network, name)
    return found


def _synonym(network: zoo.Network) -> zoo.Option | None:
    return next((option for option in network.options if option.name in LENGTH_NAMES), None)


def _zoo_knob(asked: Question, given: Graph, network: zoo.Network, option: zoo.Option) -> Knob:
    """An option of a built-in network; a batch that nobody gave is 1, as in an estimate."""
    spec, chosen = zoo.parse_spec(Path(str(asked.source)).name)
    if isinstance(option.default, float):
        raise UsageError(
            f"{option.name} is a factor that rounds channels, so that nothing is a polynomial in it",
            where=network.name,
            expected=f"one of {', '.join(_names(given, network))}",
        )
    rest = {key: value for key, value in chosen.items() if key != option.name}

    def graph(value: int) -> Graph:
        made = zoo.build(spec, batch=1 if asked.batch is None else asked.batch, **{**rest, option.name: value})
        return bound(made, shapes=asked.shapes, dims=asked.dims)

    said = asked.said if asked.batch is not None else ("batch = 1", *asked.said)
    return Knob(
        option.name, option.meaning, int(option.low), int(option.high), int(chosen.get(option.name, option.default)),
        graph, (*said, *(f"{key} = {value}" for key, value in rest.items())), True, given.source, given.format, spec,
    )  # fmt: skip


def _graph_knob(asked: Question, given: Graph, name: str) -> Knob | None:
    """A dimension of the graph as it was read."""
    symbols = unbound(given)

    def knob(meaning: str, usual: int, graph: Callable[[int], Graph], low: int = 1) -> Knob:
        told: dict[str, int | None] = {"batch": asked.batch, **(asked.dims or {}), name: 0}
        left = [f"{key} = {value} (default)" for key, value in given.defaults.items() if told.get(key) is None]
        others = (*asked.said, *left)
        return Knob(name, meaning, low, None, usual, graph, others, True, given.source, given.format, _title(given))

    if name == "batch" and name not in (asked.dims or {}):
        return knob("the batch dimension", given.defaults.get("batch", 1), _by_batch(asked, given))
    if name in symbols or name in given.defaults:
        usual = (asked.dims or {}).get(name, given.defaults.get(name, USUAL_LENGTH))
        return knob(f"the dimension {name!r}", usual, _by_dims(asked, given, (name,)))
    if name == "context" and given.format == "hf_config":
        return _context_knob(asked, given, knob)
    if name in LENGTH_NAMES:
        named = [symbol for symbol in symbols if LENGTHS.search(symbol)]
        if named:
            return knob(f"the dimensions {', '.join(named)}", USUAL_LENGTH, _by_dims(asked, given, named))
        return _length_knob(asked, given, knob)
    if name in IMAGE_NAMES:
        image = _image(given)
        return None if image is None else _axes_knob(asked, given, image[0], image[1], knob)
    tensor, _, axis = name.rpartition(".")
    if tensor in ("", "input") and tensor not in given.inputs and len(given.inputs) == 1:
        tensor = given.inputs[0]
    if tensor in given.inputs and axis.lstrip("-").isdigit():
        shape = given.tensors[tensor].shape
        if shape is not None and -len(shape) <= int(axis) < len(shape):
            name = f"{tensor}.{int(axis) % len(shape)}"  # as `knob` calls it
            return _axes_knob(asked, given, given.tensors[tensor], (int(axis) % len(shape),), knob)
    return None


def _title(given: Graph) -> str:
    return given.name if given.source in ("", "zoo") or not Path(given.source).name else Path(given.source).name


def _by_batch(asked: Question, given: Graph) -> Callable[[int], Graph]:
    """The graph at a batch, which is the first size of any shape that is given, too."""
    whole = {name or given.inputs[0]: tuple(shape) for name, shape in (asked.shapes or {}).items()}
    covered = not unbound(given) and all(name in whole for name in given.inputs)

    def graph(value: int) -> Graph:
        shapes = {name: (value, *shape[1:]) if shape else shape for name, shape in whole.items()}
        return bound(given, batch=None if covered else value, shapes=shapes, dims=asked.dims)

    return graph


def _by_dims(asked: Question, given: Graph, names: Sequence[str]) -> Callable[[int], Graph]:
    """The graph with the symbols `names` set to one value."""

    def graph(value: int) -> Graph:
        dims = {**(asked.dims or {}), **dict.fromkeys(names, value)}
        return bound(given, batch=asked.batch, shapes=asked.shapes, dims=dims)

    return graph


def _context_knob(asked: Question, given: Graph, knob: Callable[..., Knob]) -> Knob:
    """The room of a key-value cache, an option of the reader."""

    def graph(value: Any) -> Graph:
        options = {**(asked.options or {}), "context": value}
        made = load(asked.source, form=asked.form, options=options)
        return bound(made, batch=asked.batch, shapes=asked.shapes, dims=asked.dims)

    usual = int((asked.options or {}).get("context", given.defaults.get("sequence", USUAL_LENGTH)))
    return knob("tokens the key-value cache has room for", usual, graph)


def _image(given: Graph) -> tuple[Tensor, tuple[int, int]] | None:
    """(input, its two axes of rows and columns) of a network that reads images."""
    for name in given.inputs:
        tensor = given.tensors[name]
        shape = tensor.shape or ()
        rank = 4 if given.batched else 3
        if len(shape) != rank:
            continue
        front, back = shape[rank - 3], shape[-1]
        first = isinstance(front, int) and front <= MOST_CHANNELS
        last = isinstance(back, int) and back <= MOST_CHANNELS
        return tensor, (rank - 3, rank - 2) if last and not first else (rank - 2, rank - 1)
    return None


def _axes_knob(asked: Question, given: Graph, tensor: Tensor, axes: tuple[int, ...], knob: Callable[..., Knob]) -> Knob:
    """Axes of an input that are set to one value together."""
    shape = tensor.shape or ()
    names = [dim.name for axis in axes if isinstance(dim := shape[axis], Symbol)]
    told = (asked.shapes or {}).get(
        tensor.name, (asked.shapes or {}).get("" if len(given.inputs) == 1 else tensor.name)
    )
    declared = [dim for axis in axes if isinstance(dim := (told or shape)[axis], int)]
    usual = declared[0] if declared else USUAL_RESOLUTION if len(shape) >= 3 and len(axes) == 2 else USUAL_LENGTH
    sides = "rows and columns" if len(axes) == 2 else f"axis {axes[0]}"
    meaning = f"{sides} of the input {tensor.name!r}"
    if len(names) == len(axes) and told is None and all(one.replace("_", "").isalnum() for one in names):
        return knob(meaning, usual, _by_dims(asked, given, names))
    base = [_fixed(dim, asked, given, axis in axes) for axis, dim in enumerate(told or shape)]
    batched = asked.batch is not None and 0 not in axes and given.batched and told is None
    if batched:
        base[0] = asked.batch or 1
    alone = len(given.inputs) == 1

    def graph(value: int) -> Graph:
        sizes = tuple(value if axis in axes else size for axis, size in enumerate(base))
        others = {key: shape for key, shape in (asked.shapes or {}).items() if key not in ("", tensor.name)}
        return bound(
            given, batch=None if alone else asked.batch, shapes={**others, tensor.name: sizes}, dims=asked.dims
        )

    return knob(meaning, usual, graph)


def _length_knob(asked: Question, given: Graph, knob: Callable[..., Knob]) -> Knob | None:
    """The second axis of every input that is a sequence, where files fix it: tokens, masks and features alike."""
    told = {name: given.tensors[name].shape or () for name in given.inputs}
    told.update((name or given.inputs[0], tuple(shape)) for name, shape in (asked.shapes or {}).items())
    shapes = {name: shape for name, shape in told.items() if len(shape) in (2, 3)}
    lengths = {shape[1] for shape in shapes.values()}
    usual = next(iter(lengths), None)
    if len(lengths) != 1 or not isinstance(usual, int) or not given.batched:
        return None

    def graph(value: int) -> Graph:
        sizes = {name: tuple(shape) for name, shape in (asked.shapes or {}).items() if name}
        for name, shape in shapes.items():
            first = _fixed(shape[0], asked, given, False) if asked.batch is None else asked.batch
            sizes[name] = (first, value, *(_fixed(dim, asked, given, False) for dim in shape[2:]))
        left = [name for name in given.inputs if name not in sizes]
        return bound(given, batch=asked.batch if left else None, shapes=sizes, dims=asked.dims)

    return knob(f"axis 1 of {', '.join(map(repr, shapes))}", usual, graph)


def _fixed(dim: object, asked: Question, given: Graph, turned: bool) -> int:
    """A dimension of an input that stays, as a number."""
    if isinstance(dim, int):
        return dim
    assert isinstance(dim, Symbol)
    found = (asked.dims or {}).get(dim.name, given.defaults.get(dim.name))
    if turned:
        return 0
    if found is None and asked.batch is None:
        raise UsageError(f"no value for dimension {dim.name}", hint=f"--dim {dim.name}=1")
    return asked.batch if found is None and asked.batch is not None else found or 0


def _names(given: Graph, network: zoo.Network | None) -> list[str]:
    """Every knob of a network by name, those one asks for first."""
    found = ["batch"] if given.batched else []
    if network is not None:
        found += [option.name for option in network.options if isinstance(option.default, int)]
    found += [name for name in unbound(given) if name not in found]
    if given.format == "hf_config":
        found.append("context")
    if _image(given) is not None and "resolution" not in found:
        found.append("resolution")
    for name in given.inputs:
        found += [f"{name}.{axis}" for axis in range(len(given.tensors[name].shape or ()))]
    return found


def _no_knob(given: Graph, network: zoo.Network | None, name: str) -> UsageError:
    names = _names(given, network)
    near = get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    return UsageError(
        f"{given.name} has no size {name!r} to turn",
        expected=f"one of {', '.join(names[:12])}{' …' if len(names) > 12 else ''}" if names else "",
        hint=f"--symbolic {near[0]}" if near else "",
    )
