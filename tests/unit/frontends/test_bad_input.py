"""Files that are no models, or hostile ones: one error that says what and where, soon, in little memory."""

from __future__ import annotations

import io
import os
import random
import resource
import subprocess
import sys
import threading
import time
import zipfile

import pytest
from onnx import TensorProto, helper

import peakmem
from peakmem.cli import main
from peakmem.errors import FormatError, PeakmemError
from tests.unit.frontends.onnx_files import FLOAT, body, external, model, save, value, weight

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(40)


def zipped():
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as out:
        out.writestr("data.pkl", b"x" * 100)
    return archive.getvalue()


def network():
    """A small network with most of the format in it."""
    branch = body([helper.make_node("Relu", ["a"], ["t"])], [value("t")], weights=[weight("tw")])
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], name="/block/conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Constant", [], ["k"], value=helper.make_tensor("kv", TensorProto.INT64, [2], [1, -1])),
        helper.make_node("Reshape", ["c", "k"], ["a"]),
        helper.make_node("If", ["flag"], ["y"], then_branch=branch, else_branch=branch),
    ]
    return model(
        nodes,
        inputs=[value("x", (1, 3, 8, 8)), value("flag", (), TensorProto.BOOL)],
        weights=[weight("w", (4, 3, 3, 3)), weight("b")],
        values=[value("c", (1, 4, 8, 8))],
    )


def refused(path):
    """The error for `path`, which has to come soon."""
    start = time.perf_counter()
    with pytest.raises(PeakmemError) as caught:
        peakmem.estimate(path)
    assert time.perf_counter() - start < 5
    assert caught.value.what
    return caught.value


# -- not a model -------------------------------------------------------------------------

NOT_A_MODEL = {
    "empty": b"",
    "text": b"Once upon a time there was a network that fitted into every memory.\n" * 20,
    "json": b'{"model": "resnet50"}',
    "html": b"<!DOCTYPE html><html><body>404: not found</body></html>",
    "a pointer to a file of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    "png": PNG,
    "gzip": b"\x1f\x8b\x08\x00" + random.Random(1).randbytes(200),
    "zip": zipped(),
    "pickle": b"\x80\x04\x95" + bytes(20),
    "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(20),
    "gguf": b"GGUF\x03\x00\x00\x00" + bytes(20),
    "tflite": b"\x1c\x00\x00\x00TFL3" + bytes(20),
    "zeros": bytes(5000),
    "ones": b"\xff" * 5000,
    "one byte": b"\x08",
    **{f"random {seed}": random.Random(seed).randbytes(3000) for seed in range(20)},
}


@pytest.mark.parametrize("data", NOT_A_MODEL.values(), ids=NOT_A_MODEL.keys())
def test_files_that_are_no_models(tmp_path, data):
    path = save(tmp_path, data)
    fault = refused(path)
    assert isinstance(fault, FormatError)
    assert fault.where == str(path)


@pytest.mark.parametrize(
    ("name", "said"),
    [("empty", "empty"), ("text", "not an ONNX model"), ("zip", "zip archive"), ("pickle", "pickle"), ("png", "no")],
)  # fmt: skip
def test_the_message_says_what_the_file_is(tmp_path, name, said):
    assert said in str(refused(save(tmp_path, NOT_A_MODEL[name])))


def test_other_protobuf_files_are_told_from_models(tmp_path):
    weights = helper.make_tensor("a tensor", FLOAT, [2], [1.0, 2.0])
    assert isinstance(refused(save(tmp_path, weights)), FormatError)
    assert "holds no graph" in refused(save(tmp_path, helper.make_opsetid("", 3).SerializeToString())).what


def test_a_model_without_anything_in_it(tmp_path):
    content = model([helper.make_node("Relu", ["x"], ["y"])])
    content.graph.Clear()
    assert "its graph is empty" in refused(save(tmp_path, content)).what


def test_a_gigabyte_of_zeros_is_refused_at_once(tmp_path):
    path = tmp_path / "model.onnx"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    refused(path)


# -- not a file --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "said"),
    [("", "a folder"), ("nowhere.onnx", "no such file"), ("a/b/c.onnx", "no such file"), ("n" * 5000, "too long")],
)  # fmt: skip
def test_places_without_a_file(tmp_path, place, said):
    assert said in str(refused(tmp_path / place if place else tmp_path))


def test_a_name_that_no_file_can_have():
    assert "null byte" in str(refused("a\0b.onnx"))


def test_a_link_to_itself(tmp_path):
    (tmp_path / "model.onnx").symlink_to("model.onnx")
    assert "cannot be read" in str(refused(tmp_path / "model.onnx"))


