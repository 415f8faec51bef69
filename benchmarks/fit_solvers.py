"""One solver on one problem, in a process of its own; benchmarks/fit.py starts it and reads the line it prints.

    PYTHON benchmarks/fit_solvers.py SOLVER POINTS REPEATS

Any Python that has the solver will do: scipy, scipy-jac, nlsq, nlsq-reused, optimistix, ours, ours-prepared; with the
suffix "-many", as many fits of 200 points and four parameters as POINTS says.
"""

from __future__ import annotations

import json
import logging
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

START = (2.0, 1.0, 0.3)
PEAK_START = (1.5, 0.2, 1.2, 0.1)
PEAK_POINTS = 200
Array = Any
Run = Callable[[Array, Array], Any]


def decay(exp: Any) -> Callable[..., Array]:
    def model(x: Array, a: Any, b: Any, c: Any) -> Array:
        return a * exp(-b * x) + c

    return model


def peak(exp: Any) -> Callable[..., Array]:
    def model(x: Array, a: Any, m: Any, s: Any, c: Any) -> Array:
        return a * exp(-0.5 * ((x - m) / s) ** 2) + c

    return model


def jacobian(x: Array, a: float, b: float, _c: float) -> Array:
    decayed = np.exp(-b * x)
    return np.stack([decayed, -a * x * decayed, np.ones_like(x)], axis=1)


def data_of(points: int) -> tuple[Array, Array]:
    """Return x and y, made in place so that nothing but them takes memory."""
    x, y, random = np.empty(points), np.empty(points), np.random.default_rng(0)
    for at in range(0, points, 65536):
        end = min(at + 65536, points)
        x[at:end] = np.arange(at, end) * (5.0 / points)
        y[at:end] = 2.5 * np.exp(-1.3 * x[at:end]) + 0.5 + 0.05 * random.standard_normal(end - at)
    return x, y


def peaks_of(fits: int) -> Iterator[tuple[Array, Array]]:
    random, x = np.random.default_rng(1), np.linspace(-4, 4, PEAK_POINTS)
    for _ in range(fits):
        a, m, s, c = random.uniform((1, -0.5, 0.7, -0.2), (3, 0.5, 1.5, 0.2))
        yield x, a * np.exp(-0.5 * ((x - m) / s) ** 2) + c + 0.02 * random.standard_normal(PEAK_POINTS)


def scipy_solver(kind: str) -> Run:
    from scipy.optimize import curve_fit  # noqa: PLC0415

    jac = jacobian if "jac" in kind else None
    if kind.endswith("-many"):
        return lambda x, y: curve_fit(peak(np.exp), x, y, PEAK_START)[0]
    return lambda x, y: curve_fit(decay(np.exp), x, y, START, jac=jac)[0]


def nlsq_solver(kind: str) -> Run:
    import jax.numpy as jnp  # noqa: PLC0415
    import nlsq  # type: ignore[import-not-found]  # noqa: PLC0415

    logging.disable(logging.CRITICAL)
    model, start = (peak(jnp.exp), PEAK_START) if kind.endswith("-many") else (decay(jnp.exp), START)
    curve_fit = nlsq.curve_fit if kind == "nlsq" else nlsq.CurveFit().curve_fit

    def solve(x: Array, y: Array) -> Array:
        popt, _ = curve_fit(model, x, y, np.array(start))
        return np.asarray(popt)

    return solve


def optimistix_solver(kind: str) -> Run:
    import jax  # noqa: PLC0415
    import jax.numpy as jnp  # noqa: PLC0415
    import optimistix  # type: ignore[import-not-found]  # noqa: PLC0415

    jax.config.update("jax_enable_x64", True)  # type: ignore[no-untyped-call]
    solver = optimistix.LevenbergMarquardt(rtol=1e-8, atol=1e-8)
    model, start = (peak(jnp.exp), PEAK_START) if kind.endswith("-many") else (decay(jnp.exp), START)

    @jax.jit
    def solve(x: Array, y: Array) -> Array:
        def residuals(theta: Array, args: tuple[Array, Array]) -> Array:
            return model(args[0], *theta) - args[1]

        return optimistix.least_squares(residuals, solver, jnp.array(start), args=(x, y), throw=False).value

    return lambda x, y: np.asarray(solve(x, y))


