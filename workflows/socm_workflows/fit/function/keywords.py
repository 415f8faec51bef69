"""The keywords of :func:`socm_workflows.fit.fit`: what there is, what it means, what is refused and why."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypedDict

from socm_like.errors import suggest
from socm_workflows.fit.solver.case import NanPolicy
from socm_workflows.fit.solver.loss import LossFunction
from socm_workflows.fit.solver.options import CovarianceKind
from socm_workflows.fit.strategy.configuration import WorkflowConfig
from socm_workflows.fit.strategy.settings import Asked
from socm_workflows.fit.strategy.tiers import OptimizationGoal, WorkflowTier

GLOBAL_SEARCH = 20
"""Starts of ``global_search=True``."""


class Keywords(TypedDict, total=False):
    """What ``fit`` takes beside the data; what is not given is left to the goal, the data and the memory."""

    jac: Callable[..., Any] | str | None
    """``jac(x, *parameters)`` -> (n, p), in jax.numpy. None differentiates the model exactly; so do SciPy's words for
    differences, 2-point, 3-point and cs."""
    loss: str | LossFunction
    """linear, soft_l1, huber, cauchy, arctan, or rho(z) -> (3, m) in jax.numpy."""
    f_scale: float
    """Residual, in units of sigma, from which on the loss differs from a square."""
    covariance: CovarianceKind
    """naive or sandwich; see :class:`~socm_workflows.fit.solver.options.Options`."""
    workflow: Asked
    """auto, auto_global, a preset, a strategy, or a WorkflowConfig or HybridStreamingConfig."""
    config: Asked
    """The same, stronger than ``workflow`` and ``preset``."""
    preset: str | None
    """A name of WORKFLOW_PRESETS."""
    strategy: WorkflowTier | str
    """standard, chunked, streaming or streaming_checkpoint."""
    goal: OptimizationGoal | str
    """fast, robust, global, memory_efficient or quality."""
    gtol: float
    """Relative offset (the cosine between residuals and columns of J) that counts as a minimum."""
    ftol: float
    """Relative change of the cost by a full step that counts as none."""
    xtol: float
    """Relative change of every parameter by a full step that counts as none."""
    max_nfev: int | None
    """Evaluations of the model at all points, at most; with several starts, for each fit of all the data."""
    maxfev: int | None
    """The same, SciPy's name."""
    multistart: bool
    n_starts: int
    """Starts, p0 among them."""
    sampler: str
    """sobol, lhs or halton."""
    center_on_p0: bool
    scale_factor: float
    seed: int
    """Starts are the same for the same seed; 0 unless stated."""
    global_search: bool
    """True: 20 starts."""
    callback: Callable[..., Any] | None
    """``callback(iteration, cost, parameters, info)``; see callbacks.py."""
    nan_policy: NanPolicy | None
    """raise (also None) or omit."""
    memory_limit_gb: float
    safety_factor: float
    chunk_size: int
    """Points of a chunk."""
    enable_checkpointing: bool
    checkpoint_dir: Path | str
    """Where the state of the fit is kept. A fit that finds its own state there goes on from it."""
    checkpoint_frequency: int
    """Passes over the data between two states, at most; in between, one a second."""
    columns: Sequence[int | str]
    """Of a file that is given as x: the predictors, and last y; x and y, or 0 and 1, by default."""
    names: Sequence[str]
    """Of the parameters; by default those of the model's arguments."""


CONFIGURED = {
    "strategy": "tier", "goal": "goal", "gtol": "gtol", "ftol": "ftol", "xtol": "xtol", "max_nfev": "max_nfev",
    "multistart": "multistart", "n_starts": "n_starts", "sampler": "sampler", "center_on_p0": "center_on_p0",
    "scale_factor": "scale_factor", "seed": "seed", "memory_limit_gb": "memory_limit_gb",
    "safety_factor": "safety_factor", "chunk_size": "chunk_size", "enable_checkpointing": "enable_checkpointing",
    "checkpoint_dir": "checkpoint_dir",
}  # fmt: skip
"""Keywords that are fields of WorkflowConfig."""

