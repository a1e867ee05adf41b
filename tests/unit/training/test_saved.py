"""Training steps of a graph without torch: what is saved, worked out by hand, and what is refused."""

from __future__ import annotations

import pytest

from peakmem import zoo
from peakmem.binding import bound
from peakmem.dtypes import FLOAT32, INT8
from peakmem.errors import GraphError, UnboundDimension, UsageError
from peakmem.ir.builder import GraphBuilder
from peakmem.ir.dims import Symbol
from peakmem.training import account
from peakmem.training.log import Log, events
from peakmem.training.saved import ESTIMATE, graph_log
from peakmem.training.saved.eager import view_strides
from peakmem.training.saved.idioms import raised
from peakmem.training.scenario import Lora, Optimizer, Scenario, Sharding

SGD = Optimizer("sgd", "single")
LOSS = 3 * 4
# a loss, the sum of weights beside it and the loss's own gradient, 4 bytes each


def saved_bytes(log: Log, step: int = 0) -> int:
    """Bytes of tensors made in a forward and alive when its backward begins."""
    begin = next(mark.moment for mark in log.marks if mark.step == step and mark.phase == "backward")
    made = (item for item in log.storages if item.phase == "forward" and item.step == step)
    return sum(item.nbytes for item in made if item.start < begin <= item.stop and item.category != "kernel workspace")


def gradient_bytes(log: Log) -> int:
    return sum(item.nbytes for item in log.storages if item.category == "gradient" and item.step == 0)


def log_of(graph, **asked) -> Log:
    log = graph_log(graph, Scenario(**{"optimizer": SGD, **asked}))
    events(log)  # raises where two things happen at one moment
    return log


def classifier(build, channels: int = 3) -> Log:
    """A network of one piece on 2 images of 8x8, a mean over the image and 5 classes."""
    b = GraphBuilder("piece")
    x = build(b, b.input("input", (2, channels, 8, 8)))
    return log_of(b.finish(b.linear(b.flatten(b.global_average_pool(x)), 5)))


def test_relu_keeps_its_result_which_the_next_layer_reads():
    """conv → batch norm → ReLU: the convolution's result (read by the norm), two statistics, one tensor of both ReLU
    and what comes after; the mean's result for the linear layer, log-softmax and the loss."""
    log = classifier(lambda b, x: b.relu(b.batch_norm(b.conv(x, 4, kernel=3, pad=1))))
    map_bytes, statistics, pooled, logs = 2 * 4 * 64 * 4, 2 * 4 * 4, 2 * 4 * 4, 2 * 5 * 4
    assert saved_bytes(log) == 2 * map_bytes + statistics + pooled + logs + LOSS


def test_gradients_are_as_large_as_parameters():
    log = classifier(lambda b, x: b.relu(b.batch_norm(b.conv(x, 4, kernel=3, pad=1))))
    assert gradient_bytes(log) == 4 * (4 * 3 * 9 + 2 * 4 + 4 * 5 + 5)


def test_max_pooling_keeps_64_bit_places():
    log = classifier(lambda b, x: b.max_pool(b.conv(x, 4, kernel=1), kernel=2, stride=2))
    conv, places, rest = 2 * 4 * 64 * 4, 2 * 4 * 16 * 8, 2 * 4 * 4 + 2 * 5 * 4 + LOSS
    assert saved_bytes(log) == conv + places + rest


def test_relu6_keeps_its_input_beside_its_result():
    plain = classifier(lambda b, x: b.conv(b.relu(b.batch_norm(b.conv(x, 4, kernel=1))), 4, kernel=1, name="last"))
    six = classifier(lambda b, x: b.conv(b.relu6(b.batch_norm(b.conv(x, 4, kernel=1))), 4, kernel=1, name="last"))
    assert saved_bytes(six) - saved_bytes(plain) == 2 * 4 * 64 * 4


def test_a_product_keeps_both_factors():
    def gate(b, x):
        x = b.conv(x, 4, kernel=1)
        return b.mul(x, b.sigmoid(b.conv(x, 4, kernel=1, name="gate")))

    log = classifier(gate)
    assert (
        saved_bytes(log) == 2 * (2 * 4 * 64 * 4) + 2 * 4 * 4 + 2 * 5 * 4 + LOSS
    )  # the factor x is the gate's input too


