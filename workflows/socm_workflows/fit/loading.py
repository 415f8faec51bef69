"""From the ``model``, ``jac`` and ``loss`` of a fit to functions, and the names of the parameters."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from pathlib import Path
from types import ModuleType

from socm_like.errors import suggest
from socm_workflows.fit import models
from socm_workflows.fit.library import library_model
from socm_workflows.fit.solver.trust_region import ModelFunction


def load_model(reference: str) -> tuple[ModelFunction, tuple[str, ...]]:
    """Return the function that ``reference`` names, and its parameters after ``x``.

    ``reference`` is a shipped model, ``package.module:function``, or ``path/to/file.py:function`` with or without
    ``file://`` before it. The file is executed.

    Raises ValueError: no such model, file, module or function, or a function that is not ``f(x, a, b, ...)``.
    """
    if ":" not in reference:
        known = library_model(reference)
        shipped: ModelFunction = getattr(models, known.name.replace("-", "_"))
        return shipped, known.parameters
    function = load_function(reference)
    return function, _parameter_names(function, reference)


def load_function(reference: str) -> ModelFunction:
    """Return the function that ``module:function`` or ``file.py:function`` names; the file is executed.

    Raises ValueError: no such file, module or function.
    """
    source, _, name = reference.rpartition(":")
    module = _load_file(Path(source.removeprefix("file://"))) if _is_file(source) else _load_module(source)
    functions = {key for key, value in vars(module).items() if inspect.isfunction(value)}
    if not callable(getattr(module, name, None)):
        raise ValueError(f"{source} has no function {name!r}{suggest(name, functions)}")
    function: ModelFunction = getattr(module, name)
    return function


def _is_file(source: str) -> bool:
    return source.endswith(".py") or source.startswith("file://")


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ValueError(f"no file {path} to take the model from")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _load_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ValueError(f"no module {name!r} to take the model from: {error}") from error


def _parameter_names(function: ModelFunction, reference: str) -> tuple[str, ...]:
    parameters = list(inspect.signature(function).parameters.values())
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if len(parameters) < 2 or any(parameter.kind not in positional for parameter in parameters):
        found = f"{reference.rpartition(':')[2]}{inspect.signature(function)}"
        raise ValueError(f"{found} is not a model: write f(x, a, b, ...), x first, one argument per parameter")
    return tuple(parameter.name for parameter in parameters[1:])
