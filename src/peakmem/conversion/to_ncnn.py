"""ONNX to ncnn, by pnnx, with a look at what pnnx did not do.

pnnx ends with code 0 whatever it met (pnnx 20261020). What it cannot convert it leaves in the .ncnn.param under another
name (`torch.where`, `pnnx.Expression`, `NonMaxSuppression`), or under the name of a layer of ncnn but without that
layer's numbered parameters, and then it prints `ignore LSTM LSTM_0 param hidden_size=8`: such a file crashes ncnn or
computes something else. Both are refused here by name. A Split of ONNX before operator set 18 that has no sizes loses
them that way; its sizes follow from the shapes and are written into the ONNX file first.

In ncnn the inputs are called in0, in1 … in the order of the ONNX inputs. The batch dimension is no part of a blob where
pnnx has found one; which input has none stands in the test program that it writes beside (`batch_index=233`).
"""

from __future__ import annotations

import re
from pathlib import Path

from peakmem.conversion import known_wrong
from peakmem.conversion.step import Job, Made, Option, Port, Step, call, printed
from peakmem.errors import ConversionError, MissingLibrary, PeakmemError, UsageError

STEPS = (
    Step(
        "onnx", "ncnn", "peakmem.conversion.to_ncnn:convert", ("pnnx", "onnx"), "ncnn",
        options=(
            Option("fp16", False, (), "store weights in half precision"),
            Option("optlevel", 2, (0, 1, 2), "how much pnnx rewrites the network"),
        ),
        revision=2,
    ),
)  # fmt: skip

_DTYPES = {
    "float32": "f32", "float64": "f64", "float16": "f16", "bfloat16": "bf16", "int32": "i32", "int64": "i64",
    "int16": "i16", "int8": "i8", "uint8": "u8", "bool": "bool",
}  # fmt: skip
NO_BATCH = 233
# what pnnx calls the position of a batch dimension that it has not found
_IGNORED = re.compile(r"^ignore (\S+) (\S+) param (\S+?)=", re.MULTILINE)
_UNREGISTERED = re.compile(r"Fatal error: (\S+?)\(-?\d+\) is not a registered function/op")
_INVALID = re.compile(r'invalid model\. In Node, \("[^"]*", (\w+),')
# said by the ONNX Runtime inside pnnx, which then crashes
_EXPRESSION = "pnnx.Expression"
# a number that an operator reads; left over when that operator is
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
_INPUT = re.compile(r'ex\.input\("(in\d+)",.*?batch_index=(\d+)\)')
_EXPLICIT_SPLIT = 18
# operator set in which a Split says how many outputs it has
_MOST_NAMED = 8
_LARGEST = 2**31 - 1


def convert(job: Job) -> Made:
    """Write job.target/model.ncnn.param and .bin.

    Raises:
        ConversionError: operators that pnnx left as they were, or pnnx failed.
        UsageError: an input of a dtype that pnnx has no word for, or a batch of several.
    """
    program = _program()
    known_wrong.refuse("ncnn", job)
    notes = _prepared(job)
    shapes = ",".join(f"[{','.join(map(str, port.shape))}]{_word(port)}" for port in job.inputs)
    names = {
        "pnnxparam": "p.param", "pnnxbin": "p.bin", "pnnxpy": "p.py", "pnnxonnx": "p.onnx", "ncnnpy": "ncnn.py",
        "ncnnparam": f"target/{job.name}.ncnn.param", "ncnnbin": f"target/{job.name}.ncnn.bin",
    }  # fmt: skip
    arguments = [str(program), "source.onnx", f"inputshape={shapes}", f"fp16={int(job.options['fp16'])}"]
    arguments += [f"optlevel={job.options['optlevel']}", *(f"{name}={path}" for name, path in names.items())]
    code = call(arguments, job)
    param = job.target / f"{job.name}.ncnn.param"
    if code != 0 or not param.is_file():
        said = _ESCAPES.sub("", printed(job))
        foreign = tuple(dict.fromkeys(_UNREGISTERED.findall(said)))
        if foreign:
            raise ConversionError(f"pnnx does not know {', '.join(foreign)}", operators=foreign)
        invalid = tuple(dict.fromkeys(_INVALID.findall(said)))
        if invalid:
            raise ConversionError(f"pnnx cannot convert {', '.join(invalid)} to ncnn", operators=invalid)
        last = [line.strip() for line in said.splitlines() if line.strip()][-3:]
        how = f"ended with code {code}" if code >= 0 else f"was ended by signal {-code}"
        raise ConversionError(f"pnnx {how}{': ' if last else ''}{' | '.join(last)[:400]}")
    left = unconverted(param.read_text(encoding="utf-8"), printed(job))
    if left:
        shown = ", ".join(left[:_MOST_NAMED]) + (
            f" and {len(left) - _MOST_NAMED} more" if len(left) > _MOST_NAMED else ""
        )
        raise ConversionError(f"pnnx cannot convert {shown} to ncnn", operators=tuple(left))
    inputs = _inputs(job, Path("ncnn.py").read_text(encoding="utf-8"))
    _check(job, param, inputs)
    return Made(param.name, inputs, notes)


def unconverted(param: str, log: str) -> list[str]:
    """What pnnx left as it was, from the .ncnn.param's text and what it printed: types, each with what it lost."""
    from peakmem.frontends.ncnn.layers import TYPES, UNRELEASED

    known = {*TYPES, *UNRELEASED}
    found: dict[str, None] = {}
    for line in param.splitlines()[2:]:
        words = line.split()
        if words and words[0] not in known:
            found[words[0]] = None
    if len(found) > 1:
        found.pop(_EXPRESSION, None)
    lost: dict[str, dict[str, None]] = {}
    for layer, _name, parameter in _IGNORED.findall(log):
        if layer in known:
            lost.setdefault(layer, {})[parameter] = None
    return [*found, *(f"{layer} ({', '.join(parameters)} lost)" for layer, parameters in lost.items())]


