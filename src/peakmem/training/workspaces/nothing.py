"""Operators whose kernels allocate nothing but their results; views need no row."""

from __future__ import annotations

from collections.abc import Iterable

from peakmem.training.workspaces.found import Row

_MEASURED = (
    "_adaptive_avg_pool2d _adaptive_avg_pool2d_backward _adaptive_avg_pool3d _adaptive_avg_pool3d_backward "
    "_cdist_backward _cdist_forward _ctc_loss _fft_c2c _fft_r2c _foreach_addcmul_ _foreach_clamp_max_ "
    "_foreach_clamp_min_ _foreach_lerp_ _foreach_norm _foreach_rsqrt_ _foreach_sqrt _foreach_zero_ _fused_sgd_ "
    "_local_scalar_dense _log_softmax _log_softmax_backward_data _prelu_kernel _prelu_kernel_backward _softmax "
    "_softmax_backward_data _to_copy _unsafe_view adaptive_max_pool2d adaptive_max_pool2d_backward "
    "adaptive_max_pool3d adaptive_max_pool3d_backward addcdiv_ addcmul_ amax aminmax any arange argmax "
    "as_strided_ avg_pool2d avg_pool2d_backward avg_pool3d avg_pool3d_backward bernoulli bernoulli_ bitwise_and_ "
    "bitwise_not cat ceil_ celu channel_shuffle clamp clamp_ clamp_min clone col2im constant_pad_nd copy_ cos "
    "count_nonzero cummax diagonal_backward dot elu elu_backward embedding embedding_dense_backward empty "
    "empty_like erf exp expm1 exponential_ fill_ flip floor fractional_max_pool2d_backward full full_like gelu "
    "gelu_backward glu glu_backward grid_sampler_2d grid_sampler_2d_backward hardshrink hardshrink_backward "
    "hardsigmoid hardsigmoid_backward hardswish hardswish_backward hardtanh hardtanh_backward huber_loss_backward "
    "index index_add index_copy index_fill index_put index_put_ index_select isnan leaky_relu leaky_relu_backward "
    "lerp_ log1p log_sigmoid_backward log_sigmoid_forward logcumsumexp logical_and_ logical_or_ masked_fill "
    "masked_fill_ masked_scatter max_pool2d_with_indices max_pool3d_with_indices max_pool3d_with_indices_backward "
    "max_unpool2d min mish mish_backward mse_loss_backward multi_margin_loss multi_margin_loss_backward "
    "nan_to_num neg new_empty new_empty_strided new_zeros nll_loss2d_backward nll_loss2d_forward "
    "nll_loss_backward nll_loss_forward ones pixel_shuffle pixel_unshuffle polar prod rand randint randn "
    "randn_like reciprocal reflection_pad2d reflection_pad2d_backward relu relu_ replication_pad2d "
    "replication_pad2d_backward roll rot90 round rrelu_with_noise rrelu_with_noise_backward rsqrt rsqrt_ "
    "scalar_tensor select_backward sgn sigmoid sigmoid_ sigmoid_backward sign silu silu_backward sin "
    "slice_backward smooth_l1_loss_backward softplus softplus_backward softshrink softshrink_backward sqrt sqrt_ "
    "squeeze_ stack tanh tanh_ tanh_backward threshold_backward topk transpose_ tril triu uniform_ unsafe_split "
    "var zero_ zeros zeros_like "
)
# on the processor, in the sweep of benchmarks/training/workspaces.py: forward and backward, float32 and bfloat16

_ALSO = (
    "_foreach_abs _foreach_addcdiv_ _foreach_maximum_ _foreach_reciprocal_ _fused_adagrad_ _fused_adam_ "
    "_fused_adamw_ log max pow pow_ "
)
# of the same sweep

