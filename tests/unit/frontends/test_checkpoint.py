"""PyTorch checkpoints against torch.save, and pickles that mean harm."""

import io
import json
import os
import pickle
import struct
import tarfile
import time
import zipfile
from argparse import Namespace
from contextlib import suppress

import pytest

import peakmem
from peakmem.errors import FormatError
from peakmem.frontends.checkpoint.reader import read_checkpoint
from tests.fuzz.formats.checkpoint import archive, model, sequence, tensor, text, whole

torch = pytest.importorskip("torch")

ZIP, SEQUENCE = {}, {"_use_new_zipfile_serialization": False}
WAYS = [ZIP, SEQUENCE, {"pickle_protocol": 4}, {"pickle_protocol": 5} | SEQUENCE]


def net():
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(8, 4)
    )


def storages(*tensors):
    """Bytes of the storages of tensors, each once."""
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


def saved(path, what, **way):
    torch.save(what, path, **way)
    report = peakmem.estimate(path)
    assert report.model.format == "torch_checkpoint"
    assert sum(one.nbytes for one in report.tensors) == report.weights_bytes
    assert sum(share.nbytes for share in report.dtypes) == report.weights_bytes
    return report


# -- what torch.save writes --------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_a_state_dict(tmp_path, way):
    state = net().state_dict()
    report = saved(tmp_path / "m.pt", state, **way)
    assert {one.name: one.nbytes for one in report.tensors} == {
        name: value.numel() * value.element_size() for name, value in state.items()
    }
    # 8·27 + 8, 8 + 8, 4·8 + 4; mean and variance of 8
    assert (report.parameters.trainable, report.parameters.with_statistics) == (276, 292)
    assert report.weights_bytes == storages(*state.values())
    assert report.unknowns[0].operator == "activations"
    assert not [note for note in report.assumptions if "not resolved" in note]


@pytest.mark.parametrize("way", WAYS)
def test_a_module_pickled_whole(tmp_path, way):
    module = net()
    report = saved(tmp_path / "m.pth", module, **way)
    assert [one.name for one in report.tensors] == list(module.state_dict())
    assert report.parameters.trainable == 276
    assert any("'torch.nn.modules.conv.Conv2d'" in note for note in report.assumptions)


@pytest.mark.parametrize("way", WAYS)
def test_an_optimizer_is_told_apart(tmp_path, way):
    module = net()
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.zeros(2, 3, 3, 3)).sum().backward()
    optimizer.step()
    kept = {"model": module.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3, "args": Namespace(lr=0.1)}
    report = saved(tmp_path / "m.ckpt", kept, **way)
    moments = sum(t.nbytes for state in optimizer.state.values() for t in state.values())
    details = {detail.name: detail.nbytes for detail in report.details}
    assert details["optimizer state"] == details["part optimizer"] == moments
    assert details["part model"] == storages(*module.state_dict().values())
    assert report.parameters.trainable == 276
    assert "optimizer.state.0.exp_avg" in {one.name for one in report.tensors}


@pytest.mark.parametrize("way", [ZIP, SEQUENCE])
@pytest.mark.parametrize(
    "build",
    [
        lambda a: {"a": a},
        lambda a: {"first": a[:10], "whole": a, "transposed": a.t(), "column": a[:, 3]},
        lambda a: {"part": a[:10]},
        lambda a: {"late": a[50:], "early": a[:20]},
        lambda a: {"expanded": a[:1, :1].clone().expand(50, 3)},
        lambda a: {"columns": a[:, :4], "others": a[:, 4:]},
        lambda a: {"empty": a[:0], "scalar": torch.zeros(())},
        lambda a: [torch.nn.Parameter(a), {"again": a}],
        lambda a: a,
    ],
)
def test_views_count_their_storage_once(tmp_path, way, build):
    what = build(torch.zeros(100, 10))
    values = [what] if isinstance(what, torch.Tensor) else list(what.values()) if isinstance(what, dict) else [what[0]]
    report = saved(tmp_path / "m.pt", what, **way)
    assert report.weights_bytes == storages(*values)


