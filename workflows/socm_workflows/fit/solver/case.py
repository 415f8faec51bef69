"""One fit to do, as arrays: data, start and limits, and whether it can begin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from socm_workflows.fit.solver.formula import Formula, ModelFunction
from socm_workflows.fit.solver.loss import LossFunction, loss_of

Floats = NDArray[np.float64]
NanPolicy = Literal["raise", "omit"]


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One fit to do: data, start and limits."""

    x: Floats
    """(n,) or (k, n)."""
    y: Floats
    """(n,)."""
    sigma: Floats | None
    """(n,), in the unit of y; (n, n), the Cholesky factor of the covariance of y; None where all points count alike."""
    start: Floats
    """(p,)."""
    lower: Floats
    """(p,), -inf where there is no bound."""
    upper: Floats
    """(p,), inf where there is no bound."""
    absolute_sigma: bool = False
    """Whether sigma is the truth; else the residuals set its scale."""


def make_case(
    x: ArrayLike,
    y: ArrayLike,
    start: ArrayLike,
    *,
    sigma: ArrayLike | None = None,
    lower: ArrayLike | None = None,
    upper: ArrayLike | None = None,
    absolute_sigma: bool = False,
    nan_policy: NanPolicy = "raise",
) -> Case:
    """Return the arguments of a fit as arrays, with what is not given filled in.

    ``sigma`` is (n,), or an (n, n) covariance. With ``nan_policy = "omit"``, points where a number is not finite are
    left out. Raises ValueError: a number is not finite, lengths differ, or a covariance is not positive definite.
    """
    across, data, begin = np.asarray(x, float), np.asarray(y, float), np.asarray(start, float)
    spread = None if sigma is None else np.asarray(sigma, float)
    _check_shapes(across, data, spread)
    if nan_policy == "omit":
        across, data, spread = omit_not_finite(across, data, spread)
    for name, values in (("x", across), ("y", data), ("sigma", spread)):
        if values is not None and not _are_finite(values):
            bad = np.argwhere(~np.isfinite(values))
            place = ", ".join(map(str, bad[0]))
            raise ValueError(
                f"{name}[{place}] is {values[tuple(bad[0])]}, and {len(bad)} of {values.size} are not finite; "
                'remove them, or leave such points out with nan_policy = "omit"'
            )
    return Case(
        x=across,
        y=data,
        sigma=_factor(spread) if spread is not None and spread.ndim == 2 else spread,
        start=begin,
        lower=_limit(lower, begin.size, -np.inf),
        upper=_limit(upper, begin.size, np.inf),
        absolute_sigma=absolute_sigma,
    )


def omit_not_finite(x: Floats, y: Floats, sigma: Floats | None) -> tuple[Floats, Floats, Floats | None]:
    """Return the points where all numbers are finite; the arrays themselves if that is all of them."""
    if all(values is None or _are_finite(values) for values in (x, y, sigma)):
        return x, y, sigma
    kept = np.isfinite(y) & np.all(np.isfinite(np.atleast_2d(x)), axis=0)
    if sigma is not None:
        kept &= np.isfinite(sigma if sigma.ndim == 1 else np.diag(sigma))
        sigma = sigma[kept] if sigma.ndim == 1 else sigma[kept][:, kept]
    return x[..., kept], y[kept], sigma


def _are_finite(values: Floats) -> bool:
    """Return whether all numbers are finite; a sum tells in one pass and no memory, unless it overflows."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(values.sum())) or bool(np.isfinite(values).all())


def _check_shapes(x: Floats, y: Floats, sigma: Floats | None) -> None:
    if y.ndim != 1 or x.ndim not in (1, 2) or x.shape[-1] != y.size:
        raise ValueError(f"x is {x.shape} and y {y.shape}; they must be (n,) or (k, n), and (n,)")
    if sigma is not None and sigma.shape not in ((y.size,), (y.size, y.size)):
        raise ValueError(f"sigma is {sigma.shape}; for {y.size} points it must be ({y.size},) or ({y.size}, {y.size})")


def _factor(covariance: Floats) -> Floats:
    try:
        factor: Floats = np.linalg.cholesky(covariance).astype(np.float64)
    except np.linalg.LinAlgError as error:
        raise ValueError("sigma, a covariance of the data, is not positive definite") from error
    return factor


def _limit(limit: ArrayLike | None, size: int, default: float) -> Floats:
    return np.array(np.broadcast_to(default if limit is None else np.asarray(limit, float), (size,)))


def check_case(model: ModelFunction, case: Case, names: Sequence[str]) -> None:
    """Raise ValueError where a fit cannot begin: too few points, a bad start, a model of another shape."""
    check_size(case.y.size, names)
    check_start(case.start, case.lower, case.upper, names)
    check_model(model, case.x.shape, case.start.size)


def check_size(points: int, names: Sequence[str]) -> None:
    """Raise ValueError where there are fewer points than parameters."""
    if points < len(names):
        raise ValueError(f"{points} points cannot determine {len(names)} parameters ({', '.join(names)})")


def check_start(start: Floats, lower: Floats, upper: Floats, names: Sequence[str]) -> None:
    """Raise ValueError where parameters start outside their bounds."""
    limits = zip(names, start, lower, upper, strict=True)
    outside = [name for name, value, low, high in limits if not low <= value <= high]
    if outside:
        raise ValueError(f"the start of {', '.join(outside)} is outside the bounds")


def check_model(model: ModelFunction, points: tuple[int, ...], size: int) -> None:
    """Raise ValueError where a model of x of this shape does not give one value per point, or is not JAX's."""
    try:
        shape = _shape_of(model, points, size)
    except (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError) as error:
        raise ValueError(
            "the model cannot be differentiated: write jax.numpy instead of numpy and math, jnp.where instead of if"
        ) from error
    if shape != points[-1:]:
        raise ValueError(f"the model gives an array of shape {shape} for x of shape {points}; it must be {points[-1:]}")


@lru_cache(maxsize=1024)
def _shape_of(model: ModelFunction, points: tuple[int, ...], size: int) -> tuple[int, ...]:
    """Return the shape of the model's value; remembered, because tracing costs a millisecond."""
    x, number = jax.ShapeDtypeStruct(points, jnp.float64), jax.ShapeDtypeStruct((), jnp.float64)  # type: ignore[no-untyped-call]
    shape: tuple[int, ...] = jax.eval_shape(model, x, *[number] * size).shape
    return shape


def make_formula(
    model: ModelFunction,
    points: tuple[int, ...],
    size: int,
    *,
    jac: Callable[..., Any] | None,
    loss: str | LossFunction,
) -> Formula:
    """Return what is fitted; ``points`` is the shape of x.

    ``jac(x, *parameters)`` gives (n, p) as in SciPy; (p, n) is known by its shape where n and p differ.
    Raises ValueError: an unknown loss, or a ``jac`` of another shape or not of jax.numpy.
    """
    if jac is None:
        return Formula(model, loss=loss_of(loss))
    count = points[-1]
    try:
        shape = _shape_of(jac, points, size)
    except (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError) as error:
        raise ValueError("jac cannot be compiled: write it with jax.numpy, or leave it out") from error
    if shape not in ((count, size), (size, count)):
        raise ValueError(f"jac gives an array of shape {shape}; it must be ({count}, {size})")
    return Formula(model, jac, shape != (count, size), loss_of(loss))
