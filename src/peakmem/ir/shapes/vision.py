"""Shape rules of operators that sample, crop or detect in images, and of image files."""

from __future__ import annotations

from peakmem.dtypes import UINT8
from peakmem.ir.dims import Shape, Symbol
from peakmem.ir.shapes.call import Call, Specs, Unresolved, rule


@rule("GridSample", "com.microsoft:GridSample")
def grid_sample(call: Call) -> Specs:
    image, grid = call.shape(0), call.shape(1)
    if len(image) != len(grid):
        raise call.error(f"a grid of rank {len(grid)} cannot sample an image of rank {len(image)}")
    return [((*image[:2], *grid[1:-1]), call.dtype())]


@rule("AffineGrid")
def affine_grid(call: Call) -> Specs:
    size = call.value(1)
    if size is not None:
        return [((size[0], *size[2:], len(size) - 2), call.dtype())]
    batch, axes, _ = call.shape(0)
    if isinstance(axes, Symbol):
        raise Unresolved("whether the grid is flat or solid is not known")
    return [((batch, *call.unknown_shape(axes + 1)[1:], axes), call.dtype())]


@rule("com.microsoft:CropAndResize")
def crop_and_resize(call: Call) -> Specs:
    image, regions, size = call.shape(0), call.shape(1), call.value(3)
    sides: Shape = call.unknown_shape(4)[2:] if size is None else tuple(size)
    return [((regions[0], image[1], *sides), call.dtype())]


@rule("ImageDecoder")
def image_decoder(call: Call) -> Specs:
    channels = 1 if call.attr("pixel_format", "RGB") == "Grayscale" else 3
    return [((call.unknown_dim(0), call.unknown_dim(1), channels), UINT8)]
