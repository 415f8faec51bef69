"""How simulated attempts and nodes behave: the same for the same seed, whatever happens around them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from statistics import NormalDist
from typing import Literal

from socm_like.executors.base import Attempt
from socm_like.units import format_span

_NORMAL = NormalDist()
_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Work:
    """What one attempt takes in truth, and when it is ended; seconds from its start."""

    seconds: float
    memory: int = 0
    limit: float = math.inf
    """It is ended then, as ``timeout``."""
    fails: float = math.inf
    """It fails then by itself."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What is expected of an attempt, and what it asks for."""

    seconds: float
    memory: int = 0
    limit: float = math.inf
    """Seconds after which it is to be ended; infinity where nobody said."""
    is_guess: bool = False
    """Whether the limit is nothing but the expectation: nobody knows what it usually takes."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How far attempts and nodes are from what is expected; by default not at all."""

    seed: int = 0
    noise: float = 0.0
    """Standard deviation of the logarithm of the time that an attempt takes; its median is what is expected."""
    runtime: float = 1.0
    """Median time over what is expected."""
    memory: float = 1.0
    """Memory that a task uses over what is expected; the same at every attempt."""
    failures: float = 0.0
    """Probability that an attempt fails by itself, at any moment of its time."""
    node_failures: float = 0.0
    """Of one node, per hour; what runs there ends as ``node_fail``."""
    repair: float = _HOUR
    """Seconds that a node is away after it failed."""
    unpadded: Literal["end", "run_on"] = "end"
    """What becomes of an attempt at its limit where the limit is all that is known of its time."""

    def __post_init__(self) -> None:
        if not (0 <= self.failures <= 1):
            raise ValueError(f"failures is a probability, from 0 to 1, got {self.failures!r}")
        for name in ("noise", "node_failures", "repair", "runtime", "memory"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be 0 or more and finite, got {getattr(self, name)!r}")

    def __str__(self) -> str:
        """Return what a person reads of it."""
        parts = [f"noise {self.noise:g}"] if self.noise else []
        if self.node_failures:
            often = f"{self.node_failures:g} failures per node-hour"
            parts.append(f"{often}, {format_span(self.repair)} away each time")
        return "; ".join(parts) or "everything as expected"

    @property
    def is_certain(self) -> bool:
        """Whether every seed gives the same."""
        return not (self.noise or self.failures or self.node_failures)

    def work_of(self, attempt: Attempt, expected: Expected) -> Work:
        """Return what an attempt takes."""
        seconds, fails = expected.seconds * self.runtime, math.inf
        if self.noise or self.failures:
            size, chance, moment = _uniforms(self.seed, *attempt)
            seconds *= math.exp(self.noise * _NORMAL.inv_cdf(size))
            fails = seconds * moment if chance < self.failures else math.inf
        runs_on = self.unpadded == "run_on" and expected.is_guess
        limit = math.inf if runs_on else expected.limit
        return Work(seconds, round(expected.memory * self.memory), limit, fails)

    def gaps(self, node: int) -> Iterator[float]:
        """Yield the seconds that a node works before it fails, again and again (a Poisson process)."""
        number = 0
        while self.node_failures:
            yield -math.log(_uniforms(self.seed, f"node {node}", number)[0]) * _HOUR / self.node_failures
            number += 1


def _uniforms(*words: object) -> tuple[float, float, float]:
    """Return three numbers between 0 and 1, neither of them included, that look random."""
    digest = blake2b("\0".join(map(str, words)).encode(), digest_size=24).digest()
    first, second, third = (int.from_bytes(digest[at : at + 8]) >> 12 for at in (0, 8, 16))
    return (first + 0.5) / 2**52, (second + 0.5) / 2**52, (third + 0.5) / 2**52
