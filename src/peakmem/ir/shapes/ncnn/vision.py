"""ncnn layers of vision: resizing, regions of interest, detection."""

from __future__ import annotations

from peakmem.dtypes import FLOAT32
from peakmem.ir.dims import Dim
from peakmem.ir.shapes.call import Call, Specs, rule
from peakmem.ir.shapes.ncnn.blob import Blob, blob, made, number
from peakmem.ir.shapes.ncnn.expression import evaluate
from peakmem.ir.shapes.ncnn.single import scaled

_ANCHORS = 9
# of a Proposal: three ratios, three scales


@rule("ncnn:Interp")
def interp(call: Call) -> Specs:
    source = blob(call)
    width, height = _target(call, source)
    if source.dims == 1:
        return made(call, Blob(3, width, height, 1, source.w))
    if source.dims == 2:
        return made(call, Blob(2, width, source.h))
    if source.dims == 4:
        raise call.error("a tensor of four dimensions cannot be resized")
    return made(call, Blob(3, width, height, 1, source.c))


def _target(call: Call, source: Blob) -> tuple[Dim, Dim]:
    text = call.attr("size_expr")
    if text:
        sizes = evaluate(call, text, [blob(call, at) for at in range(len(call.op.inputs))])
        if not 0 < len(sizes) <= 2:
            raise call.error(f"{len(sizes)} sizes for a width and a height")
        return sizes[0], sizes[1] if len(sizes) > 1 else source.h
    if call.attr("dynamic_target_size") == 1 and len(call.op.inputs) > 1:
        like = blob(call, 1)
        return like.w, like.h
    width, height = call.attr("output_width"), call.attr("output_height")
    if width and height:
        return width, height
    across, down = (source.w, source.h) if source.dims > 1 else (1, 1)
    return scaled(call, across, call.attr("width_scale")), scaled(call, down, call.attr("height_scale"))


@rule("ncnn:GridSample")
def grid_sample(call: Call) -> Specs:
    image, grid = blob(call), blob(call, 1)
    if image.dims == 3:
        width, height = (grid.w, grid.h) if call.attr("permute_fusion") else (grid.h, grid.c)
        return made(call, Blob(3, width, height, 1, image.c))
    if image.dims != 4:
        raise call.error("only images and volumes are sampled")
    if call.attr("permute_fusion"):
        return made(call, Blob(4, grid.w, grid.h, grid.d, image.c))
    return made(call, Blob(4, grid.h, grid.d, grid.c, image.c))


@rule("ncnn:ROIAlign", "ncnn:ROIPooling")
def region_pooling(call: Call) -> Specs:
    return made(call, Blob(3, call.attr("pooled_width"), call.attr("pooled_height"), 1, blob(call).c))


@rule("ncnn:PSROIPooling")
def region_pooling_by_position(call: Call) -> Specs:
    return made(call, Blob(3, call.attr("pooled_width"), call.attr("pooled_height"), 1, call.attr("output_dim")))


@rule("ncnn:PriorBox")
def prior_box(call: Call) -> Specs:
    image = blob(call)
    least, most, ratios = (len(call.attr(name)) for name in ("min_sizes", "max_sizes", "aspect_ratios"))
    flat = len(call.op.inputs) == 1 and call.attr("image_width") == -233 and call.attr("image_height") == -233
    if flat and most == 0:  # boxes as MXNet makes them
        return made(call, Blob(1, image.w * image.h * (4 * (least - 1 + ratios))), FLOAT32)
    each = least * ratios * (2 if call.attr("flip") else 1) + least + most
    return made(call, Blob(2, image.w * image.h * (4 * each), 2), FLOAT32)


# How much is detected is seen only while running; what is counted is the most that can be.


@rule("ncnn:DetectionOutput")
def detection_output(call: Call) -> Specs:
    confidence, boxes = blob(call, 1), blob(call, 2)
    classes = call.attr("num_class")
    if classes == -233:
        classes, priors = number(confidence.h), number(boxes.h)
    else:
        priors = number(boxes.w) // 4
    most = max(0, classes - 1) * min(call.attr("nms_top_k"), priors)
    return [((min(call.attr("keep_top_k"), most), 6), FLOAT32)]


@rule("ncnn:YoloDetectionOutput", "ncnn:Yolov3DetectionOutput")
def yolo_detection_output(call: Call) -> Specs:
    images = [blob(call, position) for position in range(len(call.op.inputs))]
    for image in images:
        each = call.attr("num_box") * (5 + call.attr("num_class"))
        if isinstance(image.c, int) and image.c != each:
            raise call.error(f"{image.c} channels are not those of {call.attr('num_box')} boxes ({each})")
    most = sum(number(image.w) * number(image.h) for image in images) * call.attr("num_box")
    rest = [(image.shape, FLOAT32) for image in images[1 : len(call.op.outputs)]]
    return [((most, 6), FLOAT32), *rest]


@rule("ncnn:Proposal")
def proposal(call: Call) -> Specs:
    score = blob(call)
    most = min(call.attr("after_nms_topN"), number(score.w) * number(score.h) * _ANCHORS)
    if call.attr("pre_nms_topN") > 0:
        most = min(most, call.attr("pre_nms_topN"))
    return [((most, 1, 4), FLOAT32), ((most, 1, 1), FLOAT32)][: len(call.op.outputs)]


@rule("ncnn:MemoryData")
def memory_data(call: Call) -> Specs:
    if not call.has(0):
        return [((1,), FLOAT32)]
    return [(call.shape(), FLOAT32)]
