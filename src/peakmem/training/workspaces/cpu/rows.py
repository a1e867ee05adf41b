"""All rows of the processor."""

from __future__ import annotations

from peakmem.training.workspaces.cpu import attention, convolution, images, losses, norms, products, recurrent, tensors
from peakmem.training.workspaces.found import Answer, Row, Rule
from peakmem.training.workspaces.nothing import ON_CPU, rest

SWEEP = "measured by benchmarks/training/workspaces.py, torch 2.13.0+cpu, AVX-512"


def _row(name: str, operators: str, formula: str, source: str, rule: Rule) -> Row:
    names = tuple(f"aten::{each}" for each in operators.split())
    return Row(name, names, "cpu", formula, f"{source}; {SWEEP}", rule)


def _none(*_: object) -> Answer:
    return 0


_TAKING: tuple[Row, ...] = (
    _row(
        "oneDNN convolution", "convolution _convolution",
        "before: image + weights + result, each in blocks of 16 channels, + scratchpad; beside: the blocked result; "
        "channels last: weights in blocks + scratchpad; without oneDNN: the unfolded image",
        "Convolution.cpp, mkldnn/Conv.cpp; oneDNN 3.12 init_conf, init_scratchpad", convolution.convolution,
    ),
    _row(
        "oneDNN convolution backward", "convolution_backward",
        "before: the most of (gradient + weights + image's gradient, blocked) and (image's gradient + gradient + image "
        "+ weights' gradient, blocked) with their scratchpads; beside: the blocked weights' gradient",
        "Convolution.cpp, mkldnn/Conv.cpp; oneDNN 3.12 init_conf, init_scratchpad, balance",
        convolution.convolution_backward,
    ),
    _row("batch norm", "native_batch_norm _native_batch_norm_legit _batch_norm_with_update "
         "_native_batch_norm_legit_no_training", "2 channels, with channels last a sum for each thread",
         "cpu/batch_norm_kernel.cpp", norms.batch_norm),
    _row("batch norm backward", "native_batch_norm_backward batch_norm_backward", "the image's gradient once more",
         "Normalization.cpp", norms.batch_norm_backward),
    _row("layer norm", "native_layer_norm", "a copy of rows that do not lie whole", "layer_norm.cpp", norms.layer_norm),
    _row("layer norm backward", "native_layer_norm_backward", "2 sums for each thread and each normalised element",
         "cpu/layer_norm_kernel.cpp", norms.layer_norm_backward),
    _row("group norm", "native_group_norm", "channels last: 2 sums for each channel of each image",
         "cpu/group_norm_kernel.cpp", norms.group_norm),
    _row("group norm backward", "native_group_norm_backward", "2 sums for each channel of each image",
         "group_norm.cpp", norms.group_norm_backward),
    _row("product", "mm bmm mv", "bfloat16: oneDNN's scratchpad, blocks of each thread; else nothing",
         "mkldnn/Matmul.cpp; oneDNN 3.12 brgemm matmul", products.product),
    _row("product and sum", "addmm baddbmm addmv addbmm", "as a product", "mkldnn/Matmul.cpp", products.added),
    _row("linear", "mkldnn_linear linear", "as a product", "mkldnn/Matmul.cpp", products.linear),
    _row("flash attention", "_scaled_dot_product_flash_attention_for_cpu",
         "threads x block of queries x (keys + 2 + width) x 4, in half precision scores besides",
         "cpu/FlashAttentionKernel.cpp", attention.flash),
    _row("flash attention backward", "_scaled_dot_product_flash_attention_for_cpu_backward",
         "2 x threads x block of queries x keys, and a copy of the gradient that lies otherwise",
         "cpu/FlashAttentionKernel.cpp", attention.flash_backward),
    _row("masked softmax", "_safe_softmax", "one byte for each score and each row", "SoftMax.cpp",
         tensors.masked_softmax),
    _row("arithmetic", "add sub mul div rsub remainder fmod maximum minimum atan2 floor_divide bitwise_and "
         "bitwise_or logical_and logical_or xlogy fmax fmin", "operands of another type, in the result's; a number as "
         "a tensor", "TensorIterator.cpp", tensors.arithmetic),
    _row("several operands", "where addcmul addcdiv lerp", "operands of another type, in the result's",
         "TensorIterator.cpp", tensors.many),
    _row("gelu backward", "gelu_backward", "a gradient that does not lie row by row: a copy, of a turned one two",
         "Activation.cpp, mkldnn/Gelu.cpp", tensors.gelu_backward),
    _row("comparison", "eq ne lt le gt ge", "operands of another type; a number as a tensor", "TensorIterator.cpp",
         tensors.comparison),
    _row("arithmetic in place", "add_ sub_ mul_ div_ remainder_",
         "the other operand in the first one's type; a number as a tensor", "TensorIterator.cpp", tensors.in_place),
    _row("many tensors and a number", "_foreach_add_ _foreach_mul_ _foreach_div_ _foreach_sub_ _foreach_add "
         "_foreach_mul _foreach_div _foreach_sub", "a number as a tensor, one after the other", "ForeachOpsKernels.cpp",
         tensors.scalar_list),
    _row("sum", "sum nansum", "threads x one result; a copy where the type changes", "ReduceOps.cpp, cpu/Reduce.h",
         tensors.total),
    _row("mean", "mean", "a number as a tensor; of half precision a float32 copy", "ReduceOps.cpp", tensors.mean),
    _row("norm", "linalg_vector_norm norm", "a copy where the type changes", "LinearAlgebra.cpp", tensors.norm),
    _row("log of a sum of exponentials", "logsumexp", "the exponentials", "ReduceOps.cpp", tensors.log_sum_exp),
    _row("cumulative sum", "cumsum cumprod", "a copy where the type changes", "ReduceOps.cpp", tensors.scan),
    _row("sort", "sort", "indices of one row", "Sorting.cpp", tensors.sort),
    _row("order statistic", "kthvalue median", "a copy", "Sorting.cpp", tensors.selected),
    _row("scatter", "scatter scatter_add gather scatter_reduce scatter_ scatter_add_ scatter_reduce_",
         "half precision: a float32 copy of the result", "cpu/ScatterGatherKernel.cpp", tensors.in_float),
    _row("a copy of the first operand", "dist abs renorm", "complex or reduced: a copy", "LinearAlgebra.cpp",
         tensors.copied),
    _row("a few numbers", "repeat std unfold_backward binary_cross_entropy_backward", "16; at most 512",
         "TensorShape.cpp, ReduceOps.cpp", tensors.numbers),
    _row("masked scatter backward", "masked_scatter_backward", "what the mask chooses, and its places",
         "TensorAdvancedIndexing.cpp", tensors.masked_scatter_backward),
    _row("im2col", "im2col", "a copy of the image", "Im2Col.cpp", tensors.unfolded),
    _row("enlarging, nearest", "upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d "
         "_upsample_nearest_exact2d _upsample_nearest_exact3d", "height + width up to 128: image and result with "
         "channels last; else a table of places", "cpu/UpSampleKernel.cpp", images.enlarged(1)),
    _row("enlarging, linear", "upsample_linear1d upsample_bilinear2d upsample_trilinear3d",
         "as nearest, with two tables", "cpu/UpSampleKernel.cpp", images.enlarged(2)),
    _row("enlarging, cubic", "upsample_bicubic2d", "four tables of places", "cpu/UpSampleKernel.cpp",
         images.enlarged(4)),
    _row("enlarging backward", "upsample_nearest1d_backward upsample_nearest2d_backward upsample_nearest3d_backward "
         "upsample_linear1d_backward upsample_bilinear2d_backward upsample_trilinear3d_backward "
         "upsample_bicubic2d_backward _upsample_nearest_exact1d_backward _upsample_nearest_exact2d_backward "
         "_upsample_nearest_exact3d_backward", "a copy of what does not lie row by row", "cpu/UpSampleMoreKernel.cpp",
         images.reduced),
    _row("max pooling backward", "max_pool2d_with_indices_backward",
         "copies where gradient or places lie otherwise than the image", "DilatedMaxPool2d.cpp",
         images.max_pool_backward),
    _row("pointwise loss", "huber_loss", "each element's loss", "Loss.cpp", losses.pointwise),
    _row("pointwise loss that keeps its memory", "mse_loss smooth_l1_loss",
         "each element's loss twice; the result keeps one of them", "Loss.cpp, TORCH_META_FUNC(mse_loss)",
         losses.pointwise_kept),
    _row("loss averaged in place", "binary_cross_entropy soft_margin_loss",
         "a mean; the result keeps each element's loss", "Loss.cpp", losses.averaged_in_place),
    _row("loss of logits", "binary_cross_entropy_with_logits", "twice each element's loss", "Loss.cpp",
         losses.with_logits),
    _row("ctc loss backward", "_ctc_loss_backward", "probabilities from each place on", "LossCTC.cpp",
         losses.ctc_backward),
    _row("lstm", "mkldnn_rnn_layer", "packed weights + scratchpad; the results hold a workspace", "mkldnn/RNN.cpp; "
         "oneDNN 3.12 rnn_utils.hpp", recurrent.layer),
    _row("lstm backward", "mkldnn_rnn_layer_backward", "weights packed twice + scratchpad", "mkldnn/RNN.cpp; oneDNN "
         "3.12 rnn_utils.hpp", recurrent.layer_backward),
)  # fmt: skip

ROWS = (
    *_TAKING,
    Row("nothing", rest(ON_CPU, _TAKING), "cpu", "0", f"no allocation beyond the results; {SWEEP}", _none),
)
