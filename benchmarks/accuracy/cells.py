"""What is measured to judge the profiles: networks used while rules were written, networks never looked at, options."""

from __future__ import annotations

RULES = ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small", "resnet18", "alexnet", "vgg16", "squeezenet1_1")
# looked at while rules were written
UNTOUCHED = (
    "mobilenet_v3_large", "googlenet", "resnet50", "densenet161", "shufflenet_v2", "efficientnet_b0", "unet_256",
)  # fmt: skip
# each run once, after the rules were written
SMALL_RULES = ("mobilenet_v1:width=0.25,resolution=96", "squeezenet1_1:resolution=64")
SMALL_UNTOUCHED = ("mobilenet_v2:width=0.35,resolution=96", "shufflenet_v2:resolution=64", "resnet18:resolution=64")
# what one would put on a microcontroller; TensorFlow Lite Micro's reference kernels take minutes for the others

CELLS: dict[str, tuple[str, ...]] = {
    "ncnn": (
        "defaults", "lightmode=off", "fp16_packed=off fp16_storage=off fp16_arithmetic=off", "winograd=off",
        "sgemm=off", "pool_allocator=off", "bf16_storage=on", "packing=off", "winograd43=off", "threads=2",
    ),
    "onnxruntime": (
        "defaults", "arena=off", "mem_pattern=off", "optimisation=extended", "optimisation=disable",
        "optimisation=disable arena=off", "prepacking=off", "arena_extend=same_as_requested", "threads=2",
    ),
    "litert": ("defaults", "kernels=builtin", "kernels=reference", "threads=2"),
    "tflm": ("defaults", "quantise=int8"),
    "pytorch": ("defaults", "mode=no_grad", "threads=2"),
    "executorch": ("defaults", "backend=portable", "threads=2"),
    "openvino": ("defaults", "precision=f32", "precision=f32 threads=2"),
    "mnn": ("defaults", "winograd_level=0", "threads=2"),
}  # fmt: skip
SLOW = {("executorch", "backend=portable"): ("alexnet", "vgg16", "resnet50", "densenet161", "unet_256")}
# reference kernels take many minutes for these


def networks(engine: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Those used for rules and those untouched."""
    return (SMALL_RULES, SMALL_UNTOUCHED) if engine == "tflm" else (RULES, UNTOUCHED)
