"""The ``fit`` kind: what a campaign file says about a fit. Nothing here imports JAX before it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from math import inf
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    StrictBool,
    ValidationInfo,
    field_validator,
    model_validator,
)

from socm_like.errors import listed, suggest
from socm_like.fields import NotIdentity
from socm_like.resources import Resources
from socm_like.workflow import EstimateContext, Result, Workflow
from socm_workflows.fit.library import LIBRARY, describe_library, library_model
from socm_workflows.fit.parameters import bounds_problems, start_problem

PROCESS_MEMORY = 600 * 2**20
"""Bytes of a process with JAX, Matplotlib and one compiled fit of a small table, with room to spare."""
PROGRAMS_MEMORY = 300 * 2**20
"""Bytes that the programs of a batch need beyond the first."""
MEMORY_PER_BYTE = 40
"""Bytes of memory per byte of the file."""
RUNTIME = timedelta(minutes=10)
"""Time for one fit of a small table, or a batch of few: compiling, on a busy machine."""
TIME_PER_BYTE = 2e-6
"""Seconds per byte of the file."""
TIME_PER_FIT = 0.03
"""Seconds for one fit of a small table more in a batch, if it takes all iterations."""
TIME_PER_PLOT = 1.0
"""Seconds for one plot more."""
BLOCK_FITS = 256
"""Fits of a batch that are read, solved and written together."""
BLOCK_BYTES = 4 * 2**20
"""Bytes of files from which on no further fit joins a block."""
OUTPUTS = {"parameters": "parameters.csv", "covariance": "covariance.csv", "plot": "fit.png"}
COLUMNAR = (".npz", ".h5", ".hdf5")


def _as_columns(value: Any) -> Any:
    return (value,) if isinstance(value, int | str) else value


def _as_column(value: Any) -> Any:
    is_number = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if is_number or (isinstance(value, str) and value):
        return value
    raise ValueError(f"a column is a number from 0 or a name, got {value!r}")


def _as_start(value: Any) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else None
    if items is None:
        raise ValueError(f"write a table of parameters or a list of numbers, got {value!r}")
    for name, number in items:
        if isinstance(number, bool) or not isinstance(number, int | float) or not -inf < number < inf:
            raise ValueError(f"{name}: write a finite number, got {number!r}")
    return value


def _as_limit(value: Any) -> Any:
    """Return None for an infinite limit, which TOML writes ``inf`` and JSON cannot."""
    return None if isinstance(value, float) and value in (inf, -inf) else value


Column = Annotated[int | str, BeforeValidator(_as_column)]
"""A column by number, counted from 0, or by name."""

Limit = Annotated[float | None, BeforeValidator(_as_limit)]
"""A bound; ``inf``, ``-inf`` and None are none."""


def blocks_of(sizes: Sequence[int]) -> Iterator[slice]:
    """Yield the blocks of a batch, given the size of each file in bytes."""
    begin, held = 0, 0
    for index, size in enumerate(sizes):
        if held >= BLOCK_BYTES or index - begin == BLOCK_FITS:
            yield slice(begin, index)
            begin, held = index, 0
        held += size
    yield slice(begin, len(sizes))


class FitWorkflow(Workflow):
    """Fit a model to a table of data by nonlinear least squares.

    Leaves the parameters with their standard errors, the covariance and a plot. A fit that does not converge says so
    in the metrics ``converged`` and ``reason``, and has no standard errors.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    kind: ClassVar[str] = "fit"
    version: ClassVar[str] = "1"
    preload: ClassVar[tuple[str, ...]] = (
        "socm_workflows.fit.execution",
        "scipy.linalg",  # JAX imports it at the first factorisation
    )
    batch_over: ClassVar[tuple[str, ...]] = (
        "data", "p0", "bounds", "x", "y", "sigma", "absolute_sigma", "response", "skip", "delimiter", "plot", "outputs",
        "parameters",
    )  # fmt: skip

    data: Path
    """The table: text in columns (whitespace, CSV), or .npz, .h5 with one dataset per column."""
    model: str = Field(
        min_length=1,
        description='What to fit: "file://models.py:function" or "package.module:function", written with jax.numpy as '
        f"f(x, a, b, ...) of x (n points, or k rows of n) and its parameters; or a shipped model: {describe_library()}",
    )
    p0: Annotated[dict[str, float] | tuple[float, ...], BeforeValidator(_as_start)]
    """Where the parameters start: a table of names, or a list in the order of the model."""
    bounds: dict[str, tuple[Limit, Limit]] = Field(default_factory=dict)
    """Parameter -> [low, high]; inf and -inf for none."""
    x: Annotated[tuple[Column, ...], BeforeValidator(_as_columns), Field(min_length=1)] = (0,)
    """Column of the predictor, or a list of them: numbers from 0, or names."""
    y: Column = 1
    """Column of the response."""
    sigma: Column | None = None
    """Column of the standard deviation of each y, in the unit of y; without it all points count alike."""
    absolute_sigma: bool = False
    """Whether sigma is the truth; else it only weighs the points, and the residuals set its scale."""
    response: Literal["identity", "log"] = "identity"
    """What the model describes: y, or its natural logarithm (then sigma becomes sigma / y)."""
    skip: int = Field(default=0, ge=0)
    """Lines of text to pass over at the top."""
    delimiter: Literal["auto", "whitespace", ",", ";", "\t"] = "auto"
    """What separates columns of text; "auto" looks at the first line."""
    max_iterations: PositiveInt = 2000
    """Steps to try before the fit counts as not converged."""
    gtol: float = Field(default=1e-10, ge=0, lt=1)
    """Convergence: the relative offset |Q1^T r| / |r|; times sqrt(n - p) it is the distance in standard errors."""
    ftol: float = Field(default=1e-20, ge=0, lt=1)
    """Convergence: the relative change of the sum of squares that a full step promises and gives."""
    xtol: float = Field(default=1e-14, ge=0, lt=1)
    """Convergence: the relative change of every parameter by a full step."""
    plot: Annotated[StrictBool, NotIdentity()] = True
    """Whether to draw data, model and residuals."""
    outputs: dict[str, str] = Field(default=OUTPUTS)
    """What to write, and where: any of parameters, covariance, plot."""

    @field_validator("model")
    @classmethod
    def _is_known(cls, model: str) -> str:
        if ":" not in model:
            library_model(model)
        return model

    @field_validator("p0")
    @classmethod
    def _starts_every_parameter(
        cls, p0: dict[str, float] | tuple[float, ...], info: ValidationInfo
    ) -> dict[str, float] | tuple[float, ...]:
        model = info.data.get("model")
        if model in LIBRARY and (problem := start_problem(p0, LIBRARY[model].parameters)):
            raise ValueError(problem)
        return p0

    @field_validator("bounds")
    @classmethod
    def _hold_the_start(
        cls, bounds: dict[str, tuple[float | None, float | None]], info: ValidationInfo
    ) -> dict[str, tuple[float | None, float | None]]:
        p0, model = info.data.get("p0", {}), info.data.get("model")
        names = LIBRARY[model].parameters if model in LIBRARY else tuple(p0) if isinstance(p0, Mapping) else ()
        start = p0 if isinstance(p0, Mapping) else dict(zip(names, p0, strict=False))
        problems = bounds_problems(bounds, names, start)
        if problems:
            raise ValueError("; ".join(problems))
        return bounds

    @field_validator("outputs")
    @classmethod
    def _are_written(cls, outputs: dict[str, str]) -> dict[str, str]:
        unknown = [f"{name!r}{suggest(name, OUTPUTS)}" for name in outputs if name not in OUTPUTS]
        if unknown:
            raise ValueError(f"a fit does not write {', '.join(unknown)}; it writes: {listed(OUTPUTS)}")
        return outputs

    @model_validator(mode="before")
    @classmethod
    def _draw_only_what_is_wanted(cls, values: Any) -> Any:
        """Take the plot out of the outputs unless it is wanted; one with a path of its own stays, and is refused."""
        if not isinstance(values, dict) or values.get("plot", True) is not False:
            return values
        outputs = values.get("outputs", OUTPUTS)
        if not isinstance(outputs, dict) or outputs.get("plot") != OUTPUTS["plot"]:
            return values
        return {**values, "outputs": {name: path for name, path in outputs.items() if name != "plot"}}

    @model_validator(mode="after")
    def _plot_is_wanted(self) -> Self:
        if not self.plot and "plot" in self.outputs:
            raise ValueError(f"outputs: plot is to be {self.outputs['plot']}, but plot = false says not to draw it")
        return self

    @model_validator(mode="after")
    def _columns_agree(self) -> Self:
        columns = self.columns()
        repeated = [column for column in columns if columns.count(column) > 1]
        if repeated:
            raise ValueError(f"column {repeated[0]!r} stands twice among x, y and sigma")
        if self.absolute_sigma and self.sigma is None:
            raise ValueError("absolute_sigma needs the column sigma")
        suffix = self.data.suffix.lower()
        if suffix in COLUMNAR and any(isinstance(column, int) for column in columns):
            raise ValueError(f"datasets of {suffix} files have names: write names for x, y and sigma")
        if suffix in COLUMNAR and (self.skip or self.delimiter != "auto"):
            raise ValueError(f"skip and delimiter are for files of text, not {suffix}")
        return self

    def estimate(self, context: EstimateContext) -> Resources:  # noqa: ARG002 - the same on every machine
        """Return one core, and memory and time that grow with the file; one that is not there yet counts as empty."""
        size = self.size()
        runtime = RUNTIME + timedelta(seconds=TIME_PER_BYTE * size)
        return Resources(memory=PROCESS_MEMORY + MEMORY_PER_BYTE * size, runtime=runtime)

    @classmethod
    def estimate_batch(cls, workflows: Sequence[Self], context: EstimateContext) -> Resources:  # noqa: ARG003 - see estimate
        """Return one process, the memory of the largest block of files, and a little time for every further fit."""
        sizes = [fit.size() for fit in workflows]
        most = max(sum(sizes[block]) for block in blocks_of(sizes))
        seconds = TIME_PER_BYTE * sum(sizes) + TIME_PER_FIT * (len(sizes) - 1)
        seconds += TIME_PER_PLOT * sum("plot" in fit.outputs for fit in workflows[1:])
        base = Resources(memory=PROCESS_MEMORY, runtime=RUNTIME).patched(workflows[0].resources)
        memory, runtime = base.memory or PROCESS_MEMORY, base.runtime or RUNTIME
        return base.model_copy(
            update={
                "memory": memory + PROGRAMS_MEMORY + MEMORY_PER_BYTE * most,
                "runtime": runtime + timedelta(seconds=seconds),
            }
        )

    def run(self, directory: Path) -> Result:
        """Fit, and write the outputs."""
        from socm_workflows.fit import execution  # noqa: PLC0415

        return execution.run_fit(self, directory)

    @classmethod
    def run_batch(cls, workflows: Sequence[Self], directories: Sequence[Path]) -> Iterator[Result | Exception]:
        """Fit all of them in few compiled programs, and yield the result of each or why it failed, in order.

        A process that is killed loses the block it was at: at most ``BLOCK_FITS`` fits, or ``BLOCK_BYTES`` of files
        and one more. What was yielded is written in full.
        """
        from socm_workflows.fit import execution  # noqa: PLC0415

        return execution.run_fits(workflows, directories)

    def columns(self) -> tuple[int | str, ...]:
        """Return the columns to read: of the predictors, of the response, and of sigma if there is one."""
        return (*self.x, self.y) if self.sigma is None else (*self.x, self.y, self.sigma)

    def limits(self, names: Sequence[str]) -> tuple[list[float], list[float], list[float]]:
        """Return start, low and high bounds in the order of the parameters.

        Raises ValueError: they are not those of the model.
        """
        problem = start_problem(self.p0, names)
        if problem:
            raise ValueError(f"p0: {problem}")
        start = self.p0 if isinstance(self.p0, dict) else dict(zip(names, self.p0, strict=True))
        problems = bounds_problems(self.bounds, names, start)
        if problems:
            raise ValueError(f"bounds: {'; '.join(problems)}")
        limits = [self.bounds.get(name, (None, None)) for name in names]
        lower = [-inf if low is None else low for low, _ in limits]
        upper = [inf if high is None else high for _, high in limits]
        return [start[name] for name in names], lower, upper

    def size(self) -> int:
        """Return the size of the data in bytes; a file that is not there yet counts as empty."""
        return self.data.stat().st_size if self.data.is_file() else 0
