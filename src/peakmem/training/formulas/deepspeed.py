"""DeepSpeed's estimators of "model states": parameters, gradients and optimizer state, for a GPU and for its host.

DeepSpeed 0.19.6: `estimate_zero2_model_states_mem_needs` in runtime/zero/stage_1_and_2.py and
`estimate_zero3_model_states_mem_needs` in runtime/zero/stage3.py. There is none for stage 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Needs:
    """What one node's host and one GPU need."""

    host_bytes: int
    gpu_bytes: int


BUFFERS = Fraction(3, 2)
# what the host's share is multiplied with: `additional_buffer_factor`


def zero2(parameters: int, per_node: int = 1, nodes: int = 1, *, offload: bool = True) -> Needs:
    """Stage 2: 16-bit parameters on each GPU; 18 bytes a parameter are split, or go to the host."""
    ranks = per_node * nodes
    if offload:
        return Needs(int(parameters * max(4 * ranks, 16) * BUFFERS), 2 * parameters)
    return Needs(int(parameters * 4 * per_node * BUFFERS), 2 * parameters + 18 * parameters // ranks)


def zero3(
    parameters: int,
    largest_layer: int,
    per_node: int = 1,
    nodes: int = 1,
    *,
    offload: bool = True,
    offload_parameters: bool = True,
    sharded_start: bool = True,
) -> Needs:
    """Stage 3: a GPU holds its share and the largest layer whole; `sharded_start` is `zero_init`."""
    ranks, whole = per_node * nodes, 4 * largest_layer
    share = Fraction(1, nodes)
    if not offload:
        host = (largest_layer if sharded_start else parameters) * 4 * per_node * BUFFERS
        return Needs(int(host), whole + 18 * parameters // ranks)
    each = 18 if offload_parameters else 16
    host = parameters * (each * share if sharded_start else max(Fraction(4 * per_node), each * share)) * BUFFERS
    return Needs(int(host), whole + (0 if offload_parameters else 2 * parameters // ranks))
