"""The 27 model functions of the NIST StRD nonlinear regression sets, as their data files print them.

Each is ``f(x, b1, b2, ...)`` with ``x`` of shape (n,), or (k, n) where there are several predictors.
Source: https://www.itl.nist.gov/div898/strd/nls/nls_main.shtml
"""

# ruff: noqa: PLR0917 - a model takes its parameters one by one

from __future__ import annotations

import jax.numpy as jnp
from jax import Array


def misra1a(x: Array, b1: Array, b2: Array) -> Array:
    """``b1 (1 - exp(-b2 x))``."""
    return b1 * (1 - jnp.exp(-b2 * x))


def boxbod(x: Array, b1: Array, b2: Array) -> Array:
    """``b1 (1 - exp(-b2 x))``."""
    return b1 * (1 - jnp.exp(-b2 * x))


def misra1b(x: Array, b1: Array, b2: Array) -> Array:
    """``b1 (1 - (1 + b2 x / 2)^-2)``."""
    return b1 * (1 - (1 + b2 * x / 2) ** -2)


def misra1c(x: Array, b1: Array, b2: Array) -> Array:
    """``b1 (1 - (1 + 2 b2 x)^-0.5)``."""
    return b1 * (1 - (1 + 2 * b2 * x) ** -0.5)


def misra1d(x: Array, b1: Array, b2: Array) -> Array:
    """``b1 b2 x / (1 + b2 x)``."""
    return b1 * b2 * x / (1 + b2 * x)


def chwirut(x: Array, b1: Array, b2: Array, b3: Array) -> Array:
    """``exp(-b1 x) / (b2 + b3 x)``."""
    return jnp.exp(-b1 * x) / (b2 + b3 * x)


def lanczos(x: Array, b1: Array, b2: Array, b3: Array, b4: Array, b5: Array, b6: Array) -> Array:
    """``b1 exp(-b2 x) + b3 exp(-b4 x) + b5 exp(-b6 x)``."""
    return b1 * jnp.exp(-b2 * x) + b3 * jnp.exp(-b4 * x) + b5 * jnp.exp(-b6 * x)


def gauss(x: Array, b1: Array, b2: Array, b3: Array, b4: Array, b5: Array, b6: Array, b7: Array, b8: Array) -> Array:
    """``b1 exp(-b2 x) + b3 exp(-(x - b4)^2 / b5^2) + b6 exp(-(x - b7)^2 / b8^2)``."""
    peaks = b3 * jnp.exp(-((x - b4) ** 2) / b5**2) + b6 * jnp.exp(-((x - b7) ** 2) / b8**2)
    return b1 * jnp.exp(-b2 * x) + peaks


def danwood(x: Array, b1: Array, b2: Array) -> Array:
    """``b1 x^b2``."""
    return b1 * x**b2


def kirby2(x: Array, b1: Array, b2: Array, b3: Array, b4: Array, b5: Array) -> Array:
    """``(b1 + b2 x + b3 x^2) / (1 + b4 x + b5 x^2)``."""
    return (b1 + b2 * x + b3 * x**2) / (1 + b4 * x + b5 * x**2)


def cubic_ratio(x: Array, b1: Array, b2: Array, b3: Array, b4: Array, b5: Array, b6: Array, b7: Array) -> Array:
    """``(b1 + b2 x + b3 x^2 + b4 x^3) / (1 + b5 x + b6 x^2 + b7 x^3)``: Hahn1 and Thurber."""
    return (b1 + b2 * x + b3 * x**2 + b4 * x**3) / (1 + b5 * x + b6 * x**2 + b7 * x**3)


def nelson(x: Array, b1: Array, b2: Array, b3: Array) -> Array:
    """``b1 - b2 x1 exp(-b3 x2)``, the logarithm of the response."""
    return b1 - b2 * x[0] * jnp.exp(-b3 * x[1])


def mgh09(x: Array, b1: Array, b2: Array, b3: Array, b4: Array) -> Array:
    """``b1 (x^2 + b2 x) / (x^2 + b3 x + b4)``."""
    return b1 * (x**2 + b2 * x) / (x**2 + b3 * x + b4)


def mgh10(x: Array, b1: Array, b2: Array, b3: Array) -> Array:
    """``b1 exp(b2 / (x + b3))``."""
    return b1 * jnp.exp(b2 / (x + b3))


def mgh17(x: Array, b1: Array, b2: Array, b3: Array, b4: Array, b5: Array) -> Array:
    """``b1 + b2 exp(-b4 x) + b3 exp(-b5 x)``."""
    return b1 + b2 * jnp.exp(-b4 * x) + b3 * jnp.exp(-b5 * x)


def roszman1(x: Array, b1: Array, b2: Array, b3: Array, b4: Array) -> Array:
    """``b1 - b2 x - arctan(b3 / (x - b4)) / pi``."""
    return b1 - b2 * x - jnp.arctan(b3 / (x - b4)) / jnp.pi


def enso(
    x: Array, b1: Array, b2: Array, b3: Array, b4: Array, b5: Array, b6: Array, b7: Array, b8: Array, b9: Array
) -> Array:
    """A yearly cycle, and two more of periods ``b4`` and ``b7``, each as a cosine and a sine."""

    def cycle(period: Array | float, cosine: Array, sine: Array) -> Array:
        phase = 2 * jnp.pi * x / period
        return cosine * jnp.cos(phase) + sine * jnp.sin(phase)

    return b1 + cycle(12.0, b2, b3) + cycle(b4, b5, b6) + cycle(b7, b8, b9)


def eckerle4(x: Array, b1: Array, b2: Array, b3: Array) -> Array:
    """``b1 / b2 exp(-((x - b3) / b2)^2 / 2)``."""
    return b1 / b2 * jnp.exp(-0.5 * ((x - b3) / b2) ** 2)


def rat42(x: Array, b1: Array, b2: Array, b3: Array) -> Array:
    """``b1 / (1 + exp(b2 - b3 x))``."""
    return b1 / (1 + jnp.exp(b2 - b3 * x))


def rat43(x: Array, b1: Array, b2: Array, b3: Array, b4: Array) -> Array:
    """``b1 / (1 + exp(b2 - b3 x))^(1 / b4)``."""
    return b1 / (1 + jnp.exp(b2 - b3 * x)) ** (1 / b4)


def bennett5(x: Array, b1: Array, b2: Array, b3: Array) -> Array:
    """``b1 (b2 + x)^(-1 / b3)``."""
    return b1 * (b2 + x) ** (-1 / b3)
