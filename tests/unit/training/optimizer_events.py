"""What a real optimizer allocates and frees, step by step, read from PyTorch's profiler on the processor."""

from __future__ import annotations

import ast
import importlib.util
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from peakmem.training.log import events
from peakmem.training.optimizers import OptimizerState, Parameter, write_build, write_step
from peakmem.training.recorder import Recorder
from peakmem.training.scenario import Optimizer

Events = dict[str, list[tuple[int, int]]]
# of each span: the number of the allocation and its bytes, negative when it goes


def real(
    cases: Sequence[tuple[Callable[[list[Any]], Any], Sequence[Parameter]]], *, steps: int = 2, build: bool = True
) -> list[Events]:
    """Events of making each optimizer of its parameters and of its first steps, as the profiler tells them."""
    import torch
    from torch.profiler import ProfilerActivity, profile, record_function

    profiler = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
    profiler.start()
    for number, (make, parameters) in enumerate(cases):
        tensors = [torch.nn.Parameter(torch.ones(item.shape, dtype=getattr(torch, item.dtype))) for item in parameters]
        with record_function(f"##{number}.build"):
            optimizer = make(tensors)
        for step in range(steps):
            for tensor, item in zip(tensors, parameters, strict=True):
                if item.gradient and tensor.grad is None:
                    tensor.grad = torch.full_like(tensor, 0.5)
            with record_function(f"##{number}.{step}"):
                optimizer.step()
        del optimizer, tensors
    profiler.stop()
    found: dict[str, list[tuple[int, int, int, str]]] = {}
    for event in _found(profiler):
        found.setdefault(event[3].split(".")[0], []).append(event)
    return [_in_spans(found.get(str(number), []), f"{number}.", build=build) for number in range(len(cases))]


def _found(profiler: Any) -> list[tuple[int, int, int, str]]:
    import torch

    allocation, found = torch._C._profiler._EventType.Allocation, []
    stack = [(item, "") for item in profiler.profiler.kineto_results.experimental_event_tree()]
    while stack:
        item, span = stack.pop()
        if item.tag == allocation:
            found.append((item.start_time_ns, item.extra_fields.ptr, item.extra_fields.alloc_size, span))
        else:
            span = item.name[2:] if item.name.startswith("##") else span
        stack += [(child, span) for child in item.children]
    return sorted(found, key=lambda event: event[0])


def _in_spans(found: list[tuple[int, int, int, str]], prefix: str, *, build: bool) -> Events:
    spans: Events = {}
    living: dict[int, int] = {}
    count = 0
    for _, address, nbytes, where in found:
        span = where.removeprefix(prefix)
        if span == where or (span == "build" and not build):
            continue
        if nbytes > 0:
            living[address], count = count, count + 1
            spans.setdefault(span, []).append((living[address], nbytes))
        else:
            spans.setdefault(span, []).append((living.pop(address), nbytes))
    return spans


def written(optimizer: Optimizer, parameters: Sequence[Parameter], *, steps: int = 2, build: bool = True) -> Events:
    """The same, as the layouts write them."""
    recorder, state = Recorder(device="cpu", origin="test"), OptimizerState()
    recorder.enter("optimizer", 0)
    edges = [("build", 0)]
    write_build(recorder if build else Recorder(device="cpu", origin="test"), parameters, optimizer, state, "cpu")
    for step in range(steps):
        edges.append((str(step), len(recorder._events)))
        write_step(recorder, parameters, optimizer, state, "cpu")
    log = recorder.finish()
    spans: Events = {}
    for at, (span, begin) in enumerate(edges):
        end = edges[at + 1][1] if at + 1 < len(edges) else log.moments
        for event in events(log)[begin:end]:
            nbytes = log.storages[event.storage].nbytes
            spans.setdefault(span, []).append((event.storage, nbytes if event.allocates else -nbytes))
    return spans


def transformers_adafactor() -> Any:
    """The class of transformers, without the rest of it."""
    import torch

    found = importlib.util.find_spec("transformers")
    if found is None or found.origin is None:
        return None
    source = Path(found.origin).with_name("optimization.py").read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef) and node.name == "Adafactor":
            names: dict[str, Any] = {"torch": torch, "math": math, "Optimizer": torch.optim.Optimizer}
            exec(compile(ast.Module([node], []), "Adafactor", "exec"), names)
            return names["Adafactor"]
    return None
