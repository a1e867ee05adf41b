"""A PyTorch module to convert: from a .py file made here, package.module:factory of the user, or a .pt2 file.

torch is imported in the functions, in the process of a conversion step.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peakmem.conversion.step import Port
from peakmem.errors import ConversionError, UsageError

if TYPE_CHECKING:
    from peakmem.conversion.step import Job

SEED = 0
# of random weights and example inputs, so that a conversion gives the same file again


def read(job: Job) -> tuple[Any, tuple[Any, ...], tuple[Port, ...]]:
    """(module ready to run, example inputs, their ports) for the source of `job`.

    Raises:
        UsageError: no such function, no module, or inputs that nobody told.
    """
    import torch

    torch.manual_seed(SEED)
    torch.set_grad_enabled(False)
    ports = job.inputs
    if job.source.endswith(".pt2"):
        program = torch.export.load(job.source)
        examples = tuple(program.example_inputs[0]) if program.example_inputs else ()
        if program.example_inputs and program.example_inputs[1]:
            raise UsageError("the program takes keyword arguments", where=job.source, expected="positional ones")
        return program.module(), examples or _examples(ports, job), ports or _ports(examples)
    if job.source.endswith(".py"):
        home = _from_file(Path(job.source))
        made, told = home.model(), getattr(home, "INPUTS", ())
        ports = ports or tuple(Port(name, dtype, tuple(shape)) for name, dtype, shape in told)
    else:
        module, _, attribute = job.source.partition(":")
        made = importlib.import_module(module)
        for part in attribute.split("."):
            made = getattr(made, part)
        if not isinstance(made, torch.nn.Module):
            made = made()
    if not isinstance(made, torch.nn.Module):
        raise UsageError(f"an object of type {type(made).__name__} is no torch.nn.Module", where=job.source)
    return made.eval(), _examples(ports, job), ports


def _from_file(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("network", path)
    if spec is None or spec.loader is None:
        raise UsageError("the file cannot be imported", where=str(path))
    home = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(home)
    return home


def _ports(examples: tuple[Any, ...]) -> tuple[Port, ...]:
    return tuple(
        Port(f"input_{at}", str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
        for at, tensor in enumerate(examples)
    )


def _examples(ports: tuple[Port, ...], job: Job) -> tuple[Any, ...]:
    if not ports:
        raise UsageError("what it is called with is not known", where=job.source, hint="--input x=1x3x224x224")
    return tuple(example(port) for port in ports)


def example(port: Port) -> Any:
    """A tensor for an input: normally distributed numbers, or zeros of an integer dtype, which index any table."""
    import torch

    dtype = getattr(torch, port.dtype, None)
    if not isinstance(dtype, torch.dtype):
        raise ConversionError(f"PyTorch has no dtype {port.dtype}", where=port.name)
    if dtype.is_floating_point:
        return torch.randn(port.shape).to(dtype)
    return torch.zeros(port.shape, dtype=dtype)


def exported(module: Any, examples: tuple[Any, ...]) -> Any:
    """The module as torch.export sees it.

    Raises:
        ConversionError: PyTorch cannot export it.
    """
    import torch

    try:
        return torch.export.export(module, examples, strict=False)
    except Exception as fault:  # whatever a module does while it is traced
        said = " ".join(str(fault).split())[:300]
        raise ConversionError(f"torch.export cannot follow it: {type(fault).__name__}: {said}") from fault


def without_batch_norms(program: Any, examples: tuple[Any, ...], *, all_of_them: bool) -> tuple[Any, int, int]:
    """(program, folded, spelled out): batch norms folded into the convolution or product in front of them.

    y = (conv(x) - mean) / sqrt(var + eps) * weight + bias is a convolution with kernel · s and bias
    (b - mean) · s + bias, where s = weight / sqrt(var + eps). Those that follow something else become a product and a
    sum when `all_of_them`.
    """
    import torch

    whole = program.module()
    graph, aten = whole.graph, torch.ops.aten
    folded = spelled = 0
    kinds = (aten.conv1d.default, aten.conv2d.default, aten.conv3d.default)

    def value(node: Any) -> Any:
        if node is None:
            return None
        held = whole
        for part in node.target.split("."):
            held = getattr(held, part)
        return held.detach()

    def stored(node: Any) -> bool:
        return node is None or getattr(node, "op", "") == "get_attr"

    def put(name: str, tensor: Any) -> Any:
        whole.register_parameter(name, torch.nn.Parameter(tensor.contiguous(), requires_grad=False))
        return graph.get_attr(name)

    for node in list(graph.nodes):
        if node.op != "call_function" or node.target is not aten.batch_norm.default:
            continue
        source, *held, training, _, epsilon = node.args[:8]
        if training or not all(map(stored, held)) or held[2] is None or held[3] is None:
            continue
        weight, bias, mean, variance = map(value, held)
        scale = torch.rsqrt(variance + epsilon) * (1 if weight is None else weight)
        shift = (0 if bias is None else bias) - mean * scale
        before = source if isinstance(source, torch.fx.Node) else None
        name = f"folded_{folded + spelled}"
        if before is not None and before.target in kinds and len(before.users) == 1 and stored(before.args[1]):
            arguments = [*before.args, None][: max(3, len(before.args))]
            if not stored(arguments[2]):
                continue
            kernel, old = value(arguments[1]), value(arguments[2])
            with graph.inserting_before(before):
                arguments[1] = put(f"{name}_weight", kernel * scale.reshape(-1, *(1,) * (kernel.ndim - 1)))
                arguments[2] = put(f"{name}_bias", shift if old is None else old * scale + shift)
            before.args = tuple(arguments)
            node.replace_all_uses_with(before)
            folded += 1
        elif all_of_them:
            rank = node.meta["val"].ndim
            with graph.inserting_before(node):
                first = put(f"{name}_scale", scale.reshape(-1, *(1,) * (rank - 2)))
                second = put(f"{name}_shift", shift.reshape(-1, *(1,) * (rank - 2)))
                product = graph.call_function(aten.mul.Tensor, (source, first))
                node.replace_all_uses_with(graph.call_function(aten.add.Tensor, (product, second)))
            spelled += 1
        else:
            continue
        graph.erase_node(node)
    if not folded + spelled:
        return program, 0, 0
    graph.eliminate_dead_code()
    whole.recompile()
    return exported(whole, examples), folded, spelled


__all__ = ["SEED", "example", "exported", "read", "without_batch_norms"]
