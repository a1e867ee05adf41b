"""Operators that a build of PyTorch with CUDA runs otherwise than one without: each with where its source says so.

Most operators dispatch on a tensor's device and need nothing. Corrected here are those whose kernel for CUDA exists
only in a build with CUDA, so that the one without takes them apart into others (composite implementations), and those
without a fake implementation. All of it goes through the dispatcher, so that every way to call them is met, and is
taken back. Imported with torch at hand.
"""

# ruff: noqa: ARG001
# PyTorch calls these with arguments of its own

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from peakmem.training.tracing import attention, patches
from peakmem.training.tracing.cuda_hooks import CUDNN_VERSION

aten = torch.ops.aten

# Operators with a composite implementation and a kernel of their own for CUDA: all that torchgen's
# native_functions.yaml of torch 2.13 names so. With any kernel registered for CUDA autograd keeps them whole.
WHOLE = ("_fused_rms_norm", "mish_backward")

# Modes of cuDNN's recurrent layers (cudnnRNNMode_t) by the operator, with the gates of each
RECURRENT = {"rnn_relu": (0, 1), "rnn_tanh": (1, 1), "lstm": (2, 4), "gru": (3, 3)}


def _never(*args: Any, **kwargs: Any) -> Any:
    raise RuntimeError("a kernel of a device that is not there")


