"""ONNX's own backend tests as an oracle: what the operators give there against what we infer.

Each case is a small model with its inputs and results. It is inferred three times: with the
contents of the inputs known, as if they were stored constants; with shapes alone; and with
symbols for the dimensions of float inputs. A number that we claim must be the real one each time.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.backend.test.loader import load_model_tests

from peakmem.ir.dims import Symbol
from peakmem.ir.graph import Graph, Tensor
from peakmem.ir.shapes import all_rules, infer
from peakmem.ir.shapes.control import CONTROL
from peakmem.ir.shapes.sequences import SEQUENCES

from .onnx_graphs import array_of, dtype_of, graph_of_model, with_symbols, without_values

# Sizes that only running tells, whatever is known beforehand.
DATA_DEPENDENT = {"ImageDecoder", "Loop", "NonMaxSuppression", "Slice", "StringNormalizer", "StringSplit", "Unique"}
# bfloat16 contents are not kept, so the length of a range of them is open.
OPEN_CASES = {"test_range_bfloat16_type_positive_delta", "test_range_bfloat16_type_positive_delta_expanded"}
# Operators without a rule: on maps, which have no shape, of training, and one with a body of its own.
NO_RULE = {
    "": {"SequenceMap"},
    "ai.onnx.ml": {"CastMap", "DictVectorizer", "ZipMap"},
    "ai.onnx.preview.training": {"Adagrad", "Adam", "Gradient", "Momentum"},
    "ai.onnx.preview": set(),
}  # fmt: skip


class Case:
    """One model of the backend tests, its inputs and what it gives."""

    def __init__(self, case: Any, given: Any, results: Any) -> None:
        self.name = case.name
        self.model: onnx.ModelProto = case.model
        self.given = given
        self.results = dict(zip((item.name for item in case.model.graph.output), results, strict=False))
        self.types = {item.name: item.type.tensor_type.elem_type for item in case.model.graph.output}

    def graph(self) -> Graph:
        return graph_of_model(self.model, self.given)

    def outputs(self) -> Iterator[tuple[str, np.ndarray]]:
        """Results that are tensors."""
        for name, value in self.results.items():
            array = array_of(value)
            if array is not None:
                yield name, array


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    with warnings.catch_warnings():
        # Making the cases overflows casts on purpose.
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        found = [Case(case, *data) for case in collect_testcases() for data in case.data_sets]
    return [case for case in found if all(array_of(value) is not None for value in case.given)]


def faults(tensor: Tensor, array: np.ndarray, code: int) -> Iterator[str]:
    """What is wrong with an inferred tensor; nothing when it only says less."""
    want = dtype_of(code)
    if tensor.dtype is not None and want is not None and tensor.dtype != want:
        yield f"{tensor.dtype} for {want}"
    if tensor.shape is not None:
        pairs = zip(tensor.shape, array.shape, strict=False)
        if len(tensor.shape) != array.ndim or any(isinstance(a, int) and a != b for a, b in pairs):
            yield f"{tensor.shape} for {array.shape}"


def run(graph: Graph) -> Graph:
    return infer(graph, trust_declared=False, symbolic=True)


def test_known_contents(cases: list[Case]) -> None:
    """Everything is told, but for the few sizes that only running tells."""
    wrong, missing, ran = [], Counter[str](), 0
    for case in cases:
        inferred = run(case.graph())
        for name, array in case.outputs():
            ran += 1
            tensor = inferred.tensors[name]
            wrong += [f"{case.name}: {fault}" for fault in faults(tensor, array, case.types[name])]
            if tensor.shape != array.shape and case.name not in OPEN_CASES:
                missing.update({unknown.op_type for unknown in inferred.unknowns})
    assert not wrong
    assert ran > 1800
    assert set(missing) <= DATA_DEPENDENT | NO_RULE["ai.onnx.preview.training"]


def test_shapes_alone(cases: list[Case]) -> None:
    """Without the contents less is known; nothing is wrong."""
    wrong, told = [], 0
    for case in cases:
        inferred = run(without_values(case.graph()))
        for name, array in case.outputs():
            wrong += [f"{case.name}: {fault}" for fault in faults(inferred.tensors[name], array, case.types[name])]
            told += inferred.tensors[name].shape == array.shape
    assert not wrong
    assert told > 1500


PLAIN_ARITHMETIC = re.compile(r"[\w+\-*/() ]+")


def value_of(symbol: Symbol, sizes: dict[str, int]) -> int | None:
    """What a symbol stands for, if its name is arithmetic on the symbols of the inputs."""
    words = re.findall(r"[A-Za-z_]\w*", symbol.name)
    if not PLAIN_ARITHMETIC.fullmatch(symbol.name) or not all(word in sizes for word in words):
        return None
    return int(eval(symbol.name, {"__builtins__": {}}, sizes))


def test_symbols(cases: list[Case]) -> None:
    """With symbols for sizes nothing is refused, and each symbol stands for the real size."""
    wrong, checked = [], 0
    for case in cases:
        graph = case.graph()
        inferred = run(with_symbols(graph))
        sizes = {
            f"{name}_{axis}": dim
            for name in graph.inputs
            for axis, dim in enumerate(graph.tensors[name].shape or ())
            if isinstance(dim, int)
        }
        for name, array in case.outputs():
            tensor = inferred.tensors[name]
            wrong += [f"{case.name}: {fault}" for fault in faults(tensor, array, case.types[name])]
            if 1 in sizes.values():
                continue  # where shapes are broadcast, a symbol that is 1 gives way to the other
            for dim, real in zip(tensor.shape or (), array.shape, strict=False):
                value = value_of(dim, sizes) if isinstance(dim, Symbol) else None
                checked += value is not None
                if value is not None and value != real:
                    wrong.append(f"{case.name}: {dim} is {value}, not {real}")
    assert not wrong
    assert checked > 1500


def test_contents(cases: list[Case]) -> None:
    """What is folded equals what the operators compute."""
    wrong, folded = [], Counter[str]()
    for case in cases:
        inferred = run(case.graph())
        for name, array in case.outputs():
            values = inferred.tensors[name].values
            if values is None:
                continue
            folded.update(node.op_type for node in case.model.graph.node)
            real = array.reshape(-1)
            if real.dtype.kind == "f" or real.dtype.kind == "V":
                close = np.allclose(np.array(values, np.float64), real.astype(np.float64), rtol=1e-3, equal_nan=True)
            else:
                close = list(values) == real.tolist()
            if not close:
                wrong.append(f"{case.name}: {values[:8]} for {real[:8]}")
    assert not wrong
    assert sum(folded.values()) > 700
    assert len(folded) > 50


def _stored(kind: str) -> list[Any]:
    return [pytest.param(Path(case.model_dir), id=case.name) for case in load_model_tests(kind=kind)]


def _read(path: Path, info: onnx.ValueInfoProto) -> Any:
    if not info.type.HasField("tensor_type"):
        return None
    return onnx.TensorProto.FromString(path.read_bytes())


@pytest.mark.parametrize("folder", [*_stored("simple"), *_stored("pytorch-converted"), *_stored("pytorch-operator")])
def test_stored_models(folder: Path) -> None:
    """Models that lie in files, most of them written by PyTorch in 2017 and 2018 (operator set 6)."""
    model = onnx.load(folder / "model.onnx")
    data = folder / "test_data_set_0"
    weights = {item.name for item in model.graph.initializer}
    inputs = [item for item in model.graph.input if item.name not in weights]
    given = [_read(data / f"input_{position}.pb", item) for position, item in enumerate(inputs)]
    if "gradient" in folder.name or None in given:
        pytest.skip("training, or no tensors")
    del model.graph.value_info[:]
    inferred = run(graph_of_model(model, given))
    for position, item in enumerate(model.graph.output):
        array = array_of(_read(data / f"output_{position}.pb", item))
        if array is None:
            continue
        tensor = inferred.tensors[item.name]
        assert not list(faults(tensor, array, item.type.tensor_type.elem_type))
        assert tensor.shape == array.shape or inferred.unknowns[0].op_type in DATA_DEPENDENT


LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


@pytest.mark.parametrize("path", sorted(LIGHT.glob("*.onnx")), ids=lambda path: path.stem)
def test_classic_networks(path: Path) -> None:
    """Eight image classifiers with hollow weights, end to end, in operator set 9."""
    model = onnx.load(path)
    weights = {item.name for item in model.graph.initializer}
    shapes = [
        np.broadcast_to(np.float32(0), [dim.dim_value for dim in item.type.tensor_type.shape.dim])
        for item in model.graph.input
        if item.name not in weights
    ]
    inferred = run(graph_of_model(model, shapes))
    want = onnx.TensorProto.FromString(path.with_name(f"{path.stem}_output_0.pb").read_bytes())
    assert inferred.tensors[model.graph.output[0].name].shape == tuple(want.dims)
    assert not inferred.unknowns
    assert all(tensor.shape is not None and tensor.dtype is not None for tensor in inferred.tensors.values())


def test_every_operator_has_a_rule() -> None:
    """What ONNX defines and we do not know is listed above, and nothing else."""
    for domain, allowed in NO_RULE.items():
        names = {schema.name for schema in onnx.defs.get_all_schemas_with_history() if schema.domain == domain}
        prefix = f"{domain}:" if domain else ""
        known = {
            name
            for name in names
            if prefix + name in all_rules() or (not domain and (name in CONTROL or name in SEQUENCES))
        }
        assert names - known - {"Constant"} == allowed
