"""Every exception of the package, split by what the caller can do about it.

::

    SocmError
    ├── CampaignError     the campaign file is wrong: every fault at once, nothing has been written
    ├── PluginError       a plug-in cannot be loaded, or two classes claim one kind
    ├── UsageError        the question is wrong: no such run, task or kind
    │   ├── RunHeldError  another process is working on this run
    │   └── NoWindowError no off-peak window is long enough, and the schedule says fail (:mod:`socm_like.window`)
    ├── StoreError        the store cannot be read or written (disk full, permissions, damage)
    ├── SweepError        a parameter space is wrong: every fault at once (:mod:`socm_like.sweep`)
    ├── PlacementError    tasks that no node can ever hold (:mod:`socm_like.schedule`)
    └── ExecutorError     the machine or engine that runs tasks does not answer as it should
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches


class SocmError(Exception):
    """Base of everything this package raises on purpose."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a campaign: where it stands, what was found, what to write instead."""

    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


class CampaignError(SocmError):
    """All faults of one campaign file; nothing has been written."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


class PluginError(SocmError):
    """A plug-in that cannot be imported, or a kind that two classes claim."""


class UsageError(SocmError):
    """A question that has no answer: unknown run, task, kind or option."""


class RunHeldError(UsageError):
    """Another process holds the run; nothing has been written."""


class StoreError(SocmError):
    """The store cannot be read or written; the journal up to here is intact."""


class ExecutorError(SocmError):
    """An executor cannot be started or reports a state that is not in its table."""


def suggest(found: str, allowed: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` for the nearest allowed word, else an empty string."""
    near = get_close_matches(found, list(allowed), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def listed(words: Iterable[str]) -> str:
    """Return words as ``a, b, c`` in sorted order, the first 20 of many, or ``none``."""
    words = sorted(words)
    rest = f" and {len(words) - 20} more" if len(words) > 20 else ""
    return ", ".join(words[:20]) + rest or "none"
