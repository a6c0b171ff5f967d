"""Every error a user can cause, on one page.

An error says what was expected, what came, and what helps; or, where that reads better,
what the problem is, and what helps.
"""

import re
from typing import overload


class FeatcacheError(Exception):
    """Base of all domain errors; the command line prints it as one line.

    Texts name an option as Python does, between backticks, such as `views=0`; the
    command line spells it --views 0.

    Args:
        expected: What the tool needed.
        got: What it found instead.
        hint: What the user can do now.

    Attributes:
        expected: What the tool needed; empty where the problem was given whole.
        got: What it found instead; there the problem.
        hint: What the user can do now.
    """

    exit_code = 1

    @overload
    def __init__(self, expected: str, got: str, hint: str, /) -> None: ...
    @overload
    def __init__(self, problem: str, hint: str, /) -> None: ...
    def __init__(self, *texts: str) -> None:
        # All go to Exception so that the error survives pickling
        # on its way out of a worker process.
        super().__init__(*texts)
        self.expected = texts[0] if len(texts) == 3 else ""
        self.got, self.hint = texts[-2:]

    @property
    def problem(self) -> str:
        """What is wrong, without the full stop."""
        text = (
            f"expected {self.expected}; got {self.got}" if self.expected else self.got
        )
        return text[:-1] if re.search(r"[^.]\.$", text) else text

    def __str__(self) -> str:
        return f"{self.problem}. {self.hint}"


class UsageError(FeatcacheError):
    """An argument that can never work, such as a negative number of views."""


class UnknownNameError(FeatcacheError):
    """A name that is in none of our tables."""


class DatasetError(FeatcacheError):
    """A source, manifest or split that cannot be used as it is."""


class SplitError(DatasetError):
    """Folds that cannot be made, or that would leak a group."""


class StoreError(FeatcacheError):
    """A feature store that is cut short, foreign, or full of rot."""


class StoreUnavailableError(StoreError):
    """A feature store that cannot be opened now, which says nothing of its content."""


class ContractError(StoreError):
    """A store that was made under another contract."""


class LockedError(FeatcacheError):
    """Another live process holds what we want to write."""


class WeightsError(FeatcacheError):
    """Weights that are missing, or that do not fit the network."""


class RunError(FeatcacheError):
    """A run, or a set of runs, that cannot be used as asked."""


class BundleError(FeatcacheError):
    """A bundle that is damaged, of another format, or does not prove itself."""


class HeadError(FeatcacheError):
    """A head that cannot be built or fitted."""


class UnreadableImageError(DatasetError):
    """A file that Pillow cannot turn into pixels; ``got`` is the reason."""


class ConversionError(FeatcacheError):
    """A network that OpenVINO cannot run; TensorFlow can."""


class ExportError(FeatcacheError):
    """A model that cannot be written as one graph, or not exactly enough."""
