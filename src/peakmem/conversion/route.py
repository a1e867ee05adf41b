"""From a model of one kind to one of another: the steps there are, the way through them, and what was kept of it.

No tool is imported here, and nothing is executed but `running.run`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache as once
from importlib import import_module
from pathlib import Path

from peakmem._version import __version__
from peakmem.conversion.cache import Cache, Kept, root
from peakmem.conversion.content import content_hash, files_of
from peakmem.conversion.running import run
from peakmem.conversion.source import Source, known, sizes_of, source_of
from peakmem.conversion.step import Option, Port, Step, Value
from peakmem.errors import MissingLibrary, UsageError
from peakmem.measuring import record
from peakmem.measuring.engine import installed

MODULES = ("to_onnx", "to_ncnn", "to_openvino", "to_mnn", "to_torch", "to_pte", "to_tflite")
# of this package; each brings STEPS
TIMEOUT = 600.0
# seconds for one step


@dataclass(frozen=True, slots=True)
class Converted:
    """A model in the kind that was asked for."""

    path: str
    # of the file; package.module:factory where that is what it is
    kind: str
    steps: tuple[record.Step, ...]
    # how it was made; empty when it was of that kind already
    input_shapes: dict[str, tuple[tuple[int, ...], str]] = field(default_factory=dict)
    # name of an input of this very file -> (shape, dtype), in the order the file has; empty where they are not known
    notes: tuple[str, ...] = ()
    # what a user should know of it, one sentence each


@once
def steps() -> tuple[Step, ...]:
    """All steps there are."""
    return tuple(step for name in MODULES for step in import_module(f"peakmem.conversion.{name}").STEPS)


def kind_of(source: str | Path) -> str:
    """The kind of model that `source` is, "factory" for package.module:factory; see `KINDS`.

    Raises:
        PeakmemError: no such file, or nothing that is known.
    """
    return source_of(source).kind


def route(kind: str, target: str) -> tuple[Step, ...]:
    """The cheapest way from one kind to another; empty when they are the same.

    Raises:
        UsageError: there is none.
    """
    best: dict[str, tuple[int, tuple[Step, ...]]] = {kind: (0, ())}
    waiting = [kind]
    while waiting:
        here = waiting.pop(0)
        cost, way = best[here]
        for step in steps():
            if step.source == here and (step.target not in best or cost + step.cost < best[step.target][0]):
                best[step.target] = (cost + step.cost, (*way, step))
                waiting.append(step.target)
    if target not in best:
        leading = [name for name in _leading(target) if name != kind]
        raise UsageError(
            f"no conversion leads from {kind} to {target}", expected=f"a model of kind {' or '.join(leading) or target}"
        )
    return best[target][1]


def _leading(target: str) -> list[str]:
    """Kinds that some way leads from to `target`, itself among them."""
    found: dict[str, None] = {target: None}
    waiting = [target]
    while waiting:
        here = waiting.pop()
        for step in steps():
            if step.target == here and step.source not in found:
                found[step.source] = None
                waiting.append(step.source)
    return list(found)


def convert(
    source: str | Path,
    kind: str,
    *,
    batch: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None,
    inputs: object = (),
    options: Mapping[str, Value] | None = None,
    cache: str | Path | None = None,
    timeout: float = TIMEOUT,
    memory_limit: int | None = None,
) -> Converted:
    """`source` as a model of `kind`; what was made before of the same content is taken from the cache.

    Args:
        source: a model file, a folder with one, a network of the zoo such as `resnet18`, or package.module:factory.
        kind: one of `peakmem.conversion.step.KINDS`.
        batch, shapes, dims: values for the dimensions of the inputs, see `peakmem.binding.bound`.
        inputs: what a factory's module is called with, see `peakmem.load`.
        options: of the steps, by name, as values or texts: {"fp16": "on", "backend": "xnnpack"}.
        cache: the folder to keep everything under, see `peakmem.conversion.cache.root`.
        timeout: seconds for each step.
        memory_limit: bytes of data each step's process may have.

    Raises:
        ConversionError: a tool failed; `operators` names those it cannot convert.
        UsageError: no way leads there, an option that no step takes, a cache that cannot be written.
        MissingLibrary: a tool is not installed.
        PeakmemError: the model cannot be read, or a dimension has no value.
    """
    known(kind)
    given = source_of(source)
    if given.kind == kind or (given.kind == "factory" and kind in ("torch", "keras")):
        return _as_it_is(given, kind, batch, shapes, dims, inputs)
    if given.kind != "factory":
        route(given.kind, kind)
    given, sizes = sizes_of(given, batch=batch, shapes=shapes, dims=dims, inputs=inputs)
    way = route(given.kind, kind)
    chosen = [_chosen(step, options or {}) for step in way]
    _all_taken(way, options or {})
    if sizes.note:
        raise UsageError(f"its inputs are not known, so it cannot be converted: {sizes.note}", where=given.text)
    store = Cache(root(cache))
    here, ports = given.text, sizes.inputs
    notes: list[str] = []
    done: list[record.Step] = []
    content = _content(given)
    for step, values in zip(way, chosen, strict=True):
        kept, before = _one(
            store, step, here, content, ports, sizes.outputs, values, timeout, memory_limit,
            own_code=given.own_code and here == given.text,
        )  # fmt: skip
        done.append(record.Step(kept.tool, str(kept.path), kept.nbytes, before))
        notes += kept.notes
        here, ports, content = str(kept.path), kept.inputs, kept.content
    return Converted(here, kind, tuple(done), _shapes(ports), tuple(notes))


def _as_it_is(
    given: Source, kind: str, batch: int | None, shapes: Mapping[str, Sequence[int]] | None,
    dims: Mapping[str, int] | None, inputs: object,
) -> Converted:  # fmt: skip
    """A model that is of the wanted kind; its sizes where they can be known without it."""
    if given.kind != "factory":
        _, sizes = sizes_of(given, batch=batch, shapes=shapes, dims=dims, inputs=inputs)
        return Converted(given.text, kind, (), _shapes(sizes.inputs), (sizes.note,) if sizes.note else ())
    if kind == "torch":
        # its code runs in the measured process and nowhere else; what the user does not say, it may say there
        return Converted(given.text, kind, (), _shapes(_given(inputs)))
    found, sizes = sizes_of(given, batch=batch, shapes=shapes, dims=dims, inputs=inputs)
    if found.kind not in (kind, "factory"):
        route(found.kind, kind)
    ports = sizes.inputs or _given(inputs)
    return Converted(given.text, kind, (), _shapes(ports), (sizes.note,) if sizes.note else ())


def _given(inputs: object) -> tuple[Port, ...]:
    from peakmem.conversion.source import given_ports

    return given_ports(inputs)


def _shapes(ports: tuple[Port, ...]) -> dict[str, tuple[tuple[int, ...], str]]:
    return {port.name: (port.shape, port.dtype) for port in ports}


def _chosen(step: Step, options: Mapping[str, Value]) -> dict[str, Value]:
    return {
        option.name: _value(option, options[option.name]) if option.name in options else option.default
        for option in step.options
    }


def _all_taken(way: tuple[Step, ...], options: Mapping[str, Value]) -> None:
    taken = {option.name: option for step in way for option in step.options}
    for name in options:
        if name not in taken:
            raise UsageError(
                f"no step of {' → '.join((way[0].source, *(step.target for step in way)))} has an option {name!r}",
                expected=", ".join(taken) or "no option",
            )


def _value(option: Option, given: Value) -> Value:
    """`given`, which may be a text, as a value of `option`."""
    from peakmem.measuring.engine import Setting

    return Setting(option.name, option.default, option.choices, option.effect).parse(
        ("on" if given else "off") if isinstance(given, bool) else str(given)
    )


def _content(given: Source) -> str:
    """What the model is made of, as one hash."""
    if given.path is not None:
        return content_hash(files_of(given.path, given.kind))
    if given.kind == "zoo":
        return hashlib.sha256(f"zoo {given.text} {__version__}".encode()).hexdigest()
    return _code_hash(given)


def _code_hash(given: Source) -> str:
    """A hash over the package that a factory stands in, found without running it."""
    from importlib.util import find_spec

    name = given.text.partition(":")[0]
    top = find_spec(name.partition(".")[0])
    # sizes_of has imported it
    folders = list(top.submodule_search_locations or ()) if top is not None else []
    files = [path for folder in folders for path in sorted(Path(folder).rglob("*.py"))]
    if not files and top is not None and top.origin:
        files = [Path(top.origin)]
    return hashlib.sha256(f"{given.text} {content_hash(tuple(files))}".encode()).hexdigest()


def _one(
    store: Cache, step: Step, here: str, content: str, ports: tuple[Port, ...], outputs: tuple[str, ...],
    values: dict[str, Value], timeout: float, memory_limit: int | None, *, own_code: bool,
) -> tuple[Kept, bool]:  # fmt: skip
    """What `step` makes of `here`, and whether it was there before."""
    versions = {name: __version__ if name == "peakmem" else installed(name) for name in step.distributions}
    for name, version in versions.items():
        if not version:
            raise MissingLibrary(name, extra=step.extra, purpose=f"converting {step.source} to {step.target}")
    made_from = {
        "content": content, "step": step.run, "source": step.source, "target": step.target, "revision": step.revision,
        "versions": versions, "options": values, "inputs": [asdict(port) for port in ports], "outputs": list(outputs),
    }  # fmt: skip
    key = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()
    kept = store.find(key)
    if kept is not None:
        return kept, True
    with store.alone(key, 2 * timeout):
        kept = store.find(key)
        if kept is not None:
            return kept, True
        with store.scratch() as folder:
            with store.refusals():
                done = run(
                    step, here, folder, inputs=ports, outputs=outputs, options=values, timeout=timeout,
                    memory_limit=memory_limit, own_code=own_code,
                )  # fmt: skip
            made = folder / "target"
            with store.refusals():
                content = content_hash(files_of(made / done.path, step.target))
            told = {
                "path": done.path, "notes": list(done.notes), "content": content, "from": here,
                "tool": f"{step.distributions[0]} {versions[step.distributions[0]]}", "made_from": made_from,
            }  # fmt: skip
            return store.keep(key, made, told, done.inputs), False
