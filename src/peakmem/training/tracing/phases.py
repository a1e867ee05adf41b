"""Which part of a training step runs, found without the step's help: hooks around backward, optimizers and modules.

All hooks are taken off again. Imported with torch at hand.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.modules import module as module_hooks
from torch.optim import optimizer as optimizer_hooks

from peakmem.training.log import Phase
from peakmem.training.tracing.tracer import Tracer


class Follower:
    """Keeps phase and module of a tracer up to date, and learns which tensors belong to which parameter."""

    def __init__(self, tracer: Tracer, *, puts_back: bool = False) -> None:
        self.tracer, self.recorder, self.puts_back = tracer, tracer.recorder, puts_back
        self.paths: dict[int, str] = {}
        self.named = False
        # whether a network gave its names already; those of others begin with their class
        self.parameters: dict[int, tuple[str, Any]] = {}
        self.before: list[tuple[Any, Any]] = []
        # parameters and optimizers that have memory, with the gradient and the state they had
        self.optimizers: dict[int, Any] = {}
        # by id: those that have taken a step
        self._inside = 0
        # how many calls of a backward, an optimizer or a zero_grad have not returned
        self._kept: list[Any] = []
        # modules that were named: an id is only known while its owner lives

    # What belongs to what --------------------------------------------------------------------------------------

    def adopt(self, root: Any) -> None:
        """Learn the names in a module that no other holds."""
        if id(root) in self.paths:
            return
        prefix = f"{type(root).__name__}." if self.named else ""
        self.named = True
        for path, part in root.named_modules():
            if id(part) not in self.paths:
                self.paths[id(part)] = f"{prefix}{path}".rstrip(".")
                self._kept.append(part)
        for name, parameter in root.named_parameters():
            self.know(parameter, prefix + name)
        for name, buffer in root.named_buffers():
            self._label(buffer, "buffer", prefix + name)

    def know(self, parameter: Any, name: str) -> None:
        """Learn one parameter."""
        known = self.parameters.get(id(parameter))
        if known is None or not known[0]:
            if self.puts_back and known is None and not isinstance(parameter, FakeTensor):
                had = None if isinstance(parameter.grad, FakeTensor) else parameter.grad
                self.before.append((parameter, had))
            self.parameters[id(parameter)] = (name, parameter)
            self._label(parameter, "parameter", name)

    def _label(self, tensor: Any, category: Any, name: str) -> None:
        met = self.tracer.meet(tensor, "") if isinstance(tensor, torch.Tensor) else None
        if met is not None:
            self.recorder.label(met[0], category, name)

    def put_back(self) -> None:
        """Give parameters and optimizers that have memory what they had before."""
        for owner, had in self.before:
            if isinstance(owner, torch.optim.Optimizer):
                owner.state = had
            else:
                owner.grad = had

    def gradients(self) -> None:
        """Name the gradients that parameters have now."""
        for name, parameter in self.parameters.values():
            if parameter.grad is not None:
                self._label(parameter.grad, "gradient", name)

    def _backward_over(self) -> None:
        self.tracer.forget_numbers()
        self.gradients()

    def optimizer(self, optimizer: Any) -> None:
        """Learn an optimizer's parameters, and name the state that it holds now."""
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                self.know(parameter, "")
        for owner, state in optimizer.state.items():
            name = self.parameters.get(id(owner), ("", None))[0]
            for item in _held(state):
                number = self.tracer.number_of(item)
                if number is not None and self.recorder.category(number) in (None, "input"):
                    self.recorder.label(number, "optimizer state", name)

    def input(self, item: Any) -> None:
        """What a network is called with is an input, unless a module made it."""
        met = self.tracer.meet(item, "")
        if met is not None and not item.requires_grad:
            self.recorder.label_open(met[0], "input")

    # Hooks -----------------------------------------------------------------------------------------------------

    def _before(self, part: Any, given: Any) -> None:
        if id(part) not in self.paths:
            self.adopt(part)
        if len(self.tracer.modules) == 1 and not self._inside:
            self.recorder.enter("forward")
            for item in given:
                if isinstance(item, torch.Tensor):
                    self.input(item)
        self.tracer.enter_module(self.paths[id(part)])

    def _after(self, _part: Any, _given: Any, _result: Any) -> None:
        self.tracer.leave_module()

    @contextmanager
    def _during(self, phase: Phase) -> Iterator[None]:
        self.recorder.enter(phase)
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
            if phase == "zero_grad":
                self.recorder.enter("forward")

    def _wrapped(self, function: Callable[..., Any], phase: Phase, after: Callable[[], None] | None = None) -> Any:
        def called(*args: Any, **kwargs: Any) -> Any:
            if self._inside:
                return function(*args, **kwargs)
            with self._during(phase):
                result = function(*args, **kwargs)
                if after is not None:
                    after()
            return result

        return called

    @contextmanager
    def following(self) -> Iterator[None]:
        """Phases and modules are followed inside."""
        import torch.autograd as autograd

        outer: list[Phase | None] = []
        # phases within which an optimizer steps

        def stepping(optimizer: Any, _args: Any, _kwargs: Any) -> None:
            if id(optimizer) not in self.optimizers:
                self.optimizers[id(optimizer)] = optimizer
                owned = [item for group in optimizer.param_groups for item in group["params"]]
                if self.puts_back and not any(isinstance(item, FakeTensor) for item in owned):
                    self.before.append((optimizer, copy.copy(optimizer.state)))
                    optimizer.state = defaultdict(dict, {key: dict(item) for key, item in optimizer.state.items()})
            self.gradients()  # those of a step within the backward are gone when it ends
            outer.append(self.recorder.phase if self._inside else None)
            self._inside += 1
            self.recorder.enter("optimizer")

        def stepped(optimizer: Any, _args: Any, _kwargs: Any) -> None:
            self.optimizer(optimizer)
            self._inside -= 1
            if (before := outer.pop()) is not None:
                self.recorder.enter(before)

        class_of_optimizers, class_of_modules = torch.optim.Optimizer, torch.nn.Module
        engine = autograd._engine_run_backward
        clear, clear_module = class_of_optimizers.zero_grad, class_of_modules.zero_grad
        resize = torch.UntypedStorage.resize_

        def resized(storage: Any, nbytes: int) -> Any:
            result = resize(storage, nbytes)
            self.tracer.resized(storage)
            return result

        handles = [
            module_hooks.register_module_forward_pre_hook(self._before),
            module_hooks.register_module_forward_hook(self._after, always_call=True),
            optimizer_hooks.register_optimizer_step_pre_hook(stepping),
            optimizer_hooks.register_optimizer_step_post_hook(stepped),
        ]
        state = torch.get_rng_state

        def state_held() -> Any:
            result = state()
            self.tracer.meet(result, "get_rng_state")
            return result

        emptying = [(owner, owner.empty_cache) for owner in (torch.cuda, torch.cuda.memory)]

        def emptied() -> None:
            emptying[0][1]()
            if self.puts_back and self.tracer.device == "cuda":
                self.recorder.empty_cache()

        for owner, _ in emptying:
            owner.empty_cache = emptied
        torch.get_rng_state = state_held  # a generator's state is a tensor that no dispatcher sees being made
        torch.UntypedStorage.resize_ = resized
        autograd._engine_run_backward = self._wrapped(engine, "backward", self._backward_over)
        class_of_optimizers.zero_grad = _method(self._wrapped(clear, "zero_grad"))
        class_of_modules.zero_grad = _method(self._wrapped(clear_module, "zero_grad"))
        try:
            yield
        finally:
            for owner, own in emptying:
                owner.empty_cache = own
            torch.get_rng_state = state
            torch.UntypedStorage.resize_ = resize
            autograd._engine_run_backward = engine
            class_of_optimizers.zero_grad = clear
            class_of_modules.zero_grad = clear_module
            for handle in handles:
                handle.remove()


def _method(function: Any) -> Any:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return function(self, *args, **kwargs)

    return method


def _held(item: Any) -> Iterator[Any]:
    if isinstance(item, torch.Tensor):
        yield item
    elif isinstance(item, dict):
        for part in item.values():
            yield from _held(part)
    elif isinstance(item, list | tuple):
        for part in item:
            yield from _held(part)