def test_tied_weights_are_named_and_counted_once(tmp_path):
    module = torch.nn.ModuleDict({"a": torch.nn.Linear(4, 4, bias=False), "b": torch.nn.Linear(4, 4, bias=False)})
    module["b"].weight = module["a"].weight
    path = tmp_path / "m.pt"
    report = saved(path, module.state_dict())
    assert report.weights_bytes == 64
    assert read_checkpoint(path).tensors["b.weight"].storage == "a.weight"
    assert next(detail for detail in report.details if detail.name == "shared").text.startswith("1 tensors")


WIDTHS = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1,
    "float8_e4m3fnuz": 1, "float8_e5m2fnuz": 1, "float8_e8m0fnu": 1, "int64": 8, "int32": 4, "int16": 2, "int8": 1,
    "uint8": 1, "uint16": 2, "uint32": 4, "uint64": 8, "bool": 1, "complex32": 4, "complex64": 8, "complex128": 16,
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", WIDTHS)
def test_every_dtype(tmp_path, name):
    report = saved(tmp_path / "m.pt", {"w": torch.empty(3, 5, dtype=getattr(torch, name))})
    assert report.weights_bytes == 15 * WIDTHS[name]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("way", [ZIP, SEQUENCE])
def test_quantised_tensors(tmp_path, way):
    flat = torch.quantize_per_tensor(torch.zeros(4, 4), 0.1, 0, torch.qint8)
    rows = torch.quantize_per_channel(torch.zeros(4, 4), torch.ones(4).double(), torch.zeros(4).long(), 0, torch.quint8)
    report = saved(tmp_path / "m.pt", {"flat": flat, "rows": rows}, **way)
    found = {one.name: (one.nbytes, one.role) for one in report.tensors}
    assert found["flat"] == found["rows"] == (16, "weight")
    # four float64 scales and as many int64 zero points
    assert report.weights_bytes == 16 + 16 + 32 + 32


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("way", [ZIP, SEQUENCE])
def test_sparse_tensors(tmp_path, way):
    coordinates, rows = torch.eye(5).to_sparse(), torch.eye(5).to_sparse_csr()
    report = saved(tmp_path / "m.pt", {"coo": coordinates, "csr": rows}, **way)
    parts = [coordinates._indices(), coordinates._values(), rows.crow_indices(), rows.col_indices(), rows.values()]
    assert report.weights_bytes == storages(*parts)
    assert {one.name for one in report.tensors} >= {"coo.indices", "coo.values", "csr.crow_indices", "csr.col_indices"}


@pytest.mark.filterwarnings("ignore")
def test_torchscript_is_sized_and_its_graph_is_said_to_be_unread(tmp_path):
    path, module = tmp_path / "m.pt", net().eval()
    torch.jit.script(module).save(path)
    report = peakmem.estimate(path)
    assert {one.name: one.nbytes for one in report.tensors} == {
        name: value.nbytes for name, value in module.state_dict().items()
    }
    assert "TorchScript" in report.unknowns[0].reason
    assert "torch.onnx.export" in report.unknowns[0].hint
    torch.jit.freeze(torch.jit.script(module)).save(path)
    # the norm is folded into the convolution: 8·27 + 8 and 8·4 + 4 float32
    assert peakmem.estimate(path).weights_bytes == 4 * (224 + 36)


def test_plain_pickles_of_tensors_and_arrays(tmp_path):
    numpy = pytest.importorskip("numpy")
    path = tmp_path / "m.bin"
    for protocol in (4, 5):
        columns = numpy.asfortranarray(numpy.zeros((300, 400), numpy.float32))
        state = {"small": torch.zeros(3), "large": torch.zeros(200, 200), "scalar": numpy.float64(3)}
        state |= {"array": numpy.zeros((3, 4), numpy.float64), "columns": columns}
        path.write_bytes(pickle.dumps({"model": state}, protocol=protocol))
        report = peakmem.estimate(path)
        assert {one.name: one.nbytes for one in report.tensors} == {
            "model.small": 12, "model.large": 160_000, "model.array": 96, "model.columns": 480_000,
        }  # fmt: skip


