"""Exported programs written by hand, field by field as the schema has them; torch is not needed."""

from __future__ import annotations

import io
import json
import warnings
import zipfile

FLOAT, LONG = 7, 5


def size(dim):
    """A number, or ("s0*2", hint): a formula and its value at export."""
    if isinstance(dim, int):
        return {"as_int": dim}
    text, hint = dim
    return {"as_expr": {"expr_str": text, "hint": None if hint is None else {"as_int": hint}}}


def number(dim):
    return dim if isinstance(dim, int) else dim[1] or 1


def meta(shape, dtype=FLOAT, strides=None, offset=0):
    if strides is None:
        strides, step = [], 1
        for dim in reversed(shape):
            strides.insert(0, step)
            step *= number(dim)
    return {
        "dtype": dtype, "sizes": [size(dim) for dim in shape], "requires_grad": False,
        "device": {"type": "cpu", "index": None}, "strides": [{"as_int": step} for step in strides],
        "storage_offset": {"as_int": offset}, "layout": 7,
    }  # fmt: skip


def tensor(name):
    return {"as_tensor": {"name": name}}


def argument(value):
    if isinstance(value, dict):
        return value
    if isinstance(value, bool):
        return {"as_bool": value}
    if isinstance(value, int):
        return {"as_int": value}
    if isinstance(value, list):
        return {"as_ints": value}
    return {"as_none": True} if value is None else tensor(value)


def node(target, outputs, module="", /, **arguments):
    outputs = [outputs] if isinstance(outputs, str) else outputs
    stack = f"L__self__,,Net;L__self__{module},{module},torch.nn.Module" if module else ""
    return {
        "target": target if "." in target and target.startswith("torch") else f"torch.ops.aten.{target}",
        "inputs": [{"name": name, "arg": argument(value), "kind": 1} for name, value in arguments.items()],
        "outputs": [tensor(name) for name in outputs], "metadata": {"nn_module_stack": stack} if stack else {},
        "is_hop_single_tensor_return": None, "name": (outputs or ["none"])[0],
    }  # fmt: skip


def graph(inputs, outputs, nodes, values, integers=None):
    return {
        "inputs": [tensor(name) for name in inputs], "outputs": [tensor(name) for name in outputs], "nodes": nodes,
        "tensor_values": values, "sym_int_values": integers or {}, "sym_bool_values": {},
        "is_single_tensor_return": False, "custom_obj_values": {}, "sym_float_values": {},
    }  # fmt: skip


def program(
    *, inputs, outputs, nodes, values, parameters=None, buffers=None, constants=None, mutations=None, integers=None,
    ranges=None, major=8,
):  # fmt: skip
    """`parameters` and the others map a tensor of the graph to its path in the module."""
    kinds = (
        ("parameter", "parameter_name", parameters), ("buffer", "buffer_name", buffers),
        ("tensor_constant", "tensor_constant_name", constants),
    )  # fmt: skip
    specs = [
        {kind: {"arg": {"name": name}, key: path, **({"persistent": True} if kind == "buffer" else {})}}
        for kind, key, table in kinds
        for name, path in (table or {}).items()
    ]
    stored = [name for _, _, table in kinds for name in table or {}]
    return {
        "graph_module": {
            "graph": graph((*stored, *inputs), outputs, nodes, values, integers),
            "signature": {
                "input_specs": [*specs, *({"user_input": {"arg": tensor(name)}} for name in inputs)],
                "output_specs": [
                    *(
                        {"buffer_mutation": {"arg": {"name": made}, "buffer_name": path}}
                        for made, path in mutations or ()
                    ),
                    *({"user_output": {"arg": tensor(name)}} for name in outputs),
                ],
            },
            "module_call_graph": [], "metadata": {}, "treespec_namedtuple_fields": {},
        },
        "opset_version": {"aten": 10}, "range_constraints": ranges or {},
        "schema_version": {"major": major, "minor": 20}, "verifiers": [], "torch_version": "2.13.0", "guards_code": [],
    }  # fmt: skip


def zipped(members, *, compress=False):
    """A zip archive of (name, content) pairs; the same pairs always give the same bytes."""
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w") as file:
        warnings.simplefilter("ignore")  # of two members with one name, which damaged files have
        for name, content in members:
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
            file.writestr(info, content)
    return stream.getvalue()