_ALIKE = (
    "_foreach_pow_ _stack alias as_strided_copy bucketize ceil clamp_max complex detach diag_embed expand_copy "
    "ger imag logspace narrow_copy new_ones normal one_hot ones_like outer real reflection_pad3d "
    "replication_pad3d searchsorted slice_copy split square threshold threshold_ trace unbind vdot "
    "view_as_complex "
    "var_mean "
    "clamp_min_ clamp_max_ "
    "_amp_foreach_non_finite_check_and_unscale_ _amp_update_scale_ _foreach_abs_ _foreach_addcdiv "
    "_foreach_addcmul _foreach_clamp_min _foreach_copy_ _foreach_exp _foreach_lerp _foreach_maximum _foreach_neg "
    "_foreach_neg_ _foreach_pow _foreach_reciprocal _foreach_rsqrt _foreach_sign _foreach_sqrt_ _is_all_true "
    "_unsafe_index _unsafe_index_put abs_ acos acosh adaptive_avg_pool1d all amin argmin as_strided_scatter asin "
    "asinh atan atanh avg_pool1d bitwise_xor cauchy_ cos_ cosh cummin deg2rad detach_ diagonal_scatter digamma "
    "elu_ embedding_renorm_ empty_strided erf_ erfc erfinv exp2 exp_ eye floor_ frac geometric_ grid_sampler_3d "
    "grid_sampler_3d_backward hardsigmoid_ hardswish_ hardtanh_ hypot index_add_ index_copy_ index_fill_ isfinite "
    "isinf isneginf isposinf leaky_relu_ lgamma lift lift_fresh lift_fresh_copy linspace log10 log2 log_ "
    "log_normal_ logical_not logical_not_ logit masked_scatter_ max_pool1d multilabel_margin_loss_forward "
    "native_dropout_backward neg_ new_full normal_ rad2deg rand_like randint_like random_ reflection_pad1d "
    "reflection_pad1d_backward replication_pad1d replication_pad1d_backward resize_ round_ select_scatter set_ "
    "sign_ silu_ sin_ sinc sinh slice_scatter square_ tan tril_ triu_ trunc "
)
# not in the sweep; the same kernels as one of those above (elementwise over TensorIterator, or a fill), torch 2.13

ON_CPU = _MEASURED + _ALSO + _ALIKE

_ON_CARDS = (
    "native_dropout "
    "where abs dist renorm unfold_backward masked_scatter_backward binary_cross_entropy_backward embedding index "
    "_upsample_nearest_exact1d _upsample_nearest_exact1d_backward _upsample_nearest_exact3d "
    "_upsample_nearest_exact3d_backward _native_batch_norm_legit_no_training "
    "_conv_depthwise2d _efficient_attention_forward _flash_attention_forward _foreach_add _foreach_add_ "
    "_foreach_div _foreach_div_ _foreach_mul _foreach_mul_ _foreach_sub _foreach_sub_ _fused_dropout "
    "_safe_softmax _scaled_dot_product_cudnn_attention _scaled_dot_product_efficient_attention "
    "_scaled_dot_product_flash_attention _thnn_fused_gru_cell _thnn_fused_gru_cell_backward _thnn_fused_lstm_cell "
    "_thnn_fused_lstm_cell_backward_impl _upsample_nearest_exact2d _upsample_nearest_exact2d_backward add add_ "
    "addcdiv addcmul atan2 bitwise_and bitwise_or div div_ eq floor_divide fmax fmin fmod gather ge gt im2col le "
    "lerp logical_and logical_or lt maximum minimum mul mul_ ne remainder remainder_ repeat rsub "
    "scatter scatter_ scatter_add scatter_add_ scatter_reduce scatter_reduce_ sub sub_ upsample_bicubic2d "
    "upsample_bilinear2d upsample_linear1d upsample_linear1d_backward upsample_nearest1d "
    "upsample_nearest1d_backward upsample_nearest2d upsample_nearest3d upsample_nearest3d_backward "
    "upsample_trilinear3d upsample_trilinear3d_backward where xlogy "
)
# take something on the processor, or are not there; one kernel that writes its result on cards (cuda/*.cu)

ON_CUDA = ON_CPU + _ON_CARDS


def rest(names: str, rows: Iterable[Row]) -> tuple[str, ...]:
    """Operators of which no other row says anything."""
    taken = {operator for row in rows for operator in row.operators}
    return tuple(sorted({f"aten::{name}" for name in names.split()} - taken))