def test_shards_with_an_index(tmp_path):
    names = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]
    for at, name in enumerate(names):
        torch.save({f"l{at}.weight": torch.zeros(4, 4)}, tmp_path / name)
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": {"l0.weight": names[0], "l1.weight": names[1]}}))
    report = peakmem.estimate(index)
    assert (report.weights_bytes, report.parameters.trainable) == (128, 32)
    (tmp_path / names[1]).unlink()
    with pytest.raises(FormatError, match="shards are missing"):
        peakmem.estimate(index)


def test_a_tar_checkpoint(tmp_path):
    """As PyTorch 0.1 wrote it: storages, tensors, and a pickle that refers to them by number."""
    kind = b"ctorch\nFloatStorage\n"
    stores = (
        b"\x80\x02K\x01.\x80\x02(K\x05" + text("cpu") + kind + b"t." + struct.pack("<q", 12) + bytes(48) + b"\x80\x02]."
    )
    listed = b"\x80\x02K\x01.\x80\x02(K\x07K\x05ctorch\nFloatTensor\nt." + struct.pack("<iiqqqqq", 2, 0, 4, 3, 3, 1, 0)
    body = b"\x80\x02}" + text("w") + b"K\x07Qs."
    with tarfile.open(tmp_path / "old.pt", "w", format=tarfile.USTAR_FORMAT) as file:
        for name, data in (("sys_info", b"\x80\x02}."), ("pickle", body), ("tensors", listed), ("storages", stores)):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    report = peakmem.estimate(tmp_path / "old.pt")
    assert [(one.name, one.shape, one.nbytes) for one in report.tensors] == [("w", "4x3", 48)]


# -- harm --------------------------------------------------------------------------------


class Harm:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("way", WAYS)
def test_nothing_a_pickle_names_is_called(tmp_path, way):
    mark = tmp_path / "called"
    report = saved(tmp_path / "m.pt", {"w": torch.zeros(3), "x": Harm(mark)}, **way)
    assert report.weights_bytes == 12
    assert any("1 global that was not resolved: 'posix.system'" in note for note in report.assumptions)
    assert not mark.exists()


def test_a_pickle_that_is_no_checkpoint(tmp_path):
    path = tmp_path / "m.pt"
    path.write_bytes(pickle.dumps({"a": [1, 2, {"b": Harm("x")}]}))
    with pytest.raises(FormatError, match=r"without tensors, not a PyTorch checkpoint; it names 'posix\.system'"):
        peakmem.estimate(path)


