"""Predicted sizes of model files beside real ones: every built-in network, in each format and dtype written here.

    python benchmarks/file_sizes.py --json benchmarks/accuracy/file_sizes.json [--network NAME …] [--group NAME …]
    python benchmarks/file_sizes.py --from benchmarks/accuracy/file_sizes.json --page docs/guides/file-size.md

Each file is written by the format's own tools with random weights, measured, and removed. Norms get random values
too, so that folded biases differ as those of a trained network do. A case that a tool refuses is listed with its
words. One network is one process; what is in the --json file already is not written again. 12 GB of memory, 4 GB of
space for temporary files, about 1 h.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import logging
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SMALL = {
    "gpt2_small": "gpt2_small:context=64", "unet": "unet:resolution=188", "lstm_2layer": "lstm_2layer:sequence=10",
}  # fmt: skip
# sizes of files depend on these by a few bytes alone, the time to convert and calibrate by much
BEGIN, END = "<!-- table: python benchmarks/file_sizes.py -->", "<!-- end of table -->"


def graph_of(spec: str) -> Any:
    from peakmem.filesize.predict import prepared

    return prepared(spec)


def predicted(source: object, form: str, dtype: str | None, fold: bool | None = None, **more: Any) -> Any:
    import peakmem

    return peakmem.file_size(source, form, dtype, fold, **more)


def cell(spec: str, label: str, size: Any, real: int, writer: str) -> dict[str, Any]:
    return {
        "network": spec.partition(":")[0], "format": label, "dtype": size.dtype, "folded": size.folded,
        "predicted": size.nbytes, "low": size.low_bytes, "high": size.high_bytes, "kind": size.kind,
        "tensors": size.tensor_bytes, "real": real, "writer": writer,
    }  # fmt: skip


# -- one function for each group; each yields cells ------------------------------------------------


def onnx_float(spec: str, folder: Path) -> Iterator[dict[str, Any]]:
    """This package's export, and the same of the graph with its norms folded."""
    from peakmem.dtypes import parse_dtype
    from peakmem.filesize.folding import fold_batch_norms
    from peakmem.zoo.export import export_onnx

    graph = graph_of(spec)
    folded = fold_batch_norms(graph)
    for fold in (False, True) if folded.folded else (False,):
        for dtype in ("float32", "float16"):
            path = export_onnx(folded.graph if fold else graph, folder / "m.onnx", dtype=parse_dtype(dtype), force=True)
            yield cell(spec, "onnx", predicted(spec, "onnx", dtype, fold), path.stat().st_size, "peakmem zoo export")


def onnx_int8(spec: str, folder: Path) -> Iterator[dict[str, Any]]:
    """onnxruntime's static quantiser, calibrated with random inputs."""
    import numpy
    from onnxruntime import quantization

    from peakmem.filesize.folding import fold_batch_norms
    from peakmem.zoo.export import export_onnx

    graph = fold_batch_norms(graph_of(spec)).graph
    path, made = export_onnx(graph, folder / "m.onnx"), folder / "q.onnx"
    feeds = {}
    for name in graph.inputs:
        tensor = graph.tensors[name]
        shape = tuple(int(dim) for dim in tensor.shape or ())
        floating = tensor.dtype is not None and tensor.dtype.kind == "float"
        feeds[name] = (
            numpy.random.default_rng(0).standard_normal(shape).astype("f4")
            if floating
            else numpy.zeros(shape, tensor.dtype.name if tensor.dtype else "i8")
        )

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc, unused-ignore]
        given = iter([feeds])

        def get_next(self) -> Any:
            return next(self.given, None)

    import onnx

    model = onnx.load(path)
    model.opset_import[0].version = 21  # the first with int4
    onnx.save(model, path)
    for dtype, kind in (("int8", quantization.QuantType.QInt8), ("int4", quantization.QuantType.QInt4)):
        Reader.given = iter([feeds])
        quantization.quantize_static(
            str(path),
            str(made),
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            weight_type=kind,
            activation_type=quantization.QuantType.QInt8,
        )
        size = predicted(spec, "onnx", dtype)
        yield cell(spec, "onnx", size, made.stat().st_size, "onnxruntime quantize_static")


def ncnn(spec: str, folder: Path) -> Iterator[dict[str, Any]]:
    """pnnx on this package's ONNX file."""
    from peakmem.conversion import convert

    for dtype in ("float32", "float16"):
        path = Path(convert(spec, "ncnn", cache=folder, options={"fp16": dtype == "float16"}).path)
        real = path.stat().st_size + path.with_suffix("").with_suffix(".ncnn.bin").stat().st_size
        yield cell(spec, "ncnn", predicted(spec, "ncnn", dtype), real, "pnnx")


