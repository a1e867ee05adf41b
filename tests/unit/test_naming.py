"""Roles by name, on names that libraries really write; what each is for is known from their source."""

import pytest

from peakmem.dtypes import BLOCK_DTYPES, BOOL, FLOAT8E4M3FN, FLOAT16, FLOAT32, INT32, INT64, UINT8, UINT32
from peakmem.ir.graph import Tensor
from peakmem.naming import stored_roles


def role(name, shape, dtype=FLOAT32, **beside):
    """The role of one tensor with others of (shape, dtype) beside it in its module."""
    stem = name.rpartition(".")[0]
    others = [Tensor(f"{stem}.{leaf}", *told, "constant") for leaf, told in beside.items()]
    return stored_roles([Tensor(name, shape, dtype, "constant"), *others])[name]


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        # Hugging Face
        ("model.layers.0.self_attn.q_proj.weight", (64, 64), "weight"),
        ("model.layers.0.self_attn.q_proj.bias", (64,), "bias"),
        ("model.layers.0.input_layernorm.weight", (64,), "norm"),
        ("model.layers.0.self_attn.q_norm.weight", (64,), "norm"),
        ("model.norm.weight", (64,), "norm"),
        ("transformer.h.0.ln_1.weight", (64,), "norm"),
        ("transformer.ln_f.bias", (64,), "norm"),
        ("transformer.h.0.ln_attn.weight", (64,), "norm"),
        ("h.0.attn.bias", (1, 1, 1024, 1024), "other"),  # the causal mask of GPT-2
        ("h.0.attn.masked_bias", (), "other"),
        ("h.0.attn.c_attn.weight", (64, 192), "weight"),
        ("shared.relative_attention_bias.weight", (32, 8), "weight"),
        ("logit_scale", (), "weight"),
        ("vision_model.pre_layrnorm.weight", (64,), "norm"),
        ("model.layers.0.mlp.experts.gate_up_proj_bias", (32, 64), "bias"),
        ("encoder.layer.0.attention.output.LayerNorm.gamma", (64,), "norm"),
        # PyTorch and timm
        ("layer1.0.bn1.weight", (64,), "norm"),
        ("layer1.0.bn1.running_mean", (64,), "statistic"),
        ("blocks.0.norm1.bias", (64,), "norm"),
        ("blocks.0.ls1.gamma", (64,), "weight"),  # LayerScale
        ("lstm.weight_ih_l0", (256, 64), "weight"),
        ("lstm.bias_hh_l0", (256,), "bias"),
        ("attn.in_proj_weight", (192, 64), "weight"),
        ("attn.in_proj_bias", (192,), "bias"),
        ("cls_token", (1, 1, 64), "weight"),
        ("rotary_emb.inv_freq", (32,), "other"),
        # Flax and FLUX
        ("double_blocks.0.img_attn.norm.query_norm.scale", (128,), "norm"),
        # Keras
        ("conv1_bn/gamma:0", (64,), "norm"),
        ("conv1_bn/moving_variance:0", (64,), "statistic"),
        ("conv1/kernel:0", (3, 3, 3, 64), "weight"),
        ("conv1/bias:0", (64,), "bias"),
        # ggml
        ("token_embd.weight", (32000, 64), "weight"),
        ("blk.0.attn_q.weight", (64, 64), "weight"),
        ("blk.0.attn_norm.weight", (64,), "norm"),
        ("blk.0.attn_q.bias", (64,), "bias"),
        ("output_norm.weight", (64,), "norm"),
        ("rope_freqs.weight", (64,), "other"),
        ("blk.0.ssm_d", (64,), "weight"),
    ],
)
def test_floating_tensors(name, shape, expected):
    assert role(name, shape) == expected


def test_batch_norm_in_a_sequential_is_known_by_its_statistics():
    assert role("features.0.1.weight", (64,), running_mean=((64,), FLOAT32)) == "norm"
    assert role("features.0.1.bias", (64,), running_mean=((64,), FLOAT32)) == "norm"


