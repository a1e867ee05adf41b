"""One row as the layers it stands for: channels, stride and padding, told or concluded.

What a row leaves out is taken from what comes before it, from its own printed output, or from the
printed input of the next row. Every such conclusion is a note; what cannot be concluded is an error
that says what to add.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from peakmem.errors import FormatError, GraphError
from peakmem.frontends.table.parts import WINDOWED, Image, Part, made, size
from peakmem.frontends.table.said import Said
from peakmem.frontends.table.words import FOLLOWERS

LARGEST_PADDING = 16
# that is tried where none is given


@dataclass(slots=True)
class Maker:
    """Makes the layers of single rows; `notes` collects what was concluded."""

    layout: str
    settings: Mapping[str, str]
    where: str
    notes: list[str] = field(default_factory=list)
    batch: int | None = None
    # as printed in front of a shape
    _assumed: dict[str, list[int]] = field(default_factory=dict)
    # one sentence -> the rows it was assumed for

    def made(self, row: Said, parts: tuple[Part, ...]) -> Image:
        try:
            image = made(parts)
        except GraphError as fault:
            raise self.fault(row, f"cannot be computed: {fault.what}", "") from fault
        if not image or size(image) > 2**48 or min(image) < 1:
            raise self.fault(row, f"gives {'x'.join(map(str, image)) or 'nothing'}", "an image of a real size")
        return image

    def contradiction(self, row: Said, says: str, but: str) -> None:
        self.notes.append(f"row {row.number} ({row.text[:40]}) {says}, but {but}: it starts from its own input")

    # -- parts ---------------------------------------------------------------------------

    def parts(
        self, row: Said, image: Image, others: tuple[Image, ...], later: Said | None, copy: int
    ) -> tuple[Part, ...]:  # fmt: skip
        """The layers of a row.

        Args:
            row: what it says.
            image: what it reads.
            others: images it reads besides, for sums and concatenations.
            later: the row after it, whose printed input may tell what this one gives.
            copy: which of its repeats this is, from 0.
        """
        first, *followers = row.phrase.ops
        if first in ("add", "concat"):
            if not others:
                raise self.fault(row, f"names no row to {first}", f"`{first} NAME`")
            parts: tuple[Part, ...] = (Part("Add" if first == "add" else "Concat", image, others=others),)
        else:
            parts = tuple(self._main(row, first, image, later, copy))
        for op in followers:
            if op not in FOLLOWERS:
                raise self.fault(row, f"names two layers, {first} and {op}", "one layer a row")
            parts = (*parts, _plain(op, self.made(row, parts)))
        return parts

    def _main(self, row: Said, op: str, image: Image, later: Said | None, copy: int) -> Iterator[Part]:
        spoken = row.phrase
        if op in FOLLOWERS or op in ("Identity",):
            yield _plain(op, image)
        elif op == "flatten":
            yield Part("Flatten", image)
        elif op in ("gavg", "gmax"):
            yield Part("GlobalAveragePool" if op == "gavg" else "GlobalMaxPool", self._spatial(row, image))
        elif op in ("max", "avg", "pool"):
            yield self._pool(row, op, self._spatial(row, image), later)
        elif op == "fc":
            yield self._linear(row, image, later)
        elif op == "upsample":
            scale = spoken.stride or ((spoken.repeat,) * 2 if spoken.repeat else spoken.kernel[:2]) or (2, 2)
            yield Part("Resize", self._spatial(row, image), strides=(scale[0], scale[-1]))
        elif op == "bottleneck":
            yield from self._bottleneck(row, self._spatial(row, image), later, copy)
        elif op == "sep":
            channels = self._channels(row, later)
            deep = self._window(row, Part("Conv", image, self._kernel(row), image[0], image[0]), later)
            yield deep
            yield Part("Conv", self.made(row, (deep,)), (1, 1), channels, bias=self._bias(row))
        else:
            yield self._convolution(row, op, self._spatial(row, image), later)

    def _spatial(self, row: Said, image: Image) -> Image:
        if len(image) != 3:
            raise self.fault(row, f"needs an image, and what comes before is {'x'.join(map(str, image))}", "")
        return image

    def _bias(self, row: Said) -> bool:
        told = row.phrase.bias
        return told if told is not None else self.settings.get("bias", "").lower() in ("yes", "true", "1", "with")

    def _kernel(self, row: Said) -> tuple[int, int]:
        kernel = row.phrase.kernel
        if not kernel:
            raise self.fault(row, "has no kernel", "a kernel such as 3x3")
        return (kernel[0], kernel[1]) if len(kernel) > 1 else (kernel[0], kernel[0])

    def _convolution(self, row: Said, op: str, image: Image, later: Said | None) -> Part:
        spoken, kernel, inside = row.phrase, row.phrase.kernel, image[0]
        if not kernel and op == "pw":
            kernel = (1, 1)
        if not kernel and row.expansion is None and op == "conv" and "expansion" in self.settings:
            kernel = (3, 3)
            self.assume("a kernel of 3x3 where none is given", row)
        window = (kernel[0], kernel[-1 if len(kernel) == 1 else 1]) if kernel else self._kernel(row)
        group = spoken.group or 1
        if op == "dw":
            channels = size(kernel[2:]) if len(kernel) > 2 else inside
            if len(kernel) <= 2 and spoken.channels and spoken.channels % inside == 0:
                channels = spoken.channels
            if len(kernel) == 4 and kernel[2] == kernel[3] == inside:
                channels = inside
            if channels % inside:
                self.contradiction(row, f"has {channels} depthwise kernels", f"its input has {inside} channels")
                inside = channels
            group = inside
        elif len(kernel) == 4:
            first, second = kernel[2], kernel[3]
            if first * group != inside and kernel[1] * group == inside and kernel[2] == kernel[3]:
                window, first, second = (kernel[2], kernel[3]), kernel[1], kernel[0]
            if op == "group" and group == 1 and inside % first == 0:
                group = inside // first
            if first * group != inside:
                self.contradiction(row, f"has a kernel for {first * group} channels", f"its input has {inside}")
                inside = first * group
            channels = second
        elif len(kernel) == 3:
            channels = kernel[2]
        else:
            channels = self._channels(row, later)
        if inside % group or channels % group:
            raise self.fault(row, f"has {inside} and {channels} channels in {group} groups", "groups that divide both")
        kind = "ConvTranspose" if op == "tconv" else "Conv"
        part = Part(kind, (inside, *image[1:]), window, channels, group, bias=self._bias(row))
        if spoken.dilation:
            part = replace(part, dilations=(spoken.dilation,) * 2)
        return self._window(row, part, later)

    def _channels(self, row: Said, later: Said | None) -> int:
        """Channels a row gives: told, else printed in its output, else in the input of the next row."""
        spoken = row.phrase
        if spoken.channels or spoken.numbers:
            return spoken.channels or spoken.numbers[-1]
        for printed in (spoken.output, later.phrase.input if later is not None else ()):
            image = self.channels_first(printed)
            if len(image) in (1, 3):
                if printed is not spoken.output:
                    self.assume("channels taken from the input that the next row prints", row)
                return image[0]
        raise self.fault(row, "does not say how many channels it gives", "a kernel such as 3x3x64x128 or `3x3, 128`")

    def _linear(self, row: Said, image: Image, later: Said | None) -> Part:
        kernel, inside = row.phrase.kernel, size(image)
        if len(kernel) >= 2:
            takes = size(kernel[:-1])
            as_stored = takes == inside or len(kernel) > 2 or kernel[1] != inside
            channels = kernel[-1] if as_stored else kernel[0]
            if inside not in (takes, kernel[-1]):
                self.contradiction(row, f"takes {takes} features", f"its input has {inside}")
                inside = takes
        elif row.phrase.ops and row.phrase.numbers:
            channels = row.phrase.channels or row.phrase.numbers[-1]
        else:
            channels = kernel[0] if kernel else self._channels(row, later)
        return Part("Gemm", (inside,), channels=channels, bias=self._bias(row))

    def _pool(self, row: Said, op: str, image: Image, later: Said | None) -> Part:
        spoken = row.phrase
        kind = "AveragePool" if op == "avg" else "MaxPool"
        if op == "pool":
            self.assume("a pool of no kind taken as a max pool, which has the same sizes", row)
        if not spoken.kernel:
            if op == "avg" and (spoken.stride is None or spoken.stride == (1, 1)):
                return Part("GlobalAveragePool", image)
            stride = spoken.stride or (2, 2)
            self.assume("a pool without a window taken as 2x2", row)
            return self._window(row, Part(kind, image, (2, 2), strides=stride), later)
        window = (spoken.kernel[0], spoken.kernel[1] if len(spoken.kernel) > 1 else spoken.kernel[0])
        covers = window[0] >= image[1] and window[1] >= image[2] and spoken.padding in ("", "valid", (0, 0))
        if covers and (spoken.stride in (None, (1, 1)) or window == image[1:]):
            return Part("GlobalAveragePool" if op == "avg" else "GlobalMaxPool", image)
        return self._window(row, Part(kind, image, window), later)

    def _bottleneck(self, row: Said, image: Image, later: Said | None, copy: int) -> Iterator[Part]:
        """MobileNetV2's block: 1x1 to t times the channels, depthwise 3x3, 1x1 down, and a sum where it can be."""
        spoken = row.phrase
        if row.expansion is None:
            raise self.fault(row, "is a bottleneck without an expansion", "a column t")
        channels, inside = self._channels(row, later), image[0]
        stride = (spoken.stride or (1, 1)) if copy == 0 else (1, 1)
        window = self._kernel(row) if spoken.kernel else (3, 3)
        self.assume(
            "bottleneck as in MobileNetV2: 1x1 to t times the channels (none at t = 1), depthwise "
            f"{window[0]}x{window[1]} with the stride in the first of n, 1x1; a sum where input and output are alike",
            row,
        )
        wide = inside * row.expansion
        if row.expansion != 1:
            yield Part("Conv", image, (1, 1), wide)
        deep = Part("Conv", (wide, *image[1:]), window, wide, wide, stride)
        yield deep
        down = Part("Conv", made((deep,)), (1, 1), channels)
        yield down
        if stride == (1, 1) and channels == inside:
            yield Part("Add", made((down,)), residual=True)

    # -- padding and stride --------------------------------------------------------------

    def _window(self, row: Said, part: Part, later: Said | None) -> Part:
        """`part` with its stride and padding: told, else those under which the printed sizes come out."""
        spoken = row.phrase
        pool = part.op in ("MaxPool", "AveragePool")
        if spoken.stride is not None:
            strides = [spoken.stride]
        elif pool:
            strides = [part.strides if part.strides != (1, 1) else part.window, (1, 1), (2, 2)]
        elif part.op == "ConvTranspose":
            strides = [(2, 2) if part.window != (1, 1) else (1, 1), (1, 1), part.window]
        else:
            strides = [(1, 1), (2, 2), (4, 4)]
        told = spoken.padding or self.settings.get("padding", "").lower()
        paddings = [told] if told in ("same", "valid") or isinstance(told, tuple) else _paddings(part, strides[0])
        targets = [
            image
            for image in (
                self.channels_first(spoken.output),
                self.channels_first(later.phrase.input if later else ()),
            )
            if len(image) in (2, 3)
        ]
        default = replace(part, strides=strides[0], padding=paddings[0])
        for target in targets[:1]:
            for stride in strides:
                for padding in paddings:
                    tried = replace(part, strides=stride, padding=padding)
                    if agree(self._tried(tried), target):
                        self._say_window(row, tried, default)
                        return tried
        if not told:
            self._say_window(row, default, default)
        return default

    @staticmethod
    def _tried(part: Part) -> Image:
        try:
            return made((part,))
        except GraphError:
            return ()

    def _say_window(self, row: Said, part: Part, default: Part) -> None:
        if part.padding != default.padding:
            padding = part.padding if isinstance(part.padding, str) else f"p{part.padding[0]}"
            self.assume(f"padding {padding}, as the sizes printed beside it need", row)
        elif part.window != (1, 1) and not row.phrase.padding and "padding" not in self.settings:
            self.assume(f'padding "{part.padding}", which the table does not give', row)
        if part.strides != default.strides:
            self.assume(f"stride {part.strides[0]}, which is not given, as the sizes printed beside it need", row)

    # -- small things --------------------------------------------------------------------

    def channels_first(self, printed: Sequence[int]) -> Image:
        """A printed shape as an image: (channels, height, width), (height, width) or (features,)."""
        image = tuple(printed)
        if len(image) == 4:
            self.batch = self.batch or (image[0] if image[0] > 1 else None)
            image = image[1:]
        if len(image) > 4:
            raise FormatError(f"the shape {'x'.join(map(str, image))} has too many sizes", where=self.where)
        if len(image) == 3 and self.layout == "hwc":
            image = (image[2], image[0], image[1])
        return image

    def finish(self) -> None:
        """Write the assumptions down, each with the rows it was made for."""
        self.notes += [f"{text}: {listed(numbers)}" for text, numbers in self._assumed.items()]

    def assume(self, text: str, row: Said) -> None:
        """Note something that was concluded for a row."""
        numbers = self._assumed.setdefault(text, [])
        if row.number not in numbers:
            numbers.append(row.number)

    def at(self, row: Said) -> str:
        return f"row {row.number}" + (f" (line {row.line})" if row.line else "")

    def fault(self, row: Said, what: str, expected: str) -> FormatError:
        return FormatError(f"{self.at(row)} {row.text[:60]!r} {what}", where=self.where, expected=expected)


