"""torch's caching allocator for CUDA devices, simulated: what a log of training reserves, and where it runs out."""

from peakmem.training.allocator.core import Allocator, OutOfMemory
from peakmem.training.allocator.settings import Settings
from peakmem.training.allocator.simulation import Bound, Failure, Simulation, Top, simulate

__all__ = ["Allocator", "Bound", "Failure", "OutOfMemory", "Settings", "Simulation", "Top", "simulate"]
