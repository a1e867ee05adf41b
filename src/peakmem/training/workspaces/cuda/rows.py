"""All rows of NVIDIA's cards."""

from __future__ import annotations

from peakmem.training.workspaces.cuda import attention, reductions, tensors
from peakmem.training.workspaces.found import Answer, Row, Rule
from peakmem.training.workspaces.nothing import ON_CUDA, rest

SUM, PAIR, WELFORD = 4, 16, 16
# bytes that a reduction carries: a float; a value and its place; mean, squares, count


def _row(name: str, operators: str, formula: str, source: str, rule: Rule) -> Row:
    names = tuple(f"aten::{each}" for each in operators.split())
    return Row(name, names, "cuda", formula, f"{source}; not measured here", rule, measured=False)


def _none(*_: object) -> Answer:
    return 0


PARTIAL = "partial results in global memory + 4 for each column of blocks, where a result has many elements"

_TAKING: tuple[Row, ...] = (
    _row("sum on cards", "sum nansum prod", PARTIAL + "; a copy of whole numbers in the result's type",
         "cuda/Reduce.cuh; 147 calls in recorded traces", reductions.reduction(SUM, typed=True)),
    _row("mean on cards", "mean amax amin max min any all logsumexp", PARTIAL, "cuda/Reduce.cuh",
         reductions.reduction(SUM)),
    _row("place of the largest on cards", "argmax argmin aminmax", PARTIAL, "cuda/Reduce.cuh",
         reductions.reduction(PAIR)),
    _row("variance on cards", "var std var_mean std_mean", PARTIAL, "cuda/Reduce.cuh, ReduceMomentKernel.cu",
         reductions.reduction(WELFORD)),
    _row("norm on cards", "linalg_vector_norm norm", PARTIAL, "cuda/ReduceNormKernel.cu", reductions.vector_norm),
    _row("norms of many tensors on cards", "_foreach_norm", "tensors x blocks of the largest x 4",
         "cuda/ForeachReduceOp.cu", tensors.foreach_norm),
    _row("convolution on cards", "convolution _convolution cudnn_convolution convolution_backward",
         "nothing said; at most every operand once more and 32 MiB", "cudnn/Conv_v8.cpp", tensors.convolution),
    _row("product on cards", "mm bmm mv addmm baddbmm addmv addbmm dot linear",
         "copies of operands that no BLAS reads; cuBLAS's workspace is kept apart", "cuda/Blas.cpp", tensors.product),
    _row("flash attention backward on cards", "_scaled_dot_product_flash_attention_backward",
         "4 for each row rounded up to 128, x (1 + width rounded up to 32); shared heads: keys and values of each",
         "flash_attn/flash_api.cpp", attention.flash_backward),
    _row("flash attention backward by rows on cards", "_flash_attention_backward",
         "as flash attention backward", "flash_attn/flash_api.cpp", attention.flash_backward_rows),
    _row("efficient attention backward on cards",
         "_scaled_dot_product_efficient_attention_backward _efficient_attention_backward",
         "4 for each row; in half precision the queries' gradient in float32", "mem_eff_attention/kernel_backward.h",
         attention.efficient_backward),
    _row("cudnn attention backward on cards", "_scaled_dot_product_cudnn_attention_backward",
         "as flash attention; at most twice", "cudnn/MHA.cpp", attention.cudnn_backward),
    _row("index put on cards", "index_put index_put_ _index_put_impl_ _unsafe_index_put",
         "adding: 4 x 8 for each index, + 16 where more than 2,048 are sorted", "cuda/Indexing.cu; recorded traces",
         tensors.index_put),
    _row("embedding backward on cards", "embedding_dense_backward",
         "more than 3,072 indices: sorted, and rows summed in parts in float32", "cuda/EmbeddingBackwardKernel.cu",
         tensors.embedding_backward),
    _row("layer norm on cards", "native_layer_norm _fused_rms_norm", "a copy of rows that do not lie whole",
         "cuda/layer_norm_kernel.cu", tensors.layer_norm),
    _row("layer norm backward on cards", "native_layer_norm_backward", "from 65,537 narrow rows on, sums of 32 rows",
         "cuda/layer_norm_kernel.cu", tensors.layer_norm_backward),
    _row("group norm on cards", "native_group_norm", "2 for each channel of each image", "cuda/group_norm_kernel.cu",
         tensors.group_norm),
    _row("group norm backward on cards", "native_group_norm_backward",
         "3 for each channel of each image, 2 for each group", "cuda/group_norm_kernel.cu",
         tensors.group_norm_backward),
    _row("batch norm on cards", "native_batch_norm _native_batch_norm_legit native_batch_norm_backward "
         "_batch_norm_with_update batch_norm_backward batch_norm_stats batch_norm_backward_reduce",
         "2 for each channel; at most 256 times as many with channels last", "cuda/Normalization.cuh",
         tensors.batch_norm),
    _row("cudnn batch norm", "cudnn_batch_norm cudnn_batch_norm_backward", "nothing said; at most 4 MiB",
         "cudnn/BatchNorm.cpp", tensors.cudnn_batch_norm),
    _row("sort on cards", "sort", "rows longer than 4,096: values and places once more", "cuda/Sort.cpp",
         tensors.sort),
    _row("selection on cards", "topk kthvalue median cumsum cumprod logcumsumexp cummax cummin",
         "nothing said; at most a copy", "cuda/TensorTopK.cu, cuda/ScanKernels.cu", tensors.selection),
    _row("pointwise loss on cards", "huber_loss", "each element's loss", "Loss.cpp", tensors.total_copy),
    _row("pointwise loss that keeps its memory, on cards", "mse_loss smooth_l1_loss",
         "each element's loss twice; the result keeps one of them", "Loss.cpp, TORCH_META_FUNC(mse_loss)",
         tensors.loss_kept),
    _row("loss averaged in place on cards", "binary_cross_entropy soft_margin_loss",
         "the result keeps each element's loss", "cuda/Loss.cu", tensors.loss_in_place),
    _row("loss of logits on cards", "binary_cross_entropy_with_logits", "twice each element's loss", "Loss.cpp",
         tensors.loss_of_logits),
    _row("other layouts on cards", "max_pool2d_with_indices_backward max_pool2d_with_indices avg_pool2d "
         "avg_pool2d_backward upsample_nearest2d_backward upsample_bilinear2d_backward upsample_bicubic2d_backward",
         "copies of what does not lie as the kernel reads it", "cuda/DilatedMaxPool2d.cu", tensors.in_other_layout),
)  # fmt: skip

ROWS = (
    *_TAKING,
    Row(
        "nothing on cards",
        rest(ON_CUDA, _TAKING),
        "cuda",
        "0",
        "one kernel that writes its result (cuda/*.cu); not measured here",
        _none,
        measured=False,
    ),
)