def test_a_sum_keeps_nothing_and_gradients_that_meet_are_added_in_place():
    def residual(b, x):
        x = b.conv(x, 4, kernel=1)
        return b.add(x, b.conv(x, 4, kernel=1, name="branch"))

    log = classifier(residual)
    assert saved_bytes(log) == 2 * 4 * 64 * 4 + 2 * 4 * 4 + 2 * 5 * 4 + LOSS
    assert not [item for item in log.storages if item.operator == "aten::add" and item.phase == "backward"]


def test_frozen_layers_keep_no_gradient_and_what_nobody_asks_for():
    b = GraphBuilder("two")
    x = b.conv(b.input("input", (2, 3, 8, 8)), 4, kernel=1, bias=True, name="first")
    x = b.relu(x)
    graph = b.finish(b.linear(b.flatten(b.global_average_pool(x)), 5))
    log = log_of(graph, freeze=("first",))
    assert gradient_bytes(log) == 4 * (4 * 5 + 5)
    assert saved_bytes(log) == 2 * 4 * 4 + 2 * 5 * 4 + LOSS  # neither the map nor its ReLU


def test_no_such_frozen_parameter():
    with pytest.raises(UsageError, match="no parameter is called 'nothing'"):
        log_of(zoo.build("squeezenet1_1", batch=1), freeze=("nothing",))


# From torch 2.13 (saved_tensors_hooks): ResNet-50, batch 32, 224x224, the images, their labels and the loss's sum of
# weights among it: 2,749,444,868 bytes.
RESNET50_SAVED = 2_749_444_868


def test_resnet50_saves_what_autograd_saves():
    log = log_of(zoo.build("resnet50", batch=32), steps=1)
    images, labels, loss_and_gradient = 32 * 3 * 224 * 224 * 4, 32 * 8, 2 * 4
    assert saved_bytes(log) - loss_and_gradient + images + labels == RESNET50_SAVED


def test_a_second_step_saves_the_same():
    log = log_of(small(), steps=3)
    assert saved_bytes(log, 0) == saved_bytes(log, 1) == saved_bytes(log, 2)


def small():
    b = GraphBuilder("small")
    x = b.input("input", (2, 3, 16, 16))
    for block in range(3):
        with b.scope(f"blocks.{block}"):
            x = b.relu(b.batch_norm(b.conv(x, 8, kernel=3, pad=1), name="bn"))
    return b.finish(b.linear(b.flatten(b.global_average_pool(x)), 5))


def test_recompute_keeps_the_inputs_of_blocks_alone():
    whole, less = log_of(small()), log_of(small(), recompute="blocks")
    assert saved_bytes(less) < saved_bytes(whole) / 2
    assert gradient_bytes(less) == gradient_bytes(whole)
    assert account.kept(less)["parameter"] == account.kept(whole)["parameter"]
    # what the two later blocks were given, which is what the ReLUs before them made; and the last one's result
    assert saved_bytes(less) == 2 * (2 * 8 * 256 * 4) + 2 * 8 * 4 + 2 * 5 * 4 + LOSS + 3 * 5056


def test_nothing_to_recompute():
    with pytest.raises(UsageError, match="no module is meant by recompute 'layers"):
        log_of(small(), recompute="layers.*")


def test_half_precision_is_half_as_much():
    assert gradient_bytes(log_of(small(), precision="bf16")) * 2 == gradient_bytes(log_of(small()))


def test_autocast_keeps_narrow_copies_of_weights():
    narrow, wide = log_of(small(), precision="amp-bf16"), log_of(small())
    assert gradient_bytes(narrow) == gradient_bytes(wide)
    copies = {item.shape for item in narrow.storages if item.operator == "aten::_to_copy" and item.phase == "forward"}
    assert (8, 3, 3, 3) in copies


def test_gradients_cleared_in_place_stay():
    zeroed, gone = log_of(small(), set_to_none=False), log_of(small())
    assert account.peak(zeroed, step=1, phase="forward").nbytes > account.peak(gone, step=1, phase="forward").nbytes


def test_accumulating_adds_into_the_same_gradients():
    assert gradient_bytes(log_of(small(), accumulate=3)) == gradient_bytes(log_of(small()))


