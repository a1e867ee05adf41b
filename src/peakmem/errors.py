"""Everything that can go wrong, drawn once.

    PeakmemError                 exit code 2: the question could not be answered
    ├── UsageError               a flag, a name or an argument is off
    │   └── UnboundDimension     a symbolic dimension has no value
    ├── FormatError              the file is not what it should be (truncated, corrupt, hostile)
    ├── GraphError               the network contradicts itself (cycle, duplicate, dangling name)
    │   └── ShapeError           shapes that cannot go together
    ├── MissingLibrary           an optional library is needed for this input
    ├── ConversionError          a tool could not bring the model into another format
    ├── Denied                   the system does not let us look at a process
    └── Ended                    the process that was looked at is gone

A message says what is wrong, where, what was expected and what to type next.
A broken budget is an answer, not an error: it exits with 1 and raises nothing.
"""

from __future__ import annotations


class PeakmemError(Exception):
    """Base of all errors peakmem raises on purpose.

    `what` is the fault, `where` the file, operator or flag, `expected` what would have been
    right and `hint` what to type. All but `what` may be empty.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str = "", expected: str = "", hint: str = "") -> None:
        self.what = what
        self.where = where
        self.expected = expected
        self.hint = hint
        super().__init__(str(self))

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        if self.expected:
            text += f" (expected {self.expected})"
        if self.hint:
            text += f". Try: {self.hint}"
        return text

    def locate(self, where: str) -> None:
        """Say where the fault lies, unless that is told already."""
        if not self.where:
            self.where = where
            self.args = (str(self),)


class UsageError(PeakmemError):
    """A flag, a name or an argument is off."""


class UnboundDimension(UsageError):
    """A symbolic dimension has no value; the hint is the flag that gives it one."""


class FormatError(PeakmemError):
    """The file is not a model of the format it claims, or is damaged."""


class GraphError(PeakmemError):
    """The network contradicts itself."""


class ShapeError(GraphError):
    """Shapes that cannot go together."""


class MissingLibrary(PeakmemError):
    """An optional library is needed for this input."""

    def __init__(self, library: str, *, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs {library}, which is not installed",
            hint=f"pip install 'peakmem[{extra}]'",
        )


class ConversionError(PeakmemError):
    """A tool of another project could not bring the model into another format.

    `operators` are those it cannot convert, by the names it has for them; empty when it failed for another reason.
    """

    def __init__(
        self, what: str, *, operators: tuple[str, ...] = (), where: str = "", expected: str = "", hint: str = ""
    ) -> None:
        self.operators = operators
        super().__init__(what, where=where, expected=expected, hint=hint)


class Denied(PeakmemError):
    """The system does not let us look at a process."""


class Ended(PeakmemError):
    """The process is not there any more."""