def our_solver(kind: str) -> Run:
    import jax.numpy as jnp  # noqa: PLC0415
    from socm_workflows.fit import fit  # noqa: PLC0415
    from socm_workflows.fit.solver.case import make_case  # noqa: PLC0415
    from socm_workflows.fit.solver.iteration import iterate  # noqa: PLC0415
    from socm_workflows.fit.solver.options import Options  # noqa: PLC0415
    from socm_workflows.fit.solver.reductions import Prepared, prepare  # noqa: PLC0415
    from socm_workflows.fit.solver.solution import DEFAULTS  # noqa: PLC0415

    model = decay(jnp.exp)
    if kind == "ours":
        return lambda x, y: fit(model, x, y, START).popt
    ready: list[Prepared] = []

    def run(x: Array, y: Array) -> Array:
        if not ready or ready[0].count != y.size:
            ready[:] = [prepare(model, make_case(x, y, START), DEFAULTS, Options())]
        end = iterate(ready[0].reduction, np.array(START), len(START), methods=ready[0].methods)
        return np.asarray(end.state.parameters)

    return run


def our_many(fits: list[tuple[Array, Array]]) -> Callable[[], list[Any]]:
    """Return what solves all fits: the lanes that the batches of the ``fit`` kind take."""
    import jax.numpy as jnp  # noqa: PLC0415
    from socm_workflows.fit.solver.batch import BatchSolver  # noqa: PLC0415
    from socm_workflows.fit.solver.case import make_case  # noqa: PLC0415
    from socm_workflows.fit.solver.least_squares import Tolerances  # noqa: PLC0415

    solver = BatchSolver(peak(jnp.exp), ("a", "m", "s", "c"), Tolerances())
    return lambda: [
        found.parameters if not isinstance(found, Exception) else found
        for found in solver.solve([make_case(x, y, PEAK_START) for x, y in fits])
    ]


SOLVERS = {"scipy": scipy_solver, "nlsq": nlsq_solver, "optimistix": optimistix_solver, "ours": our_solver}


def job_of(kind: str, points: int) -> Callable[[], Any]:
    if kind == "ours-many":
        return our_many([*peaks_of(points)])
    solve = SOLVERS[kind.partition("-")[0]](kind)
    if kind.endswith("-many"):
        fits = [*peaks_of(points)]
        return lambda: [solve(x, y) for x, y in fits]
    x, y = data_of(points)
    return lambda: solve(x, y)


def memory(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024


def peak_above_data(kind: str, points: int) -> int:
    """Return the bytes that a fit takes beyond its data, in a process that has made a small one."""
    solve = SOLVERS[kind.partition("-")[0]](kind)
    solve(*data_of(1000))
    x, y = data_of(points)
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the highest mark begins again
    solve(x, y)
    return memory("VmHWM") - before


def used() -> tuple[float, float]:
    """Return wall and CPU seconds until now."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter(), usage.ru_utime + usage.ru_stime


def main() -> None:
    warnings.simplefilter("ignore")
    kind, points, repeats = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    if repeats == 0:
        print(json.dumps({"peak": peak_above_data(kind, points)}))
        return
    job = job_of(kind, points)
    times = [used()]
    for _ in range(repeats + 1):
        found = job()
        times.append(used())
    walls, cpus = np.diff(np.array(times), axis=0).T
    print(
        json.dumps(
            {
                "cold_wall": walls[0], "cold_cpu": cpus[0],
                "wall": float(np.median(walls[1:])), "cpu": float(np.median(cpus[1:])),
                "found": np.asarray(found[0] if kind.endswith("-many") else found).tolist(),
            }
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
