"""Code that asks for the content of tensors: what it is answered, and what is said where nobody declared anything."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402

from peakmem.errors import UsageError  # noqa: E402
from peakmem.training.tracing import content, refusals  # noqa: E402
from peakmem.training.tracing.undecided import Undecided  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
nn = torch.nn


def asked(function: Callable[[], Any], *values: tuple[str, object]) -> Any:
    with FakeTensorMode(allow_non_fake_inputs=True), content.answers(values):
        return function()


def x(*shape: int) -> Any:
    return torch.empty(shape, requires_grad=True)


# Each asks for content; what is said of it, and the shape or value with one quarter declared.
READS: dict[str, tuple[Callable[[], Any], str, Any]] = {
    "item of a count": (lambda: torch.ones(3, dtype=torch.int64).sum().item(), "its value", 0),
    "if": (lambda: bool(x(3).sum() > 0), "its value", True),
    "int": (lambda: int(x(3).sum()), "its value", 0),
    "float": (lambda: float(x(3).sum()), "its value", 0.25),
    "compared loss": (lambda: x(3).sum().item() > 0, "decides how the step goes on", True),
    "tolist": (lambda: x(3).detach().tolist(), "its 3 values", [0.25, 0.25, 0.25]),
    "numpy": (lambda: x(2, 3).detach().numpy().shape, "its 6 values", (2, 3)),
    "nonzero": (lambda: (x(4, 5) > 0).nonzero().shape, "how many elements are true", (5, 2)),
    "where": (lambda: torch.where(x(4, 5) > 0)[1].shape, "how many elements are true", (5,)),
    "mask": (lambda: x(4, 5)[x(4, 5) > 0].shape, "how many elements of the mask", (5,)),
    "mask of rows": (lambda: x(4, 5)[x(4) > 0].shape, "how many elements of the mask", (1, 5)),
    "masked_select": (lambda: x(4, 5).masked_select(x(4, 5) > 0).shape, "how many elements of the mask", (5,)),
    "unique": (lambda: torch.unique(x(4, 5), return_inverse=True)[1].shape, "how many elements are distinct", (4, 5)),
    "repeats": (lambda: torch.repeat_interleave(x(8), torch.ones(8, dtype=torch.int64)).shape, "repeats sum to", (2,)),
    "bincount": (lambda: torch.bincount(torch.ones(8, dtype=torch.int64), minlength=4).shape, "the largest", (4,)),
    "equal": (lambda: torch.equal(x(3), x(3)), "its value", True),
    "close": (lambda: torch.allclose(x(3), x(3)), "its value", True),
    "range": (lambda: len(range(torch.ones(3, dtype=torch.int64).sum())), "its value", 0),
}


@pytest.mark.parametrize("name", READS)
def test_a_read_is_refused_or_answered(name: str) -> None:
    function, said, given = READS[name]
    with pytest.raises(UsageError) as fault:
        asked(function)
    assert said in str(fault.value)
    assert "--value test_content.py:" in fault.value.hint
    assert fault.value.where.startswith("test_content.py:")
    assert "lambda" in fault.value.where
    assert asked(function, ("*", 0.25)) == given
    line = fault.value.where.split(" ")[0]
    assert asked(function, (line, 0.25), ("*", 1000)) == given  # the line's own value counts


@pytest.mark.parametrize(("value", "rows"), [(3, 3), (0.5, 4), (1.0, 8), (1, 1), (0, 0), (0.0, 0), ((2, 1), 3)])
def test_counts_and_shares(value: object, rows: int) -> None:
    assert asked(lambda: x(8)[x(8) > 0], ("*", value)).shape == (rows,)


def test_a_list_of_values() -> None:
    sizes = asked(lambda: torch.ones(3, dtype=torch.int64).tolist(), ("*", (2, 1, 5)))
    assert sizes == [2, 1, 5]
    with pytest.raises(UsageError, match="of which 2 are declared"):
        asked(lambda: x(3).tolist(), ("*", (2, 1)))


def test_constants_need_no_value() -> None:
    assert asked(lambda: torch.tensor(3.0).item()) == 3.0
    assert asked(lambda: bool(torch.tensor(2) > 1))


def test_gradients_pass_through_what_is_chosen() -> None:
    def step() -> Any:
        given = x(8, 4)
        given[given[:, 0] > 0].sum().backward()
        return given.grad.shape

    assert asked(step, ("*", 0.5)) == (8, 4)


def test_routing_with_declared_shares() -> None:
    """A mixture of experts as it is often written: where, index, index_add."""

    def step() -> list[int]:
        experts = [nn.Linear(4, 4) for _ in range(2)]
        given = x(8, 4)
        weights, chosen = given.softmax(-1).topk(2)
        result, rows = torch.zeros(8, 4), []
        for number, expert in enumerate(experts):
            row, column = torch.where(chosen == number)
            rows.append(row.shape[0])
            result.index_add_(0, row, expert(given[row]) * weights[row, column, None])
        result.sum().backward()
        return rows

    line = step.__code__.co_firstlineno + 6
    assert asked(step, (f"test_content.py:{line}", 0.25)) == [4, 4]  # a quarter of 16 choices


def test_a_loss_may_be_shown() -> None:
    def step() -> tuple[Any, str]:
        total = 0.0
        loss = x(3).sum()
        total += loss.item() / 2
        return total, f"{total:.3f} {round(total, 2)}"

    total, shown = asked(step)
    assert isinstance(total, Undecided)
    assert shown == "1.000 1.0"
    assert math.isfinite(total)
    for decision in (
        lambda: total > 1,
        lambda: bool(total),
        lambda: int(total),
        lambda: total == 0,
        lambda: max(1, total),
    ):
        with pytest.raises(UsageError, match="decides how the step goes on"):
            decision()
    with pytest.raises(UsageError, match=r"total \+= loss\.item\(\)"):
        assert total > 1


# PyTorch's own reads ---------------------------------------------------------------------------------------------


def _stepped(make: Callable[[Any], Any]) -> Callable[[], Any]:
    def step() -> Any:
        layer = nn.Linear(4, 4)
        optimizer = make([layer.weight])
        for _ in range(2):
            layer(x(2, 4)).sum().backward()
            optimizer.step()
        return sorted(optimizer.state[layer.weight])

    return step


@pytest.mark.parametrize(
    "title", ["Adafactor", "Adagrad", "NAdam", "RAdam", "Adam", "RMSprop", "Rprop", "ASGD", "Adamax"]
)
def test_optimizers_that_read_their_state(title: str) -> None:
    state = asked(_stepped(lambda parameters: getattr(torch.optim, title)(parameters)))
    layer = nn.Linear(4, 4)
    optimizer = getattr(torch.optim, title)([layer.weight])
    layer(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    assert state == sorted(optimizer.state[layer.weight])  # as for real


def test_lbfgs_is_refused() -> None:
    def step() -> None:
        layer = nn.Linear(4, 4)
        optimizer = torch.optim.LBFGS(layer.parameters())

        def loss() -> Any:
            optimizer.zero_grad()
            result = layer(x(2, 4)).sum()
            result.backward()
            return result

        optimizer.step(loss)

    with pytest.raises(UsageError, match=r"torch\.optim\.LBFGS cannot be traced.*--optimizer adamw"):
        asked(step)


def test_finite_gradients_are_taken_for_granted() -> None:
    def step() -> None:
        layer = nn.Linear(4, 4)
        layer(x(2, 4)).sum().backward()
        nn.utils.clip_grad_norm_(layer.parameters(), 1.0, error_if_nonfinite=True)
        nn.init.trunc_normal_(layer.weight)

    asked(step)


def test_transformers_drops_masks_that_mask_nothing() -> None:
    with FakeTensorMode(allow_non_fake_inputs=True), content.answers() as held:
        mask = refusals.Site("transformers/masking_utils.py", 1, "find_packed_sequence_indices")
        assert held.known([mask]) == 1.0
        assert held.known([mask]) == 1.0
    assert held.notes == ["no token is padding and no row holds several sequences"]


def test_what_is_compiled_runs_as_it_is() -> None:
    with FakeTensorMode(allow_non_fake_inputs=True), content.answers() as held:
        torch.compile(nn.Linear(4, 4))(x(2, 4)).sum().backward()
    assert held.notes == [content.EAGER]


def test_everything_is_put_back() -> None:
    from torch._subclasses import fake_impls
    from torch._subclasses.fake_tensor import FakeTensor
    from torch.optim import optimizer as optimizers

    before = dict(fake_impls.op_implementations_dict), dict(vars(FakeTensor)), optimizers._foreach_supported_types
    with pytest.raises(UsageError):
        asked(lambda: bool(x(3).sum() > 0))
    assert before[0] == fake_impls.op_implementations_dict
    assert before[1] == dict(vars(FakeTensor))
    assert optimizers._foreach_supported_types is before[2]


# Refusals --------------------------------------------------------------------------------------------------------


def refused(function: Callable[[], Any]) -> Any:
    with pytest.raises(Exception) as fault:  # noqa: PT011  whatever the step raises
        asked(function)
    return refusals.refusal("the network", fault.value)


def test_a_step_that_raises() -> None:
    def step() -> None:
        raise KeyError("labels")

    error = refused(step)
    assert isinstance(error, UsageError)
    assert error.exit_code == 2
    assert "the step of the network raised KeyError: 'labels'" in str(error)
    assert f'test_content.py:{step.__code__.co_firstlineno + 1} (raise KeyError("labels"))' in str(error)


def test_shapes_that_do_not_fit() -> None:
    error = refused(lambda: nn.Linear(4, 4)(x(2, 5)))
    assert "test_content.py:" in error.where
    assert "RuntimeError" in str(error)


def test_a_function_of_the_users_own_in_the_backward() -> None:
    class Deciding(torch.autograd.Function):
        @staticmethod
        def forward(_context: Any, given: Any) -> Any:
            return given * 2

        @staticmethod
        def backward(_context: Any, *gradients: Any) -> Any:
            return gradients[0] if gradients[0].sum() > 0 else None

    error = refused(lambda: Deciding.apply(x(3)).sum().backward())
    assert "if gradients[0].sum() > 0" in error.where
    assert "--value test_content.py:" in error.hint


def test_an_operator_without_a_rule() -> None:
    library = torch.library.Library("peakmem_tests", "FRAGMENT")
    library.define("opaque(Tensor x) -> Tensor")
    try:
        error = refused(lambda: torch.ops.peakmem_tests.opaque(x(3)))
        assert "peakmem_tests::opaque" in str(error).replace(".default", "").replace(
            "peakmem_tests.", "peakmem_tests::"
        )
        assert "register_fake" in error.hint
    finally:
        library._destroy()


def test_memory_of_the_tracer_itself() -> None:
    def step() -> None:
        raise MemoryError

    assert "tracing the network itself ran out of memory" in str(refused(step))


def test_a_fault_of_our_own_is_not_the_users() -> None:
    def step() -> None:
        refusals.users(3)  # type: ignore[arg-type]

    with pytest.raises(TypeError, match="not iterable"):
        refused(step)


def test_what_pytorch_refuses_is_ours_in_our_tables_and_the_users_in_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    from peakmem.training import workspaces
    from peakmem.training.recorder import Recorder
    from peakmem.training.tracing.tracer import Tracer

    def traced() -> None:
        with Tracer(Recorder(device="cpu", origin="trace"), device="cpu"):
            torch.empty(2, 3) @ torch.empty(rows, 2)

    rows = 4
    assert "the step of the network raised RuntimeError" in str(refused(traced))

    rows = 3
    monkeypatch.setattr(workspaces, "find", lambda *_: workspaces.bound_of(None, (), {}, 3).shape)
    with pytest.raises(AttributeError):
        refused(traced)


def test_a_function_that_wants_more_than_it_gets_is_the_users() -> None:
    from peakmem.training.scenario import Scenario
    from peakmem.training.tracing import given

    def needy(batch: Any) -> None:
        pass

    with pytest.raises(UsageError, match="cannot be called without arguments: it wants batch"):
        given.workload(needy, Scenario()).build()
    model = {"model": nn.Linear(3, 3), "batch": (torch.zeros(2, 3), torch.zeros(2, 3)), "loss": lambda scores: scores}
    parts = given.workload(model, Scenario()).build()
    assert parts.loss is not None
    assert "positional argument" in str(refused(parts.loss))


def test_nothing_to_train() -> None:
    from peakmem.training.scenario import Scenario
    from peakmem.training.tracing import loop
    from peakmem.training.tracing.step import Parts

    frozen = nn.Linear(2, 2).requires_grad_(False)
    for model, said in ((nn.ReLU(), "ReLU has no parameters"), (frozen, "all are frozen")):
        with pytest.raises(UsageError, match=said):
            loop.assembled(Parts(model=model, loss=lambda: None), Scenario())
    for recompute in ("every-0", "every-x", "every--1"):
        with pytest.raises(UsageError, match="is not understood"):
            loop.chosen_blocks(nn.Linear(2, 2), Parts(blocks=("a", "b")), recompute)


def test_a_loader_draws_samples() -> None:
    from torch.utils.data import DataLoader, TensorDataset

    rows = DataLoader(TensorDataset(torch.zeros(6, 3)), batch_size=4, shuffle=True)
    assert [tuple(batch.shape) for (batch,) in asked(lambda: list(rows))] == [(4, 3), (2, 3)]


def test_a_loader_with_workers_is_refused() -> None:
    def step() -> None:
        raise RuntimeError("Caught RuntimeError in DataLoader worker process 0.")

    assert refused(step).hint == "num_workers=0 while it is traced"


def test_an_error_of_ours_is_left_as_it_is() -> None:
    fault = UsageError("no such thing")
    assert refusals.refusal("the network", fault) is fault


def test_a_size_that_code_has_itself_is_not_left_out_in_silence() -> None:
    from peakmem.training import networks
    from peakmem.training.scenario import Scenario
    from peakmem.training.tracing import given

    with pytest.raises(UsageError, match="the sequence is in its own code"):
        given.workload(lambda: None, Scenario(sequence=64)).build()
    with pytest.raises(UsageError, match="no sequence to be asked for"):
        networks.workload("resnet18", Scenario(sequence=64)).build()
    with pytest.raises(UsageError, match="no resolution to be asked for"):
        networks.workload("gpt2", Scenario(resolution=64)).build()
    with pytest.raises(UsageError, match="more than its 1,024 positions"), FakeTensorMode():
        networks.workload("gpt2", Scenario(sequence=1025)).build()


def test_a_package_that_cannot_be_imported_is_named(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "broken_build.py").write_text("raise RuntimeError('operator broken_build::nms does not exist')")
    monkeypatch.syspath_prepend(str(folder))

    def step() -> None:
        import broken_build  # type: ignore[import-not-found]  # noqa: F401

    assert "broken_build cannot be imported here: RuntimeError" in str(refused(step))
