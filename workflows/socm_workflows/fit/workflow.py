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
from socm_workflows.fit.keys import Column, Limit, Tolerance, as_columns, as_start
from socm_workflows.fit.library import LIBRARY, describe_library, library_model
from socm_workflows.fit.needs import (
    MEMORY_PER_BYTE,
    PROCESS_MEMORY,
    RUNTIME,
    TIME_PER_BYTE,
    Needs,
    Table,
    needs_of,
)
from socm_workflows.fit.parameters import bounds_problems, reference_problem, start_problem, told
from socm_workflows.fit.strategy.memory_model import FitSize
from socm_workflows.fit.strategy.presets import get_preset

PROGRAMS_MEMORY = 300 * 2**20
"""Bytes that the programs of a batch need beyond the first."""
TIME_PER_FIT = 0.03
"""Seconds for one fit of a small table more in a batch, if it takes all iterations."""
TIME_PER_PLOT = 1.0
"""Seconds for one plot more."""
BLOCK_FITS = 256
"""Fits of a batch that are read, solved and written together."""
LARGEST_IN_BATCH = 16 * 2**20
"""Bytes of a file from which on a fit is made alone, also in a batch."""
MANY_POINTS = 1_000_000
"""Points from which on the goal memory_efficient streams."""
MULTISTART = 10
"""Starts of ``multistart = true``."""
BLOCK_BYTES = 4 * 2**20
"""Bytes of files from which on no further fit joins a block."""
OUTPUTS = {"parameters": "parameters.csv", "covariance": "covariance.csv", "plot": "fit.png"}
COLUMNAR = (".npz", ".h5", ".hdf5", ".parquet", ".pq")


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
    version: ClassVar[str] = "2"
    """2: result.json says more (reduced chi square, R2, AIC, ...), and the sums are taken in another order."""
    preload: ClassVar[tuple[str, ...]] = (
        "socm_workflows.fit.execution",
        "scipy.linalg",  # JAX imports it at the first factorisation
    )
    batch_over: ClassVar[tuple[str, ...]] = (
        "data", "p0", "bounds", "x", "y", "sigma", "absolute_sigma", "response", "skip", "delimiter", "plot", "outputs",
        "parameters", "strategy", "chunk_points", "loss", "f_scale", "jac", "covariance", "nan_policy", "multistart",
        "sampler", "seed", "goal", "preset", "checkpoint", "progress", "log",
    )  # fmt: skip

    data: Path
    """The table: text in columns (whitespace, CSV); .npz, .h5 or .parquet with names; .npy with columns."""
    model: str = Field(
        min_length=1,
        description='What to fit: "file://models.py:function" or "package.module:function", written with jax.numpy as '
        f"f(x, a, b, ...) of x (n points, or k rows of n) and its parameters; or a shipped model: {describe_library()}",
    )
    p0: Annotated[dict[str, float] | tuple[float, ...], BeforeValidator(as_start)]
    """Where the parameters start: a table of names, or a list in the order of the model."""
    bounds: dict[str, tuple[Limit, Limit]] = Field(default_factory=dict)
    """Parameter -> [low, high]; inf and -inf for none."""
    x: Annotated[tuple[Column, ...], BeforeValidator(as_columns), Field(min_length=1)] = (0,)
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
    loss: str = "linear"
    """How much a residual counts: linear, soft_l1, huber, cauchy, arctan, as in SciPy; or "file://losses.py:function"
    of z = (residual / f_scale)^2, giving rho, rho' and rho'' as (3, n)."""
    f_scale: float = Field(default=1.0, gt=0)
    """Residual, in units of sigma or else of y, from which on the loss differs from a square."""
    jac: str = ""
    """The derivatives, "file://models.py:function" of the arguments of the model, (n, p); else JAX finds them."""
    covariance: Literal["naive", "sandwich"] = "naive"
    """Whether the covariance takes the loss and sigma at their word, or the residuals as they are (White, Huber)."""
    nan_policy: Literal["raise", "omit"] = "raise"
    """What becomes of points where a number is not finite: the fit fails, or they are left out."""
    max_iterations: PositiveInt = 2000
    """Steps to try before the fit counts as not converged."""
    gtol: Tolerance = 1e-10
    """Convergence: the relative offset |Q1^T r| / |r|; times sqrt(n - p) it is the distance in standard errors."""
    ftol: Tolerance = 1e-20
    """Convergence: the relative change of the sum of squares that a full step promises and gives."""
    xtol: Tolerance = 1e-14
    """Convergence: the relative change of every parameter by a full step."""
    multistart: StrictBool | Annotated[int, Field(strict=True, ge=1)] = False
    """Whether to begin from several starts, or from how many; true is 10. One of them is p0."""
    sampler: Literal["lhs", "sobol", "halton"] = "lhs"
    """How the starts are spread within the bounds, and around p0 where there are none."""
    seed: int = Field(default=0, ge=0)
    """Of the sampler."""
    goal: Literal["fast", "robust", "global", "memory_efficient", "quality"] | None = None
    """What matters most. Sets the number of starts, and tolerances by the number of points, unless these are given."""
    preset: Annotated[str | None, NotIdentity()] = None
    """A named set of tolerances, starts and strategy for what is not given; kinetics, saxs, xpcs, robust, ..."""
    strategy: Annotated[Literal["auto", "standard", "chunked", "streaming"], NotIdentity()] = "auto"
    """Where the data are while they are fitted, which changes no answer: all in memory; in memory, looked at chunk by
    chunk; or read block by block in each iteration. "auto" streams what does not fit into the memory of the machine."""
    chunk_points: Annotated[PositiveInt | None, NotIdentity()] = None
    """Points of a chunk or block."""
    checkpoint: Annotated[StrictBool, NotIdentity()] = False
    """Whether to write where the fit is after each iteration, so that one that is killed goes on from there."""
    progress: Annotated[StrictBool, NotIdentity()] = False
    """Whether to report the cost of each iteration in steps.jsonl, by which a search may give up a fit."""
    log: Annotated[StrictBool, NotIdentity()] = False
    """Whether to write one line per iteration to stdout."""
    plot: Annotated[StrictBool, NotIdentity()] = True
    """Whether to draw data, model, residuals and convergence."""
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

    @field_validator("preset")
    @classmethod
    def _is_there(cls, preset: str | None) -> str | None:
        if preset is not None:
            get_preset(preset)
        return preset

    @field_validator("loss", "jac")
    @classmethod
    def _can_be_had(cls, reference: str, info: ValidationInfo) -> str:
        problem = "" if ":" in reference else reference_problem(str(info.field_name), reference)
        if problem:
            raise ValueError(problem)
        return reference

    @model_validator(mode="before")
    @classmethod
    def _follow_preset_and_goal(cls, values: Any) -> Any:
        """Write out what a preset and a goal say about the keys that are not given."""
        return told(values) if isinstance(values, dict) else values

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
        suffix = self.suffix
        if suffix in COLUMNAR and any(isinstance(column, int) for column in columns):
            raise ValueError(f"datasets of {suffix} files have names: write names for x, y and sigma")
        if suffix in (*COLUMNAR, ".npy") and (self.skip or self.delimiter != "auto"):
            raise ValueError(f"skip and delimiter are for files of text, not {suffix}")
        return self

    @property
    def restartable(self) -> bool:  # type: ignore[override]
        """Whether a new attempt goes on from where the one before was."""
        return self.checkpoint

    @property
    def suffix(self) -> str:
        """How the name of the table ends, in lower case."""
        return self.data.suffix.lower()

    @property
    def starts(self) -> int:
        """From how many starts to begin."""
        return MULTISTART if self.multistart is True else max(int(self.multistart), 1)

    def estimate(self, context: EstimateContext) -> Resources:
        """Return one core, and memory and time that grow with the data; what exceeds the machine is streamed.

        Data that are not there yet count as few. With GPUs, the memory of each is that of the data and the work.
        """
        needs = self.needs(context.machine.memory)
        on_gpu = needs.memory - PROCESS_MEMORY // 2 if self.resources.gpus else None
        return Resources(memory=needs.memory, runtime=needs.runtime, gpu_memory=on_gpu)

    def needs(self, memory: int) -> Needs:
        """Return with which strategy the fit is made where there is so much memory, and what it needs then."""
        table = Table(self.data, self.columns(), self.skip)
        asked = self.strategy
        if asked == "auto" and self.goal == "memory_efficient":
            asked = "streaming" if table.points() >= MANY_POINTS else "chunked"
        size = FitSize(
            points=table.points(), parameters=len(self.p0), features=len(self.x),
            sigma_dimensions=int(self.sigma is not None),
        )  # fmt: skip
        return needs_of(table, size, asked=asked, chunk=self.chunk_points, memory=memory, starts=self.starts)

    @property
    def joins_batches(self) -> bool:
        """Whether this fit can be solved side by side with others, as an array program."""
        is_plain = (self.loss, self.jac, self.covariance, self.starts) == ("linear", "", "naive", 1)
        is_watched = self.checkpoint or self.progress or self.log
        has_tolerances = None not in (self.gtol, self.ftol, self.xtol)
        is_small = self.strategy in ("auto", "standard") and self.goal is None and self.size() <= LARGEST_IN_BATCH
        return is_plain and not is_watched and has_tolerances and is_small

    @classmethod
    def estimate_batch(cls, workflows: Sequence[Self], context: EstimateContext) -> Resources:
        """Return one process, the memory of the largest block of files or fit, and the time of all, one by one."""
        joined = [fit for fit in workflows if fit.joins_batches]
        alone = [fit.needs(context.machine.memory) for fit in workflows if not fit.joins_batches]
        sizes = [fit.size() for fit in joined]
        most = MEMORY_PER_BYTE * max(sum(sizes[block]) for block in blocks_of(sizes))
        most = max([most, *(needs.memory - PROCESS_MEMORY for needs in alone)])
        seconds = TIME_PER_BYTE * sum(sizes) + TIME_PER_FIT * max(len(sizes) - 1, 0)
        seconds += sum(needs.runtime.total_seconds() for needs in alone)
        seconds += TIME_PER_PLOT * sum("plot" in fit.outputs for fit in workflows[1:])
        asked = workflows[0].estimate(context)
        base = asked.model_copy(update={"memory": PROCESS_MEMORY, "runtime": RUNTIME}).patched(workflows[0].resources)
        memory, runtime = base.memory or PROCESS_MEMORY, base.runtime or RUNTIME
        return base.model_copy(
            update={"memory": memory + PROGRAMS_MEMORY + most, "runtime": runtime + timedelta(seconds=seconds)}
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