def _program() -> Path:
    """The pnnx program; its Python package imports torch, which is not needed."""
    from importlib.util import find_spec

    spec = find_spec("pnnx")
    if spec is None or not spec.submodule_search_locations:
        raise MissingLibrary("pnnx", extra="ncnn", purpose="converting ONNX to ncnn")
    home = Path(spec.submodule_search_locations[0])
    return home / ("pnnx.exe" if (home / "pnnx.exe").exists() else "pnnx")


def _word(port: Port) -> str:
    if port.dtype not in _DTYPES:
        raise UsageError(f"pnnx has no inputs of {port.dtype}", where=f"input {port.name!r}")
    return _DTYPES[port.dtype]


def _prepared(job: Job) -> tuple[str, ...]:
    """Put the model into the working directory as source.onnx, where pnnx also writes; notes on what was changed."""
    import onnx
    from onnx.external_data_helper import uses_external_data

    here = Path("source.onnx")
    model = onnx.load(job.source, load_external_data=False)
    version = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)
    splits = [
        node
        for node in model.graph.node
        if node.op_type == "Split" and version < _EXPLICIT_SPLIT and len(node.output) > 1
        and len(node.input) < 2 and not any(one.name == "split" for one in node.attribute)
    ]  # fmt: skip
    external = any(uses_external_data(tensor) for tensor in model.graph.initializer)
    sizes = _split_sizes(job, [node.output[0] for node in splits]) if splits else {}
    if not sizes and not external:
        here.symlink_to(job.source)
        return ()
    if external:
        onnx.load_external_data_for_model(model, str(Path(job.source).parent))
    for node in splits:
        if node.output[0] in sizes:
            parts = [sizes[node.output[0]]] * len(node.output)
            if version < 13:
                node.attribute.append(onnx.helper.make_attribute("split", parts))
            else:
                name = f"{node.output[0]}.peakmem_split"
                model.graph.initializer.append(
                    onnx.helper.make_tensor(name, onnx.TensorProto.INT64, [len(parts)], parts)
                )
                node.input.append(name)
    if model.ByteSize() > _LARGEST:
        raise ConversionError("pnnx reads ONNX files of up to 2 GiB, with all weights in the file")
    onnx.save(model, here)
    count = sum(node.output[0] in sizes for node in splits)
    return (f"sizes were written into {count} Split operators, which pnnx loses otherwise",) if count else ()


def _split_sizes(job: Job, outputs: list[str]) -> dict[str, int]:
    """Size along the axis of the tensors called `outputs`, each the first of an even Split."""
    from peakmem.binding import bound
    from peakmem.pipeline import load

    try:
        graph = bound(load(job.source), shapes={port.name: port.shape for port in job.inputs})
    except PeakmemError:
        return {}
    found = {}
    for operator in graph.operators:
        if operator.op_type != "Split" or operator.outputs[0] not in outputs:
            continue
        axis = operator.attributes.get("axis", 0)
        parts = [graph.tensors[name].shape for name in operator.outputs]
        sizes = {shape[axis] if shape is not None else None for shape in parts}
        size = sizes.pop() if len(sizes) == 1 else None
        if isinstance(size, int):
            found[operator.outputs[0]] = size
    return found


def _inputs(job: Job, program: str) -> tuple[Port, ...]:
    """What the ncnn file wants to be fed: integers are 32 bits wide there, and a blob has no batch dimension."""
    batches = {name: int(position) for name, position in _INPUT.findall(program)}
    ports = []
    for number, port in enumerate(job.inputs):
        name = f"in{number}"
        position = batches.get(name, NO_BATCH)
        shape = port.shape
        if position != NO_BATCH and position < len(shape):
            if shape[position] != 1:
                raise UsageError(
                    f"ncnn runs one sample at a time, and dimension {position} of input {port.name!r} is a batch of "
                    f"{shape[position]}", hint="--batch 1",
                )  # fmt: skip
            shape = shape[:position] + shape[position + 1 :]
        ports.append(Port(name, "int32" if "int" in port.dtype or port.dtype == "bool" else "float32", shape))
    return tuple(ports)


def _check(job: Job, param: Path, inputs: tuple[Port, ...]) -> None:
    """Hold the outputs' sizes against those of the ONNX file, as far as both are known.

    Raises:
        ConversionError: they differ, or the layers do not go together: the conversion went wrong.
    """
    from peakmem.binding import bound
    from peakmem.pipeline import load

    try:
        before = bound(load(job.source), shapes={port.name: port.shape for port in job.inputs})
        wanted = [before.tensors[name].count for name in before.outputs]
    except PeakmemError:
        return
    try:
        given = load(param)
        after = bound(given, shapes={port.name: port.shape for port in inputs if port.name in given.inputs})
    except PeakmemError as fault:
        raise ConversionError(f"pnnx wrote a network that contradicts itself: {fault.what}") from fault
    counts = {name: after.tensors[name].count for name in after.outputs if name.startswith("out")}
    for number, count in enumerate(wanted):
        found = counts.get(f"out{number}")
        if found is not None and count is not None and found != count:
            raise ConversionError(
                f"pnnx wrote a network whose output out{number} has {found} elements, and {count} in the ONNX file"
            )
