"""The words of a budget file: what may be limited, and what else a model's table may say. Data alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from peakmem.errors import UsageError

Unit = Literal["bytes", "elements"]


@dataclass(frozen=True, slots=True)
class Quantity:
    """Something that may be limited."""

    name: str
    title: str
    unit: Unit
    said: str
    # what it is, in words


QUANTITIES: dict[str, Quantity] = {
    one.name: one
    for one in (
        Quantity(
            "peak", "live peak", "bytes",
            "activations alive at once, under the execution assumption; with `engine` the heap peak predicted for it, "
            "of one with an arena the arena",
        ),
        Quantity(
            "resident", "resident", "bytes",
            "weights + state + live peak; with `engine` the anonymous memory of its whole process",
        ),
        Quantity(
            "arena", "arena", "bytes",
            'activations packed into one block, aligned to 16 B; with `engine = "tflm"` the smallest arena it runs in',
        ),
        Quantity("weights", "weights", "bytes", "everything the model stores"),
        Quantity(
            "parameters", "parameters", "elements",
            "weights, biases and the affine parts of norms: the published count",
        ),
        Quantity(
            "file_size", "file size", "bytes",
            "bytes on disk of the source and of `files`; with `file_format` the size it would have in another format",
        ),
        Quantity(
            "step_peak", "peak of a training step", "bytes", "tensors alive at once in the step; needs `train`",
        ),
        Quantity(
            "reserved", "reserved", "bytes",
            "what torch's CUDA allocator reserves for the step; needs `train` on a CUDA device",
        ),
    )
}  # fmt: skip

OPTIONS: dict[str, str] = {
    "source": "a model file, a pattern such as models/*.onnx, a built-in network or package.module:factory",
    "batch": "value of the batch dimension",
    "shape": "shapes of inputs: { input = [1, 3, 224, 224] }",
    "dim": "values of symbolic dimensions: { height = 224 }",
    "input": "what a PyTorch module is called with: \"1x3x224x224\" or [\"ids=1x128:int64\"]",
    "dtype": "count floating tensors in this dtype",
    "assume": "execution assumption: naive, eager, inplace, fused, fused_add",
    "hold_inputs": "true keeps the inputs alive to the end",
    "format": "read the source as this format",
    "option": "options of the format's reader: { context = 4096 }",
    "engine": "predict this engine: ncnn, onnxruntime, litert, tflm, openvino, pytorch, executorch, mnn",
    "set": "settings of the engine: { lightmode = true }",
    "processor": "what the engine will see, not this machine: \"arch=aarch64,features=asimd,l2=512KiB,cores=4\"",
    "files": "other files that are shipped with the source and count as file size",
    "file_format": "predict file_size in this format: onnx, ncnn, tflite, safetensors",
    "train": "a training step: { optimizer = \"adamw\", batch = 32, device = \"v100-16gb\" }",
    "fits": "a device, or several, that the model has to fit",
    "growth": "how much more than the baseline: \"2 %\", \"64 KiB\", or for each quantity { peak = \"2 %\" }",
    "device": "tables of devices, with options and budgets of their own: [model.NAME.device.stm32f746]",
}  # fmt: skip
TRAIN: dict[str, str] = {
    "batch": "samples of one forward", "sequence": "tokens of one sample", "resolution": "side of an image",
    "optimizer": "adamw, sgd, adam:fused or { name = \"sgd\", momentum = 0.9 }", "precision": "float32, amp-bf16 …",
    "recompute": "blocks, every-2 or a pattern", "accumulate": "forwards before the optimizer's step",
    "freeze": "patterns of parameters that are not trained", "lora": "a rank, or { rank = 8, targets = [\"q_proj\"] }",
    "steps": "how many", "set_to_none": "false keeps gradients", "device": "cpu, cuda or a device by name",
    "conf": "settings of the CUDA allocator", "route": "auto, trace or graph",
}  # fmt: skip
TOP: dict[str, str] = {
    "baseline": "the file of stored values that growth is held against",
    "devices": "files of devices of your own",
    "defaults": "options and budgets of every model",
    "model": "one table for each model: [model.NAME]",
}
OF_THE_GRAPH = ("dtype", "assume", "hold_inputs", "format", "option")
# options that no engine has
NOT_ON_A_DEVICE = ("source", "device", "files")
# what a model's table has and a device's has not


def nearest(word: str, known: Sequence[str]) -> str:
    """The known word that is meant, or ""."""
    plain = word.strip().lower().replace("-", "_").replace(" ", "_")
    near = get_close_matches(plain, known, n=1, cutoff=0.5)
    return near[0] if near else ""


def unknown(word: str, known: Sequence[str], *, where: str, what: str, key: str | None = None) -> UsageError:
    """The error for a word that is not one of `known`.

    Args:
        key: where the word is a value, the key that it stands for; "" where it is typed alone.
    """
    near = nearest(word, known)
    typed = f"{near} = …" if key is None else f'{key} = "{near}"' if key else near
    return UsageError(
        f"{word[:80]!r} is no {what}", where=where, expected=f"{near!r}?" if near else f"one of {', '.join(known)}",
        hint=typed if near else "",
    )  # fmt: skip