def module_of(spec: str, folder: Path) -> tuple[Any, Any, tuple[int, ...]]:
    """A PyTorch module of the network, norms at random values, with an example input."""
    import torch

    from peakmem.conversion import convert

    made = convert(spec, "torch", cache=folder)
    found = importlib.util.spec_from_file_location("model", made.path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules["model"] = module
    found.loader.exec_module(module)
    network = module.Network().eval()
    generator = torch.Generator().manual_seed(0)
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            for tensor in (part.weight, part.bias, part.running_mean, part.running_var):
                assert tensor is not None
                tensor.data.uniform_(0.5, 1.5, generator=generator)
    (shape, dtype) = next(iter(made.input_shapes.values()))
    example = torch.zeros(shape, dtype=getattr(torch, dtype))
    return network, example, shape


def state(spec: str, folder: Path) -> Iterator[dict[str, Any]]:
    """PyTorch's state_dict: torch.save, safetensors, and gguf."""
    import torch
    from safetensors.torch import save_file

    network, example, _ = module_of(spec, folder)
    for dtype in ("float32", "float16", "bfloat16"):
        kept = {
            name: tensor.to(getattr(torch, dtype)) if tensor.is_floating_point() else tensor
            for name, tensor in network.state_dict().items()
        }
        whole = network.to(getattr(torch, dtype)) if dtype != "float32" else network
        torch.save(whole.state_dict(), folder / "model.pt")
        size = predicted(network.float(), "pt", dtype, inputs=[example])
        yield cell(spec, "pt", size, (folder / "model.pt").stat().st_size, "torch.save")
        with contextlib.suppress(RuntimeError):  # tensors that share memory are refused
            save_file({name: tensor.contiguous() for name, tensor in kept.items()}, folder / "m.safetensors")
            size = predicted(network, "safetensors", dtype, inputs=[example])
            yield cell(spec, "safetensors", size, (folder / "m.safetensors").stat().st_size, "safetensors.torch")
    yield from gguf(spec, folder, network, example)


def gguf(spec: str, folder: Path, network: Any, example: Any) -> Iterator[dict[str, Any]]:
    """GGUFWriter with every tensor, matrices in blocks where that is asked for."""
    import gguf
    import numpy
    from gguf.quants import quantize

    from peakmem.dtypes import parse_dtype
    from peakmem.filesize.content import contents, converted
    from peakmem.filesize.predict import prepared

    graph = prepared(network, inputs=[example])
    values = network.state_dict()
    for dtype in ("float32", "float16", "q8_0"):
        stored = {one.name: one for one in converted(contents(graph), parse_dtype(dtype))}
        writer = gguf.GGUFWriter(folder / "m.gguf", "peakmem")
        for name, tensor in values.items():
            if name not in stored:
                continue
            array = tensor.numpy().reshape(tensor.shape or (1,))
            if stored[name].dtype.name == "q8_0":
                kind = gguf.GGMLQuantizationType.Q8_0
                writer.add_tensor(name, quantize(array, kind), raw_dtype=kind)
            else:
                writer.add_tensor(name, array.astype(numpy.dtype(stored[name].dtype.name)))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        size = predicted(network, "gguf", dtype, inputs=[example])
        yield cell(spec, "gguf", size, (folder / "m.gguf").stat().st_size, "gguf.GGUFWriter")


def torch_onnx(spec: str, folder: Path) -> Iterator[dict[str, Any]]:
    """torch.onnx.export, in both ways."""
    import torch

    network, example, _ = module_of(spec, folder)
    for dynamo in (True, False):
        path = folder / "m.onnx"
        torch.onnx.export(network, (example,), path, dynamo=dynamo, external_data=False, verbose=False)
        size = predicted(network, "onnx", None, inputs=[example])
        writer = "torch.onnx.export" + ("" if dynamo else ", dynamo=False")
        yield cell(spec, "onnx of a module", size, path.stat().st_size, writer)


def tflite(spec: str, folder: Path) -> Iterator[dict[str, Any]]:
    """litert-torch, and ai-edge-quantizer's static int8."""
    import litert_torch

    from peakmem.conversion.to_tflite import _quantised

    network, example, _ = module_of(spec, folder)
    plain, made = folder / "m.tflite", folder / "q.tflite"
    litert_torch.convert(network, (example,)).export(str(plain))
    yield cell(spec, "tflite", predicted(spec, "tflite", "float32"), plain.stat().st_size, "litert-torch")
    for kind, scheme in (("int8", "static"), ("dynamic_int8", "dynamic")):
        _quantised(plain, made, kind)
        size = predicted(spec, "tflite", "int8", scheme=scheme)
        yield cell(spec, f"tflite {scheme}", size, made.stat().st_size, "ai-edge-quantizer")


GROUPS: dict[str, Callable[[str, Path], Iterator[dict[str, Any]]]] = {
    "onnx": onnx_float, "ncnn": ncnn, "state": state, "onnx_int8": onnx_int8, "tflite": tflite,
    "torch_onnx": torch_onnx,
}  # fmt: skip


def one(group: str, spec: str) -> list[dict[str, Any]]:
    """The cells of one group and network, in this process."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        cells: list[dict[str, Any]] = []
        try:
            cells.extend(GROUPS[group](spec, Path(folder)))
        except Exception as fault:  # whatever a tool raises is a result
            said = " ".join(str(fault).split())[:160]
            cells.append(
                {"network": spec.partition(":")[0], "format": group, "refused": f"{type(fault).__name__}: {said}"}
            )
    return [dict(each, group=group) for each in cells]


# -- the table ------------------------------------------------------------------------------------


def summary(cells: list[dict[str, Any]]) -> list[str]:
    """One line for each format, dtype and writer: how far off at most."""
    lines = [
        "| format | dtype | writer | networks | exact | largest difference, B | of the file | within bounds |",
        "|---|---|---|---:|---:|---:|---:|---:|",
    ]
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for each in cells:
        if "real" in each:
            groups.setdefault((each["format"], each["dtype"], each["writer"]), []).append(each)
    for (form, dtype, writer), found in sorted(groups.items()):
        worst = max(found, key=lambda each: abs(each["predicted"] - each["real"]))
        off = worst["predicted"] - worst["real"]
        share = max(abs(each["predicted"] - each["real"]) / each["real"] for each in found)
        exact = sum(each["predicted"] == each["real"] for each in found)
        inside = sum(each["low"] <= each["real"] <= each["high"] for each in found)
        lines.append(
            f"| {form} | {dtype} | {writer} | {len(found)} | {exact} | {off:+,} ({worst['network']}) | {share:.4%} "
            f"| {inside} of {len(found)} |"
        )
    return lines


def table(cells: list[dict[str, Any]]) -> list[str]:
    """One line for each file."""
    lines = [
        "| network | format | dtype | batch norms | writer | predicted, B | real, B | difference, B | kind |",
        "|---|---|---|---|---|---:|---:|---:|---|",
    ]
    for each in sorted(
        (each for each in cells if "real" in each),
        key=lambda each: (each["network"], each["format"], each["dtype"], each["folded"], each["writer"]),
    ):
        norms = "folded" if each["folded"] else "as they are"
        lines.append(
            f"| {each['network']} | {each['format']} | {each['dtype']} | {norms} | {each['writer']} "
            f"| {each['predicted']:,} | {each['real']:,} | {each['predicted'] - each['real']:+,} | {each['kind']} |"
        )
    refused = [each for each in cells if "refused" in each]
    if refused:
        lines += ["", "Not written:", ""]
        lines += [f"- {each['network']}, {each['group']}: {each['refused']}" for each in refused]
    return lines


def main() -> int:
    from peakmem.zoo import NETWORKS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", nargs="*", default=list(NETWORKS))
    parser.add_argument("--group", nargs="*", default=list(GROUPS), choices=list(GROUPS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--from", dest="given", type=Path)
    parser.add_argument("--page", type=Path)
    parser.add_argument("--one", nargs=2, metavar=("GROUP", "SPEC"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(one(*chosen.one)))
        return 0
    store = chosen.given or chosen.json
    cells: list[dict[str, Any]] = json.loads(store.read_text()) if store and store.exists() else []
    for group in chosen.group if not chosen.given else ():
        for name in chosen.network:
            if any(each["network"] == name and each["group"] == group for each in cells):
                continue
            command = [sys.executable, __file__, "--one", group, SMALL.get(name, name)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            try:
                found = json.loads(done.stdout.strip().splitlines()[-1])
            except (ValueError, IndexError):
                last = done.stderr.strip().splitlines()[-1:] or [f"ended with code {done.returncode}"]
                found = [{"network": name, "format": group, "group": group, "refused": last[0][:160]}]
            cells += found
            if chosen.json:
                chosen.json.write_text(json.dumps(cells, indent=1) + "\n")
            print(group, name, *(each.get("refused", each.get("predicted", 0) - each.get("real", 0)) for each in found),
                  file=sys.stderr)  # fmt: skip
    lines = [*summary(cells), "", *table(cells)]
    if chosen.page:
        text = chosen.page.read_text()
        head, tail = text.index(BEGIN) + len(BEGIN), text.index(END)
        chosen.page.write_text(text[:head] + "\n\n" + "\n".join(summary(cells)) + "\n\n" + text[tail:])
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
