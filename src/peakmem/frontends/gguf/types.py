"""Numbers that GGUF files hold, as data: tensor types, file types, value types of metadata.

Source: ggml.h, ggml-common.h and llama.h of ggml d99724f2; names of file types from gguf-py 0.19.
The block formats themselves stand in `peakmem.dtypes`.
"""

from __future__ import annotations

from collections.abc import Mapping

from peakmem import dtypes
from peakmem.dtypes import BLOCK_DTYPES, DType

TENSOR_TYPES: Mapping[int, DType] = {
    0: dtypes.FLOAT32, 1: dtypes.FLOAT16, 28: dtypes.FLOAT64, 30: dtypes.BFLOAT16,
    24: dtypes.INT8, 25: dtypes.INT16, 26: dtypes.INT32, 27: dtypes.INT64,
} | {
    number: BLOCK_DTYPES[name]
    for number, name in (
        (2, "q4_0"), (3, "q4_1"), (6, "q5_0"), (7, "q5_1"), (8, "q8_0"), (9, "q8_1"),
        (10, "q2_k"), (11, "q3_k"), (12, "q4_k"), (13, "q5_k"), (14, "q6_k"), (15, "q8_k"),
        (16, "iq2_xxs"), (17, "iq2_xs"), (18, "iq3_xxs"), (19, "iq1_s"), (20, "iq4_nl"), (21, "iq3_s"),
        (22, "iq2_s"), (23, "iq4_xs"), (29, "iq1_m"), (34, "tq1_0"), (35, "tq2_0"), (39, "mxfp4"), (40, "nvfp4"),
        (41, "q1_0"), (42, "q2_0"),
    )
}  # fmt: skip

REMOVED: Mapping[int, str] = {
    4: "Q4_2", 5: "Q4_3", 31: "Q4_0_4_4", 32: "Q4_0_4_8", 33: "Q4_0_8_8",
    36: "IQ4_NL_4_4", 37: "IQ4_NL_4_8", 38: "IQ4_NL_8_8",
}  # fmt: skip
# types that ggml once had and reads no more

OTHER_LAYOUTS: Mapping[int, DType] = {9: DType("q8_1", None, "float", 32, 40)}
# blocks of another size that a writer makes: gguf-py counts Q8_1 with two float32, ggml with two float16

FILE_TYPES: Mapping[int, str] = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 4: "Q4_1, some F16", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1",
    10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M",
    18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL",
    26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 33: "Q4_0_4_4",
    34: "Q4_0_4_8", 35: "Q4_0_8_8", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4_MOE", 39: "NVFP4", 40: "Q1_0",
    1024: "guessed",
}  # fmt: skip
# general.file_type: what the quantiser was asked for

SCALARS: Mapping[int, str] = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
# value types of metadata with a fixed width, as `struct` calls them
STRING, ARRAY = 8, 9
