"""`peakmem.train`: routes, figures worked out by hand, what-ifs, closed forms, refusals."""

from __future__ import annotations

import json

import pytest

import peakmem
from peakmem import producing
from peakmem.errors import MissingLibrary, UsageError
from peakmem.report.codec import from_json, schema
from peakmem.report.training import Training
from peakmem.training.scenario import Optimizer, Scenario

WEIGHTS = 1000 * 1000 * 4
# of the linear layer below


def without_torch(monkeypatch):
    """As if torch were not installed."""
    monkeypatch.setattr(producing, "find_spec", lambda _: None)


@pytest.fixture
def linear():
    """A factory: one linear layer without bias, 1000 × 1000, on a batch of 10."""
    torch = pytest.importorskip("torch")

    def make():
        net = torch.nn.Linear(1000, 1000, bias=False)
        return net, (lambda result: result.sum()), torch.zeros(10, 1000)

    return make


def adam(**changes):
    """Adam, one kernel a step."""
    return Scenario(optimizer=Optimizer("adam", "fused"), **changes)


def test_a_linear_layer_by_hand(linear):
    """Weights 4 MB, as much gradient, twice as much state and a counter of 4 B; input and output 40 kB each.

    The gradient of the output is one number seen 10,000 times; a product may make a third 40 kB of it.
    """
    report = peakmem.train(linear, scenario=adam())
    shares = {one.category: one.nbytes for one in report.shares}
    assert shares["parameter"] == report.parameter_bytes == WEIGHTS
    assert shares["gradient"] == WEIGHTS
    assert shares["optimizer state"] == 2 * WEIGHTS + 4
    assert shares["input"] == 40_000
    assert 0 <= report.peak_bytes - 4 * WEIGHTS - 40_004 <= 2 * 40_000 + 4 * 4
    assert (report.route, report.device, report.steps, report.batch) == ("trace", "cpu", 2, 10)
    assert report.optimizer == "adam (fused)"


def test_everything_sums_to_the_peak(linear):
    report = peakmem.train(linear, scenario=adam())
    for parts in (report.shares, report.modules, report.held):
        assert sum(one.nbytes for one in parts) == report.peak_bytes
    assert sum(report.peak.categories.values()) == report.peak_bytes == max(one.nbytes for one in report.phases)
    assert report.bound_bytes >= report.peak_bytes
    assert [one.step for one in report.left] == [-1, 0, 1]


def test_what_one_step_leaves_to_the_next(linear):
    kept = peakmem.train(linear, scenario=adam()).left[-1].categories
    assert kept["parameter"] == kept["gradient"] == WEIGHTS
    assert kept["optimizer state"] == 2 * WEIGHTS + 4


def test_what_ifs_stand_beside_it(linear):
    report = peakmem.train(linear, scenario=adam(), what_if=["sgd", "lora=4"])
    sgd, lora, both = report.changes
    assert (sgd.outcome, sgd.before_bytes - sgd.after_bytes) == ("predicted", 2 * WEIGHTS + 4)
    assert lora.name == "lora=4"
    assert both.name == "sgd+lora=4"


def test_closed_forms_stand_beside_it(linear):
    """accelerate: four times the model in float32; 4w and feature maps: 16 MB and the output of 40 kB."""
    forms = {form.name: form for form in peakmem.train(linear, scenario=adam()).forms}
    assert forms["accelerate"].nbytes == 4 * WEIGHTS
    assert 4 * WEIGHTS <= forms["adam-4w"].nbytes <= 4 * WEIGHTS + 40_000 + 4 * 4
    assert forms["accelerate"].ratio == pytest.approx(1.0, abs=0.01)


def test_transformers_have_closed_forms_of_their_own():
    """sbh(34 + 5as/h) a layer (Korthikanti et al. 2022): 12 layers, 64 tokens of 768 features, 12 heads."""
    pytest.importorskip("torch")
    report = peakmem.train("gpt2_small", scenario=Scenario(batch=1, sequence=64, steps=1))
    forms = {form.name: form for form in report.forms}
    layer = 64 * 768 * (34 + 5 * 12 * 64 / 768)
    parts = {line.title: line.nbytes for line in forms["transformer-math"].lines}
    assert parts["activations"] == 12 * layer
    assert "megatron" in forms


def test_the_step_of_ones_own_keeps_its_optimizer():
    torch = pytest.importorskip("torch")

    def make_step():
        net = torch.nn.Linear(1000, 1000, bias=False)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        batch = torch.zeros(10, 1000)

        def step():
            optimizer.zero_grad()
            net(batch).sum().backward()
            optimizer.step()

        return step

    report = peakmem.train(make_step, what_if=["adam", "fused"])
    assert report.optimizer == "momentum (single)"
    assert report.batch == 0
    state = next(one.nbytes for one in report.shares if one.category == "optimizer state")
    assert state == WEIGHTS
    other, fused, _ = report.changes
    assert other.after_bytes - other.before_bytes >= WEIGHTS
    assert fused.outcome == "predicted"


def test_a_step_without_backward_says_so():
    torch = pytest.importorskip("torch")

    def make_step():
        net = torch.nn.Linear(10, 10)

        def step():
            with torch.no_grad():
                return net(torch.zeros(1, 10))

        return step

    assert "no backward ran in any of the steps: nothing is trained" in peakmem.train(make_step).notes


def test_a_step_that_raises_is_refused():
    pytest.importorskip("torch")

    def make_step():
        def step():
            raise RuntimeError("no data")

        return step

    with pytest.raises(UsageError, match="no data"):
        peakmem.train(make_step)


