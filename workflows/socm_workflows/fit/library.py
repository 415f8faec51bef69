"""The shipped models as facts: names, parameters, formulas. The functions are in models.py.

Kept apart from them so that a campaign can be checked where JAX is not imported.
"""

from __future__ import annotations

from dataclasses import dataclass

from socm_like.errors import suggest


@dataclass(frozen=True, slots=True)
class LibraryModel:
    """A model that a campaign can name."""

    name: str
    parameters: tuple[str, ...]
    formula: str
    about: str


def _model(name: str, parameters: str, formula: str, about: str) -> LibraryModel:
    return LibraryModel(name, tuple(parameters.split()), formula, about)


LIBRARY = {
    model.name: model
    for model in (
        _model("line", "slope intercept", "slope x + intercept", "straight line"),
        _model("quadratic", "c0 c1 c2", "c0 + c1 x + c2 x^2", "parabola"),
        _model("cubic", "c0 c1 c2 c3", "c0 + c1 x + c2 x^2 + c3 x^3", "cubic"),
        _model("exponential", "amplitude rate", "amplitude exp(-rate x)", "decay to zero"),
        _model("exponential-offset", "amplitude rate offset", "amplitude exp(-rate x) + offset", "decay to a level"),
        _model(
            "biexponential",
            "amplitude1 rate1 amplitude2 rate2",
            "amplitude1 exp(-rate1 x) + amplitude2 exp(-rate2 x)",
            "two decays",
        ),
        _model(
            "stretched-exponential",
            "amplitude time exponent",
            "amplitude exp(-(x / time)^exponent)",
            "relaxation with a spread of rates; x >= 0",
        ),
        _model("first-order", "initial final rate", "final + (initial - final) exp(-rate x)", "first-order kinetics"),
        _model(
            "xpcs",
            "baseline contrast time exponent",
            "baseline + contrast exp(-2 (x / time)^exponent)",
            "correlation of speckles, x the delay; x >= 0",
        ),
        _model(
            "sphere",
            "scale radius background",
            "scale f(x radius)^2 + background with f(u) = 3 (sin u - u cos u) / u^3",
            "small-angle scattering of a sphere, x the wave number q",
        ),
        _model(
            "core-shell",
            "scale radius thickness contrast background",
            "scale (F / F(0))^2 + background with r = radius, s = radius + thickness, "
            "F = (contrast - 1) r^3 f(x r) + s^3 f(x s)",
            "a spherical core in a shell; contrast is that of the core over that of the shell, against the solvent",
        ),
        _model("gaussian", "amplitude center width", "amplitude exp(-(x - center)^2 / (2 width^2))", "peak"),
        _model(
            "gaussian-offset",
            "amplitude center width offset",
            "amplitude exp(-(x - center)^2 / (2 width^2)) + offset",
            "peak on a level",
        ),
        _model(
            "lorentzian",
            "amplitude center width",
            "amplitude / (1 + ((x - center) / width)^2)",
            "resonance; width is half the full width at half maximum",
        ),
        _model("power-law", "amplitude exponent", "amplitude x^exponent", "scaling; x > 0"),
        _model("logistic", "height rate center", "height / (1 + exp(-rate (x - center)))", "growth to a level"),
        _model("michaelis-menten", "vmax km", "vmax x / (km + x)", "saturation"),
        _model("hill", "vmax k exponent", "vmax x^exponent / (k^exponent + x^exponent)", "cooperative binding; x > 0"),
        _model("sine", "amplitude frequency phase offset", "amplitude sin(2 pi frequency x + phase) + offset", "cycle"),
        _model(
            "damped-sine",
            "amplitude rate frequency phase offset",
            "amplitude exp(-rate x) sin(2 pi frequency x + phase) + offset",
            "ringing that dies out",
        ),
    )
}


def library_model(name: str) -> LibraryModel:
    """Return a shipped model.

    Raises ValueError: there is none of that name.
    """
    if name not in LIBRARY:
        raise ValueError(
            f"no model {name!r}{suggest(name, LIBRARY)} (models: {', '.join(LIBRARY)}; "
            'your own: "file://models.py:function" or "package.module:function")'
        )
    return LIBRARY[name]


def describe_library() -> str:
    """Return one line per model: name(parameters) = formula, about."""
    return "; ".join(f"{m.name}({', '.join(m.parameters)}) = {m.formula}, {m.about}" for m in LIBRARY.values())
