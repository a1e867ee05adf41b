"""The table of workspaces: what it says by hand arithmetic, of which operators, and how it is asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from peakmem.training import workspaces  # noqa: E402
from peakmem.training.workspaces.cpu import onednn, threading  # noqa: E402
from peakmem.training.workspaces.cpu.sizes import Sizes, channels_last, dense  # noqa: E402
from peakmem.training.workspaces.cuda.reductions import scratch  # noqa: E402

MACHINE = workspaces.Machine(threads=2)
ATEN = torch.ops.aten


def convolution(
    inner: int, outer: int, kernel: int, *, size: int = 16, batch: int = 4, layout: object = torch.contiguous_format
) -> workspaces.Found:
    """What is said of one convolution with a margin that keeps its size."""
    image = torch.empty(batch, inner, size, size).contiguous(memory_format=layout)
    weights = torch.empty(outer, inner, kernel, kernel).contiguous(memory_format=layout)
    result = torch.empty(batch, outer, size, size).contiguous(memory_format=layout)
    pads = kernel // 2
    args = (image, weights, None, [1, 1], [pads, pads], [1, 1], False, [0, 0], 1)
    found = workspaces.find(ATEN.convolution.default, args, {}, result, "cpu", MACHINE)
    assert found is not None
    return found


def test_a_convolution_holds_image_weights_and_result_in_blocks() -> None:
    found = convolution(16, 32, 3)
    image, weights, result = 4 * 16 * 256 * 4, 32 * 16 * 9 * 4, 4 * 32 * 256 * 4
    assert (found.before, found.nbytes) == (image + weights + result, result)
    assert found.excess(result) == max(image + weights, result)


def test_channels_are_padded_to_blocks_of_sixteen() -> None:
    found = convolution(20, 24, 3)
    assert found.nbytes == 4 * 32 * 256 * 4
    assert found.before == (4 * 32 * 256 + 32 * 32 * 9 + 4 * 32 * 256) * 4


def test_an_image_of_three_channels_is_read_as_it_lies() -> None:
    assert convolution(3, 64, 7).before == (64 * 3 * 49 + 4 * 64 * 256) * 4


def test_channels_last_needs_no_copy_of_the_image() -> None:
    found = convolution(64, 64, 3, layout=torch.channels_last)
    lists = 2 * 103 * 40 + 4096  # for each of two threads 103 elements of 40 bytes, and a page to align them
    assert (found.before, found.nbytes) == (0, 64 * 64 * 9 * 4 + lists)


def test_an_image_that_does_not_lie_whole_is_copied() -> None:
    image = torch.empty(4, 16, 16, 32)[..., ::2]
    args = (image, torch.empty(32, 16, 3, 3), None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1)
    found = workspaces.find(ATEN.convolution.default, args, {}, torch.empty(4, 32, 16, 16), "cpu", MACHINE)
    assert found is not None
    assert found.nbytes == 4 * 32 * 256 * 4 + 4 * 16 * 256 * 4


def test_fake_and_real_tensors_are_told_the_same() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    real = convolution(16, 32, 3)
    with FakeTensorMode():
        assert convolution(16, 32, 3) == real


def test_a_view_takes_nothing() -> None:
    tensor = torch.empty(4, 5)
    found = workspaces.find(ATEN.t.default, (tensor,), {}, tensor.t(), "cpu", MACHINE)
    assert found is not None
    assert (found.nbytes, found.before, found.source) == (0, 0, "view")


def test_an_operator_without_a_row_has_a_bound() -> None:
    tensor, vectors = torch.empty(3, 4, 4), torch.empty(3, 4)
    func = ATEN.linalg_eigvals.default
    assert workspaces.find(func, (tensor,), {}, vectors, "cpu", MACHINE) is None
    assert workspaces.bound_of(func, (tensor,), {}, vectors) == (48 + 12) * 4


def test_an_lstm_holds_a_workspace_that_its_shape_does_not_tell() -> None:
    # the profiler's allocation for 7 steps of 5 sequences, 16 features, 32 states: 90,112 bytes (torch 2.13.0+cpu)
    steps, batch, inner, hidden = 7, 5, 16, 32
    weights = [
        torch.empty(4 * hidden, inner),
        torch.empty(4 * hidden, hidden),
        torch.empty(4 * hidden),
        torch.empty(4 * hidden),
    ]
    state = torch.empty(batch, hidden)
    args = (torch.empty(steps, batch, inner), *weights, state, state, False, [], 2, hidden, 1, True, False, False, True)
    result = (torch.empty(steps, batch, hidden), state, state, torch.empty(0, dtype=torch.uint8))
    found = workspaces.find(ATEN.mkldnn_rnn_layer.default, args, {}, result, "cpu", MACHINE)
    assert found is not None
    assert found.left == (90_112,)
    assert found.nbytes == 128 * 4 + 16 * 128 * 4 + 32 * 128 * 4 + 33_336


def test_batch_norm_backward_makes_its_gradient_twice() -> None:
    image, channels = torch.empty(4, 16, 10, 12), torch.empty(16)
    args = (image, image, channels, channels, channels, channels, channels, True, 1e-5, [True, True, True])
    result = (image, channels, channels)
    found = workspaces.find(ATEN.native_batch_norm_backward.default, args, {}, result, "cpu", MACHINE)
    assert found is not None
    assert found.nbytes == 4 * 16 * 120 * 4


def test_attention_takes_a_block_of_scores_for_each_thread() -> None:
    query = torch.empty(2, 4, 300, 64)
    args = (query, query, query)
    result = (query, torch.empty(2, 4, 300))
    func = ATEN._scaled_dot_product_flash_attention_for_cpu.default
    found = workspaces.find(func, args, {}, result, "cpu", MACHINE)
    assert found is not None
    assert found.nbytes == 2 * 64 * (300 + 1 + 1 + 64) * 4


@pytest.mark.parametrize(
    ("rows", "nbytes"), [(512, []), (1024, [8 << 20, 32]), (2048, [16 << 20, 32]), (4096, [32 << 20, 32])]
)
def test_reductions_on_cards_are_those_of_recorded_traces(rows: int, nbytes: list[int]) -> None:
    # the sums over rows of 49 norms' gradients, 1,024 columns, as at::native::gpu_reduce_kernel allocated them
    card = workspaces.Machine(multiprocessors=108, capability=(8, 0))
    shape, strides = (4, rows // 4, 1024), (rows // 4 * 1024, 1024, 1)
    assert scratch(shape, strides, (0, 1), 4, card) == nbytes


def test_a_sum_over_everything_takes_little() -> None:
    card = workspaces.Machine(multiprocessors=108, capability=(8, 0))
    assert sum(scratch((1 << 24,), (1,), (), 4, card)) < 4096


def test_cublas_keeps_two_workspaces() -> None:
    # :4096:2:16:8 in KiB, and 32 MiB on Hopper: both in recorded traces as at::cuda::getNewWorkspace
    assert [each.nbytes for each in workspaces.persistent("cuda", (8, 0))] == [8_519_680, 8_519_680]
    assert [each.nbytes for each in workspaces.persistent("cuda", (9, 0))] == [33_554_432, 33_554_432]
    assert [each.nbytes for each in workspaces.persistent("cuda", (9, 0), ":16:8")] == [131_072, 131_072]
    assert workspaces.persistent("cpu") == []


def test_an_added_index_sorts_its_places_as_in_a_recorded_trace() -> None:
    # 2,048 tokens: four times 16,384 bytes and one of cub's
    table, places = torch.empty(10_000, 1024), torch.zeros(4, 512, dtype=torch.long)
    args = (table, [places], torch.empty(4, 512, 1024), True)
    found = workspaces.find(ATEN.index_put_.default, args, {}, table, "cuda", MACHINE)
    assert found is not None
    assert found.parts == (16_384, 16_384, 16_384, 16_384, 1)
    assert found.nbytes == sum(found.parts)


def test_flash_attention_sums_the_gradient_of_queries_in_float32() -> None:
    query = torch.empty(2, 8, 1000, 64, dtype=torch.bfloat16)
    args = (query, query, query, query, query)
    func = ATEN._scaled_dot_product_flash_attention_backward.default
    found = workspaces.find(func, args, {}, (query, query, query), "cuda", MACHINE)
    assert found is not None
    assert found.parts == (2 * 8 * 1024 * 4, 2 * 1024 * 8 * 64 * 4)


def test_every_row_names_its_origin() -> None:
    rows = workspaces.rows()
    assert len(rows) > 800
    for (operator, device), row in rows.items():
        assert operator.startswith("aten::")
        assert device == row.device
        assert row.source
        assert row.formula


def test_threads_share_the_gradient_of_weights() -> None:
    # one block of sixteen channels on both sides: each of two threads takes half of the images, one copy is summed
    one = Sizes(4, 16, 16, 1, (16, 16), (16, 16), (3, 3), (1, 1), (1, 1), (1, 1), False, 4)
    taken = onednn.backward_weights(one, 2, 16, last=False)
    assert taken.scratch == (16 * 16 * 9 + 16) * 4 + 128 + 2 * 4096
    assert onednn.backward_weights(one, 1, 16, last=False).scratch == 0


def test_groups_of_threads_share_few_jobs() -> None:
    assert threading.together(2, 16, 1, 4, 1 << 20) == (1, 2, 1)
    assert threading.together(2, 16, 8, 4, 1 << 20) == (2, 1, 4)


def test_a_divider_wastes_least() -> None:
    assert threading.best_divider(64, 5, 64, largest=False) == 8
    assert threading.best_divider(256, 7, 16, largest=True) == 16


def test_layouts_are_told_from_strides() -> None:
    last = torch.empty(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    assert channels_last(last.shape, last.stride())
    assert dense(last.shape, last.stride(), last=True)
    assert not channels_last((2, 1, 4, 5), (20, 20, 5, 1))
    assert dense((2, 1, 4, 5), (20, 20, 5, 1))


def test_the_evidence_covers_the_rows_of_the_processor() -> None:
    path = Path(workspaces.__file__).with_name("evidence.json")
    evidence = json.loads(path.read_text())
    calls = sum(item["calls"] for item in evidence["families"].values())
    exact = sum(item["exact"] for item in evidence["families"].values())
    assert calls > 3000
    assert exact / calls > 0.98
    known = {row.name for row in workspaces.rows().values()} | {"view"}
    assert set(evidence["rows"]) <= known
