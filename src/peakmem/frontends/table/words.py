"""The words of a layer table: headers, layers, kernels, strides and shapes as papers write them.

Text in, plain facts out; what a row means beside its neighbours is decided in `rows`.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

OPS: Mapping[str, str] = {
    **dict.fromkeys(("conv", "convolution", "convolutional", "conv2d", "convlayer", "cnn", "standardconv"), "conv"),
    **dict.fromkeys(
        ("dw", "dwconv", "dwconv2d", "convdw", "depthwise", "depthwiseconv", "depthwiseconv2d", "depthwiseconvolution",
         "convdepthwise", "dconv", "conv2ddw", "dwise", "depthwisesepconvdw"), "dw"),
    **dict.fromkeys(
        ("pw", "pwconv", "convpw", "pointwise", "pointwiseconv", "pointwiseconvolution", "convpointwise"), "pw"),
    **dict.fromkeys(
        ("sepconv", "separable", "separableconv", "separableconv2d", "separableconvolution",
         "depthwiseseparable", "depthwiseseparableconv", "convdepthwiseseparable"), "sep"),
    **dict.fromkeys(("gconv", "groupconv", "groupedconv", "groupconvolution", "convgroup", "grouped"), "group"),
    **dict.fromkeys(
        ("deconv", "deconvolution", "convtranspose", "convtranspose2d", "conv2dtranspose", "transposedconv",
         "transposeconv", "transposedconvolution", "upconv", "tconv", "convtransposed"), "tconv"),
    **dict.fromkeys(
        ("fc", "linear", "dense", "fullyconnected", "fullyconnect", "innerproduct", "gemm", "affine", "fullconnected",
         "classifierfc", "denselayer"), "fc"),
    **dict.fromkeys(("maxpool", "maxpooling", "maxpool2d", "maxpooling2d", "poolmax", "mpool"), "max"),
    **dict.fromkeys(
        ("avgpool", "avgpooling", "averagepool", "averagepooling", "avgpool2d", "averagepooling2d", "meanpool",
         "poolavg", "poolaverage", "apool"), "avg"),
    **dict.fromkeys(
        ("gap", "globalpool", "globalpooling", "globalavgpool", "globalaveragepool", "globalaveragepooling",
         "globalavgpooling", "globalaveragepooling2d", "adaptiveavgpool", "adaptiveavgpool2d"), "gavg"),
    **dict.fromkeys(("globalmaxpool", "globalmaxpooling", "globalmaxpooling2d", "gmp"), "gmax"),
    **dict.fromkeys(("pool", "pooling"), "pool"),
    **dict.fromkeys(("bn", "batchnorm", "batchnorm2d", "batchnormalization", "batchnormalisation"), "bn"),
    **dict.fromkeys(("lrn", "norm", "localresponsenorm", "localresponsenormalization"), "lrn"),
    **dict.fromkeys(("bottleneck", "invertedresidual", "bottleneckblock", "mbconv"), "bottleneck"),
    **dict.fromkeys(("upsample", "upsampling", "upsampling2d", "resize", "interpolate", "unpool"), "upsample"),
    **dict.fromkeys(("add", "eltwiseadd", "elementwiseadd", "shortcut", "sum2", "residualadd"), "add"),
    **dict.fromkeys(("concat", "concatenate", "cat", "concatenation"), "concat"),
    **dict.fromkeys(("flatten", "reshape"), "flatten"),
    **dict.fromkeys(("dropout", "dropout2d"), "Dropout"),
    **dict.fromkeys(("identity", "noop"), "Identity"),
    **dict.fromkeys(("relu", "relu6", "activation", "act"), "Relu"),
    **dict.fromkeys(("lrelu", "leakyrelu", "leaky"), "LeakyRelu"),
    **dict.fromkeys(("hswish", "hardswish"), "HardSwish"),
    **dict.fromkeys(("hsigmoid", "hardsigmoid"), "HardSigmoid"),
    **dict.fromkeys(("swish", "silu"), "Swish"),
    "mish": "Mish",
    **dict.fromkeys(("sigmoid", "logistic"), "Sigmoid"),
    "tanh": "Tanh", "elu": "Elu", "gelu": "Gelu", "softmax": "Softmax", "logsoftmax": "LogSoftmax",
    "input": "input", "image": "input", "inputimage": "input", "inputlayer": "input", "data": "input",
}  # fmt: skip
UNREAD = frozenset({"conv1d", "conv3d", "lstm", "gru", "rnn", "attention", "embedding", "transformer", "convlstm"})
# layers that a table of images does not tell enough about
FOLLOWERS = frozenset(
    {"bn", "lrn", "Relu", "LeakyRelu", "HardSwish", "HardSigmoid", "Swish", "Mish", "Sigmoid", "Tanh", "Elu", "Gelu",
     "Dropout", "Softmax", "LogSoftmax"}
)  # fmt: skip
# may stand behind another layer in one cell: conv + bn + relu

TOTALS: Mapping[str, Literal["sum", "max"]] = {
    **dict.fromkeys(("sum", "total", "totals", "overall", "all", "\u03c3", "∑"), "sum"),
    **dict.fromkeys(("max", "maximum", "peak", "largest"), "max"),
}

_ROLES: tuple[tuple[str, str], ...] = (
    (r"mult|madd|macs?\b|flop|\bops\b|giga|time|latency|\bms\b|accuracy|top.?1|speed|fps", "ignored"),
    (r"activation function", "ignored"),
    (r"^(non.?linearity|nl|act(ivation)?|se)$", "ignored"),
    (r"(memory|^mem\b|bytes|footprint|\bram\b|activations?|feature.?maps?)", "memory"),
    (r"^out(put)?.?(ch|channels?|filters?|features?|planes?)\b|^(c|cout|#?out|filters|channels?|#? ?filters|"
     r"#? ?kernels|units|width|neurons|maps|#maps|n_out|num_filters)$", "channels"),
    (r"^(in(put)?.?(ch|channels?|features?|planes?)|cin)\b", "in_channels"),
    (r"param|^#? ?weights?( \(.*\))?$|weight (bytes|memory|size)", "parameters"),
    (r"^(t|exp(and|ansion)?.*)$", "expansion"),
    (r"^(n|times|repeats?|repetitions?|#|x|×|count|blocks?)$", "repeat"),
    (r"stride", "stride"),
    (r"^(s)$", "stride"),
    (r"^(p|pad|pads|padding)$", "padding"),
    (r"^(d|dil.*|rate)$", "dilation"),
    (r"^(g|groups?)$", "group"),
    (r"^bias(es)?$", "bias"),
    (r"^(dtype|data.?type|precision|prec)$", "dtype"),
    (r"^(from|inputs|connected.?to|reads|bottom)$", "from"),
    (r"^(filters?|kernels?|conv|patch|window|weight|pool)"
     r"([ _/-]*(size|shape|dims?|dimensions?|stride))*( ?\(.*\))?$|^k$|^filter shape|^conv size|^size$"
     r"|^size ?/ ?stride$", "kernel"),
    (r"^(in|input|ifm|in(put)?[ _-]?(size|shape|dims?|dimensions?|resolution|feature ?map.*|tensor|\(.*))", "input"),
    (r"^(out|output|ofm|out(put)?[ _-]?(size|shape|dims?|dimensions?|resolution|feature ?map.*|tensor|\(.*))|"
     r"^activation shape$|^(shape|dimensions?|dims)$", "output"),
    (r"^(type|op|ops|operator|operation|layer type|layer.?kind|kind|op.?type|type ?/ ?stride.*|module|block)$", "type"),
    (r"^(name|id|no\.?|index|step|idx|stage|layer.?name)$", "name"),
    (r"^layers?( \(.*\))?$|^layer ?/ ?stride$|^$|^configuration|^architecture|^network$", "layer"),
    (r"size|\b([kmg]i?b)\b", "memory"),
)  # fmt: skip
# the first that matches a header in lower case


def role(header: str) -> str:
    """What a column is for; "" where the header does not tell."""
    text = re.sub(r"[*_`]{1,3}(.*?)[*_`]{1,3}", r"\1", header).strip().lower()
    text = " ".join(text.replace("×", "x").split())
    if re.search(r"activation shape", text):
        return "output"
    if re.match(r"type ?/ ?stride", text):
        return "type"
    if re.match(r"(conv|filter|kernel|patch|window) (size|shape)|(kernel|filter|size|window) ?[/,] ?stride", text):
        return "kernel"
    sized = "+" in text or re.search(r"[kmg]i?b\b|byte", text)
    if re.match(r"(in|out)put (size|shape|dim)[^,]*$", text) and not sized:
        return "input" if text.startswith("in") else "output"
    for pattern, name in _ROLES:
        if re.search(pattern, text):
            return name
    return ""


@dataclass(frozen=True, slots=True)
class Phrase:
    """What one cell, or one sentence, says of a layer."""

    text: str
    ops: tuple[str, ...] = ()
    kernel: tuple[int, ...] = ()
    channels: int | None = None
    stride: tuple[int, int] | None = None
    padding: str | tuple[int, int] = ""
    # "same", "valid" or a size; empty when not told
    dilation: int | None = None
    group: int | None = None
    bias: bool | None = None
    repeat: int | None = None
    input: tuple[int, ...] = ()
    output: tuple[int, ...] = ()
    numbers: tuple[int, ...] = ()
    # numbers without a word, in order
    refs: tuple[str, ...] = ()
    # names after add and concat
    unread: str = ""


_LATEX = (
    (r"\\(times|cdot)", "x"),
    (r"[${}]", ""),
    (r"\\(text|mathrm|mathbf)", ""),
    (r"<br ?/?>", " "),
    (r"</?\w+>", ""),
)
_BRACKETED = re.compile(r"[\[(]\s*(?:(none|-1|\?|batch|n|b)\s*,\s*)?(\d{1,9}(?:\s*,\s*\d{1,9}){1,4})\s*,?\s*[\])]")


def plain(text: str) -> str:
    """`text` in lower case with one spelling of signs: 224² × 3 becomes 224x224x3."""
    text = html.unescape(text)
    for pattern, by in _LATEX:
        text = re.sub(pattern, by, text)
    text = text.lower().translate(
        {ord(old): new for old, new in zip("×✕✖\u2217\u2a2f–—\u2212·", "xxxxx---x", strict=True)}
    )
    text = text.translate({ord(char): " " for char in "*`\t\u00a0\u2009\u202f"})
    text = re.sub(r"(\d{1,6})\s*(?:\^\s*2|²)", r"\1x\1", text)
    text = _BRACKETED.sub(lambda found: re.sub(r"\s*,\s*", "x", found.group(2)), text)
    text = re.sub(r"(\d)\s+x\s+(?=\d)|(\d)x\s*(?=\d)", lambda found: (found.group(1) or found.group(2)) + "x", text)
    text = re.sub(r"(?<=[a-wyz_])(?=\d{1,9}x\d)", " ", text)
    return " ".join(text.split())


_TOKEN = re.compile(
    r"(?P<dims>\d{1,9}(?:x\d{1,9}){1,5}(?![\d.]))"
    r"|(?<![\w])(?P<vgg>conv(?P<vk>\d{1,2})-(?P<vc>\d{1,5}))\b"
    r"|(?<![\w])(?P<fcn>fc-(?P<fc>\d{1,7}))\b"
    r"|(?P<repeat>(?<![\w])x\s?(?P<r1>\d{1,6})\b|(?<![\w.])(?P<r2>\d{1,6})\s?x(?![\w]))"
    r"|(?P<stride>(?:/\s*(?:s(?:tride)?\s*=?\s*)?|(?<![\w])(?:s|strides?)\s*[=:]?\s*)(?P<s>\d{1,3})\b)"
    r"|(?P<pad>(?<![\w])(?:p|pad|padding)\s*[=:]?\s*(?P<p>\d{1,3})\b)"
    r"|(?P<dilation>(?<![\w])(?:d|dil|dilation|dilated|rate)\s*[=:]?\s*(?P<d>\d{1,3})\b)"
    r"|(?P<group>(?<![\w])(?:g|groups?)\s*[=:]?\s*(?P<g>\d{1,6})\b)"
    r"|(?P<channels>(?<![\w])(?:(?:c|channels?|filters|units|out)\s*[=:]?\s*(?P<c1>\d{1,7})\b"
    r"|(?P<c2>\d{1,7})[ -](?:d\b|filters?|channels?|units|maps|kernels|neurons|classes)))"
    r"|(?P<window>(?<![\w])(?:k|kernel|window)\s*[=:]?\s*(?P<k>\d{1,3})\b)"
    r"|(?P<word>[a-z][\w.]*)"
    r"|(?P<number>\d{1,9}(?![\w.]))"
)
_EXPECTS: Mapping[str, str] = {
    **dict.fromkeys(("in", "input", "from", "on", "over"), "input"),
    **dict.fromkeys(("out", "output", "to", "gives", "->"), "output"),
    **dict.fromkeys(("kernel", "filter", "filters", "window", "k"), "kernel"),
    **dict.fromkeys(("stride", "strides", "s"), "stride"),
}


def phrase(text: str) -> Phrase:
    """The layer that a cell or a sentence speaks of."""
    said = plain(text).replace("→", " -> ").replace("->", " out ")
    words: list[str] = []
    facts: dict[str, Any] = {}
    dims: list[tuple[int, ...]] = []
    numbers: list[int] = []
    expected = ""
    for token in _TOKEN.finditer(said):
        kind = token.lastgroup if token.lastgroup in ("dims", "word", "number") else _kind(token)
        if kind == "dims":
            value = tuple(int(part) for part in token.group("dims").split("x"))
            if expected == "stride":
                facts.setdefault("stride", (value[0], value[1]))
            elif expected:
                facts.setdefault(expected, value)
            else:
                dims.append(value)
            expected = ""
        elif kind == "word":
            word = token.group("word")
            if word in ("same", "valid"):
                facts.setdefault("padding", word)
            elif word in ("bias", "nobias"):
                facts["bias"] = word == "bias" and words[-1:] not in (["no"], ["without"])
            elif word in _EXPECTS and (words or dims):
                expected = _EXPECTS[word]
            else:
                words.append(word)
        elif kind == "number":
            value = (int(token.group("number")),)
            if expected in ("input", "output", "kernel"):
                facts.setdefault(expected, value)
                expected = ""
            else:
                numbers.append(value[0])
        else:
            _option(kind, token, facts, words)
    ops, unread, refs = _ops(words)
    if dims and not facts.get("kernel") and ops[:1] != ("input",):
        facts["kernel"] = dims.pop(0)
    if dims and not facts.get("input"):
        facts["input"] = dims.pop(0)
    return Phrase(text, ops=ops, numbers=tuple(numbers), refs=refs, unread=unread, **facts)


def _kind(token: re.Match[str]) -> str:
    return next(
        name
        for name in ("vgg", "fcn", "repeat", "stride", "pad", "dilation", "group", "channels", "window", "dims", "word",
                     "number")
        if token.group(name) is not None
    )  # fmt: skip


def _option(kind: str, token: re.Match[str], facts: dict[str, object], words: list[str]) -> None:
    """One word with its number, such as s2, p0, x5, conv3-64."""
    if kind == "vgg":
        words.append("conv")
        facts.update(kernel=(int(token.group("vk")),) * 2, channels=int(token.group("vc")))
    elif kind == "fcn":
        words.append("fc")
        facts["channels"] = int(token.group("fc"))
    elif kind == "repeat":
        facts["repeat"] = int(token.group("r1") or token.group("r2"))
    elif kind == "stride":
        facts["stride"] = (int(token.group("s")),) * 2
    elif kind == "pad":
        facts["padding"] = (int(token.group("p")),) * 2
    elif kind == "channels":
        facts["channels"] = int(token.group("c1") or token.group("c2"))
    elif kind == "window":
        facts["kernel"] = (int(token.group("k")),) * 2
    else:
        facts[kind] = int(token.group(kind[0]))


_PIECE = re.compile(r"[_.]")


def _ops(words: Sequence[str]) -> tuple[tuple[str, ...], str, tuple[str, ...]]:
    """(kinds of layers in order, a layer that is not read, names that follow an add or concat)."""
    pieces: list[str] = []
    origin: list[str] = []
    for word in words:
        for piece in _PIECE.split(word):
            bare = piece if piece in OPS or piece in UNREAD else re.sub(r"\d+[a-z]?$", "", piece)
            pieces.append(bare)
            origin.append(word)
    ops: list[str] = []
    refs: list[str] = []
    at = 0
    while at < len(pieces):
        for many in (4, 3, 2, 1):
            joined = "".join(pieces[at : at + many])
            if joined in UNREAD:
                return tuple(ops), joined, ()
            if joined in OPS and len(pieces[at : at + many]) == many:
                ops.append(OPS[joined])
                at += many
                break
        else:
            if ops and ops[0] in ("add", "concat") and origin[at] not in ("with", "and", "of", "from"):
                refs.append(origin[at])
            at += 1
    if ops and ops[0] in ("add", "concat") and len(ops) > 1:
        # `add conv1`: what follows is a name that starts like a layer
        named = [word for word in words[1:] if word not in ("with", "and", "of", "from")]
        return (ops[0],), "", tuple(dict.fromkeys(named))
    return _merged(ops), "", tuple(dict.fromkeys(refs))


def _merged(ops: Sequence[str]) -> tuple[str, ...]:
    """Kinds said twice are one layer: "conv dw", "dw conv", "pool max"."""
    kept: list[str] = []
    for op in ops:
        if kept and op == "conv" and kept[-1] in ("dw", "pw", "group", "tconv", "sep"):
            continue
        if kept and op == "pool" and kept[-1] in ("max", "avg", "gavg", "gmax"):
            continue
        if kept and kept[-1] in ("conv", "pool") and op in ("dw", "pw", "group", "tconv", "sep", "max", "avg", "gavg"):
            kept[-1] = op
        elif not kept or kept[-1] != op:
            kept.append(op)
    return tuple(kept)


_SHAPE = re.compile(r"\d{1,9}(?:x\d{1,9}){0,4}")


def shape(text: str) -> tuple[int, ...]:
    """The numbers of a shape cell: 224x224x3, (None, 224, 224, 3), [1, 3, 224, 224], 1024; () without any."""
    said = plain(text).replace(",", "x").replace("x x", "x")
    said = re.sub(r"\s*x\s*", "x", said)
    found = _SHAPE.search(re.sub(r"(?<=\d)(?:px|pixels?|d)\b", "", said))
    return tuple(int(part) for part in found.group().split("x")) if found else ()


def count(text: str) -> int | None:
    """The whole number of a cell such as 5, x5 or 5x."""
    found = re.fullmatch(r"x?\s*(\d{1,7})\s*x?", plain(text))
    return int(found.group(1)) if found else None
