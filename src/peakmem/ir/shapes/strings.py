"""Shape rules of operators on text, and of the question whether an optional is there."""

from __future__ import annotations

from peakmem.dtypes import BOOL, FLOAT32, INT32, INT64, STRING, UINT32
from peakmem.ir.shapes.call import Call, Specs, broadcast, rule


@rule("StringConcat")
def concat(call: Call) -> Specs:
    return [(broadcast(call, call.shape(0), call.shape(1)), STRING)]


@rule("RegexFullMatch")
def full_match(call: Call) -> Specs:
    return [(call.shape(), BOOL)]


@rule("StringNormalizer")
def normalize(call: Call) -> Specs:
    shape = call.shape()
    if call.attr("stopwords"):
        shape = (*shape[:-1], call.unknown_dim(len(shape) - 1))
    return [(shape, STRING)]


@rule("StringSplit")
def split(call: Call) -> Specs:
    shape = call.shape()
    return [((*shape, call.unknown_dim(len(shape))), STRING), (shape, INT64)]


@rule("TfIdfVectorizer")
def tf_idf(call: Call) -> Specs:
    columns = max(call.attr("ngram_indexes")) + 1
    return [((*call.shape()[:-1], columns), FLOAT32)]


@rule("com.microsoft:Tokenizer")
def tokenize(call: Call) -> Specs:
    shape = call.shape()
    return [((*shape, call.unknown_dim(len(shape))), STRING)]


@rule("com.microsoft:MurmurHash3")
def hashed(call: Call) -> Specs:
    return [(call.shape(), UINT32 if call.attr("positive", 1) else INT32)]


@rule("OptionalHasElement")
def has_element(_: Call) -> Specs:
    return [((), BOOL)]
