"""A claim as people say it, "ResNet-50 needs 7.2 MB of activations at batch 1", taken apart into network, settings,
quantity and amount.

Only what stands there is taken. What a word leaves open becomes readings, each with what it gives; a sentence with two
amounts, two networks or a number that belongs to nothing is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from peakmem.errors import UsageError
from peakmem.zoo import NETWORKS

LONGEST = 300
EXAMPLE = "MobileNetV2 in fp32 has 13.4 MiB of weights"

_RELATION = (
    r"(?:less than|fewer than|under|below|at most|up to|more than|over|above|at least|about|around|approximately|"
    r"approx\.?|roughly|nearly|almost|ca\.?|[~≈<>≤≥]=?)"
)
_NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
_SIZED = r"[kmgt]i?b(?:ytes)?|bytes?|[kmg] ?bytes|(?:kilo|mega|giga|kibi|mebi|gibi)bytes?|b"
_COUNTED = r"(?:(?:thousand|million|billion|[kmb]) ?)?(?:trainable )?(?:parameters|params|weights)|million|billion|m"
_AMOUNT = re.compile(
    rf"(?:{_RELATION}\s*)*(?<![\w.])(?:{_NUMBER})(?:\s*(?:-|\u2013|to)\s*(?:{_NUMBER}))?\s*(?:{_SIZED}|{_COUNTED})(?![\w])"
)
_DTYPES: tuple[tuple[str, str], ...] = (
    (r"(?:fp|float|f) ?32|single precision|32-bit", "float32"),
    (r"(?:fp|float|f) ?16|half precision|16-bit", "float16"),
    (r"bf16|bfloat16", "bfloat16"), (r"u?int ?8|8-bit", "int8"), (r"int ?4|4-bit", "int4"),
)  # fmt: skip
_SETTINGS: tuple[tuple[str, str], ...] = (
    (r"batch(?:[ -]size)?(?: of| =|=)? ?(\d+)", "batch"), (r"(\d+) images\b", "batch"),
    (r"(?:a single|one|per|an) image\b", "batch"),
    (r"(?:resolution(?: of)?|at|input(?: of)?|on) (\d{2,4}) ?(?:[x×] ?\d{2,4}(?: ?[x×] ?3)?|px|pixels)?", "resolution"),
    (r"\b(\d{2,4}) ?[x×] ?\d{2,4}(?: ?[x×] ?3)?", "resolution"),
    (r"width(?: multiplier)?(?: of| =|=)? ?(\d(?:\.\d+)?)", "width"), (r"\b(\d\.\d+)x? width", "width"),
    (r"\bit +(\d\.\d+)x?(?![\w.])", "width"),
    (r"\b(adamw|adam|sgd|momentum|rmsprop)\b", "optimizer"),
)  # fmt: skip
_ALSO = {"gpt2": "gpt2_small", "u_net": "unet", "squeezenet": "squeezenet1_1", "vit_s": "vit_s16"}
# other names that people say

Meaning = tuple[str, str]
# what is meant, and the expression
_LIVE: tuple[Meaning, ...] = (
    ("alive at once, fused", "live_fused()"),
    ("alive at once, fused, sums written over an input", "live_fused_add()"),
    ("alive at once, each operator by itself", "live_eager()"),
)
_ALL: tuple[Meaning, ...] = (
    ("all outputs together", "sum_outputs()"),
    ("all outputs together, activation functions in place", "sum_outputs_inplace()"),
)
_STORED: tuple[Meaning, ...] = (
    ("its parameters", "parameter_bytes()"), ("all that it stores, statistics of norms included", "weights()"),
)  # fmt: skip
_WHOLE: tuple[Meaning, ...] = (("weights and what is alive at once", "resident_fused()"),)
_MEANINGS: tuple[tuple[str, tuple[Meaning, ...]], ...] = (
    (r"train|fine-?tun|backward|optimizer step", (("a step of training", 'train("peak")'),)),
    (r"(?:peak|largest|maximum).*activation|activation.*peak|working memory", _LIVE),
    (r"activation|feature map|intermediate", (*_LIVE[:1], *_ALL)),
    (r"\bonnx\b", (("the ONNX file", 'file_size("onnx")'),)),
    (r"\btflite\b", (("the TFLite file", 'file_size("tflite")'),)),
    (r"\bsafetensors\b", (("the safetensors file", 'file_size("safetensors")'),)),
    (r"model size|storage|on disk|weights|parameters|params|checkpoint|download|weighs", _STORED[:1]),
    (r"inference|forward pass|to run|runs in", (*_WHOLE, *_LIVE[:1])),
    (r"peak", (*_LIVE, *_WHOLE)),
    (r"\bimage\b", (*_ALL, *_LIVE[:1])),
    (r"memory|needs|requires|uses|occupies|ram\b", (*_WHOLE, *_STORED, *_LIVE[:1])),
    (r"takes", _STORED),
    (r"is|has", _STORED[:1]),
)
# the first that is found decides


@dataclass(frozen=True, slots=True)
class Said:
    """A sentence taken apart."""

    claim: str
    context: tuple[tuple[str, str], ...]
    meanings: tuple[Meaning, ...]
    # the first is the claim as it stands


def understood(text: str) -> Said:
    """What a sentence claims of which network.

    Raises:
        UsageError: it does not name one network and one amount, or holds a number that belongs to nothing.
    """
    if len(text) > LONGEST:
        raise UsageError(f"a sentence of {len(text)} characters", expected=f"{LONGEST} or fewer")
    rest = " ".join(text.lower().split())
    name, rest = _network(rest, text)
    context, whole = [("network", name)], rest
    rest, dtype = _dtype(rest, text)
    context += [("dtype", dtype)] if dtype else []
    found = list(_AMOUNT.finditer(rest))
    if len(found) != 1:
        what = "no amount with a unit" if not found else f"{len(found)} amounts"
        raise UsageError(f"{what} in {text[:80]!r}", expected=f"one, as in {EXAMPLE!r}")
    claim = found[0].group(0).strip()
    at = " ".join(text.split()).lower().find(claim)
    rest = f"{rest[: found[0].start()]} # {rest[found[0].end() :]}"
    for pattern, key in _SETTINGS:
        match = re.search(pattern, rest)
        if match is not None and key not in dict(context):
            context.append((key, match.group(1) if match.groups() else "1"))
            rest = rest[: match.start()] + " " + rest[match.end() :]
    left = re.search(r"\d[\w.]*", rest)
    if left is not None:
        raise UsageError(
            f"{left.group(0)!r} in {text[:80]!r} belongs to nothing that is known",
            expected="network, dtype, batch, resolution, width and one amount",
        )
    printed = " ".join(text.split())[at : at + len(claim)] if at >= 0 else claim
    return Said(printed, tuple(context), _meant(whole, claim, text))


def _network(rest: str, text: str) -> tuple[str, str]:
    names = {name: name for name in NETWORKS} | _ALSO
    found = []
    for spelled, name in sorted(names.items(), key=lambda pair: -len(pair[0])):
        parts = re.findall(r"[a-z]+|\d+", spelled)
        match = re.search(rf"(?<![\w]){r'[-_ ./]*'.join(parts)}(?![a-z0-9])", rest)
        if match is not None:
            found.append(name)
            rest = rest[: match.start()] + " it " + rest[match.end() :]
    if len(set(found)) != 1:
        what = "no network of peakmem's" if not found else f"{len(set(found))} networks"
        raise UsageError(f"{what} in {text[:80]!r}", expected=f"one, as in {EXAMPLE!r}", hint="peakmem zoo")
    return found[0], rest


def _dtype(rest: str, text: str) -> tuple[str, str]:
    found = {dtype for pattern, dtype in _DTYPES if re.search(rf"(?<!\w)(?:{pattern})(?!\w)", rest)}
    if not found and re.search(r"\bquanti[sz]ed\b", rest):
        found = {"int8"}
    if len(found) > 1:
        raise UsageError(f"{len(found)} dtypes in {text[:80]!r}", expected="one")
    for pattern, _ in _DTYPES:
        rest = re.sub(rf"(?<!\w)(?:{pattern})(?!\w)", " ", rest)
    return rest, next(iter(found), "")


def _meant(rest: str, claim: str, text: str) -> tuple[Meaning, ...]:
    if re.search(rf"(?:{_COUNTED})$", claim) and not re.search(rf"\d\s*(?:{_SIZED})$", claim):
        return (("trainable parameters", "parameters()"),)
    for pattern, meanings in _MEANINGS:
        if re.search(pattern, rest):
            return meanings
    raise UsageError(f"{text[:80]!r} does not say what has that size", expected=f"words as in {EXAMPLE!r}")
