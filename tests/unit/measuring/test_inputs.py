"""What a network is fed: made numbers and the user's arrays, checked against NumPy's own reading."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from peakmem.dtypes import BFLOAT16, FLOAT8E4M3FN, INT4
from peakmem.errors import FormatError, PeakmemError, UsageError
from peakmem.measuring.inputs import Given, Port, prepare

IMAGE = Port("image", "float32", (1, 3, 4, 4))
TOKENS = Port("tokens", "int64", (1, -1))


def values(file):
    return np.fromfile(file.path, np.dtype(file.dtype).newbyteorder("<")).reshape(file.shape)


def refusal(*args) -> str:
    with pytest.raises(PeakmemError) as caught:
        prepare(*args)
    return str(caught.value)


def test_random_numbers_are_seeded_and_in_range(tmp_path):
    ports = [IMAGE, Port("mask", "bool", (2, 2)), Port("ids", "int64", (50,)), Port("half", "float16", (70, 70)),
             Port("scalar", "float64", ()), Port("none", "float32", (0, 4)), Port("c", "complex64", (3,))]  # fmt: skip
    made = prepare(ports, (), Given(), tmp_path)
    assert [(one.name, one.dtype, one.shape, one.source) for one in made] == [
        (port.name, port.dtype, port.shape, "random") for port in ports
    ]
    image, mask, ids, half, scalar, none, _ = map(values, made)
    assert image.min() >= 0
    assert image.max() < 1
    assert image.std() == pytest.approx(12**-0.5, rel=0.2)
    # of the uniform distribution
    assert not mask.any()
    assert set(ids.tolist()) == {0, 1}
    assert half.max() < 1
    assert scalar.shape == ()
    assert none.size == 0
    before = [one.path.read_bytes() for one in made]
    assert [one.path.read_bytes() for one in prepare(ports, (), Given(), tmp_path)] == before
    assert prepare(ports, (), Given(seed=1), tmp_path)[0].path.read_bytes() != before[0]


def test_random_elements_that_numpy_does_not_have(tmp_path):
    ports = [Port("b", BFLOAT16.name, (1000,)), Port("f", FLOAT8E4M3FN.name, (1000,)), Port("i", INT4.name, (5,))]
    brain, eight, four = prepare(ports, (), Given(), tmp_path)
    numbers = (np.fromfile(brain.path, "<u2").astype("<u4") << 16).view("<f4")
    # a bfloat16 is the upper half of a float32
    assert numbers.shape == (1000,)
    assert 0 <= numbers.min() < 0.1
    assert 0.9 < numbers.max() < 1
    assert np.fromfile(eight.path, np.uint8).max() < 0x38
    # 0.111.000 is 1.0 (OCP 8-bit floating point, table 1)
    assert len(four.path.read_bytes()) == 3
    assert set(four.path.read_bytes()) <= {0x00, 0x01, 0x10, 0x11}
    ml_dtypes = pytest.importorskip("ml_dtypes")
    assert np.fromfile(eight.path, ml_dtypes.float8_e4m3fn).astype(np.float32).max() < 1


def test_a_large_input_takes_little_memory(tmp_path):
    array = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (2, 8 << 20), fortran_order=True)
    array[1, 5] = 3
    array.flush()
    tracemalloc.start()
    try:
        prepare([Port("x", "float32", (1, 16 << 20))], (), Given(), tmp_path)
        (made,) = prepare([Port("x", "float32", (2, 8 << 20))], (), Given(tmp_path / "x.npy"), tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert made.nbytes == 64 << 20
    assert values(made)[1, 5] == 3
    assert peak < 24 << 20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["input0", "x.npy"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    array=arrays_of.arrays(
        st.sampled_from(["<f4", ">f4", "<f8", ">i8", "<i4", ">u2", "|i1", "|b1", "<f2", ">c8"]),
        arrays_of.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
    ),
    fortran=st.booleans(), packed=st.sampled_from(["npy", "npz", "compressed"]),
)  # fmt: skip
def test_files_are_read_as_numpy_reads_them(tmp_path, array, fortran, packed):
    array = np.asfortranarray(array) if fortran and array.ndim else array
    port = Port("x", array.dtype.name, array.shape)
    path = tmp_path / ("x.npy" if packed == "npy" else "x.npz")
    save = {"npy": np.save, "npz": lambda file, a: np.savez(file, x=a),
            "compressed": lambda file, a: np.savez_compressed(file, x=a)}[packed]  # fmt: skip
    save(path, array)
    (made,) = prepare([port], (), Given(path), tmp_path)
    assert made.path.read_bytes() == array.astype(array.dtype.newbyteorder("<")).tobytes(order="C")
    assert made.shape == array.shape
    assert made.source == ("x.npy" if packed == "npy" else "x.npz:x")


def test_raw_bytes_stand_for_dtypes_that_numpy_lacks(tmp_path):
    np.save(tmp_path / "b.npy", np.arange(4, dtype="<u2").view("V2"))
    # as ml_dtypes' bfloat16 is saved
    (made,) = prepare([Port("b", "bfloat16", (4,))], (), Given(tmp_path / "b.npy"), tmp_path)
    assert np.fromfile(made.path, "<u2").tolist() == [0, 1, 2, 3]
    assert "is float32, the file holds void16" in refusal(
        [Port("b", "float32", (4,))], (), Given(tmp_path / "b.npy"), tmp_path
    )


def test_nan_is_allowed(tmp_path):
    np.save(tmp_path / "x.npy", np.full((2,), np.nan, np.float32))
    (made,) = prepare([Port("x", "float32", (2,))], (), Given(tmp_path / "x.npy"), tmp_path)
    assert np.isnan(values(made)).all()


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "given"
    made.mkdir()
    return made


def save(folder: Path, **entries):
    for name, array in entries.items():
        np.save(folder / f"{name}.npy", array)


IMAGES, IDS = np.ones((1, 3, 4, 4), np.float32), np.arange(7).reshape(1, 7)


def test_several_inputs_by_name(folder, tmp_path):
    save(folder, tokens=IDS, image=IMAGES)
    np.savez(tmp_path / "all.npz", tokens=IDS, image=IMAGES)
    files = [f"image={folder / 'image.npy'}", f"tokens={folder / 'tokens.npy'}"]
    for feed in (folder, tmp_path / "all.npz", str(folder), files, Path(folder)):
        image, tokens = prepare([IMAGE, TOKENS], (), Given(feed), tmp_path)
        assert tokens.shape == (1, 7)
        assert (values(tokens) == IDS).all()
        assert (values(image) == IMAGES).all()


def test_several_inputs_by_order(folder, tmp_path):
    ports = [Port(f"p{place}", "int64", (1,)) for place in range(12)]
    save(folder, **{f"input_{place}": np.array([place]) for place in range(12)})
    np.savez(tmp_path / "all.npz", *(np.array([place]) for place in range(12)))
    for feed in (folder, tmp_path / "all.npz"):
        made = prepare(ports, (), Given(feed), tmp_path)
        assert [values(one)[0] for one in made] == list(range(12))


def test_names_and_shapes_from_before_a_conversion(folder, tmp_path):
    save(folder, image=IMAGES)
    known = [Port("image", "float32", (1, 3, 4, 4))]
    (made,) = prepare([Port("in0", "", None)], known, Given(folder), tmp_path)
    assert (made.name, made.dtype, made.shape, made.source) == ("in0", "float32", (1, 3, 4, 4), "image.npy")
    (made,) = prepare([Port("in0", "float32", (3, 4, 4))], known, Given(folder, {"image": (1, 3, 4, 4)}), tmp_path)
    assert made.shape == (3, 4, 4)
    # an engine without batches
    (made,) = prepare([Port("image", "float32", (-1, 3, 4, 4))], known, Given(), tmp_path)
    assert made.shape == (1, 3, 4, 4)


def test_free_dimensions_take_what_is_asked_for(tmp_path):
    (made,) = prepare([TOKENS], (), Given(shapes={"tokens": (1, 9)}), tmp_path)
    assert made.shape == (1, 9)
    (made,) = prepare([Port("x", "float32", None)], (), Given(shapes={"x": (2, 2)}), tmp_path)
    assert made.shape == (2, 2)
    np.save(tmp_path / "t.npy", IDS)
    text = refusal([TOKENS], (), Given(tmp_path / "t.npy", {"tokens": (1, 9)}), tmp_path)
    assert text == "t.npy: input 'tokens' is 1x9, the file holds 1x7"


def test_what_does_not_fit_is_said(folder, tmp_path):
    save(folder, image=IMAGES, tokens=IDS)
    image, both = folder / "image.npy", [IMAGE, TOKENS]
    cases = {
        "input 'tokens' is 1x?: it needs a size. Try: --shape tokens=1x4": ([TOKENS], Given()),
        "input 'x' is of unknown shape: it needs a size": ([Port("x", "float32", None)], Given()),
        "--shape: no input is called 'nobody' (expected 'image' float32 1x3x4x4)": (
            [IMAGE], Given(shapes={"nobody": (1,)}),
        ),
        "--shape: input 'image' is 1x3x4x4, not 1x3x5x5": ([IMAGE], Given(shapes={"image": (1, 3, 5, 5)})),
        "nothing is given for input 'tokens'": (both, Given(f"image={image}")),
        "no input for 'image' (expected 'tokens' int64 1x?)": ([TOKENS], Given(folder)),
        "image.npy: no input is called 'x' (expected 'image' float32 1x3x4x4; 'tokens'": (both, Given(f"x={image}")),
        "input 'image' is given twice": ([IMAGE], Given([f"image={image}", f"image={image}"])),
        "image.npy: input 'image' is given twice": ([IMAGE], Given([f"image={image}", image])),
        "image.npy: input 'x' is uint8, the file holds float32": ([Port("x", "uint8", IMAGE.shape)], Given(image)),
        "astype('float64')": ([Port("x", "float64", IMAGE.shape)], Given(image)),
        "image.npy: input 'x' is 1x4x4x3, the file holds 1x3x4x4": ([Port("x", "float32", (1, 4, 4, 3))], Given(image)),
        "there is no such file": ([IMAGE], Given("nowhere.npy")),
        "the folder has no .npy files": ([IMAGE], Given(tmp_path)),
        "expected .npy, .npz or a folder of .npy": ([IMAGE], Given(__file__)),
        "no data can be made for input 's' of dtype string": ([Port("s", "string", (1,))], Given()),
        "input 's': no dtype is called 'thing'": ([Port("s", "thing", (1,))], Given()),
        "the dtype of input 's' is not known": ([Port("s", "", (1,))], Given()),
        "the temporary folder has": ([Port("x", "float32", (1 << 50,))], Given()),
    }  # fmt: skip
    for message, (ports, one) in cases.items():
        assert message in refusal(ports, (), one, tmp_path)


def test_damaged_and_hostile_files_are_refused(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    whole = io.BytesIO()
    np.save(whole, IMAGES)
    good = whole.getvalue()
    objects = io.BytesIO()
    np.save(objects, np.array([Trap()], object), allow_pickle=True)
    header = b"\x93NUMPY\x01\x00"
    text = b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}\n"
    files = {
        "cut": (good[:-1], "the file ends before its last element"),
        "long": (good + b"1", "1 bytes after the last element"),
        "head": (good[:20], "not an .npy"),
        "empty": (b"", "not an .npy"),
        "text": (b"hello, this is no array at all", "not an .npy"),
        "version": (b"\x93NUMPY\x09\x00" + good[8:], "version 9.0"),
        "objects": (objects.getvalue(), "it holds Python objects"),
        "negative": (header + len(text).to_bytes(2, "little") + text, "a negative dimension"),
    }
    for name, (content, message) in files.items():
        path = tmp_path / f"{name}.npy"
        path.write_bytes(content)
        with pytest.raises(FormatError) as caught:
            prepare([IMAGE], (), Given(path), tmp_path)
        assert message in str(caught.value)
        assert f"{name}.npy" in str(caught.value)
        with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
            archive.writestr("image.npy", content)
        assert message in refusal([IMAGE], (), Given(tmp_path / "x.npz"), tmp_path)
    assert not (tmp_path / "executed").exists()
    np.savez_compressed(tmp_path / "x.npz", image=IMAGES)
    packed = (tmp_path / "x.npz").read_bytes()
    for cut in (packed[:50], b"PK\x03\x04", b"", packed[:60] + b"\xff" * 20 + packed[80:]):
        (tmp_path / "x.npz").write_bytes(cut)
        with pytest.raises((FormatError, UsageError)):
            prepare([IMAGE], (), Given(tmp_path / "x.npz"), tmp_path)
