"""Which attention kernel is taken: each case by hand from the checks in sdp_utils.cpp of torch 2.13."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from peakmem.training.tracing.attention import Call, Setting, choose

HALF = ("bfloat16", "bfloat16", "bfloat16")
WIDE = ("float32", "float32", "float32")


def call(length: int = 128, size: int = 64, heads: int = 8, others: int | None = None, **given: Any) -> Call:
    others = heads if others is None else others
    given.setdefault("dtypes", HALF)
    return Call((2, heads, length, size), (2, others, length, size), (2, others, length, size), **given)


@pytest.mark.parametrize(("asked", "capability", "taken"), [
    (call(), (8, 0), "flash"),
    (call(causal=True), (8, 0), "flash"),
    (call(dropout=0.1), (8, 0), "flash"),
    (call(dtypes=WIDE), (8, 0), "efficient"),  # flash computes in half precision alone
    (call(mask=(128, 128)), (8, 0), "efficient"),  # and takes no mask
    (call(mask=(2, 1, 128, 128)), (8, 0), "efficient"),
    (call(), (7, 5), "math"),  # no flash before Ampere, no bfloat16 for the other
    (call(dtypes=("float16",) * 3), (7, 5), "efficient"),
    (call(dtypes=WIDE), (7, 0), "efficient"),
    (call(size=36), (8, 0), "flash"),  # padded to 40
    (call(size=36, mask=(128, 128)), (8, 0), "math"),  # not a multiple of 8; cuDNN wants one too
    (call(size=36, dtypes=WIDE), (8, 0), "efficient"),  # a multiple of 4 is enough for float32
    (call(size=256), (8, 0), "flash"),
    (call(size=264), (8, 0), "efficient"),
    (call(size=256), (8, 9), "flash"),  # 224 < 256 without dropout
    (call(size=256, dropout=0.1), (8, 9), "efficient"),
    (call(size=224), (8, 6), "efficient"),
    (call(size=224, learns=False), (8, 6), "flash"),
    (call(others=2, grouped=True), (8, 0), "flash"),
    (call(others=2, grouped=True, mask=(128, 128)), (8, 0), "math"),  # math stands before cuDNN in the order
    (call(others=2), (8, 0), "math"),  # fewer heads without saying so
    (call(dtypes=("float64",) * 3), (8, 0), "math"),
    (call(dtypes=("bfloat16", "float32", "bfloat16")), (8, 0), "math"),
    (call(last_strides=(2, 1, 1)), (8, 0), "math"),
    (call(offsets=(4, 0, 0), dtypes=WIDE), (8, 0), "efficient"),
    (call(offsets=(1, 0, 0), dtypes=WIDE), (8, 0), "math"),
    (call(), (9, 0), "cudnn"),  # preferred on Hopper from cuDNN 9.15.1 on
    (call(dtypes=WIDE), (9, 0), "efficient"),
    (call(dropout=0.1), (9, 0), "flash"),  # 0.1 is no multiple of 1/16
    (call(dropout=0.125), (9, 0), "cudnn"),
    (call(size=256), (9, 0), "flash"),
    (Call((2, 8, 128), (2, 8, 128), (2, 8, 128), HALF), (8, 0), "math"),
    (Call((2, 8, 1, 64), (2, 8, 128, 64), (2, 8, 128, 64), HALF, causal=True), (8, 0), "efficient"),
    (Call((2, 8, 128, 64), (2, 8, 128, 64), (2, 8, 128, 32), HALF), (8, 0), "efficient"),
])  # fmt: skip
def test_the_kernel_taken(asked: Call, capability: tuple[int, int], taken: str) -> None:
    assert choose(asked, Setting(capability, cudnn=91501)) == taken


def test_what_the_user_switches_off() -> None:
    setting = Setting(enabled=frozenset({"efficient", "math"}))
    assert choose(call(), setting) == "efficient"
    assert choose(call(), replace(setting, enabled=frozenset({"cudnn"}))) == "cudnn"
    assert choose(call(dtypes=WIDE), replace(setting, enabled=frozenset({"flash"}))) is None
    assert choose(call(), replace(Setting((9, 0)), order=("math", "flash"), chosen_order=True)) == "math"
    assert choose(call(others=2, grouped=True), replace(setting, enabled=frozenset({"efficient", "math"}))) == "math"
    assert choose(call(), replace(Setting((9, 0)), deterministic=True)) == "flash"


def test_operators_and_what_they_save() -> None:
    torch = pytest.importorskip("torch")
    from torch._subclasses.fake_tensor import FakeTensorMode

    from peakmem.errors import UsageError
    from peakmem.training.tracing import cuda

    if cuda.available():
        pytest.skip(cuda.available())
    attend, backends = torch.nn.functional.scaled_dot_product_attention, torch.nn.attention.SDPBackend
    with cuda.faked(), FakeTensorMode(), torch.device("cuda"):
        wide = torch.empty(2, 4, 60, 32, requires_grad=True)
        half = torch.empty(2, 4, 60, 36, dtype=torch.bfloat16, requires_grad=True)
        mask = torch.ones(60, 60, dtype=torch.bool)
        made = attend(half, half, half, is_causal=True)
        assert made.shape == half.shape
        node = made.grad_fn.next_functions[0][0]  # behind the slice that takes the padding off
        assert node.name() == "ScaledDotProductFlashAttentionBackward0"
        assert node._saved_logsumexp.shape == (2, 4, 60)
        assert node._saved_query.shape[-1] == 40
        assert node._saved_rng_state.device.type == "cuda"
        for call_it in (attend, torch._C._nn.scaled_dot_product_attention, torch.ops.aten.scaled_dot_product_attention):
            node = call_it(wide, wide, wide, attn_mask=mask).grad_fn
            assert node.name() == "ScaledDotProductEfficientAttentionBackward0"
            assert node._saved_log_sumexp.shape == (2, 4, 64)  # rows of 60 in steps of 32
        with torch.nn.attention.sdpa_kernel(backends.MATH):
            assert attend(wide, wide, wide).grad_fn.name() == "UnsafeViewBackward0"
        with torch.nn.attention.sdpa_kernel(backends.FLASH_ATTENTION), pytest.raises(UsageError, match="no attention"):
            attend(wide, wide, wide)
        with torch.autocast("cuda", dtype=torch.bfloat16):
            assert attend(wide, wide, wide).dtype == torch.bfloat16