def test_dropout_masks_are_bytes_on_cuda_and_floats_on_the_processor():
    def dropped(b, x):
        return b.one("Dropout", b.conv(x, 4, kernel=1), b.literal([0.5], FLOAT32, scalar=True))

    b = GraphBuilder("dropout")
    x = dropped(b, b.input("input", (2, 3, 8, 8)))
    graph = b.finish(b.linear(b.flatten(b.global_average_pool(x)), 5))
    elements = 2 * 4 * 64
    assert saved_bytes(log_of(graph)) - saved_bytes(log_of(graph, device="cuda")) == elements * (4 - 1)


def test_attention_written_out_is_one_kernel_or_what_it_is():
    graph = zoo.build("vit_s16", batch=1)
    fused = graph_log(graph, Scenario(optimizer=SGD, steps=1))
    written = graph_log(graph, Scenario(optimizer=SGD, steps=1), attention="written")
    scores = 6 * 197 * 197 * 4
    assert not [item for item in fused.storages if item.nbytes == scores]
    assert sum(item.nbytes == scores and item.operator == "aten::_softmax" for item in written.storages) == 12


def test_idioms_of_a_transformer():
    _, found = raised(zoo.build("vit_s16", batch=1))
    assert found == {"linear": 48, "gelu": 12, "attention": 12}


def test_what_has_no_rule_is_a_doubt_and_named():
    b = GraphBuilder("odd")
    x = b.conv(b.input("input", (2, 3, 8, 8)), 4, kernel=1)
    x = b.one("DepthToSpace", x, blocksize=2)
    log = log_of(b.finish(b.linear(b.flatten(b.global_average_pool(x)), 5)))
    assert any(doubt.operator == "DepthToSpace" for doubt in log.doubts)
    assert any("DepthToSpace (2×) has no rule" in note for note in log.notes)
    assert account.bound(log) >= account.peak(log).nbytes


def test_it_says_that_it_is_an_estimate():
    log = log_of(small())
    assert log.origin == "graph"
    assert ESTIMATE in log.notes


def test_a_dimension_without_a_value():
    with pytest.raises(UnboundDimension, match="--batch 1"):
        log_of(zoo.build("resnet18", batch=Symbol("batch")))


def test_integers_have_no_gradient():
    b = GraphBuilder("integers")
    x = b.input("input", (1, 4))
    weight = b.parameter("weight", (4, 4), INT8)
    with pytest.raises(GraphError, match="its weight is int8: integers have no gradient"):
        log_of(b.finish(b.one("Gemm", x, weight)))


def test_nothing_that_learns():
    b = GraphBuilder("bare")
    with pytest.raises(GraphError, match="nothing in this network learns"):
        log_of(b.finish(b.relu(b.input("input", (1, 4)))))


def test_all_frozen():
    with pytest.raises(GraphError, match="all are frozen"):
        log_of(small(), freeze=("*",))


@pytest.mark.parametrize(
    "asked", [{"lora": Lora()}, {"sharding": Sharding(ranks=2, stage=3)}, {"precision": "bf16-master"}]
)
def test_what_a_graph_cannot_be_put_under(asked):
    with pytest.raises(UsageError, match="graph"):
        log_of(small(), **asked)


def test_symbols_of_the_zoo_are_bound_first():
    graph = zoo.build("squeezenet1_1", batch=Symbol("batch"))
    assert gradient_bytes(log_of(bound(graph, batch=1), steps=1)) == 4 * 1_235_496  # its parameters


@pytest.mark.parametrize(
    ("shape", "strides", "wanted", "found"),
    [
        ((2, 3, 4), (12, 4, 1), (6, 4), (4, 1)),
        ((2, 3, 4), (12, 1, 3), (6, 4), None),
        ((2, 3, 4), (12, 1, 3), (2, 3, 2, 2), (12, 1, 6, 3)),
        ((1, 3, 4), (99, 4, 1), (12,), (1,)),
        ((2, 6, 5), (30, 5, 1), (2, 2, 3, 5), (30, 15, 5, 1)),
    ],
)
def test_views_as_torch_has_them(shape, strides, wanted, found):
    """Worked out with torch 2.13: `torch.empty_strided(shape, strides).view(wanted).stride()`."""
    assert view_strides(shape, strides, wanted) == found
