import pytest

from peakmem.dtypes import DTYPES, parse_dtype
from peakmem.errors import UsageError


@pytest.mark.parametrize(
    ("name", "count", "nbytes"),
    [("float32", 3, 12), ("fp16", 3, 6), ("bf16", 3, 6), ("int8", 3, 3), ("int4", 3, 2), ("uint4", 4, 2),
     ("int2", 5, 2), ("fp8", 7, 7), ("fp4", 7, 4), ("complex128", 2, 32), ("bool", 9, 9), ("int4", 0, 0)],
)  # fmt: skip
def test_packed_bytes(name, count, nbytes):
    assert parse_dtype(name).nbytes(count) == nbytes


def test_strings_have_no_width():
    assert parse_dtype("string").nbytes(4) is None


def test_unknown_dtype_lists_the_known_ones():
    with pytest.raises(UsageError, match=r"no dtype is called 'int3' \(expected one of float64"):
        parse_dtype("int3")


def test_every_dtype_is_found_by_its_own_name():
    assert all(parse_dtype(name) is dtype for name, dtype in DTYPES.items())
