"""What each operator of a graph is in PyTorch: which of `windows`, `norms`, `products`, … run it."""

from peakmem.training.saved.rules import elementwise, layers, moving, ncnn, transformers
from peakmem.training.saved.rules.call import RULES, Call, Rule, rule, unknown

__all__ = ["RULES", "Call", "Rule", "elementwise", "layers", "moving", "ncnn", "rule", "transformers", "unknown"]