def _recurrent(name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """One recurrent operator on padded and on packed input, as aten/src/ATen/native/cudnn/RNN.cpp, `_cudnn_impl`."""
    mode, _ = RECURRENT[name]

    def run(given: Any, sizes: Any, hidden: Any, weights: Any, biased: bool, layers: int, dropout: float, train: bool,
            both: bool) -> Any:  # fmt: skip
        hx, cx = hidden if name == "lstm" else (hidden, None)
        if torch.is_autocast_enabled("cuda"):  # aten/src/ATen/cudnn/AutocastRNN.cpp
            kind = torch.get_autocast_dtype("cuda")
            given, hx, *weights = (item.to(kind) for item in (given, hx, *weights))
            cx = None if cx is None else cx.to(kind)
        width, projected = hx.shape[2], 0
        if cx is not None and cx.shape[2] != hx.shape[2]:
            width, projected = cx.shape[2], hx.shape[2]
        each = (4 if biased else 2) + bool(projected)
        state = None
        if train and dropout > 0:
            state = aten._cudnn_init_dropout_state(dropout, train, 0, dtype=torch.uint8, device=given.device)
        return aten._cudnn_rnn(
            given,
            weights,
            each,
            None,
            hx,
            cx,
            mode,
            width,
            projected,
            layers,
            False,
            dropout,
            train,
            both,
            sizes,
            state,
        )

    def padded(given: Any, hidden: Any, weights: Any, biased: bool, layers: int, dropout: float, train: bool,
               both: bool, batch_first: bool) -> Any:  # fmt: skip
        given = given.transpose(0, 1) if batch_first else given
        made = run(given, [], hidden, weights, biased, layers, dropout, train, both)
        output = made[0].transpose(0, 1) if batch_first else made[0]
        return (output, made[1], made[2]) if name == "lstm" else (output, made[1])

    def packed(given: Any, sizes: Any, hidden: Any, weights: Any, biased: bool, layers: int, dropout: float,
               train: bool, both: bool) -> Any:  # fmt: skip
        made = run(given, sizes.tolist(), hidden, weights, biased, layers, dropout, train, both)
        return made[:3] if name == "lstm" else made[:2]

    return padded, packed


def _cudnn_rnn(mode_: Any, func: Any, given: Any, weights: Any, *rest: Any) -> Any:
    """PyTorch's own fake implementation with a reserve (RNN.cpp asks cuDNN, cudnnGetRNNTempSpaceSizes, for its size).

    The size is an estimate: for each layer, direction and step the gates, the cell's state and the output.
    """
    from torch._meta_registrations import _cudnn_rnn as without_reserve

    with mode_:
        output, hy, cy, _, buffer = without_reserve(given, weights, *rest)
        mode, width, layers, train, both, sizes = (rest[at] for at in (4, 5, 7, 10, 11, 12))
        gates = next(count for number, count in RECURRENT.values() if number == mode)
        rows = sum(sizes) if sizes else given.shape[0] * given.shape[1]
        parts = gates + 1 + (mode == RECURRENT["lstm"][0])
        elements = rows * layers * (2 if both else 1) * width * parts if train else 0
        reserve = given.new_empty((elements * given.element_size(),), dtype=torch.uint8)
        if buffer is None:
            buffer = given.new_empty((0,))  # modules lay their weights out as one block that this would be part of
        return output, hy, given.new_empty((0,)) if cy is None else cy, reserve, buffer


def _cudnn_rnn_backward(mode_: Any, func: Any, given: Any, weights: Any, each: int, buffer: Any, hx: Any, cx: Any,
                        output: Any, grad_output: Any, grad_hy: Any, grad_cy: Any, *rest: Any) -> Any:  # fmt: skip
    """RNN.cpp, `_cudnn_rnn_backward`: the gradients of all weights are parts of one block."""
    wanted = rest[-1]
    with mode_:
        block = given.new_empty((sum(item.numel() for item in weights),))
        parts, at = [], 0
        for item in weights:
            parts.append(block[at : at + item.numel()].view(item.shape))
            at += item.numel()
        return (
            torch.empty_like(given, memory_format=torch.contiguous_format), torch.empty_like(hx),
            torch.empty_like(cx) if cx is not None else given.new_empty((0,)), parts if wanted[3] else [],
        )  # fmt: skip


def _dropout_state(mode_: Any, func: Any, *args: Any, **kwargs: Any) -> Any:
    """RNN.cpp, DropoutState: cudnnDropoutGetStatesSize; its size on a device is that of its generators."""
    with mode_:
        return torch.empty((0,), dtype=torch.uint8, device="cuda")


def _gru_cell(mode_: Any, func: Any, input_gates: Any, hidden_gates: Any, hx: Any, *biases: Any) -> Any:
    """aten/src/ATen/native/cuda/RNN.cu, `_thnn_fused_gru_cell_cuda`: a workspace of five values for each unit."""
    with mode_:
        return torch.empty_like(hx), hx.new_empty((hx.shape[0], 5 * hx.shape[1]))


def _gru_cell_backward(mode_: Any, func: Any, grad: Any, workspace: Any, biased: bool) -> Any:
    """The same file, `_thnn_fused_gru_cell_backward_cuda`."""
    with mode_:
        rows, width = workspace.shape[0], workspace.shape[1] // 5
        gates = [workspace.new_empty((rows, 3 * width)) for _ in range(2)]
        biases = [workspace.new_empty((3 * width,)) if biased else None for _ in range(2)]
        return gates[0], gates[1], torch.empty_like(grad), biases[0], biases[1]


def _no_cudnn_ctc(mode_: Any, func: Any, *args: Any, **kwargs: Any) -> bool:
    """aten/src/ATen/native/cudnn/LossCTC.cpp: only for one-dimensional int32 targets on the processor."""
    return False


def _with_generator(of: Any, number: int) -> Callable[..., Any]:
    """An attention's fake implementation with the generator's seed and offset where kernels put them: on the device.

    PyTorch's own leaves them on the meta device ("Seed and Offset" in torch/_meta_registrations.py).
    """

    def made(mode_: Any, func: Any, *args: Any, **kwargs: Any) -> Any:
        from torch import _meta_registrations

        with mode_:
            results = list(getattr(_meta_registrations, of)(*args, **kwargs))
            device = args[0].device
            for at in (number, number + 1):
                results[at] = torch.empty(results[at].shape, dtype=results[at].dtype, device=device)
            return tuple(results)

    return made


# By operator and overload; one that a version does not have is left out.
FAKES: dict[str, Callable[..., Any]] = {
    "_cudnn_rnn.default": _cudnn_rnn,
    "_cudnn_rnn_backward.default": _cudnn_rnn_backward,
    "_cudnn_init_dropout_state.default": _dropout_state,
    "_thnn_fused_gru_cell.default": _gru_cell,
    "_thnn_fused_gru_cell_backward.default": _gru_cell_backward,
    **{
        f"_use_{library}_ctc_loss.{overload}": _no_cudnn_ctc
        for library in ("cudnn", "miopen")
        for overload in ("default", "Tensor")
    },
    **{
        f"_scaled_dot_product_{kind}_attention.default": _with_generator(
            f"meta__scaled_dot_product_{kind}_attention", number
        )
        for kind, number in (("flash", 6), ("cudnn", 6), ("efficient", 2))
    },
}


def _overloads(table: dict[str, Callable[..., Any]]) -> dict[Any, Callable[..., Any]]:
    found = {}
    for title, made in table.items():
        name, overload = title.split(".")
        packet = getattr(aten, name, None)
        if packet is not None and overload in packet.overloads():
            found[getattr(packet, overload)] = made
    return found


def _attention(capability: tuple[int, int]) -> Callable[..., Any]:
    default_order = attention.priority_order()

    def attend(query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False,
               *, scale: float | None = None, enable_gqa: bool = False) -> Any:  # fmt: skip
        setting = attention.setting_of(capability, CUDNN_VERSION, default_order)
        return attention.attend(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa, setting)

    return attend


@contextmanager
def corrected(capability: tuple[int, int]) -> Iterator[None]:
    """Operators run inside as they would on a device of this capability."""
    library = torch.library.Library("aten", "IMPL")
    with ExitStack() as stack:
        stack.callback(library._destroy)
        for name in WHOLE:
            library.impl(name, _never, "CUDA")
        library.impl("scaled_dot_product_attention", _attention(capability), "AutogradCUDA")
        for name in RECURRENT:
            padded, packed = _recurrent(name)
            library.impl(f"{name}.input", padded, "AutogradCUDA")
            library.impl(f"{name}.data", packed, "AutogradCUDA")
        stack.enter_context(patches.implemented(_overloads(FAKES)))
        yield
