"""The functions of the shipped models; library.py has their names and formulas.

Each takes ``x`` of shape (n,) and scalar parameters, and returns (n,). All are smooth in their parameters, also where
a formula read as it stands would be 0/0: there a series or the limit is computed.

Sources: Guinier & Fournet 1955, "Small-Angle Scattering of X-Rays", Wiley, section 2.1.3 (the sphere); Pedersen 1997,
"Analysis of small-angle scattering data from colloids and polymer solutions: modeling and least-squares fitting", Adv.
Colloid Interface Sci. 70, 171-210, form factors 1 and 2 (sphere, spherical shells); Grübel, Madsen & Robert 2008,
"X-ray photon correlation spectroscopy (XPCS)", in Borsali & Pecora (editors), "Soft Matter Characterization", Springer,
953-995 (the correlation function ``1 + beta |f|^2`` with a stretched exponential ``f``).
"""

from __future__ import annotations

from math import factorial

import jax.numpy as jnp
from jax import Array

SERIES = tuple((-1.0) ** k * 3 * (2 * k + 2) / factorial(2 * k + 3) for k in range(10))
"""Of ``3 (sin u - u cos u) / u^3`` in powers of ``u^2``; up to ``u = 1`` the first term left out is 3e-21."""


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
    return amplitude * jnp.exp(-_power(x / time, exponent))


def first_order(x: Array, initial: Array, final: Array, rate: Array) -> Array:
    """``final + (initial - final) exp(-rate x)``."""
    return final + (initial - final) * jnp.exp(-rate * x)


def xpcs(x: Array, baseline: Array, contrast: Array, time: Array, exponent: Array) -> Array:
    """``baseline + contrast exp(-2 (x / time)^exponent)``."""
    return baseline + contrast * jnp.exp(-2 * _power(x / time, exponent))


def sphere(x: Array, scale: Array, radius: Array, background: Array) -> Array:
    """``scale f(x radius)^2 + background`` with ``f(u) = 3 (sin u - u cos u) / u^3``, which is 1 at 0."""
    return scale * sphere_amplitude(x * radius) ** 2 + background


def core_shell(  # noqa: PLR0917 - a model takes its parameters one by one
    x: Array, scale: Array, radius: Array, thickness: Array, contrast: Array, background: Array
) -> Array:
    """``scale (F / F(0))^2 + background with r = radius, s = radius + thickness,
    F = (contrast - 1) r^3 f(x r) + s^3 f(x s)``.

    ``contrast`` is that of the core over that of the shell, both against the solvent; f as of :func:`sphere`. Not
    finite where the whole particle is matched, ``F(0) = 0``.
    """
    outer = radius + thickness
    inside = (contrast - 1) * radius**3 / outer**3
    form = (inside * sphere_amplitude(x * radius) + sphere_amplitude(x * outer)) / (inside + 1)
    return scale * form**2 + background


def sphere_amplitude(u: Array) -> Array:
    """Return ``3 (sin u - u cos u) / u^3``, which is 1 at 0; by its series up to ``|u| = 1``, where digits cancel."""
    square = u**2
    is_near = square < 1
    near = jnp.where(is_near, square, 0.0)
    series = jnp.full_like(u, SERIES[-1])
    for coefficient in SERIES[-2::-1]:
        series = series * near + coefficient
    far = jnp.where(is_near, 2.0, u)  # so that no branch is ever 0/0, nor its derivative
    return jnp.where(is_near, series, 3 * (jnp.sin(far) - far * jnp.cos(far)) / far**3)


def _power(x: Array, exponent: Array) -> Array:
    """Return ``x^exponent`` for a positive exponent: 0 at 0, and so are its derivatives there."""
    is_positive = x > 0
    return jnp.where(is_positive, jnp.where(is_positive, x, 1.0) ** exponent, jnp.where(x < 0, jnp.nan, 0.0))


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
