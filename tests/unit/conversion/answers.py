"""What engines answer to the same input, so that a converted file can be held against the one it was made from.

python answers.py KIND PATH VALUES.npz OUT.npz        in a process of its own: a wrong file may crash an engine
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

Values = Mapping[str, Any]


def answers(kind: str, path: str, values: Values, folder: Path) -> list[Any]:
    """The outputs of the file at `path` for `values`, arrays by the names its engine has for its inputs."""
    import numpy as np

    np.savez(folder / "values.npz", **values)
    out = folder / f"{kind}.npz"
    order = [sys.executable, __file__, kind, path, str(folder / "values.npz"), str(out)]
    done = subprocess.run(order, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode != 0:
        raise RuntimeError(f"{kind} ended with code {done.returncode}: {done.stderr[-400:]}")
    with np.load(out) as found:
        return [found[name] for name in sorted(found, key=lambda name: int(name[4:]))]


def of_onnx(path: str, values: Values) -> list[Any]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(values)))


def of_ncnn(path: str, values: Values) -> list[Any]:
    import ncnn
    import numpy as np

    net = ncnn.Net()
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    assert net.load_param(path) == 0
    assert net.load_model(path.removesuffix(".param") + ".bin") == 0
    found = []
    with net.create_extractor() as extractor:
        for name in net.input_names():
            extractor.input(name, ncnn.Mat(np.ascontiguousarray(values[name])).clone())
        for name in net.output_names():
            code, out = extractor.extract(name)
            assert code == 0, f"{name}: {code}"
            found.append(np.array(out))
    return found


def of_openvino(path: str, values: Values) -> list[Any]:
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    names = [given.any_name for given in model.outputs]
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled(dict(values))
    return [found[name] for name in names]


def of_mnn(path: str, values: Values) -> list[Any]:
    import MNN
    import numpy as np

    interpreter = MNN.Interpreter(path)
    session = interpreter.createSession({"backend": "CPU", "precision": "high", "numThread": 1})
    types = {"float32": MNN.Halide_Type_Float, "int32": MNN.Halide_Type_Int, "int64": MNN.Halide_Type_Int}
    for name, given in interpreter.getSessionInputAll(session).items():
        value = values[name]
        if value.dtype.kind != "f":
            value = value.astype("int32")
        elif value.dtype == np.float16:
            value = value.astype("float32")
        interpreter.resizeTensor(given, value.shape)
        interpreter.resizeSession(session)
        here = MNN.Tensor(
            value.shape, types[str(value.dtype)], np.ascontiguousarray(value), MNN.Tensor_DimensionType_Caffe
        )
        given.copyFrom(here)
    interpreter.runSession(session)
    found = []
    for _, given in sorted(interpreter.getSessionOutputAll(session).items()):
        # by name: MNN has forgotten the file's order
        shape, form = given.getShape(), given.getDataType()
        empty = np.zeros(shape, np.int32 if form == MNN.Halide_Type_Int else np.float32)
        here = MNN.Tensor(shape, form, empty, MNN.Tensor_DimensionType_Caffe)
        given.copyToHostTensor(here)
        found.append(np.array(here.getNumpyData()).reshape(shape))
    return found


def of_mnn_module(path: str, values: Values) -> list[Any]:
    """A file with bodies of its own, which a session cannot run."""
    import MNN
    import numpy as np
    from MNN import expr, nn

    interpreter = MNN.Interpreter(path)
    names = sorted(interpreter.getSessionOutputAll(interpreter.createSession()))
    module = nn.load_module_from_file(path, list(values), names)
    given = []
    for value in values.values():
        given.append(expr.placeholder(list(value.shape), expr.NCHW))
        given[-1].write(np.ascontiguousarray(value))
    made = module.forward(given)
    return [np.array(one.read()) for one in (made if isinstance(made, (list, tuple)) else (made,))]


def of_torch(path: str, values: Values) -> list[Any]:
    """A .py file made here, with the weights that every conversion of it draws."""
    import torch

    from peakmem.conversion.torch_module import SEED

    home: dict[str, Any] = {}
    exec(compile(Path(path).read_text(encoding="utf-8"), path, "exec"), home)
    torch.manual_seed(SEED)
    return _called(home["model"](), values)


def of_torch_source(path: str, values: Values) -> list[Any]:
    """An ONNX file as PyTorch source, with the file's own weights."""
    import onnx

    from peakmem.binding import bound
    from peakmem.conversion.torch_source import torch_source
    from peakmem.pipeline import load

    source = torch_source(bound(load(path), shapes={name: value.shape for name, value in values.items()}))
    home: dict[str, Any] = {}
    exec(compile(source.text, "network.py", "exec"), home)
    module = home["factory"]()
    source.fill(module, {one.name: onnx.numpy_helper.to_array(one) for one in onnx.load(path).graph.initializer})
    return _called(module, {name: values[name] for name, _, _ in source.inputs})


def _called(module: Any, values: Values) -> list[Any]:
    import torch

    with torch.no_grad():
        made = module(*(torch.from_numpy(value.copy()) for value in values.values()))
    return [one.numpy() for one in (made if isinstance(made, (tuple, list)) else (made,))]


def of_pte(path: str, values: Values) -> list[Any]:
    import torch
    from executorch.runtime import Runtime

    method = Runtime.get().load_program(path).load_method("forward")
    return [one.numpy() for one in method.execute([torch.from_numpy(value.copy()) for value in values.values()])]


def of_tflite(path: str, values: Values) -> list[Any]:
    """Integers of an int8 file are scaled from and to floats."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    reader = Interpreter(path, num_threads=1)
    reader.allocate_tensors()
    for row in reader.get_input_details():
        value, (scale, zero) = values[row["name"]], row["quantization"]
        if scale and value.dtype.kind == "f" and row["dtype"] is np.int8:
            value = np.clip(np.round(value / scale) + zero, -128, 127)
        reader.set_tensor(row["index"], value.astype(row["dtype"]))
    reader.invoke()
    found = []
    for row in reader.get_output_details():
        value, (scale, zero) = reader.get_tensor(row["index"]), row["quantization"]
        found.append((value.astype(np.float32) - zero) * np.float32(scale) if scale else value)
    return found


ENGINES: dict[str, Callable[[str, Values], list[Any]]] = {
    "onnx": of_onnx, "ncnn": of_ncnn, "openvino": of_openvino, "mnn": of_mnn, "mnn_module": of_mnn_module,
    "torch": of_torch, "torch_source": of_torch_source, "pte": of_pte, "tflite": of_tflite,
}  # fmt: skip


if __name__ == "__main__":
    import numpy

    kind, model, given, out = sys.argv[1:]
    with numpy.load(given) as told:
        numpy.savez(out, *ENGINES[kind](model, dict(told)))
