"""Whether a model gives each point its value from that point alone, read off its program.

Only then may the data be padded to the length of a program that is already compiled. A model of ``x - mean(x)``, of
``arange(x.size)`` or with an array of the length of the data is as good as any, but takes the data as they are.

The model and its derivative are traced with an unknown number ``n`` of points. The program passes if ``n`` is never
other than the last axis of an array, and no operation mixes, cuts or numbers the entries along it. What is not known
to be harmless counts as harmful: that costs time, never the answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, export
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Var

from socm_workflows.fit.solver.formula import ModelFunction

_ELEMENTWISE = """abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil clamp
convert_element_type copy copy_p cos cosh digamma div eq erf erf_inv erfc exp exp2 expm1 floor ge gt igamma igammac
integer_pow is_finite le lgamma log log1p logistic lt max min mul ne neg nextafter not or polygamma pow
regularized_incomplete_beta rem round rsqrt select_n sign sin sinh sqrt square stop_gradient sub tan tanh xor zeta"""
_SHAPING = "broadcast_in_dim concatenate dynamic_slice gather reshape slice squeeze stack transpose"
_REDUCTIONS = """argmax argmin cumlogsumexp cummax cummin cumprod cumsum reduce_and reduce_max reduce_min reduce_or
reduce_prod reduce_sum"""
_CALLS = "checkpoint closed_call cond custom_jvp_call jit pjit remat scan while"

ELEMENTWISE = frozenset(_ELEMENTWISE.split())
SHAPING = frozenset(_SHAPING.split())
"""They copy entries; along the last axis all of them, or the axis would no longer be ``n`` long."""
REDUCTIONS = frozenset(_REDUCTIONS.split())
CALLS = frozenset(_CALLS.split())
"""They are as harmless as the programs inside them."""


def is_pointwise(model: ModelFunction, rows: int, size: int) -> bool:
    """Return whether ``model`` of ``rows`` predictors and ``size`` parameters treats each point by itself.

    Costs one tracing of the model, some milliseconds.
    """
    (points,) = export.symbolic_shape("n")
    x = jax.ShapeDtypeStruct((points,) if rows == 1 else (rows, points), jnp.float64)  # type: ignore[no-untyped-call]

    def linearised(x: Array, *numbers: Array) -> tuple[Array, Array]:
        pair: tuple[Array, Array] = jax.jvp(lambda *theta: model(x, *theta), numbers[:size], numbers[size:])
        return pair

    try:
        program = jax.make_jaxpr(linearised)(x, *[jax.ShapeDtypeStruct((), jnp.float64)] * (2 * size))  # type: ignore[no-untyped-call]
    except Exception:  # noqa: BLE001 - the model is a stranger's, and need not bear an unknown length
        return False
    is_shaped = [aval.shape for aval in program.out_avals] == [(points,)] * 2
    return is_shaped and _keeps_points(program.jaxpr, points)


def _keeps_points(program: Jaxpr, points: Any) -> bool:
    variables = [*program.invars, *program.constvars, *(out for step in program.eqns for out in step.outvars)]
    is_last = all(
        isinstance(dimension, int) or (dimension == points and place == len(_shape(variable)) - 1)
        for variable in variables
        for place, dimension in enumerate(_shape(variable))
    )
    return is_last and all(_is_harmless(step, points) for step in program.eqns)


def _is_harmless(step: JaxprEqn, points: Any) -> bool:
    """Whether one operation leaves the entries of the last axis apart, given that no other axis is ``points`` long."""
    name, parameters = step.primitive.name, step.params
    inner = list(_programs(parameters.values()))
    if not all(_keeps_points(program, points) for program in inner):
        return False
    long = [_is_long(variable) for variable in step.invars]
    is_long = any(_is_long(variable) for variable in step.outvars)
    if name == "dim_as_value" or not isinstance(parameters.get("length", 0), int):
        return False
    if not any(long):
        return not is_long or name == "broadcast_in_dim" or (name in CALLS and bool(inner))
    if name in ELEMENTWISE:
        return True
    if name in SHAPING:
        is_joined = parameters.get("dimension", parameters.get("axis")) == len(_shape(step.outvars[0])) - 1
        return is_long and not is_joined and (name in ("concatenate", "stack") or not any(long[1:]))
    if name in REDUCTIONS:
        axes = parameters.get("axes", (parameters.get("axis"),))
        return len(_shape(step.invars[0])) - 1 not in axes
    if name == "dot_general":
        return _contracts_other_axes(step)
    if name == "scan":
        fixed = parameters["num_consts"] + parameters["num_carry"]
        return bool(inner) and not any(_shape(v)[:1] == (points,) for v in step.invars[fixed:])
    return name in CALLS and bool(inner)


def _contracts_other_axes(step: JaxprEqn) -> bool:
    contracted, batched = step.params["dimension_numbers"]
    return all(
        not _is_long(variable) or len(_shape(variable)) - 1 not in (*contracted[side], *batched[side])
        for side, variable in enumerate(step.invars)
    )


def _programs(values: Any) -> Iterator[Jaxpr]:
    for value in values:
        if isinstance(value, ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, Jaxpr):
            yield value
        elif isinstance(value, tuple | list):
            yield from _programs(value)


def _shape(variable: Any) -> tuple[Any, ...]:
    return tuple(getattr(variable.aval, "shape", ()))


def _is_long(variable: Any) -> bool:
    return isinstance(variable, Var) and any(not isinstance(dimension, int) for dimension in _shape(variable))
