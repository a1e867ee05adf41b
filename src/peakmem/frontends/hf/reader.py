"""Hugging Face config.json to a graph: the network of a known family, its key-value cache, its weights.

Nothing is fetched and nothing of the library is imported or run: the families are written down in
`frontends.hf`, with the names and shapes their files have. A family, an architecture or a field that
is not known is refused. Weights beside the configuration are held against it by their headers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from peakmem.dtypes import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, DType
from peakmem.errors import FormatError
from peakmem.frontends.bounded_json import parse_json
from peakmem.frontends.door import door
from peakmem.frontends.hf.checkpoint import held_against, stored_tensors, working_dtype
from peakmem.frontends.hf.config import Config
from peakmem.frontends.hf.decoder import Task
from peakmem.frontends.hf.design import Design, Family
from peakmem.frontends.hf.families import FAMILIES
from peakmem.frontends.hf.network import Network
from peakmem.frontends.hf.options import Options, checked, kept
from peakmem.frontends.hf.quantisation import Scheme, read_scheme
from peakmem.ir.graph import Detail, Graph, Tensor
from peakmem.ir.validate import validate

LARGEST_FILE = 16 << 20
USUAL_SEQUENCE = 4096
# tokens of a prefill, unless the network was made for fewer or the cache has room for fewer
_DTYPES: Mapping[str, DType] = {
    "float32": FLOAT32, "float": FLOAT32, "float16": FLOAT16, "half": FLOAT16, "bfloat16": BFLOAT16,
    "float64": FLOAT64, "double": FLOAT64,
}  # fmt: skip
_CLASSIFIERS = ("class", "token", "token_classifier", "teacher", "qa")
# heads with an output per class; none of them keeps keys and values
_OWN_CODE = "the ONNX export, or the module itself: package.module:factory"


def read_hf_config(
    path: Path, *, attention: str = "fused", context: str | int = "", kv_dtype: str = "", logits: str = "last"
) -> Graph:
    """The network that a config.json describes, unbound: batch and sequence are symbols.

    Args:
        path: a config.json, or a folder that holds one; weights in a folder are checked against it.
        attention: "fused", as an engine with flash attention that frees what nobody reads any more; "sdpa", as
            the library's modules with torch's fused attention; "eager", as its eager code, which holds scores.
        context: tokens the key-value cache has room for; the sequence unless told.
        kv_dtype: dtype of the cache; that of the weights unless told.
        logits: "last", the head is asked for the last token, as generation does; "all", for every token.

    Raises:
        FormatError: no such file, no configuration, a family or a field that is not understood.
        UsageError: an option that says nothing known.
    """
    options = checked(attention, logits, context)
    folder = path if path.is_dir() else None
    file = path / "config.json" if folder is not None else path
    with door(path):
        return _read(Config(_fields(file), str(path)), path, folder, options, kv_dtype)


def _fields(file: Path) -> Mapping[str, Any]:
    where = str(file)
    try:
        if file.stat().st_size > LARGEST_FILE:
            raise FormatError("the configuration is too large", where=where, expected=f"at most {LARGEST_FILE:,} bytes")
        found = parse_json(file.read_bytes(), what="the configuration", where=where)
    except OSError as fault:
        raise FormatError(f"cannot be read ({fault.strerror or fault})", where=where) from fault
    if not isinstance(found, dict):
        raise FormatError("this is not a configuration", where=where, expected="an object with a 'model_type'")
    return found


def _read(config: Config, path: Path, folder: Path | None, options: Options, kv_dtype: str) -> Graph:
    family, name = _family(config)
    architecture, head, assumed = _architecture(config, family)
    design = family.read(config)
    stored = stored_tensors(folder) if folder is not None else {}
    dtype, dtype_note = _dtype(config, stored)
    scheme = read_scheme(config, dtype)
    cached = kept(kv_dtype, dtype)
    if design.generates and head not in _CLASSIFIERS and head != "encoder":
        options = replace(options, kv_dtype=cached)
    network = Network(architecture, dtype, scheme=scheme, eager=options.eager, library=options.library)
    labels = config.labels() if head in _CLASSIFIERS else 0
    outputs, cache = design.build(network, Task(options, head, labels))
    graph = network.b.finish(*outputs)
    defaults = _defaults(graph, design, options)
    notes = [dtype_note, *assumed, *design.notes]
    if design.longest is not None:
        notes.append(
            "a run is a prefill of all tokens at once (--dim sequence=N); "
            f"the network was made for up to {design.longest:,}"
        )
    notes += _said(options, head, config, network, scheme)
    if not cache.entries:
        unused = (("context", isinstance(options.context, int)), ("kv_dtype", bool(kv_dtype)))
        notes += [f"{name} changes nothing: this network keeps no keys and values" for name, given in unused if given]
    graph = replace(
        graph, name=architecture, source=str(path), format="hf_config", notes=tuple(note for note in notes if note),
        defaults=defaults, chosen=_states(graph) if kv_dtype else frozenset(),
        details=(Detail("family", f"{name}, {architecture}"), *cache.details(), *_scheme_detail(scheme, network)),
    )  # fmt: skip
    if stored:
        graph = held_against(graph, stored, str(path))
    validate(graph)
    return graph


def _states(graph: Graph) -> frozenset[str]:
    return frozenset(name for name, tensor in graph.tensors.items() if tensor.role == "state")


def _family(config: Config) -> tuple[Family, str]:
    if config.has("text_config") or config.has("vision_config"):
        raise config.fault(
            "this configuration is of several networks (text and images or sound)",
            expected="one network", hint="its text_config in a config.json of its own",
        )  # fmt: skip
    name = config.text("model_type", default="")
    if not name:
        raise config.fault("the configuration has no 'model_type'", expected="a configuration of the Hugging Face hub")
    family = FAMILIES.get(name)
    if family is None:
        raise config.fault(
            f"the family {name!r} is not known", expected=f"one of {', '.join(sorted(FAMILIES))}", hint=_OWN_CODE
        )  # fmt: skip
    return family, name


def _architecture(config: Config, family: Family) -> tuple[str, str, tuple[str, ...]]:
    """(class name, head, notes)."""
    listed = config.texts("architectures")
    if not listed:
        note = f"the configuration names no architecture: {family.usual} was assumed"
        return family.usual, family.heads[family.usual], (note,)
    name = listed[0]
    if name not in family.heads:
        raise config.fault(
            f"the architecture {name[:80]!r} is not known", expected=f"one of {', '.join(family.heads)}", hint=_OWN_CODE
        )  # fmt: skip
    return name, family.heads[name], ()


def _dtype(config: Config, stored: Mapping[str, Tensor]) -> tuple[DType, str]:
    found = working_dtype(stored)
    if found is not None:
        return found, ""
    text = config.text("dtype", "torch_dtype", default="float32").removeprefix("torch.")
    if "dtype" in config.assumed:
        del config.assumed["dtype"]
        return FLOAT32, "the configuration has no dtype: float32, the library's default, was assumed"
    if text not in _DTYPES:
        raise config.fault(f"'torch_dtype' is {text[:40]!r}", expected=f"one of {', '.join(_DTYPES)}")
    return _DTYPES[text], ""


def _defaults(graph: Graph, design: Design, options: Options) -> dict[str, int]:
    found = {"batch": 1}
    symbols = {str(dim) for name in graph.inputs for dim in graph.tensors[name].shape or ()}
    if "sequence" in symbols:
        room = options.context if isinstance(options.context, int) and "decoder_sequence" not in symbols else None
        found["sequence"] = min(USUAL_SEQUENCE, *(n for n in (design.longest, room) if n is not None))
    if "decoder_sequence" in symbols:
        found["decoder_sequence"] = 1
    return found


def _said(options: Options, head: str, config: Config, network: Network, scheme: Scheme | None) -> list[str]:
    """What was assumed, one sentence each."""
    said = [
        "attention as the library's eager code: scores, mask and softmax are tensors"
        if options.eager
        else "fused attention: scores are never held, nor is the log-sum-exp beside the output"
    ]
    if options.library:
        said.append("tensors live as long as the variables of the library's modules refer to them")
    if head == "lm":
        said.append(
            "logits of the last token only, as generation asks for them (--option logits=all for every token)"
            if options.logits == "last"
            else "logits of every token, as a plain call of the module gives them"
        )
    if options.kv_dtype is not None:
        said.append("new keys and values are written into the cache and not held beside it, unless a window drops some")
    if scheme is not None:
        if not network.quantised:
            said.append(f"quantisation ({scheme.title}) found no layer to cover")
        said.append("activations keep the dtype of the configuration; workspace of dequantisation is not counted")
    if config.assumed:
        listed = ", ".join(f"{name} = {value}" for name, value in config.assumed.items())
        said.append(f"fields the configuration leaves out, at the library's defaults: {listed}")
    return said


def _scheme_detail(scheme: Scheme | None, network: Network) -> tuple[Detail, ...]:
    if scheme is None:
        return ()
    return (Detail("quantisation", f"{scheme.title}: {network.quantised} layers"),)
