"""Reading pnnx files: recorded shapes, weights, views, tuples, the archive, faults."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path

import pytest

import peakmem
from peakmem.binding import bound
from peakmem.dtypes import FLOAT32, INT64
from peakmem.errors import FormatError, PeakmemError, UnboundDimension, UsageError
from peakmem.frontends.ncnn.pnnx import read_pnnx
from peakmem.ir.dims import Symbol
from peakmem.parameters import parameters

NET = """7767517
8 7
pnnx.Input               in0       0 1 0 #0=(1,3,8,8)f32
nn.Conv2d                conv      1 1 0 1 bias=True dilation=(1,1) groups=1 in_channels=3 kernel_size=(3,3) out_channels=4 padding=(1,1) padding_mode=zeros stride=(2,2) @bias=(4)f32 @weight=(4,3,3,3)f32 $input=0 #0=(1,3,8,8)f32 #1=(1,4,4,4)f32
nn.BatchNorm2d           bn        1 1 1 2 affine=True eps=1.000000e-05 num_features=4 @bias=(4)f32 @running_mean=(4)f32 @running_var=(4)f32 @weight=(4)f32 #1=(1,4,4,4)f32 #2=(1,4,4,4)f32
F.relu                   act       1 1 2 3 $input=2 #2=(1,4,4,4)f32 #3=(1,4,4,4)f32
torch.flatten            flat      1 1 3 4 end_dim=-1 start_dim=1 $input=3 #3=(1,4,4,4)f32 #4=(1,64)f32
nn.Linear                head.fc   1 1 4 5 bias=True in_features=64 out_features=10 @bias=(10)f32 @weight=(10,64)f32 #4=(1,64)f32 #5=(1,10)f32
prim::TupleConstruct     both      2 1 5 3 6 #5=(1,10)f32 #3=(1,4,4,4)f32
pnnx.Output              out0      1 0 6
"""  # noqa: E501 - a row of the format is one line


def write(folder: Path, text: str, name: str = "net.pnnx.param") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def rows(*lines: str) -> str:
    return "\n".join(["7767517", f"{len(lines)} {len(lines)}", *lines, ""])


def test_graph(tmp_path: Path) -> None:
    graph = read_pnnx(write(tmp_path, NET))
    assert graph.format == "pnnx"
    assert graph.inputs == ("0",)
    assert graph.outputs == ("5", "3")
    conv, norm, _, flatten, linear = graph.operators
    assert conv.inputs == ("0", "conv.weight", "conv.bias")
    assert conv.attributes["kernel_shape"] == (3, 3)
    assert conv.attributes["pads"] == (1, 1, 1, 1)
    assert norm.inputs == ("1", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")
    assert flatten.aliases == ((0, 0),)
    assert linear.scope == "head"
    assert graph.tensors["1"].shape == (1, 4, 4, 4)
    assert graph.tensors["1"].dtype is FLOAT32


def test_parameters_and_peak(tmp_path: Path) -> None:
    """By hand: 4·3·3·3 + 4 and 64·10 + 10 weights and biases, 2·4 norm, 2·4 statistics."""
    path = write(tmp_path, NET)
    held = parameters(bound(read_pnnx(path)))
    assert held.elements("weight") == 108 + 640
    assert held.elements("bias") == 4 + 10
    assert held.elements("norm") == held.elements("statistic") == 8
    report = peakmem.estimate(path, assume="naive")
    assert report.unknowns == ()
    assert report.peak.activation_bytes == 4 * (192 + 64)


def test_an_open_size_is_a_symbol(tmp_path: Path) -> None:
    text = rows(
        "pnnx.Input in 0 1 0 #0=(1,3,?,%w)f32",
        "F.relu act 1 1 0 1 #0=(1,3,?,%w)f32 #1=(1,3,?,%w)f32",
        "pnnx.Output o 1 0 1",
    )
    path = write(tmp_path, text)
    assert read_pnnx(path).tensors["0"].shape == (1, 3, Symbol("0.2"), Symbol("w"))
    with pytest.raises(UnboundDimension):
        peakmem.estimate(path)


def test_other_sizes_need_another_export(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="exported with fixed sizes") as caught:
        peakmem.estimate(write(tmp_path, NET), shapes={"0": (1, 3, 16, 16)})
    assert "pnnx" in caught.value.hint


def test_reshapes_of_what_was_moved_copy(tmp_path: Path) -> None:
    text = rows(
        "pnnx.Input in 0 1 0 #0=(1,2,3)f32",
        "torch.permute p 1 1 0 1 dims=(0,2,1) #1=(1,3,2)f32",
        "Tensor.reshape r 1 1 1 2 shape=(1,6) #2=(1,6)f32",
        "Tensor.reshape s 1 1 2 3 shape=(6,1) #3=(6,1)f32",
        "torch.chunk c 1 2 3 4 5 chunks=2 dim=0 #4=(3,1)f32 #5=(3,1)f32",
        "pnnx.Output o 2 0 4 5",
    )
    permute, first, second, chunk = read_pnnx(write(tmp_path, text)).operators
    assert permute.aliases == second.aliases == ((0, 0),)
    assert first.aliases == ()
    assert chunk.aliases == ((0, 0), (1, 0))


def test_recurrent_weights_stand_apart_from_biases(tmp_path: Path) -> None:
    text = rows(
        "pnnx.Input in 0 1 0 #0=(1,7,5)f32",
        "nn.LSTM l 1 1 0 1 hidden_size=4 @bias_hh_l0=(16)f32 @bias_ih_l0=(16)f32 @weight_hh_l0=(16,4)f32 "
        "@weight_ih_l0=(16,5)f32 #1=(1,7,4)f32",
        "pnnx.Output o 1 0 1",
    )
    held = parameters(bound(read_pnnx(write(tmp_path, text))))
    assert (held.elements("weight"), held.elements("bias")) == (16 * 4 + 16 * 5, 32)


def test_attributes_and_numbers(tmp_path: Path) -> None:
    text = rows(
        "pnnx.Input in 0 1 0 #0=(1,4)f32", "pnnx.Attribute pos 0 1 1 @data=(1,4)f32 #1=(1,4)f32",
        "pnnx.Expression add 2 1 0 1 2 expr=add(@0,@1) #0=(1,4)f32 #1=(1,4)f32 #2=(1,4)f32",
        "Tensor.size size 1 1 2 3 dim=1", "pnnx.Expression twice 1 1 3 4 expr=mul(@0,2)", "pnnx.Output o 2 0 2 4",
    )  # fmt: skip
    graph = bound(read_pnnx(write(tmp_path, text)))
    assert graph.unknowns == ()
    assert graph.tensors["1"].role == "constant"
    assert graph.tensors["4"].shape == ()
    assert graph.tensors["4"].dtype is INT64


def archive(folder: Path, **sizes: int) -> None:
    with zipfile.ZipFile(folder / "net.pnnx.bin", "w") as file:
        for name, size in {"conv.weight": 432, "conv.bias": 16, "head.fc.weight": 2560, **sizes}.items():
            file.writestr(name, bytes(size))


def test_the_archive_is_held_against_the_file(tmp_path: Path) -> None:
    archive(tmp_path)
    (detail,) = read_pnnx(write(tmp_path, NET)).details
    assert detail.nbytes == 432 + 16 + 2560
    archive(tmp_path, **{"conv.bias": 20})
    with pytest.raises(FormatError, match=r"conv\.bias"):
        read_pnnx(write(tmp_path, NET))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7767517\n",
        "7767517\n3 3\npnnx.Input in 0 1 0 #0=(1,4)f32\n",
        rows("pnnx.Input in 0 1 0 #0=(1,-4)f32"),
        rows("pnnx.Input in 0 1 0 #0=(1,4)f99"),
        rows("pnnx.Input in 0 1 0 #0=1,4"),
        rows("pnnx.Input in 0 1 0 word"),
        rows("F.relu a 1 1 1 0", "F.relu b 1 1 0 1"),
        rows("pnnx.Attribute a 0 1 0 @data=(?)f32 #0=(1,4)f32"),
        rows("pnnx.Input in 0 1 0 #0=(" + "1," * 100 + "1)f32"),
    ],
)
def test_faults(text: str, tmp_path: Path) -> None:
    with pytest.raises(PeakmemError, match=r"net\.pnnx\.param"):
        read_pnnx(write(tmp_path, text))


def test_against_pnnx(tmp_path: Path) -> None:
    """A network exported by pnnx: shapes and parameters against those of the module itself."""
    torch = pytest.importorskip("torch")
    pnnx = pytest.importorskip("pnnx")

    class Net(torch.nn.Module):  # type: ignore[misc,name-defined] - torch is optional
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 6, 3, padding=1)
            self.gru = torch.nn.GRU(6, 5, batch_first=True)
            self.head = torch.nn.Linear(5, 4)

        def forward(self, x: object) -> object:
            y = torch.nn.functional.max_pool2d(self.conv(x), 2).flatten(2).transpose(1, 2)
            return self.head(self.gru(y)[0])

    net = Net().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's, on tracing
        pnnx.export(net, str(tmp_path / "net.pt"), torch.rand(1, 3, 8, 8))
    graph = bound(read_pnnx(tmp_path / "net.pnnx.param"))
    assert graph.unknowns == ()
    assert graph.tensors[graph.outputs[0]].shape == tuple(net(torch.rand(1, 3, 8, 8)).shape)
    assert parameters(graph).trainable == sum(parameter.numel() for parameter in net.parameters())
    from peakmem.frontends.ncnn.reader import read_ncnn

    ncnn_graph = bound(read_ncnn(tmp_path / "net.ncnn.param"), shapes={"in0": (3, 8, 8)})
    assert ncnn_graph.tensors["out0"].shape == (16, 4)
    assert [detail.name for detail in ncnn_graph.details] == [".bin file"]


def test_an_ncnn_file_is_no_pnnx_file(tmp_path: Path) -> None:
    ncnn = rows("Input in0 0 1 a 0=8 1=8 2=3", "ReLU act 1 1 a b")
    with pytest.raises(FormatError, match="this is an ncnn param file"):
        peakmem.estimate(write(tmp_path, ncnn), form="pnnx")