def agree(image: Image, printed: Image) -> bool:
    """Whether an image is the printed one, as far as that goes; a row of features is a 1x1 image or a flat one."""
    if not image:
        return False
    if len(printed) == 2:
        return image[1:] == printed if len(image) == 3 else printed in ((1, image[0]), (image[0], 1), (1, 1))
    if image == printed:
        return True
    flat = size(image)
    if len(image) == 3 and len(printed) == 1:
        return printed[0] == flat or (printed[0] == image[0] and image[1:] == (1, 1))
    return len(image) == 1 and len(printed) == 3 and size(printed) == flat


def _plain(op: str, image: Image) -> Part:
    return Part({"bn": "BatchNormalization", "lrn": "LRN"}.get(op, op), image)


def _paddings(part: Part, stride: tuple[int, int]) -> list[str | tuple[int, int]]:
    """What the padding may be where it is not told, the likeliest first."""
    if part.op not in WINDOWED or part.window == (1, 1):
        return ["same", "valid"] if part.op == "ConvTranspose" else ["same"]
    more: list[str | tuple[int, int]] = [
        (pad, pad) for pad in range(1, min(max(part.window) // 2, LARGEST_PADDING) + 1)
    ]
    if part.op in ("MaxPool", "AveragePool") and part.window == stride:
        return ["valid", "same", *more]
    return ["same", "valid", *more]


def listed(numbers: Sequence[int]) -> str:
    """`row 3`, or the first of several: `rows 3, 4, 9 …`."""
    shown = ", ".join(map(str, numbers[:12])) + (" …" if len(numbers) > 12 else "")
    return f"rows {shown}" if len(numbers) > 1 else f"row {shown}"
