"""The functions of the shipped models; library.py has their names and formulas.

Each takes ``x`` of shape (n,) and scalar parameters, and returns (n,). All are smooth in their parameters.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array


def line(x: Array, slope: Array, intercept: Array) -> Array:
    """``slope x + intercept``."""
    return slope * x + intercept


def quadratic(x: Array, c0: Array, c1: Array, c2: Array) -> Array:
    """``c0 + c1 x + c2 x^2``."""
    return c0 + x * (c1 + x * c2)


def cubic(x: Array, c0: Array, c1: Array, c2: Array, c3: Array) -> Array:
    """``c0 + c1 x + c2 x^2 + c3 x^3``."""
    return c0 + x * (c1 + x * (c2 + x * c3))


def exponential(x: Array, amplitude: Array, rate: Array) -> Array:
    """``amplitude exp(-rate x)``."""
    return amplitude * jnp.exp(-rate * x)


def exponential_offset(x: Array, amplitude: Array, rate: Array, offset: Array) -> Array:
    """``amplitude exp(-rate x) + offset``."""
    return amplitude * jnp.exp(-rate * x) + offset


def biexponential(x: Array, amplitude1: Array, rate1: Array, amplitude2: Array, rate2: Array) -> Array:
    """``amplitude1 exp(-rate1 x) + amplitude2 exp(-rate2 x)``."""
    return amplitude1 * jnp.exp(-rate1 * x) + amplitude2 * jnp.exp(-rate2 * x)


def stretched_exponential(x: Array, amplitude: Array, time: Array, exponent: Array) -> Array:
    """``amplitude exp(-(x / time)^exponent)``."""
    return amplitude * jnp.exp(-((x / time) ** exponent))


def gaussian(x: Array, amplitude: Array, center: Array, width: Array) -> Array:
    """``amplitude exp(-(x - center)^2 / (2 width^2))``."""
    return amplitude * jnp.exp(-0.5 * ((x - center) / width) ** 2)


def gaussian_offset(x: Array, amplitude: Array, center: Array, width: Array, offset: Array) -> Array:
    """``amplitude exp(-(x - center)^2 / (2 width^2)) + offset``."""
    return gaussian(x, amplitude, center, width) + offset


def lorentzian(x: Array, amplitude: Array, center: Array, width: Array) -> Array:
    """``amplitude / (1 + ((x - center) / width)^2)``."""
    return amplitude / (1 + ((x - center) / width) ** 2)


def power_law(x: Array, amplitude: Array, exponent: Array) -> Array:
    """``amplitude x^exponent``."""
    return amplitude * x**exponent


def logistic(x: Array, height: Array, rate: Array, center: Array) -> Array:
    """``height / (1 + exp(-rate (x - center)))``."""
    return height / (1 + jnp.exp(-rate * (x - center)))


def michaelis_menten(x: Array, vmax: Array, km: Array) -> Array:
    """``vmax x / (km + x)``."""
    return vmax * x / (km + x)


def hill(x: Array, vmax: Array, k: Array, exponent: Array) -> Array:
    """``vmax x^exponent / (k^exponent + x^exponent)``."""
    return vmax / (1 + (k / x) ** exponent)


def sine(x: Array, amplitude: Array, frequency: Array, phase: Array, offset: Array) -> Array:
    """``amplitude sin(2 pi frequency x + phase) + offset``."""
    return amplitude * jnp.sin(2 * jnp.pi * frequency * x + phase) + offset


def damped_sine(  # noqa: PLR0917 - a model takes its parameters one by one
    x: Array, amplitude: Array, rate: Array, frequency: Array, phase: Array, offset: Array
) -> Array:
    """``amplitude exp(-rate x) sin(2 pi frequency x + phase) + offset``."""
    return amplitude * jnp.exp(-rate * x) * jnp.sin(2 * jnp.pi * frequency * x + phase) + offset
