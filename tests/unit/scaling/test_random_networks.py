"""Random small networks of strides, pools, joins and views: the formula against `peakmem.estimate` at every size."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import peakmem
from peakmem.errors import PeakmemError
from peakmem.ir.builder import GraphBuilder
from peakmem.ir.dims import Symbol
from peakmem.passes.assume import ASSUMPTIONS
from peakmem.scaling import peak_formula

LAYERS = st.lists(
    st.tuples(
        st.sampled_from(["conv", "pool", "ceil", "relu", "branch", "crop", "squeeze", "view", "shape"]),
        st.integers(1, 3), st.integers(1, 3), st.integers(0, 1),
    ),
    min_size=1, max_size=6,
)  # fmt: skip


def built(layers, knob):
    """A network on images whose sides, or whose batch, are a symbol."""
    b = GraphBuilder("random")
    side = Symbol("n")
    x = b.input("image", (side, 3, 20, 20) if knob == "batch" else (1, 3, side, side))
    for what, kernel, stride, pad in layers:
        pad = min(pad, kernel - 1)
        if what == "conv":
            x = b.conv(x, 4 * kernel, kernel=kernel, stride=stride, pad=pad)
        elif what in ("pool", "ceil"):
            x = b.max_pool(x, kernel=kernel, stride=stride, pad=pad, ceil=what == "ceil")
        elif what == "relu":
            x = b.relu(x)
        elif what == "branch":
            x = b.concat([b.conv(x, 2, kernel=1), b.relu(x)])
        elif what == "crop":
            x = b.one("Slice", x, b.literal([pad] * 2), b.literal([-kernel] * 2), b.literal([2, 3]), name="crop")
        elif what == "squeeze":
            x = b.mul(x, b.sigmoid(b.global_average_pool(x)))
        elif what == "view":
            x = b.add(x, b.transpose(b.transpose(x, (0, 2, 1, 3)), (0, 2, 1, 3)))
        elif what == "shape":
            flat = b.reshape(x, (0, 0, -1))
            x = b.one("Reshape", b.relu(flat), b.one("Shape", x))
    return b.finish(x)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(LAYERS, st.sampled_from(list(ASSUMPTIONS)), st.sampled_from(["side", "batch"]))
def test_the_formula_is_what_an_estimate_says(layers, assume, knob):
    try:
        graph = built(layers, knob)
    except PeakmemError:
        return  # a network that no size makes right
    try:
        found = peak_formula(graph, "n", assume=assume, limits=(1, 40), every_residue=True)
    except PeakmemError:
        found = None
    for n in range(1, 41):
        try:
            report = peakmem.estimate(graph, dims={"n": n}, assume=assume)
        except PeakmemError:
            assert found is None or found.piece(n) is None
            continue
        assert found is not None
        assert found.piece(n) is not None, n
        assert (found.live_bytes(n), found.resident_bytes(n)) == (report.peak_bytes, report.peak.total_bytes)
        assert found.piece(n).operator == report.peak.operator
        assert found.kind == "exact"
