"""Shapes against the interpreter's own, as the file has them and after its inputs were resized.

The files are made in code; those of ../shared/models are read in the conformance tests.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

import peakmem
from peakmem.binding import bound
from peakmem.frontends.tflite.reader import read_tflite
from tests.unit.frontends import tflite_files as made
from tests.unit.frontends.tflite_files import code, f32, i32, ints, model, operator, subgraph, tensor

litert = pytest.importorskip("ai_edge_litert.interpreter")
official = pytest.importorskip("ai_edge_litert.schema_py_generated")

SHARED = Path(__file__).parents[4] / "shared" / "models" / "tflite"


def interpreter(path):
    plain = litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return litert.Interpreter(str(path), experimental_op_resolver_type=plain, experimental_preserve_all_tensors=True)


def engine_shapes(path, shapes):
    """What the interpreter resizes the outputs to, or None where it refuses."""
    try:
        engine = interpreter(path)
        for detail in engine.get_input_details():
            if detail["name"] in shapes:
                engine.resize_tensor_input(detail["index"], shapes[detail["name"]])
        engine.allocate_tensors()
        for detail in engine.get_input_details():
            engine.set_tensor(detail["index"], np.ones(detail["shape"], detail["dtype"]))
        engine.invoke()
    except (RuntimeError, ValueError):
        return None
    return [tuple(map(int, detail["shape"])) for detail in engine.get_output_details()]


def our_shapes(path, shapes):
    try:
        graph = bound(read_tflite(path), shapes=shapes)
    except peakmem.PeakmemError:
        return None
    return [graph.tensors[name].shape for name in graph.outputs]


def once(number, shapes, constants=(), kind=0, options=None, outputs=1, order=None, rank=1, version=1):
    """A file with one operator on inputs x0, x1, … of `shapes` and int32 or float32 constants after them."""
    listed = [tensor(f"x{at}", shape) for at, shape in enumerate(shapes)]
    buffers = []
    for at, value in enumerate(constants):
        if isinstance(value, tuple) and value and value[0] == "f":
            listed.append(tensor(f"w{at}", value[1], buffer=at + 1))
            buffers.append(f32(int(np.prod(value[1]))))
        else:
            shape = () if isinstance(value, int) else (len(value),)
            listed.append(tensor(f"k{at}", shape, made.INT32, at + 1))
            buffers.append(i32(value) if isinstance(value, int) else i32(*value))
    given = len(listed)
    listed += [tensor(f"y{at}", (1,) * rank, signature=(-1,) * rank) for at in range(outputs)]
    made_here = tuple(range(given, given + outputs))
    inputs = tuple(range(given)) if order is None else order
    graph = subgraph(listed, tuple(range(len(shapes))), made_here, [operator(0, inputs, made_here, kind, options)])
    return model([graph], [code(number, version=version)], buffers)


B, I32 = "b", "i"
WINDOW = {1: (I32, 2), 2: (I32, 2), 4: (I32, 3), 3: (I32, 3)}
CONVOLUTION = {1: (I32, 2), 2: (I32, 1), 4: (I32, 1), 5: (I32, 1)}
CASES = {
    "conv same": (once(3, [(1, 9, 8, 3)], [("f", (4, 3, 3, 3)), ("f", (4,))], 1, {0: (B, 0), **CONVOLUTION}), 9),
    "conv valid": (once(3, [(1, 9, 8, 3)], [("f", (4, 3, 3, 3)), ("f", (4,))], 1, {0: (B, 1), **CONVOLUTION}), 9),
    "conv groups": (once(3, [(1, 9, 8, 6)], [("f", (4, 3, 3, 3)), ("f", (4,))], 1, {0: (B, 1), **CONVOLUTION}), 9),
    "conv dilated": (
        once(3, [(1, 19, 18, 3)], [("f", (4, 3, 3, 3)), ("f", (4,))], 1,
             {0: (B, 1), 1: (I32, 1), 2: (I32, 1), 4: (I32, 2), 5: (I32, 3)}), 19),
    "depthwise": (
        once(4, [(1, 9, 8, 3)], [("f", (1, 3, 3, 6)), ("f", (6,))], 2,
             {0: (B, 0), 1: (I32, 2), 2: (I32, 2), 3: (I32, 2), 5: (I32, 1), 6: (I32, 1)}), 9),
    "max pool": (once(17, [(1, 9, 8, 3)], [], 5, {0: (B, 1), **WINDOW}), 9),
    "average pool": (once(1, [(1, 9, 8, 3)], [], 5, {0: (B, 0), **WINDOW}), 9),
    "transposed conv": (
        once(67, [(1, 4, 4, 3)], [(1, 8, 8, 5), ("f", (5, 2, 2, 3))], 49, {0: (B, 0), 1: (I32, 2), 2: (I32, 2)},
             order=(1, 2, 0)), 0),
    "fully connected": (once(9, [(1, 2, 8)], [("f", (5, 8)), ("f", (5,))], 8, {}), 2),
    "fully connected, rank kept": (once(9, [(1, 2, 8)], [("f", (5, 8)), ("f", (5,))], 8, {2: ("?", True)}), 2),
    "batch matmul": (once(126, [(1, 3, 4), (1, 5, 4)], [], 101, {1: ("?", True)}), 0),
    "add": (once(0, [(1, 3, 4), (1, 1, 4)], [], 11, {}), 0),
    "squared difference": (once(99, [(2, 4), (4,)]), 0),
    "concatenation": (once(2, [(1, 3), (1, 5)], [], 10, {0: (I32, -1)}), 0),
    "pack": (once(83, [(1, 3), (1, 3)], [], 59, {0: (I32, 2), 1: (I32, 1)}), 0),
    "unpack": (once(88, [(2, 3)], [], 64, {0: (I32, 3), 1: (I32, 1)}, outputs=3), 0),
    "split": (once(49, [(2, 6)], [1], 35, {0: (I32, 3)}, outputs=3, order=(1, 0)), 0),
    "split by sizes": (once(102, [(2, 6)], [(1, -1), 1], 79, {0: (I32, 2)}, outputs=2), 0),
    "slice": (once(65, [(2, 6)], [(0, 1), (-1, 3)], rank=2), 0),
    "strided slice": (once(45, [(4, 6, 8)], [(0, 1, -1), (0, 5, -9), (1, 2, -3)], 32, {0: (I32, 1), 1: (I32, 1)}), 0),
    "strided slice, shrunk": (once(45, [(4, 6, 8)], [(1, 0), (2, 4), (1, 1)], 32, {4: (I32, 1)}), 0),
    "strided slice, ellipsis": (
        once(45, [(4, 6, 8)], [(0, 0, 1), (0, 0, 3), (1, 1, 1)], 32, {2: (I32, 1), 3: (I32, 2)}), 0),
    "gather": (once(36, [(3, 5)], [(0, 2, 2, 1)], 23, {0: (I32, 1)}), 0),
    "gather nd": (once(107, [(3, 5)], [(1,)]), 0),
    "transpose": (once(39, [(2, 3, 4)], [(2, 0, 1)]), 0),
    "tile": (once(69, [(2, 3)], [(2, 3)]), 0),
    "expand dims": (once(70, [(2, 3)], [-1]), 0),
    "squeeze": (once(43, [(2, 1, 3)], [], 30, {0: ints(-2)}), 0),
    "reshape by options": (once(22, [(2, 6)], [], 17, {0: ints(-1, 4)}), 0),
    "mean": (once(40, [(2, 3, 4)], [(1, -1)], 27, {}), 0),
    "sum, rank kept": (once(74, [(2, 3, 4)], [(1, -1)], 27, {0: ("?", True)}), 0),
    "space to depth": (once(26, [(1, 4, 6, 3)], [], 19, {0: (I32, 2)}), 4),
    "depth to space": (once(5, [(1, 4, 6, 8)], [], 94, {0: (I32, 2)}), 4),
    "resize": (once(23, [(1, 4, 6, 3)], [(7, 5)], 15, {}), 4),
    "nearest": (once(97, [(1, 4, 6, 3)], [(7, 5)], 74, {}), 4),
    "softmax": (once(25, [(2, 3)], [], 9, {0: ("f", 1.0)}), 0),
    "matrix diagonal": (once(113, [(2, 3)], [], 88, {}), 0),
    "cumulative sum": (once(128, [(2, 3)], [1], 102, {}), 0),
    "reverse": (once(105, [(2, 3)], [(1,)], 81, {}), 0),
    "broadcast to": (once(130, [(1, 3)], [(4, 1, 3)], 105, {}, version=2), 0),
}  # fmt: skip
PADDED = struct.pack("<8i", 0, 0, 1, 2, 0, 3, 0, 0)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("change", ["none", "batch", "size"])
def test_one_operator(name, change, tmp_path):
    data, size = CASES[name]
    path = tmp_path / "one.tflite"
    path.write_bytes(data)
    graph = read_tflite(path)
    shapes = {one: graph.tensors[one].shape for one in graph.inputs}
    if change == "batch":
        shapes = {one: (3 * shape[0], *shape[1:]) for one, shape in shapes.items()}
    elif change == "size":
        shapes = {one: tuple(dim + 2 if dim == size else dim for dim in shape) for one, shape in shapes.items()}
    theirs = engine_shapes(path, shapes)
    assert our_shapes(path, shapes) == theirs
    if change == "none":
        assert theirs is not None


@pytest.mark.parametrize("number", [34, 60, 100])
def test_padding(number, tmp_path):
    shape = tensor("p", (4, 2), made.INT32, 1)
    listed = [tensor("x", (1, 5, 6, 3)), shape, tensor("y", (1,))]
    inputs = (0, 1)
    buffers = [PADDED]
    if number == 60:
        listed.append(tensor("v", (1,), buffer=2))
        inputs, buffers = (0, 1, 3), [PADDED, f32(1)]
    kind, options = (77, {0: (B, 0)}) if number == 100 else (0, None)
    path = tmp_path / "pad.tflite"
    path.write_bytes(
        model([subgraph(listed, (0,), (2,), [operator(0, inputs, (2,), kind, options)])], [code(number)], buffers)
    )
    for shapes in ({}, {"x": (2, 7, 8, 3)}):
        assert our_shapes(path, shapes) == engine_shapes(path, shapes)


def liveness(path):
    """(peak of activations, bytes of constants, bytes of states) from the interpreter's tensors and operators.

    Nothing of peakmem is asked: an activation lives from the step that makes it, an input from the
    first, to its last reader, an output to the end.
    """
    root = official.ModelT.InitFromObj(official.Model.GetRootAs(path.read_bytes(), 0))
    graph = root.subgraphs[0]
    try:
        engine = interpreter(path)
        engine.allocate_tensors()
        nbytes = {
            detail["index"]: int(np.prod(detail["shape"], dtype=np.int64)) * np.dtype(detail["dtype"]).itemsize
            for detail in engine.get_tensor_details()
        }
        steps = [(list(one["inputs"]), list(one["outputs"])) for one in engine._get_ops_details()]
    except ValueError:
        # An older file whose quantisation this engine does not take: as the file says it.
        width = {0: 4, 2: 4, 3: 1, 9: 1, 7: 2}
        nbytes = {at: int(np.prod(one.shape)) * width[one.type] for at, one in enumerate(graph.tensors)}
        steps = [(list(one.inputs), list(one.outputs)) for one in graph.operators]
    stored = {one.buffer: root.buffers[one.buffer].data for one in graph.tensors}
    constants = {at for at, one in enumerate(graph.tensors) if stored[one.buffer] is not None}
    states = {at for at, one in enumerate(graph.tensors) if one.isVariable}
    born = dict.fromkeys(map(int, graph.inputs), 0)
    gone = dict(born)
    for step, (reads, makes) in enumerate(steps):
        born.update(dict.fromkeys(makes, step))
        gone.update(dict.fromkeys(makes, step))
        gone.update({at: step for at in reads if at in born and at not in constants | states})
    gone.update(dict.fromkeys(map(int, graph.outputs), len(steps) - 1))
    live = [sum(nbytes[at] for at in born if born[at] <= step <= gone[at]) for step in range(len(steps))]
    return max(live), sum(len(data) for data in stored.values() if data is not None), sum(nbytes[at] for at in states)


def shared(name):
    path = SHARED / name
    if not path.is_file():
        pytest.skip("../shared/models is not here")
    return path


@pytest.mark.conformance
@pytest.mark.parametrize(
    ("name", "operators", "parameters"),
    [("ad01_int8", 10, 270880), ("dtln_noise_suppression", 4, 366212), ("keyword_scrambled_8bit", 15, 22728),
     ("kws_ref_model", 13, 24376), ("micro_speech_quantized", 4, 16704), ("person_detect", 31, 218928),
     ("pretrainedResnet_quant", 16, 78752)],
)  # fmt: skip
def test_files_that_people_use(name, operators, parameters):
    path = shared(f"{name}.tflite")
    report = peakmem.estimate(path)
    assert not report.unknowns
    assert report.kind == "estimate"
    assert report.model.operators == operators
    assert (report.peaks["naive"], report.peak.weights_bytes, report.peak.state_bytes) == liveness(path)
    assert report.peak.weights_bytes == parameters


@pytest.mark.conformance
@pytest.mark.parametrize("name", ["ad01_int8", "kws_ref_model", "micro_speech_quantized", "pretrainedResnet_quant"])
def test_files_that_people_use_with_another_batch(name):
    path = shared(f"{name}.tflite")
    engine = interpreter(path)
    for detail in engine.get_input_details():
        engine.resize_tensor_input(detail["index"], (3, *map(int, detail["shape"][1:])))
    engine.allocate_tensors()
    graph = bound(read_tflite(path), batch=3)
    by_name = {detail["name"]: tuple(map(int, detail["shape"])) for detail in engine.get_tensor_details()}
    compared = 0
    for one, found in graph.tensors.items():
        if one in by_name:
            assert found.shape == by_name[one], one
            compared += 1
    assert compared > 5


@pytest.mark.conformance
@pytest.mark.parametrize(
    ("name", "said"), [("dtln_noise_suppression", "the state has 128"), ("keyword_scrambled_8bit", "the state has")]
)
def test_states_of_one_batch_refuse_another_as_the_engine_does(name, said):
    path = shared(f"{name}.tflite")
    engine = interpreter(path)
    for detail in engine.get_input_details():
        engine.resize_tensor_input(detail["index"], (3, *map(int, detail["shape"][1:])))
    with pytest.raises(RuntimeError):
        engine.allocate_tensors()
    with pytest.raises(peakmem.PeakmemError, match=said):
        peakmem.estimate(path, batch=3)
