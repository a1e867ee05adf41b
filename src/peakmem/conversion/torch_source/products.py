"""Products and norms: layers where the weights are the operator's own, functions otherwise."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from peakmem.conversion.torch_source.names import literal
from peakmem.conversion.torch_source.writer import Call, Refused, rule

if TYPE_CHECKING:
    import numpy as np

_EQUATION = re.compile(r"^[A-Za-z ,.]+(->[A-Za-z .]*)?$")


def turned(array: np.ndarray) -> np.ndarray:
    """A matrix as torch.nn.Linear stores it: outputs × inputs."""
    return array.T


def flat(array: np.ndarray) -> np.ndarray:
    """One axis."""
    return array.reshape(-1)


def linear(call: Call, weight: int, bias: str = "", *, transposed: bool) -> str:
    """A torch.nn.Linear layer from a matrix that nobody else reads; `bias` is the name of a tensor."""
    outputs, inputs = call.shape(weight) if transposed else call.shape(weight)[::-1]
    code = f"nn.Linear({inputs}, {outputs}{'' if bias else ', bias=False'}{call.writer.typed(call.input(weight))})"
    held = [("weight", call.input(weight), None if transposed else turned)]
    held += [("bias", bias, flat)] if bias else []
    return call.writer.layer(call.name, code, held)


@rule("MatMul")
def matmul(call: Call) -> str:
    if call.own(1) and call.rank(1) == 2 and call.dtype(0) == call.dtype(1):
        return f"{linear(call, 1, transposed=False)}({call.read()})"
    return f"torch.matmul({call.read(0)}, {call.read(1)})"


@rule("Gemm")
def gemm(call: Call) -> str:
    alpha, beta = float(call.attr("alpha", 1.0)), float(call.attr("beta", 1.0))
    turn_a, turn_b = bool(call.attr("transA", 0)), bool(call.attr("transB", 0))
    bias = call.operator.inputs[2] if call.has(2) else ""
    outputs = call.out_shape()[1]
    a = f"{call.read(0)}.t()" if turn_a else call.read(0)
    fits = not bias or (call.own(2) and call.shape(2) in ((outputs,), (1, outputs)))
    if alpha == 1 and beta == 1 and call.own(1) and fits:
        return f"{linear(call, 1, bias, transposed=turn_b)}({a})"
    b = f"{call.read(1)}.t()" if turn_b else call.read(1)
    if not bias:
        return f"torch.mm({a}, {b})" + (f" * {literal(alpha)}" if alpha != 1 else "")
    scales = "".join(f", {name}={literal(value)}" for name, value in (("beta", beta), ("alpha", alpha)) if value != 1)
    return f"torch.addmm({call.read(2)}, {a}, {b}{scales})"


@rule("com.microsoft:FusedMatMul")
def fused_matmul(call: Call) -> str:
    if call.attr("transBatchA", 0) or call.attr("transBatchB", 0):
        raise Refused("with batch axes moved")
    a, b = (
        f"{call.read(at)}.mT" if call.attr(name, 0) and call.rank(at) > 1 else call.read(at)
        for at, name in ((0, "transA"), (1, "transB"))
    )
    alpha = float(call.attr("alpha", 1.0))
    return f"torch.matmul({a}, {b})" + (f" * {literal(alpha)}" if alpha != 1 else "")


@rule("Einsum")
def einsum(call: Call) -> str:
    equation = call.text("equation", "")
    if not _EQUATION.match(equation):
        raise Refused("an equation of other characters")
    operands = ", ".join(call.read(at) for at in range(len(call.operator.inputs)))
    return f'torch.einsum("{equation.replace(" ", "")}", {operands})'


@rule("BatchNormalization")
def batch_norm(call: Call) -> str:
    call.only()
    if call.attr("training_mode", 0) or not call.attr("spatial", 1):
        raise Refused("while training, or for each place")
    epsilon, rank = literal(float(call.attr("epsilon", 1e-5))), call.rank()
    if call.own(1, 2, 3, 4) and 2 <= rank <= 5 and len({call.dtype(at) for at in range(5)}) == 1:
        code = f"nn.BatchNorm{max(1, rank - 2)}d({call.shape(1)[0]}, eps={epsilon}{call.writer.typed(call.input(1))})"
        layer = call.layer(
            code, ("weight", 1, None), ("bias", 2, None), ("running_mean", 3, None), ("running_var", 4, None)
        )
        return f"{layer}({call.read()})"
    scale, shift, mean, variance = (call.read(at) for at in range(1, 5))
    return f"F.batch_norm({call.read()}, {mean}, {variance}, {scale}, {shift}, eps={epsilon})"


@rule("LayerNormalization")
def layer_norm(call: Call) -> str:
    call.only()
    axis, epsilon = call.axis("axis", -1), literal(float(call.attr("epsilon", 1e-5)))
    shape = call.shape()[axis:]
    fits = all(call.shape(at) == shape for at in (1, 2) if call.has(at))
    size = literal(shape[0]) if len(shape) == 1 else literal(shape)
    if call.own(1, 2) and fits and call.dtype(0) == call.dtype(1):
        code = f"nn.LayerNorm({size}, eps={epsilon}{'' if call.has(2) else ', bias=False'}"
        held = [("weight", 1, None), *([("bias", 2, None)] if call.has(2) else [])]
        return f"{call.layer(code + call.writer.typed(call.input(1)) + ')', *held)}({call.read()})"
    if fits:
        bias = f", {call.read(2)}" if call.has(2) else ""
        return f"F.layer_norm({call.read()}, {literal(shape)}, {call.read(1)}{bias}, eps={epsilon})"
    shift = f" + {call.read(2)}" if call.has(2) else ""
    return f"F.layer_norm({call.read()}, {literal(shape)}, eps={epsilon}) * {call.read(1)}{shift}"


@rule("RMSNormalization", "SimplifiedLayerNormalization", "com.microsoft:SimplifiedLayerNormalization")
def rms_norm(call: Call) -> str:
    call.only()
    axis, epsilon = call.axis("axis", -1), literal(float(call.attr("epsilon", 1e-5)))
    shape = call.shape()[axis:]
    size = literal(shape[0]) if len(shape) == 1 else literal(shape)
    if call.own(1) and call.shape(1) == shape and call.dtype(0) == call.dtype(1):
        typed = call.writer.typed(call.input(1))
        return f"{call.layer(f'nn.RMSNorm({size}, eps={epsilon}{typed})', ('weight', 1, None))}({call.read()})"
    return f"F.rms_norm({call.read()}, {literal(shape)}, eps={epsilon}) * {call.read(1)}"


@rule("InstanceNormalization")
def instance_norm(call: Call) -> str:
    epsilon = literal(float(call.attr("epsilon", 1e-5)))
    spatial = call.rank() - 2
    if call.own(1, 2) and 1 <= spatial <= 3:
        typed = call.writer.typed(call.input(1))
        code = f"nn.InstanceNorm{spatial}d({call.shape(1)[0]}, eps={epsilon}, affine=True{typed})"
        return f"{call.layer(code, ('weight', 1, None), ('bias', 2, None))}({call.read()})"
    return f"F.instance_norm({call.read()}, weight={call.read(1)}, bias={call.read(2)}, eps={epsilon})"


@rule("GroupNormalization")
def group_norm(call: Call) -> str:
    epsilon, groups = literal(float(call.attr("epsilon", 1e-5))), int(call.attr("num_groups", 1))
    channels = call.shape()[1]
    if call.shape(1) == (channels,) and (call.opset >= 21 or groups == channels):
        if call.own(1, 2):
            code = f"nn.GroupNorm({groups}, {channels}, eps={epsilon}{call.writer.typed(call.input(1))})"
            return f"{call.layer(code, ('weight', 1, None), ('bias', 2, None))}({call.read()})"
        return f"F.group_norm({call.read()}, {groups}, {call.read(1)}, {call.read(2)}, {epsilon})"
    if call.shape(1) != (groups,):
        raise Refused(f"a scale of {call.shape(1)}")
    scale, shift = (f"{call.read(at)}.repeat_interleave({channels // groups})" for at in (1, 2))
    return f"F.group_norm({call.read()}, {groups}, {scale}, {shift}, {epsilon})"


@rule("LpNormalization")
def lp_norm(call: Call) -> str:
    norm, axis = float(call.attr("p", 2)), call.axis("axis", -1)
    return f"F.normalize({call.read()}, p={literal(norm)}, dim={axis})"


@rule("MeanVarianceNormalization")
def mean_variance(call: Call) -> str:
    axes, x = literal(call.ints_attr("axes") or (0, 2, 3)), call.read()
    spread = f"{x}.var({axes}, correction=0, keepdim=True).sqrt()"
    return f"({x} - {x}.mean({axes}, keepdim=True)) / ({spread} + 1e-9)"