BOMBS = {
    "nested tuples": b"\x80\x04]" + b"2\x86" * 100_000 + b".",
    "nested lists": b"\x80\x04" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "laughs": b"\x80\x04]\x94" + b"".join(b"(" + b"h" + bytes((at,)) * 1 + (b"h" + bytes((at,))) * 9 + b"l\x94"
                                            for at in range(200)) + b".",
    "a list in itself": b"\x80\x04]\x94h\x00a.",
    "a long number": b"\x80\x02\x8b\xff\xff\xff\x7f" + bytes(50) + b".",
    "a long text": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"x.",
    "a negative length": b"\x80\x02T\xff\xff\xff\xff.",
    "copies of a list": b"\x80\x02]q\x00(" + b"K\x01K\x02\x86" * 50_000 + b"e("
    + b"ccollections\nOrderedDict\nh\x00\x85R" * 50_000 + b"l.",
    "no stop": b"\x80\x02}",
    "an empty stack": b"\x80\x02R.",
    "no mark": b"\x80\x02K\x01t.",
    "a memo that is not there": b"\x80\x02h\x09.",
    "an unknown opcode": b"\x80\x02\xff.",
    "long keys": b"\x80\x02}" + text("a" * 60_000) + b"}" + text("b") + b"Nss.",
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize("wrapped", [False, True])
def test_bombs_end_soon(tmp_path, name, wrapped):
    path = tmp_path / "m.pt"
    path.write_bytes(archive(BOMBS[name], deflated=True) if wrapped else BOMBS[name])
    start = time.perf_counter()
    with suppress(FormatError):
        peakmem.estimate(path)
    assert time.perf_counter() - start < 10


def test_too_many_opcodes(tmp_path):
    path = tmp_path / "m.pt"
    path.write_bytes(archive(b"\x80\x02" + b"N0" * 2_000_000 + b"N.", deflated=True))
    assert path.stat().st_size < 20_000
    with pytest.raises(FormatError, match="more than 2,000,000 opcodes"):
        peakmem.estimate(path)


def test_a_zip_bomb_is_not_unpacked(tmp_path):
    path = tmp_path / "m.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file, file.open("archive/data.pkl", "w") as member:
        for _ in range(300):
            member.write(bytes(1 << 20))
    with pytest.raises(FormatError, match="a pickle of 314,572,800 bytes"):
        peakmem.estimate(path)


# -- damage ------------------------------------------------------------------------------


def rewritten(change):
    with zipfile.ZipFile(io.BytesIO(archive(model()))) as file:
        members = {info.filename: file.read(info) for info in file.infolist()}
    change(members)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name, data in members.items():
            file.writestr(name, data)
    return out.getvalue()


def state(shape=(2, 2), count=4, kind="FloatStorage", key="0"):
    return b"\x80\x02}" + text("w") + tensor(key, kind, shape, count) + b"s."


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (rewritten(lambda members: members.pop("archive/data/1")), "holds no 'archive/data/1'"),
        (rewritten(lambda members: members.update({"archive/data/1": b"abc"})), "has 3 bytes"),
        (rewritten(lambda members: members.update({"../evil": b""})), "outside of itself"),
        (rewritten(lambda members: members.update({"archive/byteorder": b"middle"})), "byte order is b'middle'"),
        (archive(state(shape=(5, 5), count=12)), "reaches beyond its storage of 48 bytes"),
        (archive(state(shape=(2**40, 2**40), count=12)), "reaches beyond its storage"),
        (archive(state(count=2**63)), "a storage of"),
        (archive(state(kind="MyStorage")), "'torch.MyStorage', which is not known"),
        (archive(state(key="../data.pkl")), "holds no"),
        (archive(state().replace(whole(4), whole(-4), 1)), "a storage of '-4' elements"),
        (archive(model())[:-40], "truncated or damaged"),
        (archive(model())[:300], "truncated or damaged"),
        (sequence(model(legacy=True))[:-10], "truncated in storage '2'"),
        (sequence(model(legacy=True))[:-60], "truncated"),
        (sequence(model(legacy=True)).replace(struct.pack("<q", 12) + bytes(48), struct.pack("<q", 13) + bytes(52), 1),
         "has 13 elements"),
        (b"\x80\x02\x8a\x0a" + (0x1950A86A20F9469CFC6C).to_bytes(10, "little") + b".\x80\x02K\x05.", "protocol"),
    ],
)  # fmt: skip
def test_damage_is_named(tmp_path, data, message):
    path = tmp_path / "m.pt"
    path.write_bytes(data)
    with pytest.raises(FormatError, match=message) as fault:
        peakmem.estimate(path)
    assert str(path) in fault.value.where
    assert fault.value.exit_code == 2


def test_storages_without_a_tensor_are_noted(tmp_path):
    path = tmp_path / "m.pt"
    path.write_bytes(rewritten(lambda members: members.update({"archive/data/9": bytes(99)})))
    assert any("1 storages of 99 bytes belong to no tensor" in note for note in peakmem.estimate(path).assumptions)
