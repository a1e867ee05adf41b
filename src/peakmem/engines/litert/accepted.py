"""What TensorFlow Lite refuses when it prepares an operator, as far as the rules here rely on it.

The number of operands and their dimensions, by Prepare of each kernel (tensorflow/lite/kernels/conv.cc,
depthwise_conv.cc, fully_connected.cc, transpose_conv.cc, unidirectional_sequence_lstm.cc).
"""

from __future__ import annotations

from peakmem.engines.litert.model import Part
from peakmem.errors import GraphError

IMAGES = {0: 4, 1: 4}
RANKS: dict[str, dict[int, int]] = {
    "CONV_2D": IMAGES, "DEPTHWISE_CONV_2D": IMAGES, "FULLY_CONNECTED": {1: 2}, "TRANSPOSE_CONV": {1: 4, 2: 4},
}  # fmt: skip
# of each operand that has to be there, by place
OPERANDS = {"FULLY_CONNECTED": 2, "TRANSPOSE_CONV": 3, "UNIDIRECTIONAL_SEQUENCE_LSTM": 20}


def check(part: Part) -> None:
    """Refuse what the engine refuses.

    Raises:
        GraphError: an operator lacks an operand or a result, or one has other dimensions than it must have.
    """
    for at, call in enumerate(part.calls):
        ranks = RANKS.get(call.op_type, {})
        if call.op_type not in OPERANDS and not ranks:
            continue
        least = OPERANDS.get(call.op_type, 2)
        if len(call.inputs) < least or not call.outputs:
            what = f"LiteRT refuses {call.op_type} with {len(call.inputs)} operands and {len(call.outputs)} results"
            raise GraphError(what, where=f"{call.op_type}_{at}", expected=f"{least} and 1")
        for place, rank in ranks.items():
            one = part.tensors[call.inputs[place]] if call.inputs[place] >= 0 else None
            if one is None or len(one.shape) != rank:
                raise GraphError(
                    f"LiteRT refuses {call.op_type} with an operand {place} that has not {rank} dimensions",
                    where=f"{call.op_type}_{at}",
                )
        if ranks and not part.tensors[call.outputs[0]].shape:
            raise GraphError(
                f"LiteRT refuses {call.op_type} with a result without dimensions", where=f"{call.op_type}_{at}"
            )