def test_layer_norm_in_a_sequential_is_known_by_its_pair():
    assert role("features.1.0.block.2.weight", (96,), bias=((96,), FLOAT32)) == "norm"
    assert role("features.1.0.block.2.bias", (96,), weight=((96, 4), FLOAT32)) == "bias"


def test_the_bias_of_a_linear_layer_inside_a_norm_is_a_bias():
    assert role("norm1.linear.bias", (384,), weight=((384, 64), FLOAT32)) == "bias"


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "beside", "expected"),
    [
        ("q.qweight", (16, 64), INT32, {}, "weight"),
        ("q.qzeros", (1, 8), INT32, {}, "quantisation"),
        ("q.scales", (1, 64), FLOAT16, {}, "quantisation"),
        ("q.g_idx", (128,), INT32, {}, "quantisation"),
        ("q.weight", (32, 1), UINT8, {}, "weight"),
        ("q.weight.absmax", (4,), FLOAT32, {}, "quantisation"),
        ("q.weight.quant_state.bitsandbytes__nf4", (80,), UINT8, {}, "quantisation"),
        ("q.weight", (8, 8), FLOAT8E4M3FN, {}, "weight"),
        ("q.weight_scale_inv", (1, 1), FLOAT32, {}, "quantisation"),
        ("q.weight_packed", (8, 2), INT32, {}, "weight"),
        ("q.weight_shape", (2,), INT64, {}, "other"),
        ("mlp.experts.gate_up_proj_blocks", (2, 4, 2, 16), UINT8, {}, "weight"),
        ("mlp.experts.gate_up_proj_scales", (2, 4, 2), UINT8, {}, "quantisation"),
        ("q.weight", (8, 2), UINT32, {"scales": ((8, 1), FLOAT16)}, "weight"),
        ("q.biases", (8, 1), FLOAT16, {"scales": ((8, 1), FLOAT16), "weight": ((8, 2), UINT32)}, "quantisation"),
        ("blk.0.attn_q.scale", (1,), FLOAT32, {"weight": ((4, 256), BLOCK_DTYPES["tq1_0"])}, "quantisation"),
        ("blk.0.attn_q.weight", (4, 256), BLOCK_DTYPES["q4_k"], {}, "weight"),
        ("layer.layer_scale", (64,), FLOAT32, {}, "weight"),
        ("embeddings.position_ids", (1, 512), INT64, {}, "other"),
        ("attn.mask", (8, 8), BOOL, {}, "other"),
    ],
)
def test_quantised_and_whole_tensors(name, shape, dtype, beside, expected):
    assert role(name, shape, dtype, **beside) == expected


def test_what_is_no_parameter_has_no_role():
    moment = Tensor("optimizer.state.0.exp_avg", (4, 4), FLOAT32, "constant", parameter=False)
    assert stored_roles([moment]) == {moment.name: "other"}


@pytest.mark.parametrize(
    ("layer", "shapes", "expected"),
    [
        ("dense", [(4, 8), (8,)], ["weight", "bias"]),
        ("separable_conv2d", [(3, 3, 4, 1), (1, 1, 4, 8), (8,)], ["weight", "weight", "bias"]),
        ("batch_normalization_3", [(8,)] * 4, ["norm", "norm", "statistic", "statistic"]),
        ("batch_normalization", [(8,)] * 3, ["norm", "statistic", "statistic"]),  # scale=False
        ("layer_normalization", [(8,), (8,)], ["norm", "norm"]),
        ("p_re_lu", [(8,)], ["weight"]),
    ],
)
def test_keras_variables_have_numbers_for_names(layer, shapes, expected):
    """The order is that of `Layer._trainable_variables` then `_non_trainable_variables`, as save_weights writes it."""
    names = [f"layers/{layer}/vars/{at}" for at in range(len(shapes))]
    roles = stored_roles([Tensor(name, shape, FLOAT32, "constant") for name, shape in zip(names, shapes, strict=True)])
    assert [roles[name] for name in names] == expected