WHOLE = ("max_nfev", "n_starts", "seed", "chunk_size", "checkpoint_frequency")
NUMBERS = ("gtol", "ftol", "xtol", "scale_factor", "memory_limit_gb", "safety_factor")

NEEDLESS: Mapping[str, str] = MappingProxyType(
    {
        "x_scale": "columns are scaled by the solver itself, and the answer does not depend on units",
        "diff_step": "derivatives are exact",
        "epsfcn": "derivatives are exact",
        "tr_solver": "there is one solver, and J is never stored",
        "solver": "there is one solver, for all sizes",
        "batch_size": "write chunk_size",
        "stability": "use diagnostics() of the result; numbers are never replaced",
        "rescale_data": "the answer does not depend on units",
        "fallback": "use multistart",
        "auto_bounds": "write bounds",
        "cmaes_config": 'write method="global"',
        "data_mask": "index x and y with it",
        "flength": "programs serve all lengths up to a power of two without it",
        "full_output": "the result has all of it; curve_fit takes it",
        "compute_diagnostics": "call diagnostics() of the result",
        "verbose": "write callback=IterationLogger() or ProgressBar()",
        "show_progress": "write callback=ProgressBar()",
    }
)
"""Keywords of NLSQ and SciPy that have no place here, and what to do instead."""

SEVERAL = ("multi-start", "multistart")
EVOLVING = ("global", "differential_evolution")
METHODS = ("auto", "trf", "dogbox", "lm", "hybrid_streaming", *SEVERAL, *EVOLVING)
"""Words of ``method``; trf, dogbox and lm are one solver here, the minimum being the same."""


@dataclass(frozen=True, slots=True)
class Request:
    """The keywords of one fit, checked one by one and against each other."""

    arguments: WorkflowConfig
    workflow: Asked = "auto"
    preset: str | None = None
    config: Asked = None
    method: str = "auto"
    jac: Callable[..., Any] | None = None
    loss: str | LossFunction = "linear"
    f_scale: float = 1.0
    covariance: CovarianceKind = "naive"
    callback: Callable[..., Any] | None = None
    omits: bool = False
    checkpoint_frequency: int | None = None
    names: tuple[str, ...] | None = None
    columns: tuple[int | str, ...] | None = None

    @property
    def evolves(self) -> bool:
        """Whether the minimum is sought by differential evolution first."""
        return self.method in EVOLVING


def read_keywords(method: str | None, keywords: Mapping[str, Any], *, has_bounds: bool) -> Request:
    """Return what the keywords of a fit ask for.

    Raises TypeError: a keyword that there is not. Raises ValueError: a value that is wrong, or two that contradict.
    """
    check_names(keywords)
    given = {name: value for name, value in keywords.items() if value is not None}
    if "maxfev" in given:
        limit = given.pop("maxfev")
        if given.setdefault("max_nfev", limit) != limit:
            raise ValueError(f"max_nfev is {given['max_nfev']} and maxfev {limit}: they are one thing, write one")
    word = _method(method, given, has_bounds=has_bounds)
    if word == "hybrid_streaming":
        given.setdefault("strategy", WorkflowTier.STREAMING)
    if word in SEVERAL or given.get("global_search"):
        given.setdefault("multistart", True)
    if given.pop("global_search", False):
        given.setdefault("n_starts", GLOBAL_SEARCH)
    _check_contradictions(given, word)
    return Request(
        arguments=WorkflowConfig(
            **{CONFIGURED[name]: _plain(name, given[name]) for name in CONFIGURED if name in given}
        ),
        workflow=given.get("workflow", "auto"),
        preset=given.get("preset"),
        config=given.get("config"),
        method=word,
        jac=_jacobian(given.get("jac")),
        loss=given.get("loss", "linear"),
        f_scale=_positive("f_scale", given.get("f_scale", 1.0)),
        covariance=_word("covariance", given.get("covariance", "naive"), ("naive", "sandwich")),
        callback=_callable("callback", given.get("callback")),
        omits=_word("nan_policy", given.get("nan_policy", "raise"), ("raise", "omit")) == "omit",
        checkpoint_frequency=_frequency(given.get("checkpoint_frequency")),
        names=tuple(map(str, given["names"])) if "names" in given else None,
        columns=tuple(given["columns"]) if "columns" in given else None,
    )


