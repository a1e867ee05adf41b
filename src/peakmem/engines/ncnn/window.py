"""The parameters of a convolution, of whatever kind."""

from __future__ import annotations

from dataclasses import dataclass, replace

from peakmem.engines.ncnn.layers import Layer


@dataclass(frozen=True, slots=True)
class Window:
    """The parameters of a convolution."""

    channels_in: int
    channels_out: int
    kernel: tuple[int, int]
    # height, width
    stride: tuple[int, int]
    dilation: tuple[int, int]
    bias: bool
    activation: int
    group: int = 1

    @property
    def taps(self) -> int:
        """Elements of the kernel's window."""
        return self.kernel[0] * self.kernel[1]

    @property
    def dilated(self) -> bool:
        """Whether it can be computed place by place of its dilation, without one (forwardDilation)."""
        square = self.kernel[0] == self.kernel[1] and self.dilation[0] == self.dilation[1]
        return square and self.dilation[0] != 1 and self.stride == (1, 1)

    @property
    def part(self) -> Window:
        """One group of it."""
        return replace(
            self, channels_in=self.channels_in // self.group, channels_out=self.channels_out // self.group, group=1
        )

    @property
    def three_by_three(self) -> bool:
        """Whether Winograd's algorithm fits."""
        return self.kernel == (3, 3) and self.stride == self.dilation == (1, 1)


def window_of(layer: Layer) -> Window:
    """The parameters of a convolution's layer."""
    values = layer.values
    kernel, stride, dilation = (
        _pair(values.get(name, (1, 1))) for name in ("kernel_shape", "strides", "dilations")
    )  # fmt: skip
    group = layer.number("group", 1)
    out = layer.number("num_output")
    size = layer.number("weight_data_size")
    channels = size // group // (kernel[0] * kernel[1]) // max(1, out // group) * group
    return Window(
        channels, out, kernel, stride, dilation, bool(values.get("bias_term")), layer.number("activation_type"), group
    )


def _pair(values: tuple[int, ...]) -> tuple[int, int]:
    return (1, values[0]) if len(values) == 1 else (values[-2], values[-1])
