"""Names, options and specs: what is accepted, what is refused, and what the refusal suggests."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peakmem.errors import UsageError
from peakmem.ir.dims import Symbol
from peakmem.zoo import NETWORKS, Network, build, parse_spec, spec


def test_importing_the_zoo_imports_no_network() -> None:
    code = (
        "import sys, peakmem.zoo\n"
        "print([name for name in sys.modules if name in ('numpy', 'onnx', 'torch', 'peakmem.ir.builder')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("network", NETWORKS.values(), ids=lambda network: network.name)
def test_entries_are_complete(network: Network) -> None:
    assert network.title
    assert ", 19" in network.source or ", 20" in network.source or " 2012" in network.source
    assert len({option.name for option in network.options}) == len(network.options)
    for option in network.options:
        assert type(option.low) is type(option.high) is type(option.default)
        assert option.low <= option.default <= option.high
        assert option.meaning


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("resnet50", "resnet50", {}),
        ("mobilenet_v1:width=0.5,classes=10", "mobilenet_v1", {"width": 0.5, "classes": 10}),
        (" mobilenet_v2 : width = 1 , resolution = 192 ", "mobilenet_v2", {"width": 1.0, "resolution": 192}),
        ("shufflenet_v2:width=2", "shufflenet_v2", {"width": 2.0}),
    ],
)
def test_specs_are_read(text: str, name: str, options: dict[str, Any]) -> None:
    assert parse_spec(text) == (name, options)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("resnet51", "Try: resnet50"),
        ("mobilenet-v2", "Try: mobilenet_v2"),
        ("MobileNet_V2", "Try: mobilenet_v2"),
        ("nothing like it", "one of alexnet, alexnet_2012"),
        ("", "the zoo has no network ''"),
        ("resnet50:", "expected option=value"),
        ("resnet50:classes", "expected option=value"),
        ("resnet50:classes=", "expected option=value"),
        ("resnet50:clases=10", "Try: resnet50:classes=1000"),
        ("resnet50:width=2", "one of classes, resolution"),
        ("vgg16:resolution=192", "vgg16 has no option 'resolution'"),
        ("resnet50:classes=ten", "cannot be 'ten'"),
        ("resnet50:classes=10.5", "an integer from 1"),
        ("resnet50:classes=0", "cannot be 0"),
        ("resnet50:classes=-3", "cannot be -3"),
        ("resnet50:classes=1,classes=2", "given twice"),
        ("resnet50:resolution=1000000", "to 16384"),
        ("mobilenet_v1:width=0", "a number from 0.01"),
        ("mobilenet_v1:width=-1", "cannot be -1.0"),
        ("mobilenet_v1:width=nan", "cannot be nan"),
        ("mobilenet_v1:width=inf", "cannot be inf"),
        ("mobilenet_v1:width=1e400", "cannot be inf"),
        ("shufflenet_v2:width=0.75", "one of 0.5, 1.0, 1.5, 2.0"),
    ],
)
def test_specs_are_refused_with_a_way_out(text: str, part: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_spec(text)
    assert part in str(caught.value)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    for spelled in (text, f"mobilenet_v1:{text}", f"gpt2_small:context={text}"):
        try:
            name, options = parse_spec(spelled)
        except UsageError:
            continue
        assert parse_spec(spec(name, options))[0] == name


@pytest.mark.parametrize(
    ("name", "options", "part"),
    [
        ("unet", {"resolution": 512}, "16n + 12"),
        ("unet_256", {"resolution": 250}, "Try: resolution=240"),
        ("vit_s16", {"resolution": 200}, "Try: resolution=192"),
        ("gpt2_small", {"context": 2048}, "Try: context=2048,positions=2048"),
        ("gpt2_small", {"heads": 7}, "do not split into 7 heads"),
        ("squeezenet1_1", {"resolution": 2}, "cannot be built"),
        ("resnet18", {"classes": 2.0}, "an integer"),
        ("resnet18", {"classes": True}, "an integer"),
    ],
)
def test_values_that_do_not_go_together_are_refused(name: str, options: dict[str, Any], part: str) -> None:
    with pytest.raises(UsageError) as caught:
        build(name, **options)
    assert part in str(caught.value)


@pytest.mark.parametrize("batch", [0, -1, True, 2**40])
def test_a_batch_that_cannot_be_is_refused(batch: int) -> None:
    with pytest.raises(UsageError):
        build("alexnet", batch=batch)


def test_a_graph_is_named_by_its_spec() -> None:
    assert build("alexnet", batch=Symbol("n")).name == "alexnet"
    graph = build("mobilenet_v2", width=0.35, classes=1000, resolution=96)
    assert graph.name == "mobilenet_v2:width=0.35,resolution=96"
    assert parse_spec(graph.name) == ("mobilenet_v2", {"width": 0.35, "resolution": 96})


@pytest.mark.parametrize("name", sorted(name for name, network in NETWORKS.items() if network.option("resolution")))
def test_the_smallest_resolution_builds_or_is_refused(name: str) -> None:
    option = NETWORKS[name].option("resolution")
    assert option is not None
    try:
        graph = build(name, resolution=option.low)
    except UsageError:
        return
    assert graph.tensors[graph.outputs[0]].count
