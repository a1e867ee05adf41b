"""PyTorch to ExecuTorch: torch.export, then ExecuTorch's own edge dialect, memory planning and serialisation.

Batch norms are folded into the convolutions in front of them before: PyTorch's exporter leaves them, ExecuTorch's
XNNPACK partitioner fails on some (executorch 1.4.1: "0_0_weight_fused_bn is not in list"), and everyone who deploys a
network folds them. With XNNPACK the others become a product and a sum.
"""

from __future__ import annotations

from typing import Any

from peakmem.conversion.step import Job, Made, Option, Step
from peakmem.errors import ConversionError

STEPS = (
    Step(
        "torch", "pte", "peakmem.conversion.to_pte:convert", ("executorch", "torch"), "executorch",
        (
            Option("backend", "xnnpack", ("xnnpack", "portable"), "who computes: XNNPACK what it can, or ExecuTorch's "
                   "own kernels, whose activations all lie in the planned buffer"),
            Option("planning", "greedy", ("greedy", "naive"), "planned buffer: places shared by tensors that do not "
                   "live together, or one for each tensor"),
            Option("fold_batch_norm", True, (), "batch norms become part of the convolution in front of them"),
            Option("fold_constants", False, (), "what no input changes is computed once; else every matrix of a linear "
                   "layer that XNNPACK does not take is transposed in the planned buffer, in each run"),
        ),
    ),
)  # fmt: skip


def convert(job: Job) -> Made:
    """Write the program of `job.source`, a PyTorch module.

    Raises:
        ConversionError: torch.export or ExecuTorch refuses it; `operators` are those without a kernel.
    """
    from executorch.exir import ExecutorchBackendConfig, to_edge_transform_and_lower
    from executorch.exir.memory_planning import MemoryPlanningAlgorithmSuite, greedy, naive
    from executorch.exir.passes import MemoryPlanningPass

    from peakmem.conversion import torch_module

    module, examples, ports = torch_module.read(job)
    xnnpack = job.options["backend"] == "xnnpack"
    program = torch_module.exported(module, examples)
    del module
    notes = []
    if job.options["fold_batch_norm"]:
        program, folded, spelled = torch_module.without_batch_norms(program, examples, all_of_them=xnnpack)
        if folded or spelled:
            notes.append(_folding(folded, spelled))
    partitioners = []
    if xnnpack:
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner

        partitioners.append(XnnpackPartitioner())
    plan = MemoryPlanningAlgorithmSuite([greedy if job.options["planning"] == "greedy" else naive])
    try:
        edge = to_edge_transform_and_lower(program, partitioner=partitioners)
        del program
        if job.options["fold_constants"]:
            from executorch.exir.passes.constant_prop_pass import constant_prop_pass

            # transform() takes passes over graphs; this one is over programs and has no public place
            edge._edge_programs = {name: constant_prop_pass(one) for name, one in edge._edge_programs.items()}
        left = _left(edge) if xnnpack else []
        made = edge.to_executorch(ExecutorchBackendConfig(memory_planning_pass=MemoryPlanningPass(plan)))
    except Exception as fault:  # whatever its passes raise
        said = " ".join(str(fault).split())[:400]
        words = {word.strip("{},'\"") for word in said.split()}
        operators = tuple(sorted(word for word in words if word.startswith(("aten::", "torch.ops."))))
        raise ConversionError(f"ExecuTorch refuses it: {type(fault).__name__}: {said}", operators=operators) from fault
    buffers = made.executorch_program.execution_plan[0].non_const_buffer_sizes
    notes.append(f"planned buffers: {', '.join(str(size) for size in buffers[1:]) or 'none'} B")
    if left:
        notes.append(f"not computed by XNNPACK: {', '.join(left)}")
    path = job.target / f"{job.name}.pte"
    with path.open("wb") as file:
        made.write_to_file(file)
    return Made(path.name, ports, tuple(notes))


def _folding(folded: int, spelled: int) -> str:
    note = f"{folded} batch norms were folded into the convolutions in front of them"
    return f"{note}, {spelled} others became a product and a sum" if spelled else note


def _left(edge: Any) -> list[str]:
    """Operators that stay outside the delegate, with how often."""
    from collections import Counter

    counts: Counter[str] = Counter()
    for node in edge.exported_program().graph.nodes:
        if node.op == "call_function" and "::" in (name := getattr(node.target, "name", lambda: "")() or ""):
            counts[name.split("::", 1)[1]] += 1
    return [f"{count} × {name}" for name, count in sorted(counts.items())]