def test_a_network_without_parameters_is_refused():
    torch = pytest.importorskip("torch")
    with pytest.raises(UsageError, match="no parameter"):
        peakmem.train(torch.nn.ReLU(), inputs=[(4, 4)])


def test_a_step_that_ends_the_program_is_refused():
    pytest.importorskip("torch")

    def make_step():
        raise SystemExit(3)

    with pytest.raises(UsageError, match=r"SystemExit\(3\)"):
        peakmem.train(make_step)


def test_a_step_on_another_device_is_refused():
    pytest.importorskip("torch")
    with pytest.raises(UsageError, match="makes no tensor on device cpu"):
        peakmem.train(lambda: 5)


def test_several_optimizers_are_not_called_by_the_name_of_one():
    torch = pytest.importorskip("torch")

    def make_step():
        nets = [torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)]
        both = [torch.optim.Adam(nets[0].parameters()), torch.optim.SGD(nets[1].parameters(), lr=0.1)]

        def step():
            nets[1](nets[0](torch.zeros(1, 8))).sum().backward()
            for optimizer in both:
                optimizer.step()
                optimizer.zero_grad()

        return step

    assert peakmem.train(make_step).optimizer == "the step's own optimizer"


def test_where_cuda_cannot_be_traced_the_answer_says_so(linear, monkeypatch):
    pytest.importorskip("torch")
    from peakmem.training.tracing import cuda

    monkeypatch.setattr(cuda, "available", lambda: "no driver")
    report = peakmem.train(linear, scenario=Scenario(device="cuda", optimizer=Optimizer("adam")), capacity=1 << 40)
    assert report.device == "cpu"
    assert any("cannot be traced here: no driver" in note for note in report.notes)
    assert any("masks of dropout" in note for note in report.notes)
    assert report.optimizer == "adam (foreach)"
    assert (report.bound_bytes, report.verdict.outcome) == (None, "may fit")
    assert report.reserved is not None


@pytest.mark.parametrize(
    ("source", "keywords", "said"),
    [
        ("mobilenet_v2", {"route": "fast"}, "--route trace"),
        ("mobilenet_v2", {"capacity": 0}, "1 B or more"),
        ("mobilenet_v2", {"capacity": "h20"}, "--device h200"),
        ("mobilenet_v2", {"conf": "expandable_segments:True"}, "--device cuda"),
        ("mobilenet_v2", {"inputs": ["1x3x224x224"]}, "inputs are for live models"),
        ("mobilenet_v2", {"scenario": Scenario(batch=0)}, "--batch 1"),
        ("mobilenet_v2", {"scenario": Scenario(steps=0)}, "1 or more"),
        ("mobilenet_v2", {"route": "graph", "what_if": ["recomput"]}, "--what-if recompute"),
        ("no_such_module:make", {"route": "graph"}, "has no graph"),
    ],
)
def test_bad_input_is_refused_with_what_to_type(source, keywords, said):
    with pytest.raises(UsageError, match=said):
        peakmem.train(source, **keywords)


# -- from the graph, without torch -------------------------------------------------------


def graph(name="mobilenet_v2", **keywords):
    """From the graph, batch 2."""
    return peakmem.train(name, scenario=keywords.pop("scenario", adam(batch=2)), route="graph", **keywords)


def test_without_torch_a_built_in_network_goes_by_its_graph(monkeypatch):
    without_torch(monkeypatch)
    report = peakmem.train("mobilenet_v2", scenario=adam(batch=2))
    assert (report.route, report.batch, report.kind) == ("graph", 2, "estimate")
    assert any("torch is not installed" in note for note in report.notes)
    assert report.parameter_bytes == 3_504_872 * 4  # Sandler et al. 2018, torchvision's count


def test_without_torch_code_cannot_be_traced(monkeypatch):
    without_torch(monkeypatch)
    with pytest.raises(MissingLibrary, match="torch"):
        peakmem.train("package.module:make")
    with pytest.raises(MissingLibrary, match="torch"):
        peakmem.train("mobilenet_v2", route="trace")


def test_a_graph_has_no_upper_bound():
    report = graph(capacity=1 << 40)
    assert report.bound_bytes is None
    assert report.verdict is not None
    assert (report.verdict.outcome, report.verdict.bound_bytes, report.fits) == ("may fit", None, False)
    assert graph(capacity=1 << 20).verdict.outcome == "does not fit"


def test_on_a_card_three_steps_are_made_and_the_allocator_is_simulated():
    report = graph(scenario=adam(batch=2, device="cuda"), capacity="t4", conf="expandable_segments:True")
    assert report.steps == 3
    assert report.card == "t4"
    assert report.reserved is not None
    assert report.reserved.settings == "expandable_segments:True"
    assert report.reserved.requested_bytes == report.peak_bytes
    assert report.reserved.requested_bytes <= report.reserved.allocated_bytes <= report.reserved.reserved_bytes


def test_terabytes_cost_nothing():
    report = graph(scenario=adam(batch=100_000), capacity=1 << 30)
    assert report.peak_bytes > 5e12
    assert report.verdict.outcome == "does not fit"


def test_the_report_goes_to_json_and_back():
    jsonschema = pytest.importorskip("jsonschema")
    report = graph(capacity="v100-16gb", scenario=adam(batch=2, device="cuda"), what_if=["sgd"])
    text = report.to_json()
    jsonschema.validate(json.loads(text), schema("training"))
    assert from_json(text, Training) == report