def check_names(keywords: Mapping[str, Any]) -> None:
    """Raise TypeError where a keyword is unknown, with the nearest that there is; ValueError for SciPy's ``args``."""
    if "args" in keywords:
        raise ValueError("args: there is no such keyword for a model; its parameters are those that are fitted")
    unknown = [name for name in keywords if name not in Keywords.__annotations__]
    words = []
    for name in unknown:
        reason = f" ({NEEDLESS[name]})" if name in NEEDLESS else suggest(name, Keywords.__annotations__)
        words.append(f"{name!r}{reason}")
    if words:
        raise TypeError(f"fit() got an unexpected keyword argument {', '.join(words)}")


def _method(method: str | None, given: Mapping[str, Any], *, has_bounds: bool) -> str:
    word: str = _word("method", "auto" if method is None else method, METHODS)
    if word == "lm" and has_bounds:
        raise ValueError('method="lm" is for problems without bounds: leave method out, or the bounds')
    if word == "lm" and given.get("loss", "linear") != "linear":
        raise ValueError('method="lm" has the linear loss only: leave method out')
    return word


def _check_contradictions(given: Mapping[str, Any], word: str) -> None:
    searches = word in (*SEVERAL, *EVOLVING) or given.get("multistart") or (given.get("n_starts") or 1) > 1
    if searches and given.get("multistart") is False:
        what = f"method={word!r}" if word in (*SEVERAL, *EVOLVING) else f"n_starts={given.get('n_starts')}"
        raise ValueError(f"multistart=False contradicts {what}: leave one out")
    if word in EVOLVING and (given.get("multistart") or "n_starts" in given):
        raise ValueError(f"method={word!r} draws its own population: leave multistart and n_starts out")
    asked = given.get("workflow")
    tiers = [tier.value for tier in WorkflowTier]
    if "strategy" in given and asked in tiers and asked != given["strategy"]:
        raise ValueError(f"workflow={asked!r} and strategy={given['strategy']!r} contradict each other: leave one out")


def _plain(name: str, value: Any) -> Any:
    """Return a number of NumPy as one of Python, which configurations take."""
    if isinstance(value, bool):
        return value
    if name in WHOLE and hasattr(value, "__index__"):
        return operator.index(value)
    return float(value) if name in NUMBERS and hasattr(value, "__float__") else value


def _jacobian(jac: Any) -> Callable[..., Any] | None:
    if jac is None or (isinstance(jac, str) and jac in ("2-point", "3-point", "cs")):
        return None
    if not callable(jac):
        raise ValueError(f"jac is {jac!r}: write a function jac(x, *parameters) -> (n, p), or leave it out")
    function: Callable[..., Any] = jac
    return function


def _callable(name: str, value: Any) -> Any:
    if value is not None and not callable(value):
        raise ValueError(f"{name} is {value!r}: write a function")
    return value


def _positive(name: str, value: Any) -> float:
    if isinstance(value, bool) or not hasattr(value, "__float__") or not 0 < float(value) < float("inf"):
        raise ValueError(f"{name} is {value!r}: write a positive number")
    return float(value)


def _frequency(value: Any) -> int | None:
    if value is not None and (isinstance(value, bool) or not hasattr(value, "__index__") or value < 1):
        raise ValueError(f"checkpoint_frequency is {value!r}: write a whole number of at least 1")
    return None if value is None else operator.index(value)


def _word(name: str, value: Any, words: tuple[str, ...]) -> Any:
    lower = value.lower() if isinstance(value, str) else ""
    if lower not in words:
        raise ValueError(f"{name} is {value!r}{suggest(lower, words)} (one of {', '.join(words)})")
    return lower
