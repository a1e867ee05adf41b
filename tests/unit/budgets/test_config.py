"""A file of budgets: what it says, and what is wrong with it, always with its line."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from peakmem.budgets.config import read_config
from peakmem.budgets.file import find_config
from peakmem.budgets.selection import selected
from peakmem.errors import UsageError
from peakmem.toml import lines

ONE = '[model.a]\nsource = "mobilenet_v2"\n'
# two lines; what is wrong stands from line 3 on
BASE = 'baseline = "b.json"\n'


def test_everything_a_file_may_say(budgets):
    path = budgets(
        """
baseline = "stored.json"

[defaults]
batch = 1
growth = "2 %"

[model.small]
source = "mobilenet_v2"
dtype = "int8"
peak = "1.5 MiB"
parameters = "3.6 M"
fits = ["stm32f746", "iphone-11"]
growth = { peak = "1 %", weights = "64 KiB", parameters = 0 }

[model.small.device.nano]
engine = "tflm"
arena = "200 kB"
fits = false

[model."step one"]
source = "resnet18"
train = { optimizer = { name = "sgd", momentum = 0.9 }, batch = 8, device = "v100-16gb", lora = 4 }
reserved = "3 GiB"
step_peak = "2 GiB"
"""
    )
    config = read_config(path)
    assert config.baseline == path.parent / "stored.json"
    small, nano, step = config.cases
    assert [case.name for case in config.cases] == ["small", "small@nano", "step one"]
    assert {one.quantity: (one.allowed, one.line) for one in small.budgets} == {
        "peak": (1_572_864, 11), "parameters": (3_600_000, 12),
    }  # fmt: skip
    assert [(one.device, one.line) for one in small.fits] == [("stm32f746", 13), ("iphone-11", 13)]
    assert [(one.quantity, one.growth.written, one.line) for one in small.growths] == [
        ("peak", "1 %", 14), ("weights", "64 KiB", 14), ("parameters", "0", 14),
    ]  # fmt: skip
    assert small.configuration == {"source": "mobilenet_v2", "batch": 1, "dtype": "int8"}
    assert (nano.options.engine, nano.options.dtype, nano.options.batch) == ("tflm", "", 1)
    assert [(one.quantity, one.allowed) for one in nano.budgets] == [("arena", 200_000)]
    assert (nano.fits, nano.growths) == ((), ())
    assert [one.line for one in step.growths] == [6]
    training = step.options.train
    assert training is not None
    assert (training.device, training.scenario.device, training.scenario.batch) == ("v100-16gb", "cuda", 8)
    assert (training.scenario.optimizer.name, training.scenario.optimizer.options) == ("sgd", (("momentum", 0.9),))
    assert training.scenario.lora.rank == 4


@pytest.mark.parametrize(
    ("allowed", "before", "expected"), [("2 %", 1000, 1020), ("2 %", 49, 49), ("0 %", 7, 7), ("1 KiB", 10, 1034)]
)
def test_growth_is_exact(allowed, before, expected):
    """Shares round down: 2 % of 49 bytes is less than one byte."""
    from peakmem.budgets.sizes import read_growth

    assert read_growth(allowed, "here").allowed(before) == expected


FAULTS = {
    # text from line 3 on: (line, part of the message)
    'peak = "2 MB/s"': (3, "'2 MB/s' is not a size"),
    'peak = "2"': (3, "a size without its unit: 2"),
    "peak = 4194304": (3, '"4.00 MiB" or "4194304 B"'),
    "peak = 2.5": (3, "2.5 is no size"),
    "peak = true": (3, "true is no size"),
    'peak = "-2 MiB"': (3, "a budget below 0"),
    'peak = "0 MiB"': (3, "a budget of 0 B"),
    'peak = "2 M"': (3, "'2 M' is not a size"),
    'peek = "2 MiB"': (3, "'peek' is no option and no budget of a model (expected 'peak'?)"),
    'wieghts = "2 MiB"': (3, "'weights'?"),
    "parameters = 0": (3, "a budget of 0"),
    "parameters = -5": (3, "a budget of -5"),
    'parameters = "many"': (3, "'many' is no count"),
    'parameters = "1.5"': (3, "is no count"),
    "batch = 0": (3, "batch = 0"),
    'batch = "one"': (3, "batch = one"),
    'batch = 1\nshape = "1x3xx4"': (4, "is no list of whole numbers"),
    'shape = { input = [1, "3"] }': (3, "the shape of 'input'"),
    "dim = { height = 0 }": (3, "height = 0"),
    'dtype = "int3"': (3, "int3"),
    'assume = "fusd"': (3, "fusd"),
    'engine = "ncn"': (3, "'ncn' is no engine that is predicted (expected 'ncnn'?)"),
    'engine = "ncnn"\ndtype = "int8"': (4, "dtype is for the estimate of the graph"),
    "set = { lightmode = true }": (3, "'set' is for engines"),
    'processor = "arch=aarch64"': (3, "'processor' is for engines"),
    'engine = "ncnn"\narena = "1 MiB"': (4, "engine = 'ncnn' has none that is predicted"),
    'step_peak = "1 GiB"': (3, "step_peak is of a training step, and none is named"),
    'train = { batch = 2 }\nreserved = "1 GiB"': (4, "reserved is of torch's CUDA allocator"),
    'train = { optimiser = "adam" }': (3, "'optimizer'?"),
    'train = { optimizer = "adamm" }': (3, "'adamm' is no optimizer (expected 'adam'?)"),
    'train = { precision = "amp" }': (3, "'amp' is no precision"),
    'train = true\nengine = "ncnn"': (3, "a model is trained or run"),
    'peak = "3 MiB"\nresident = "2 MiB"': (3, "peak = '3 MiB' allows more than resident = '2 MiB' in line 4"),
    'resident = "2 MiB"\nweights = "3 MiB"': (4, "weights = '3 MiB' allows more than resident = '2 MiB' in line 3"),
    'growth = "2 %"': (3, "growth without a baseline"),
    'peak = "1 MiB"\n[model.a.device.x]\npeak = "2 MiB"\nfits = false': (5, "peak of 'a@x' has two budgets"),
    'peak = "1 MiB"\n[model.b]\nsource = "mobilenet_v2"\npeak = "2 MiB"': (6, "'1 MiB' for 'a' in line 3"),
    "[model.a.device.x]\nfits = 3": (4, "a device fits or need not"),
    '[model.a.device.x]\nsource = "b"': (4, "'source' is of the model"),
    '[model.b]\npeak = "1 MiB"': (3, "model 'b' has no source"),
    '[model.b]\nsource = 3': (4, "'source' is no text"),
    '[model.b]\nsource = ""': (4, "'source' is no text"),
    '[model."b@c"]\nsource = "x"': (3, "a model cannot be called 'b@c'"),
    '[modle.b]\nsource = "x"': (3, "'modle' is no key of a budget file (expected 'model'?)"),
    '[defaults]\nsource = "x"': (4, "'source' is no default"),
    '[defaults]\npeek = "1 MiB"': (4, "'peak'?"),
    'fits = ["stm32f746", "stm32f7466"]': (3, "no device is called 'stm32f7466'"),
    "[model.a.device.stm32f7466]": (3, "no device is called 'stm32f7466'"),
    'train = { device = "stm32f746" }': (3, "PyTorch trains nothing on"),
    'train = { device = "toaster" }': (3, "no device is called 'toaster'"),
    'files = ["a\\u0000"]': (3, "'files' is no text that can be typed"),
    'peak = "9000 PiB"': (3, "less than 8,192 PiB"),
    "parameters = 9223372036854775808": (3, "at most 9,223,372,036,854,775,807"),
    'fits = [1]': (3, "'fits' is no list of texts"),
    '[model.a]\npeak = "1 MiB"': (3, "two models are called 'a'"),
    'peak = "1 MiB': (3, "not TOML"),
    'peak = "1 MiB"\npeak = "2 MiB"': (4, "a key stands twice, with two values"),
}  # fmt: skip


@pytest.mark.parametrize("text", FAULTS)
def test_what_is_wrong_is_told_with_its_line(budgets, text):
    line, said = FAULTS[text]
    with pytest.raises(UsageError) as fault:
        read_config(budgets(ONE + text))
    assert said in str(fault.value)
    assert f"peakmem.toml, line {line}" in str(fault.value)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ('growth = "2"', 4, "a growth without its unit"),
        ("growth = 2", 4, "a growth without its unit: 2"),
        ('growth = "-2 %"', 4, "a growth below 0"),
        ('growth = "2 parsec"', 4, "'2 parsec' is no growth"),
        ('growth = { peek = "2 %" }', 4, "'peek' is no quantity (expected 'peak'?)"),
        ('growth = { parameters = "1 KiB" }', 4, "is no count"),
    ],
)
def test_a_growth_that_is_none(budgets, text, line, said):
    with pytest.raises(UsageError) as fault:
        read_config(budgets(BASE + ONE + text))
    assert said in str(fault.value)
    assert f"line {line}" in str(fault.value)


def test_a_budget_of_a_device_beside_one_of_the_model_is_fine_where_options_differ(budgets):
    text = ONE + 'peak = "8 MiB"\n[model.a.device.x]\ndtype = "int8"\npeak = "2 MiB"\nfits = false\n'
    assert [case.name for case in read_config(budgets(text)).cases] == ["a", "a@x"]


@pytest.mark.parametrize("text", ["", "[defaults]\nbatch = 1\n", "[model]\n"])
def test_a_file_without_a_model(budgets, text):
    with pytest.raises(UsageError, match="no model is named"):
        read_config(budgets(text))


def test_models_without_a_name(budgets):
    with pytest.raises(UsageError, match=r"models are tables with a name .*\[model\.NAME\]"):
        read_config(budgets('[[model]]\nname = "a"\n'))


def test_what_is_no_text_and_what_is_not_there(budgets, tmp_path):
    path = budgets("")
    path.write_bytes(b"[model.a]\nsource = '\xff'\n")
    with pytest.raises(UsageError, match="line 2: not UTF-8"):
        read_config(path)
    with pytest.raises(UsageError, match="is no file"):
        read_config(tmp_path / "gone.toml")
    with pytest.raises(UsageError, match="is a folder"):
        read_config(tmp_path)


def test_the_file_is_found_from_a_folder_below(budgets, tmp_path, monkeypatch):
    budgets(ONE)
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    assert find_config().resolve() == (tmp_path / "peakmem.toml").resolve()


def test_pyproject_serves_where_it_has_budgets(budgets, tmp_path):
    path = budgets('[project]\nname = "x"\n\n[tool.peakmem.model.a]\nsource = "mobilenet_v2"\npeek = "1 MiB"\n',
                   "pyproject.toml")  # fmt: skip
    assert find_config() == Path("pyproject.toml")
    with pytest.raises(UsageError, match=r"pyproject\.toml, line 6: 'peek'"):
        read_config(path)
    (tmp_path / "peakmem.toml").write_text(ONE)
    assert find_config() == Path("peakmem.toml")


def test_no_file_at_all_says_what_to_write(budgets):
    budgets('[project]\nname = "x"\n', "pyproject.toml")
    with pytest.raises(UsageError, match=r"there is no peakmem\.toml .*\[model\.NAME\]"):
        find_config()


def test_a_pattern_finds_files_and_spares_those_with_a_table_of_their_own(budgets, tmp_path):
    for name in ("a.onnx", "b.onnx", "sub/c.onnx"):
        (tmp_path / "m" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "m" / name).write_bytes(b"")
    config = read_config(
        budgets(
            '[model.all]\nsource = "m/**/*.onnx"\npeak = "1 MiB"\n'
            '[model.b]\nsource = "m/b.onnx"\npeak = "2 MiB"\n[model.none]\nsource = "n/*.onnx"\npeak = "1 MiB"\n'
        )
    )
    assert [case.name for case in config.cases] == ["all/m/a.onnx", "all/m/sub/c.onnx", "b", "none"]
    assert "no file is like 'n/*.onnx'" in config.cases[-1].fault
    assert [case.name for case in selected(config, ["all"], [])] == ["all/m/a.onnx", "all/m/sub/c.onnx"]
    assert [case.name for case in selected(config, ["b", "*c.onnx"], [])] == ["all/m/sub/c.onnx", "b"]
    assert [case.name for case in selected(config, [], ["m/a.onnx"])] == ["all/m/a.onnx"]
    assert len(selected(config, [], ["peakmem.toml"])) == 4
    assert selected(config, [], ["README.md"]) == ()
    with pytest.raises(UsageError, match="'bb' is no model"):
        selected(config, ["bb"], [])


def test_lines_of_every_kind_of_key():
    """Each path is looked up in what tomllib reads from the same text, so that none is made up."""
    text = '''
a = 1 # b = 2
"b c" = { d = [1, { e = 2 }], "f" = "g = 3" }
h.i = """
j = 4
"""
[k."l.m"]
n = [
  "o = 5",
]
[[p]]
q = 'r'
[[p]]
q = 1.5e3
s = 2020-01-01T00:00:00
'''
    found = lines(text)
    assert {path: line for path, line in found.items() if len(path) > 1} == {
        ("b c", "d"): 3, ("b c", "d", "1"): 3, ("b c", "d", "1", "e"): 3, ("b c", "f"): 3, ("h", "i"): 4,
        ("k", "l.m"): 7, ("k", "l.m", "n"): 8, ("p", "0"): 11, ("p", "0", "q"): 12, ("p", "1"): 13,
        ("p", "1", "q"): 14, ("p", "1", "s"): 15,
    }  # fmt: skip
    data = tomllib.loads(text)
    assert {path[0] for path in found} == set(data)


def test_a_table_below_one_of_a_list_has_its_number():
    text = "[[a]]\nx = 1\n[[a]]\ny = 2\n[a.b]\nz = 3\n"
    assert lines(text)["a", "1", "b", "z"] == 6