def archive(document, weights=None, *, name="model", compress=False, old=False, extra=None):
    """The bytes of a .pt2 file; `weights` maps a path in the module to (member, meta, bytes stored)."""
    members = {}
    if old:
        members["version"] = "8.2"
        members["serialized_exported_program.json"] = json.dumps(document)
        members["serialized_state_dict.pt"] = b"PK"
    else:
        members["net/archive_format"] = "pt2"
        members["net/archive_version"] = "0"
        members[f"net/models/{name}.json"] = json.dumps(document)
        config = {}
        for path, (member, told, stored) in (weights or {}).items():
            config[path] = {"path_name": member, "is_param": True, "use_pickle": False, "tensor_meta": told}
            members[f"net/data/weights/{member}"] = b"\0" * stored
        if weights is not None:
            members[f"net/data/weights/{name}_weights_config.json"] = json.dumps({"config": config})
    return zipped([*members.items(), *(extra or {}).items()], compress=compress)


S0 = ("Symbol('s0', positive=True, integer=True)", 2)
DOUBLED = ("Mul(Integer(2), Symbol('s0', positive=True, integer=True))", 4)


def convolution():
    """conv 3→4 (3×3, padded), relu in place, flatten, linear 64→5, on a batch left open (2 when exported)."""
    w, b, m = meta((4, 3, 3, 3)), meta((4,)), meta((5, 64))
    return program(
        inputs=["x"], outputs=["linear"],
        nodes=[
            node("conv2d.default", "conv2d", "conv", input="x", weight="w", bias="b", stride=[1, 1], padding=[1, 1]),
            node("relu_.default", "relu_", "act", self="conv2d"),
            node("flatten.using_ints", "flatten", "", self="relu_", start_dim=1),
            node("linear.default", "linear", "fc", input="flatten", weight="m"),
        ],
        values={
            "x": meta((S0, 3, 4, 4)), "w": w, "b": b, "m": m, "conv2d": meta((S0, 4, 4, 4)),
            "relu_": meta((S0, 4, 4, 4)), "flatten": meta((S0, 64)), "linear": meta((S0, 5)),
        },
        parameters={"w": "conv.weight", "b": "conv.bias", "m": "fc.weight"},
        ranges={"s0": {"min_val": 1, "max_val": 64}},
    ), {
        "conv.weight": ("weight_0", w, 432), "conv.bias": ("weight_1", b, 16), "fc.weight": ("weight_2", m, 1280),
    }  # fmt: skip


def condition():
    """if x.sum() > 0: 2x + 1, else x - 1; a table that is written on."""
    then = graph(
        ["a"], ["t2"], [node("mul.Tensor", "t1", self="a", other=2), node("add.Tensor", "t2", self="t1", other=1)],
        {"a": meta((4, 4)), "t1": meta((4, 4)), "t2": meta((4, 4))},
    )  # fmt: skip
    other = graph(["a"], ["t1"], [node("sub.Tensor", "t1", self="a", other=1)], {"a": meta((4, 4)), "t1": meta((4, 4))})
    cond = {
        "target": "torch.ops.higher_order.cond", "metadata": {}, "name": "cond", "is_hop_single_tensor_return": None,
        "inputs": [
            {"name": "", "arg": tensor("gt"), "kind": 1},
            {"name": "", "arg": {"as_graph": {"name": "true_graph_0", "graph": then}}, "kind": 1},
            {"name": "", "arg": {"as_graph": {"name": "false_graph_0", "graph": other}}, "kind": 1},
            {"name": "", "arg": {"as_tensors": [{"name": "x"}]}, "kind": 1},
        ],
        "outputs": [{"as_tensors": [{"name": "getitem"}]}],
    }  # fmt: skip
    return program(
        inputs=["x"], outputs=["getitem"],
        nodes=[
            node("sum.default", "sum_1", self="x"), node("gt.Scalar", "gt", self="sum_1", other=0), cond,
            node("copy_.default", "copy_", self="table", src="getitem"),
        ],
        values={
            "x": meta((4, 4)), "sum_1": meta(()), "gt": meta((), 12), "getitem": meta((4, 4)), "table": meta((4, 4)),
            "copy_": meta((4, 4)),
        },
        buffers={"table": "table"},
    ), {"table": ("weight_0", meta((4, 4)), 64)}  # fmt: skip
