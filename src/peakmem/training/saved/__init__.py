"""Training from a file without torch: a Graph to the log of its steps, by autograd's rules.

`graph_log` is the way in. `eager`, `engine` are PyTorch's tensors and its backward without contents; `pointwise`,
`windows`, `norms`, `products`, `movement`, `recurrent` and `losses` say what operators keep and allocate; `rules`
names them after the graph's operators; `idioms` puts what exporters write out back together.
"""

from peakmem.training.saved.paths import blocks_of
from peakmem.training.saved.step import ESTIMATE, graph_log

__all__ = ["ESTIMATE", "blocks_of", "graph_log"]
