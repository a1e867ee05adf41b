"""A pytest plugin: budgets of memory in tests. It imports nothing that estimates until a test asks.

    @pytest.mark.peak_memory("2 MiB", model="models/kws.onnx", engine="tflm", quantity="arena")
    def test_kws_fits(): ...

    @pytest.mark.peak_memory("2 MiB", batch=1)
    def test_network(peakmem_model): ...          # a fixture of the suite that returns a model

    def test_network(peak_memory):
        peak_memory(Network(), inputs=[(1, 3, 224, 224)]).under("2 MiB")

`docs/guides/ci.md` explains it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from peakmem.budgets.held import Held

MARKER = "peak_memory"
MODEL = "peakmem_model"
# the fixture of the suite that gives the model of a marker
LINE = (
    'peak_memory(budget, model=…, quantity="peak", **options): the model needs at most so much memory; without model= '
    "the fixture peakmem_model gives it, or every call of the fixture peak_memory (peakmem)"
)
_ASKED: pytest.StashKey[list[str]] = pytest.StashKey()
# models that the test looked at


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, so that --strict-markers takes it."""
    config.addinivalue_line("markers", LINE)


def _fails(message: str) -> None:
    """The test fails with this message and no traceback of ours."""
    __tracebackhide__ = True
    pytest.fail(message, pytrace=False)


def _marks(item: pytest.Item) -> Iterator[tuple[object, dict[str, Any]]]:
    """(budget, options) of each marker, the nearest one of those that differ in their budget alone."""
    seen: set[tuple[tuple[str, str], ...]] = set()
    for mark in item.iter_markers(MARKER):
        options = dict(mark.kwargs)
        given = [*mark.args, *([options.pop("budget")] if "budget" in options else [])]
        if len(given) != 1:
            _fails(f'peak_memory takes one budget, {len(given)} given: peak_memory("2 MiB", model=…)')
        asked = tuple(sorted((name, repr(value)) for name, value in options.items()))
        if asked not in seen:
            seen.add(asked)
            yield given[0], options


def _look(model: object, options: Mapping[str, Any]) -> Held:
    """What the model needs; a question that cannot be answered fails the test."""
    from peakmem.budgets.held import look
    from peakmem.errors import PeakmemError

    try:
        return look(model, **options)
    except PeakmemError as fault:
        said = _said(fault)
    return pytest.fail(said, pytrace=False)


def _said(fault: Exception) -> str:
    """A fault with what asked in front, once."""
    return f"peak_memory: {str(fault).removeprefix('peak_memory: ')}"


def _hold(held: Held, budget: object) -> None:
    """Fail where the budget is broken, or cannot be said to hold."""
    from peakmem.errors import PeakmemError

    try:
        message = held.message(budget)
    except PeakmemError as fault:
        message = _said(fault)
    if message:
        _fails(message)


class Answer:
    """What a model needs, in a test."""

    def __init__(self, held: Held) -> None:
        self.held = held

    @property
    def nbytes(self) -> int:
        """The quantity that was asked for, in bytes (parameters: a count)."""
        return self.held.value.value

    def __int__(self) -> int:
        return self.nbytes

    def under(self, budget: str | int) -> Answer:
        """Fail the test where it needs more than `budget`, or where that cannot be told.

        Returns:
            The answer, so that several budgets can follow.
        """
        __tracebackhide__ = True
        _hold(self.held, budget)
        return self

    def __repr__(self) -> str:
        return f"<{self.held.said}>"


@pytest.fixture
def peak_memory(request: pytest.FixtureRequest) -> Callable[..., Answer]:
    """What a model needs: `peak_memory("model.onnx", batch=1).under("2 MiB")`.

    It takes a model file, a built-in network, package.module:factory, a live PyTorch or Keras model or a Graph, and
    the options of the marker: quantity, engine, batch, shapes, dims, inputs, dtype, assume, settings. Markers of the
    test that name no model hold for each call.
    """
    item = request.node

    def ask(model: object, **options: Any) -> Answer:
        __tracebackhide__ = True
        item.stash.setdefault(_ASKED, []).append(str(model)[:200])
        for budget, of_mark in _marks(item):
            if "model" not in of_mark:
                _hold(_look(model, {**of_mark, **options}), budget)
        return Answer(_look(model, options))

    return ask


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Hold the markers' budgets before the test's own lines run; a marker that no model was found for fails."""
    open_ = False
    given = getattr(item, "funcargs", {})
    for budget, options in _marks(item):
        if "model" in options:
            asked = {name: value for name, value in options.items() if name != "model"}
            _hold(_look(options["model"], asked), budget)
        elif MODEL in given:
            _hold(_look(given[MODEL], options), budget)
        else:
            open_ = True
    result = yield
    if open_ and not item.stash.get(_ASKED, []):
        _fails(
            f'peak_memory has a budget and no model: name it, peak_memory("2 MiB", model="model.onnx"), take the '
            f"fixture {MODEL}, or call the fixture peak_memory"
        )
    return result
