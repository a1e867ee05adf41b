"""Hold the live peak that is predicted for PyTorch eager against what PyTorch itself counts, three ways.

    PYTHONPATH=src:. python benchmarks/torch_eager.py

The prediction is `--assume eager --hold-inputs`. The measurements run the network for real, in
inference mode on one thread:

- program: the exported program, operator by operator, each value freed after its last use; the
  bytes of all tensors that are then alive. This is what the prediction is of.
- module: the module's own code; the bytes of all tensors it and its operators make while they
  live. Adds what Python frames still hold, and tensors inside of composite operators.
- profiler: the highest running sum of allocations in the same run. Adds scratch of the kernels.

All include the input, which the caller holds. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
import weakref
from pathlib import Path
from typing import Any

import torch
from tests.unit.frontends import torch_networks as networks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from peakmem.pipeline import estimate, load

IMAGE = (1, 3, 224, 224)


def cases() -> dict[str, tuple[Any, torch.Tensor]]:
    image, tokens = torch.randn(IMAGE), torch.randint(0, 1000, (1, 128))
    return {
        "MobileNet V1": (networks.mobilenet_v1(inplace=True), image),
        "MobileNet V2": (networks.mobilenet_v2(inplace=True), image),
        "ResNet-18": (networks.resnet18(inplace=True), image),
        "ResNet-50": (networks.resnet50(inplace=True), image),
        "ResNet-50, nothing in place": (networks.resnet50(inplace=False), image),
        "SqueezeNet 1.1": (networks.squeezenet1_1(inplace=True), image),
        "VGG-11": (networks.vgg11(inplace=True), image),
        "DenseNet-121": (networks.densenet(), image),
        "GoogLeNet (four modules)": (networks.googlenet(), image),
        "U-Net": (networks.UNet(), torch.randn(1, 3, 256, 256)),
        "ViT-S/16 (six layers)": (networks.ViT(), image),
        "GPT-2 small": (networks.GPT2(), tokens),
        "BERT (six layers)": (networks.Bert(), tokens),
        "LSTM, two layers": (networks.LSTM(), torch.randn(1, 64, 128)),
        "Llama (two layers, width 512)": (
            networks.Llama(layers=2, width=512, hidden=1536, heads=8, groups=2, vocabulary=1000), tokens,
        ),
    }  # fmt: skip


class _Interpreter(torch.fx.Interpreter):
    """Runs a program and adds up the storages that are alive after each operator."""

    most = 0

    def run_node(self, node: Any) -> Any:
        result = super().run_node(node)
        alive: dict[int, int] = {}
        for value in (*self.env.values(), result):
            for tensor in tree_iter(value):
                if isinstance(tensor, torch.Tensor):
                    storage = tensor.untyped_storage()
                    alive[storage.data_ptr()] = storage.nbytes()
        self.most = max(self.most, sum(alive.values()))
        return result


def by_program(model: Any, given: torch.Tensor) -> int:
    """Bytes of all tensors alive while the exported program runs, without those of the model."""
    with torch.no_grad():
        exported = torch.export.export(model, (given,), strict=False)
        flat = [exported.state_dict.get(spec.target, exported.constants.get(spec.target))
                for spec in exported.graph_signature.input_specs if spec.target is not None]  # fmt: skip
        interpreter = _Interpreter(exported.graph_module)
        # Parameters stay in the environment to the end, so that they can be taken off again.
        interpreter.user_to_last_uses = {
            user: [node for node in nodes if node.op != "placeholder"]
            for user, nodes in interpreter.user_to_last_uses.items()
        }
        interpreter.run(*flat, given)
    own = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in flat}
    return interpreter.most - sum(own.values())


class _Tensors(TorchDispatchMode):
    """Adds up the storages that operators make, as long as anything holds them."""

    def __init__(self) -> None:
        super().__init__()
        self.alive = self.most = 0
        self.seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        before = {item.untyped_storage()._cdata for item in tree_iter((args, kwargs)) if isinstance(item, torch.Tensor)}
        for tensor in tree_iter(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                key = storage._cdata
                if key not in before and key not in self.seen:
                    self.seen.add(key)
                    self.alive += storage.nbytes()
                    weakref.finalize(storage, self.gone, key, storage.nbytes())
        self.most = max(self.most, self.alive)
        return result

    def gone(self, key: int, nbytes: int) -> None:
        self.seen.discard(key)
        self.alive -= nbytes


def by_module(model: Any, given: torch.Tensor) -> int:
    """Bytes of all tensors alive while the module's own code runs."""
    with torch.inference_mode(), _Tensors() as tensors:
        held = model(given)
    del held
    return tensors.most + given.nbytes


def by_profiler(model: Any, given: torch.Tensor) -> int:
    """Bytes allocated at most while the module's own code runs."""
    with torch.inference_mode():
        model(given)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
            held = model(given)
    del held
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    total = most = 0
    for event in sorted((event for event in events if event.get("name") == "[memory]"), key=lambda event: event["ts"]):
        total += int(event["args"]["Bytes"])
        most = max(most, total)
    return most + given.nbytes


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "").parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print("| network | predicted | program | error | module | profiler |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, (model, given) in cases().items():
        model = model.eval()
        peak = estimate(load(model, inputs=[given]), assume="eager", hold_inputs=True).peak.activation_bytes
        program, module, profiler = (measure(model, given) for measure in (by_program, by_module, by_profiler))
        error = 100 * (peak - program) / program
        print(f"| {name} | {peak:,} | {program:,} | {error:+.2f} % | {module:,} | {profiler:,} |", flush=True)


if __name__ == "__main__":
    main()
