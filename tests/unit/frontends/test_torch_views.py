"""Which results share bytes, held against what PyTorch does with real tensors."""

import random

import pytest

torch = pytest.importorskip("torch")

from peakmem.frontends.torch.program import Call, Ref, Value  # noqa: E402 - needs torch to be there
from peakmem.frontends.torch.pt2_program import Sizes  # noqa: E402
from peakmem.frontends.torch.values import value_of  # noqa: E402
from peakmem.frontends.torch.views import sharing, viewable  # noqa: E402


def shares(a, b):
    return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()


def laid_out(rng):
    """A tensor of some layout: permuted, cut, stepped over, expanded."""
    sizes = [rng.choice((1, 2, 3, 4, 6)) for _ in range(rng.randrange(1, 5))]
    x = torch.zeros(sizes)
    for _ in range(rng.randrange(0, 3)):
        kind = rng.choice(("permute", "slice", "step", "expand", "unsqueeze"))
        axis = rng.randrange(x.dim())
        if kind == "permute":
            x = x.permute(rng.sample(range(x.dim()), x.dim()))
        elif kind == "slice" and x.shape[axis] > 1:
            x = x.narrow(axis, 1, x.shape[axis] - 1)
        elif kind == "step":
            x = x[(slice(None),) * axis + (slice(None, None, 2),)]
        elif kind == "expand":
            x = x.unsqueeze(axis).expand(*x.shape[:axis], 3, *x.shape[axis:])
        elif kind == "unsqueeze":
            x = x.unsqueeze(axis)
    return x


def regrouped(count, rng):
    """Sizes with `count` elements."""
    sizes = []
    while count > 1 and rng.random() < 0.8:
        factor = rng.choice([size for size in range(1, count + 1) if count % size == 0])
        sizes.append(factor)
        count //= factor
    return [*sizes, count]


def test_reshape_copies_exactly_when_torch_copies():
    rng = random.Random(1)
    seen = {True: 0, False: 0}
    for _ in range(2000):
        x = laid_out(rng)
        wanted = regrouped(x.numel(), rng)
        same = shares(x, x.reshape(wanted))
        assert viewable(tuple(x.shape), x.stride(), wanted) == same, (x.shape, x.stride(), wanted)
        seen[same] += 1
    assert min(seen.values()) > 200


@pytest.mark.parametrize(
    ("operator", "arguments"),
    [
        ("contiguous.default", lambda x: {"self": x}),
        ("flatten.using_ints", lambda x: {"self": x}),
        ("ravel.default", lambda x: {"self": x}),
        ("to.dtype", lambda x: {"self": x, "dtype": torch.float32}),
        ("to.dtype", lambda x: {"self": x, "dtype": torch.float16}),
        ("to.dtype", lambda x: {"self": x, "dtype": torch.float32, "non_blocking": False, "copy": True}),
        ("dropout.default", lambda x: {"input": x, "p": 0.5, "train": False}),
        ("dropout.default", lambda x: {"input": x, "p": 0.5, "train": True}),
        ("alpha_dropout.default", lambda x: {"input": x, "p": 0.5, "train": False}),
        ("clone.default", lambda x: {"self": x}),
        ("relu_.default", lambda x: {"self": x.clone()}),
        ("relu.default", lambda x: {"self": x}),
        ("unsqueeze.default", lambda x: {"self": x, "dim": 0}),
        ("squeeze.default", lambda x: {"self": x}),
        ("expand.default", lambda x: {"self": x, "size": [2, *x.shape]}),
        ("chunk.default", lambda x: {"self": x, "chunks": 2, "dim": 0}),
        ("unbind.int", lambda x: {"self": x, "dim": 0}),
        ("select.int", lambda x: {"self": x, "dim": 0, "index": 0}),
        ("slice.Tensor", lambda x: {"self": x, "dim": 0, "start": 0, "end": 1}),
        ("transpose.int", lambda x: {"self": x, "dim0": 0, "dim1": -1}),
        ("repeat.default", lambda x: {"self": x, "repeats": [1] * x.dim()}),
        ("flip.default", lambda x: {"self": x, "dims": [0]}),
        ("detach.default", lambda x: {"self": x}),
        ("diagonal.default", lambda x: {"self": x.unsqueeze(0)}),
        ("movedim.int", lambda x: {"self": x, "source": 0, "destination": -1}),
        ("type_as.default", lambda x: {"self": x, "other": x}),
        ("split.Tensor", lambda x: {"self": x, "split_size": 1, "dim": 0}),
        ("unfold.default", lambda x: {"self": x, "dimension": 0, "size": 1, "step": 1}),
    ],
)
def test_results_share_exactly_when_torch_shares(operator, arguments):
    rng = random.Random(2)
    name, overload = operator.split(".")
    form = getattr(getattr(torch.ops.aten, name), overload)
    for _ in range(60):
        given = arguments(laid_out(rng))
        source = next(iter(given.values()))
        if not source.numel():
            continue
        result = form(**given)
        results = [result] if isinstance(result, torch.Tensor) else list(result)
        sizes = Sizes()
        values = {"x": value_of(source, sizes), **{f"y{at}": value_of(item, sizes) for at, item in enumerate(results)}}
        pairs = tuple((key, _argument(value)) for key, value in given.items())
        call = Call("c", "aten", name, overload, pairs, tuple(f"y{at}" for at in range(len(results))))
        told = {position for position, _ in sharing(call, values)}
        assert told == {at for at, item in enumerate(results) if shares(source, item)}, (source.shape, source.stride())


def _argument(value):
    if isinstance(value, torch.Tensor):
        return Ref("x")
    if isinstance(value, list):
        return tuple(_argument(item) for item in value)
    return str(value) if isinstance(value, torch.dtype | torch.memory_format) else value


def test_a_value_without_a_layout_is_never_guessed_to_share():
    values = {"x": Value((2, 3), None, "", (2, 3), ()), "y": Value((6,), None, "", (6,), ())}
    call = Call("c", "aten", "reshape", "default", (("self", Ref("x")), ("shape", (6,))), ("y",))
    assert sharing(call, values) == ()