def test_a_path_through_a_file(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    assert "no such file" in str(refused(tmp_path / "file" / "model.onnx"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.onnx")
    assert "not a regular file" in str(refused(tmp_path / "pipe.onnx"))


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="needs devices")  # noqa: PTH110 - no Path is made of it
def test_devices_are_not_read():
    for device in ("/dev/zero", "/dev/null"):
        assert "not a regular file" in str(refused(device))


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    path = save(tmp_path, network())
    if os.geteuid():
        path.chmod(0)
    else:
        # Root may read everything, so the refusal is played.
        def refuse(*_args, **_kwargs):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(type(path), "open", refuse)
    assert "cannot be read (Permission denied)" in str(refused(path))


def test_a_folder_that_may_not_be_entered(tmp_path, monkeypatch):
    path = save(tmp_path, network())

    def refuse(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "stat", refuse)
    assert "cannot be read (Permission denied)" in str(refused(path))


# -- damaged -----------------------------------------------------------------------------


def test_truncated_anywhere(tmp_path):
    data = network().SerializeToString()
    peakmem.estimate(save(tmp_path, data))
    for length in range(0, len(data), 7 if len(data) < 2000 else 100):
        fault = refused(save(tmp_path, data[:length]))
        assert isinstance(fault, FormatError)


def test_truncated_light_models(tmp_path):
    from tests.fuzz.seeds import light

    (data,) = light(("bvlc_alexnet",)).values()
    for length in range(0, len(data), 100):
        refused(save(tmp_path, data[:length]))


def test_any_bit_flipped_gives_an_answer_or_an_error(tmp_path):
    data = network().SerializeToString()
    rng = random.Random(7)
    answers = 0
    for at in rng.sample(range(len(data)), 250):
        flipped = bytearray(data)
        flipped[at] ^= 1 << rng.randrange(8)
        try:
            peakmem.estimate(save(tmp_path, bytes(flipped)))
            answers += 1
        except PeakmemError as fault:
            assert str(fault)  # noqa: PT017 - either end is right
    assert answers


# -- bombs -------------------------------------------------------------------------------


def varint(value):
    return bytes([value & 127 | 128]) + varint(value >> 7) if value > 127 else bytes([value])


def wrapped(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def buried(depth):
    """A model whose If holds an If holds an If …; protobuf itself refuses to build that."""
    graph = wrapped(2, b"inner")
    for _ in range(depth):
        attribute = wrapped(1, b"then_branch") + wrapped(6, graph)
        graph = wrapped(1, wrapped(1, b"x") + wrapped(2, b"y") + wrapped(4, b"If") + wrapped(5, attribute))
    graph += wrapped(11, value("x").SerializeToString()) + wrapped(12, wrapped(1, b"y"))
    return b"\x08\x09" + wrapped(8, b"\x10\x12") + wrapped(7, graph)


@pytest.mark.parametrize("depth", [100, 2000])
def test_subgraphs_nested_without_end(tmp_path, depth):
    assert "nested deeper than" in refused(save(tmp_path, buried(depth))).what


def test_loops_in_loops_do_not_multiply(tmp_path):
    """Each body changes the shape of its state, so that a naive walk takes a power of the depth."""

    def turn(level):
        state = f"s{level}"
        inner = (
            helper.make_node("Loop", ["", "", state], [f"o{level}"], body=turn(level + 1))
            if level < 20
            else helper.make_node("Concat", [state, state], [f"o{level}"], axis=0)
        )
        return body(
            [inner, helper.make_node("Identity", [f"c{level}"], [f"on{level}"])],
            [value(f"on{level}", (), TensorProto.BOOL), value(f"o{level}", None)],
            [value(f"i{level}", (), TensorProto.INT64), value(f"c{level}", (), TensorProto.BOOL), value(state, None)],
        )

    path = save(tmp_path, model([helper.make_node("Loop", ["", "", "x"], ["y"], body=turn(0))]))
    start = time.perf_counter()
    assert peakmem.estimate(path).kind == "lower bound"
    assert time.perf_counter() - start < 10


def integers(name, values, dims=None):
    return helper.make_tensor(name, TensorProto.INT64, [len(values)] if dims is None else dims, values)


HUGE = 2**40
BOMBS = {
    "Tile": (helper.make_node("Tile", ["x", "k"], ["y"]), [integers("k", [2**62, 1])]),
    "Expand": (helper.make_node("Expand", ["x", "k"], ["y"]), [integers("k", [HUGE, HUGE, 1, 4])]),
    "ConstantOfShape": (helper.make_node("ConstantOfShape", ["k"], ["y"]), [integers("k", [HUGE, HUGE])]),
    "negative ConstantOfShape": (helper.make_node("ConstantOfShape", ["k"], ["y"]), [integers("k", [-5])]),
    "Range": (helper.make_node("Range", ["a", "k", "d"], ["y"]),
              [integers("a", [0], []), integers("k", [2**62], []), integers("d", [1], [])]),
    "Pad": (helper.make_node("Pad", ["x", "k"], ["y"]), [integers("k", [HUGE, HUGE, HUGE, HUGE])]),
    "Resize": (helper.make_node("Resize", ["x", "", "", "k"], ["y"]), [integers("k", [HUGE, HUGE])]),
    "TopK": (helper.make_node("TopK", ["x", "k"], ["y", "z"]), [integers("k", [2**62])]),
    "RandomNormal": (helper.make_node("RandomNormal", [], ["y"], shape=[2**62, 2**62]), []),
    "Reshape": (helper.make_node("Reshape", ["x", "k"], ["y"]), [integers("k", [2**62, -1])]),
    "Split": (helper.make_node("Split", ["x"], [f"y{i}" for i in range(50_000)], num_outputs=2**40), []),
    "Transpose": (helper.make_node("Transpose", ["x"], ["y"], perm=[0] * 5000), []),
    "Einsum": (helper.make_node("Einsum", ["x"], ["y"], equation="i" * 500_000 + "->"), []),
    "Conv": (helper.make_node("Conv", ["x", "x"], ["y"], group=2**62, strides=[0, 0]), []),
    "LSTM": (helper.make_node("LSTM", ["x", "x", "x"], ["y"], hidden_size=2**62), []),
}  # fmt: skip


@pytest.mark.parametrize(("node", "weights"), BOMBS.values(), ids=BOMBS.keys())
def test_operators_that_ask_for_more_than_there_is(tmp_path, node, weights):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert len(str(refused(save(tmp_path, model([node], weights=weights))))) < 20_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10


@pytest.mark.parametrize("dims", [(2**31 - 1,), (2**40,)])
def test_a_shape_of_absurd_length(tmp_path, dims):
    # Constants without data may say any size; a shape of that many numbers is no shape.
    shape = TensorProto(name="k", dims=dims, data_type=TensorProto.INT64)
    for op_type in ("Reshape", "Expand"):
        path = save(tmp_path, model([helper.make_node(op_type, ["x", "k"], ["y"])], weights=[shape]))
        start = time.perf_counter()
        try:
            assert peakmem.estimate(path).kind == "lower bound"
        except PeakmemError as fault:
            assert "dimensions" in str(fault)  # noqa: PT017 - either end is right
        assert time.perf_counter() - start < 5


def test_lists_that_announce_more_than_they_hold(tmp_path):
    tensor = TensorProto(name="w", dims=[1], data_type=TensorProto.INT64, int64_data=range(200_000))
    path = save(tmp_path, model([helper.make_node("Relu", ["x"], ["y"])], weights=[tensor]))
    assert peakmem.estimate(path).peak_bytes == 32


def test_contents_that_are_followed_do_not_pile_up(tmp_path):
    # Shape arithmetic on 16,384 numbers, two thousand times over: each result differs from the one before.
    nodes = [helper.make_node("Shape", ["x"], ["s0"])]
    nodes += [helper.make_node("Concat", [f"s{at}", f"s{at}"], [f"s{at + 1}"], axis=0) for at in range(13)]
    nodes += [helper.make_node("Add", [f"s{at}", "one"], [f"s{at + 1}"]) for at in range(13, 2013)]
    nodes.append(helper.make_node("Cast", ["s2013"], ["y"], to=FLOAT))
    path = save(tmp_path, model(nodes, weights=[integers("one", [1_000_003])]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    peakmem.estimate(path)
    assert time.perf_counter() - start < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10


def test_sequences_that_grow_do_not_pile_up(tmp_path):
    nodes = [helper.make_node("SequenceEmpty", [], ["s0"], dtype=FLOAT)]
    nodes += [helper.make_node("SequenceInsert", [f"s{at}", "x"], [f"s{at + 1}"]) for at in range(8000)]
    nodes.append(helper.make_node("SequenceAt", ["s8000", "one"], ["y"]))
    path = save(tmp_path, model(nodes, weights=[integers("one", [1], [])]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    assert peakmem.estimate(path).kind == "lower bound"
    assert time.perf_counter() - start < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10


@pytest.mark.parametrize("name", ["a/" * 200_000 + "conv", "a" * 200_000 + "/conv"])
def test_a_name_that_is_no_module_path(tmp_path, name):
    conv = helper.make_node("Conv", ["x", "w"], ["y"], name=name)
    path = save(tmp_path, model([conv], inputs=[value("x", (1, 1, 2, 2))], weights=[weight("w", (1, 1, 1, 1))]))
    assert peakmem.load(path).operators[0].scope == ""
    assert peakmem.estimate(path).peak_bytes == 32


def test_thousands_of_branches_take_no_square_of_time(tmp_path):
    nodes, last = [], "x"
    for at in range(6000):
        branch = body([helper.make_node("Relu", [last], [f"t{at}"])], [value(f"t{at}", None)])
        other = body([helper.make_node("Neg", [last], [f"e{at}"])], [value(f"e{at}", None)])
        nodes.append(helper.make_node("If", ["c"], [f"y{at}"], then_branch=branch, else_branch=other))
        last = f"y{at}"
    path = save(tmp_path, model(nodes, inputs=[value("x"), value("c", (), TensorProto.BOOL)]))
    start = time.perf_counter()
    assert peakmem.estimate(path).kind == "estimate"
    assert time.perf_counter() - start < 10


def test_names_of_megabytes(tmp_path):
    name = "n" * 3_000_000
    path = save(tmp_path, model([helper.make_node("Relu", ["x"], [name], name=name)], outputs=[value(name)]))
    assert peakmem.estimate(path).peak_bytes == 32


# -- on the command line -----------------------------------------------------------------


def on_the_command_line(capsys, *arguments):
    with pytest.raises(SystemExit) as done:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return done.value.code, out, err


def bad_files(folder):
    """One file of every kind of bad input."""
    relu = helper.make_node("Relu", ["x"], ["y"])
    data = network().SerializeToString()
    own = helper.make_function("f", "F", ["a"], ["r"], [helper.make_node("F", ["a"], ["r"], domain="f")], [])
    models = {
        "truncated": data[: len(data) // 2],
        "flipped": data[:30] + bytes([data[30] ^ 0x87]) + data[31:],
        "text": NOT_A_MODEL["text"],
        "zip": NOT_A_MODEL["zip"],
        "png": PNG,
        "empty": b"",
        "cycle": model([helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]),
        "duplicate": model([relu, relu]),
        "negative": model([relu], inputs=[value("x", (-3,))]),
        "overflow": model([relu], inputs=[value("x", (2**60,))]),
        "overflowing product": model([relu], inputs=[value("x", (2**31,) * 4)]),
        "huge constant": model([relu], weights=[TensorProto(name="w", dims=[2**60], data_type=FLOAT)]),
        "external missing": model([relu], weights=[external(weight("w"), "none.bin")]),
        "external path": model([relu], weights=[external(weight("w"), "../../../etc/passwd")]),
        "external absolute": model([relu], weights=[external(weight("w"), "/etc/passwd")]),
        "external name": model([relu], weights=[external(weight("w"), "a\nb\x1b[31m" * 3000)]),
        "dtype": model([relu], inputs=[value("x", (1,), 77)]),
        "nested": buried(500),
        "recursive": model([helper.make_node("F", ["x"], ["y"], domain="f")], functions=[own], opsets={"": 18, "f": 1}),
        "open": model([relu], inputs=[value("x", ("line\nbreak", None))]),
        "long name": model([helper.make_node("Relu", ["q" * 2_000_000], ["y"])]),
        "escape": model([helper.make_node("Relu", ["\x1b[31mred\x07\r\n\u2028\u202e"], ["y"])]),
    }
    return {name: save(folder, content, f"{name}.onnx") for name, content in models.items()}


def test_every_bad_file_is_one_line_on_stderr_and_exit_code_2(tmp_path, capsys):
    for name, path in bad_files(tmp_path).items():
        code, out, err = on_the_command_line(capsys, path)
        assert (code, out) == (2, ""), name
        assert err.startswith("peakmem: error: "), name
        assert err.endswith("\n"), name
        assert err[:-1].isprintable(), (name, err[:200])
        assert "Traceback" not in err, name
        assert "internal error" not in err, (name, err)
        assert len(err) < 6000, name


@pytest.mark.parametrize("place", ["", "pipe", "/dev/zero", "nowhere.onnx", "n" * 5000 + ".onnx"])
def test_places_without_a_model_on_the_command_line(tmp_path, capsys, place):
    if place == "pipe":
        os.mkfifo(tmp_path / place)
    code, out, err = on_the_command_line(capsys, tmp_path / place)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "internal error" not in err


def test_a_pipe_on_the_command_line_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.onnx")
    done = subprocess.run(
        [sys.executable, "-m", "peakmem", tmp_path / "pipe.onnx"],
        capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_a_file_that_grows_shorter_meanwhile(tmp_path):
    """Another process may write to the file; that is damage like any other."""
    data = network().SerializeToString()
    path = save(tmp_path, data)
    stop = threading.Event()

    def shake():
        rng = random.Random(3)
        while not stop.is_set():
            path.write_bytes(data[: rng.randrange(len(data))])

    writer = threading.Thread(target=shake)
    writer.start()
    try:
        for _ in range(200):
            try:
                peakmem.estimate(path)
            except PeakmemError as fault:
                assert str(fault)  # noqa: PT017 - either end is right
    finally:
        stop.set()
        writer.join()
