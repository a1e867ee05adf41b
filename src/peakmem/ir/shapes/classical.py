"""Shape rules of classical machine learning, ONNX's domain ai.onnx.ml.

Results that are maps or sequences of maps (ZipMap, CastMap's inputs) have no shape and no rule.
"""

from __future__ import annotations

from peakmem.dtypes import FLOAT32, INT64, STRING, DType
from peakmem.ir.dims import Dim, Shape, product
from peakmem.ir.shapes.call import Call, Specs, rule


def rows(call: Call) -> Dim:
    """How many examples the input holds; a vector is one."""
    shape = call.shape()
    return shape[0] if len(shape) > 1 else 1


@rule("ai.onnx.ml:Binarizer", "ai.onnx.ml:Imputer")
def same_as_input(call: Call) -> Specs:
    return [(call.shape(), call.dtype())]


@rule("ai.onnx.ml:Normalizer", "ai.onnx.ml:Scaler")
def same_in_float(call: Call) -> Specs:
    return [(call.shape(), FLOAT32)]


@rule("ai.onnx.ml:CategoryMapper")
def category_mapper(call: Call) -> Specs:
    return [(call.shape(), INT64 if call.dtype() is STRING else STRING)]


@rule("ai.onnx.ml:LabelEncoder")
def label_encoder(call: Call) -> Specs:
    kinds = {"values_strings": STRING, "values_int64s": INT64, "values_floats": FLOAT32}
    dtype: DType | None = next((kinds[name] for name in kinds if call.attr(name) is not None), None)
    if dtype is None and call.attr("classes_strings") is not None:
        dtype = INT64 if call.dtype() is STRING else STRING
    return [(call.shape(), dtype)]


@rule("ai.onnx.ml:OneHotEncoder")
def one_hot_encoder(call: Call) -> Specs:
    categories = call.attr("cats_int64s") or call.attr("cats_strings") or ()
    return [((*call.shape(), len(categories)), FLOAT32)]


@rule("ai.onnx.ml:ArrayFeatureExtractor")
def array_feature_extractor(call: Call) -> Specs:
    shape, picked = call.shape(0), call.shape(1)
    head: Shape = shape[:-1] if len(shape) > 1 else (1,)
    return [((*head, product(picked)), call.dtype())]


@rule("ai.onnx.ml:FeatureVectorizer")
def feature_vectorizer(call: Call) -> Specs:
    return [((rows(call), sum(call.attr("inputdimensions"))), FLOAT32)]


@rule("ai.onnx.ml:LinearRegressor")
def linear_regressor(call: Call) -> Specs:
    return [((rows(call), call.attr("targets", 1)), FLOAT32)]


@rule("ai.onnx.ml:SVMRegressor")
def svm_regressor(call: Call) -> Specs:
    return [((rows(call), 1), FLOAT32)]


@rule("ai.onnx.ml:TreeEnsembleRegressor")
def tree_regressor(call: Call) -> Specs:
    return [((rows(call), call.attr("n_targets", 1)), FLOAT32)]


@rule("ai.onnx.ml:TreeEnsemble")
def tree_ensemble(call: Call) -> Specs:
    return [((rows(call), call.attr("n_targets", 1)), call.dtype())]


@rule("ai.onnx.ml:TreeEnsembleClassifier", "ai.onnx.ml:LinearClassifier", "ai.onnx.ml:SVMClassifier")
def classifier(call: Call) -> Specs:
    strings = call.attr("classlabels_strings")
    labels = strings or call.attr("classlabels_int64s") or call.attr("classlabels_ints") or ()
    classes: Dim = len(labels)
    pairs = call.op.op_type == "SVMClassifier" and not call.attr("prob_a") and call.attr("vectors_per_class")
    if not labels or (len(labels) == 1 and call.op.op_type != "TreeEnsembleClassifier"):
        classes = call.unknown_dim(1, 1)
    elif pairs and len(labels) > 2:
        # Support vectors without probabilities: a score for every pair of classes.
        classes = len(labels) * (len(labels) - 1) // 2
    return [((rows(call),), STRING if strings else INT64), ((rows(call), classes), FLOAT32)]
