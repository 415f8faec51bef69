"""The fitter beside SciPy, NLSQ and optimistix: seconds, CPU seconds and memory, from 1e3 to 1e7 points.

    python benchmarks/fit.py [--peers PYTHON] [--points 1000 ... 10000000] [--large FOLDER] [--only TABLE ...]

The model is ``a exp(-b x) + c``; every figure is of a fresh process (fit_solvers.py) that fits once cold and then
several times, and tells the median. CPU seconds are user and system of all threads. ``PYTHON`` is one that has NLSQ
and optimistix, which are no dependencies; without it they are left out. The floor is what five passes over x and y
(16 bytes per point) take at the memory bandwidth that the same run measures. ``--large`` makes a file of 1e8 points
(1.6 GB) in a folder, fits it and removes it. The tables are reStructuredText.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np

PROGRAM = Path(__file__).with_name("fit_solvers.py")
LABELS = {
    "scipy": "SciPy ``curve_fit``", "scipy-jac": "SciPy with ``jac``", "nlsq": "``nlsq.curve_fit``",
    "nlsq-reused": "``nlsq.CurveFit``, reused", "optimistix": "optimistix LM, jitted", "ours": "``fit``",
    "ours-prepared": "iteration alone, data ready",
}  # fmt: skip
PASSES = 5
Figures = Mapping[str, float]

LARGE = """
import json, os, resource, sys, time
import jax.numpy as jnp
from socm_workflows.fit.solver.solution import solve
from socm_workflows.fit.sources import open_source
path, empties = sys.argv[1], sys.argv[2] == "cold"

def drop():
    if empties:
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

def reading():
    drop()
    begun = time.perf_counter()
    for block in source.blocks():
        pass
    return time.perf_counter() - begun

def watch(progress):
    marks.append((time.perf_counter(), time.process_time()))
    drop()
    marks.append((time.perf_counter(), time.process_time()))

source = open_source(path, "x", "y")
reading()
read, marks = reading(), []
found = solve(lambda x, a, b, c: a * jnp.exp(-b * x) + c, None, None, (2.0, 1.0, 0.3), names="abc", source=source,
              callback=watch)
passes = [tuple(e - b for b, e in zip(*pair)) for pair in zip(marks[1::2], marks[2::2])]
print(json.dumps({"read": read, "passes": passes, "points": found.points, "converged": found.converged,
                  "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
"""

COMPILES = """
import json, jax, numpy as np
import jax.numpy as jnp
from socm_workflows.fit import fit
count = [0]
jax.monitoring.register_event_duration_secs_listener(
    lambda event, seconds, **_: count.__setitem__(0, count[0] + event.endswith("/backend_compile_duration")))
def model(x, a, b, c):
    return a * jnp.exp(-b * x) + c
found = []
for points in (600, 1000, 700_000, 900_000, 1_300_000):
    x = np.linspace(0, 5, points)
    before = count[0]
    fit(model, x, 2.5 * np.exp(-1.3 * x) + 0.5 + 0.05 * np.random.default_rng(0).normal(size=points), (2.0, 1.0, 0.3))
    found.append([points, count[0] - before])
print(json.dumps(found))
"""

TASK = """
import sys
from pathlib import Path
from socm_workflows.fit.workflow import FitWorkflow
folder = Path(sys.argv[1])
FitWorkflow(data=folder / "data.csv", model="exponential-offset", p0=[2.0, 1.0, 0.3], plot=False).run(folder)
"""


def run(argv: Sequence[str | Path], **environment: str) -> tuple[str, float, float]:
    """Return what a program printed last, and its wall and CPU seconds."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    child = subprocess.run(
        [*map(str, argv)], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    if child.returncode:
        raise SystemExit(f"{' '.join(map(str, argv[:4]))}: {child.stderr[-2000:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return (child.stdout.splitlines() or [""])[-1], wall, cpu


def python(program: str, *arguments: str | Path, **environment: str) -> tuple[str, float, float]:
    return run([sys.executable, "-W", "ignore", "-c", program, *arguments], **environment)


def measure(interpreter: str, kind: str, points: int, repeats: int) -> dict[str, float]:
    line, _, _ = run([interpreter, "-W", "ignore", PROGRAM, kind, str(points), str(repeats)])
    figures: dict[str, float] = json.loads(line)
    return figures


def bandwidth() -> float:
    """Return bytes per second of reading memory: sums of two threads, the best of ten."""
    values, threads = np.ones(2**26), len(os.sched_getaffinity(0))
    parts = np.array_split(values, threads)
    best = np.inf
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(10):
            begun = time.perf_counter()
            list(pool.map(np.sum, parts))
            best = min(best, time.perf_counter() - begun)
    return float(values.nbytes / best)


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table of reStructuredText."""
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]
    rule = "  ".join("=" * width for width in widths)
    lines = [rule, header, rule, *rows, rule]
    print(f"\n{title}\n")
    for line in lines:
        cells = line if isinstance(line, str) else "  ".join(f"{c:{w}}" for c, w in zip(line, widths, strict=True))
        print(cells.rstrip(), flush=True)


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.3g}" if seconds < 1 else f"{seconds * 1000:,.0f}"


def solvers(peers: str | None) -> dict[str, str]:
    """Return the interpreter of each solver that can be run."""
    every = dict.fromkeys(LABELS, sys.executable)
    for kind in ("nlsq", "nlsq-reused", "optimistix"):
        if peers is None:
            every.pop(kind)
        else:
            every[kind] = peers
    return every


def warm_and_cold(points: Sequence[int], peers: str | None) -> None:
    speed, every = 0.0, {}
    for kind, interpreter in solvers(peers).items():
        speed = max(speed, bandwidth())  # the best moment of the whole run counts, on a machine that others use, too
        every[kind] = [measure(interpreter, kind, n, max(3, min(15, 10**7 // n))) for n in points]
    print(f"memory bandwidth {speed / 1e9:.1f} GB/s, {len(os.sched_getaffinity(0))} cores")
    header = ["", *(f"{n:.0e}" for n in points)]
    rows = [
        [LABELS[kind], *(f"{milliseconds(f['wall'])} / {milliseconds(f['cpu'])}" for f in figures)]
        for kind, figures in every.items()
    ]
    table("Warm fit, ms: wall / CPU, medians", header, rows)
    floors = [PASSES * 16 * n / speed for n in points]
    rows = [["floor, ms", *map(milliseconds, floors)]]
    rows += [
        [
            LABELS[kind],
            *(f"{f['wall'] / floor:.0f}x / {f['cpu'] / floor:.0f}x" for f, floor in zip(figures, floors, strict=True)),
        ]
        for kind, figures in every.items()
    ]
    table("Multiples of the bandwidth floor: wall / CPU", header, rows)
    ours = every["ours"]
    rows = [
        [LABELS[kind], *(f"{f['cpu'] / own['cpu']:.2g}x" for f, own in zip(figures, ours, strict=True))]
        for kind, figures in every.items()
    ]
    table("CPU time of a warm fit, over that of ``fit``", header, rows)
    rows = [
        [LABELS[kind], *(f"{f['cold_wall']:.2f} / {f['cold_cpu']:.2f}" for f in figures)]
        for kind, figures in every.items()
    ]
    table("First fit of a process, s: wall / CPU (imports not counted)", header, rows)


def peaks(points: Sequence[int], peers: str | None) -> None:
    large = [n for n in points if n >= 10**6]
    if not large:
        return
    rows = []
    for kind, interpreter in solvers(peers).items():
        found = [measure(interpreter, kind, n, 0)["peak"] for n in large]
        rows.append(
            [LABELS[kind], *(f"{b / 2**20:.0f} MiB, {b / (16 * n):.2f}x" for b, n in zip(found, large, strict=True))]
        )
    table("Peak memory above the data, and over their size", ["", *(f"{n:.0e}" for n in large)], rows)


def many(peers: str | None, fits: int) -> None:
    kinds = {"scipy-many": "SciPy loop", "ours-many": "``run_batch`` lanes"}
    if peers:
        kinds |= {"nlsq-reused-many": "``nlsq.CurveFit``, reused, loop", "optimistix-many": "optimistix, jitted, loop"}
    figures = {
        kind: measure(peers if peers and kind[0] in "no" and kind != "ours-many" else sys.executable, kind, fits, 3)
        for kind in kinds
    }
    own = figures["ours-many"]
    rows = [
        [name, f"{f['wall']:.3f}", f"{f['cpu']:.3f}", f"{f['cpu'] / own['cpu']:.1f}x", f"{f['cold_wall']:.2f}"]
        for (kind, name) in kinds.items()
        for f in [figures[kind]]
    ]
    table(f"{fits:,} fits of 200 points and 4 parameters, s", ["", "wall", "CPU", "ratio", "cold"], rows)


def compiles() -> None:
    rows = [[f"{n:,}", str(count)] for n, count in json.loads(python(COMPILES)[0])]
    table("Programs compiled by one ``fit`` after the other", ["points", "compiled"], rows)


def cold_start() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        x = np.linspace(0, 5, 1000)
        np.savetxt(folder / "data.csv", np.stack([x, 2.5 * np.exp(-1.3 * x) + 0.5 + 0.01 * np.sin(99 * x)], axis=1))
        cache = {
            "JAX_COMPILATION_CACHE_DIR": str(folder / "cache"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        cases = {"without the cache": {}, "with it, empty": cache, "with it, filled": cache}
        rows = []
        for label, environment in cases.items():
            repeats = 1 if label.endswith("empty") else 5
            times = [python(TASK, folder, **environment)[1:] for _ in range(repeats)]
            wall, cpu = (statistics.median(values) for values in zip(*times, strict=True))
            rows.append([label, f"{wall:.2f}", f"{cpu:.2f}"])
    table("A ``fit`` task in a process of its own, start to end, s", ["", "wall", "CPU"], rows)


def large_file(folder: Path) -> None:
    points, path = 10**8, folder / "large.h5"
    try:
        with h5py.File(path, "w") as file:
            columns = [file.create_dataset(name, (points,), "f8") for name in "xy"]
            random = np.random.default_rng(1)
            for at in range(0, points, 2**20):
                x = np.arange(at, min(points, at + 2**20)) * (5.0 / points)
                y = 2.5 * np.exp(-1.3 * x) + 0.5 + 0.05 * random.standard_normal(x.size)
                columns[0][at : at + x.size], columns[1][at : at + x.size] = x, y
        os.sync()
        rows = []
        for cache in ("warm", "cold"):
            found = json.loads(python(LARGE, path, cache)[0])
            wall, cpu = (statistics.median(values) for values in zip(*found["passes"], strict=True))
            speed, memory = 16 * points / found["read"] / 1e9, found["rss"] / 2**20
            rows.append([f"page cache {cache}", f"{found['read']:.2f}", f"{speed:.1f}", f"{wall:.2f}", f"{cpu:.2f}"])
            rows[-1].append(f"{memory:.0f} MiB")
        header = ["", "reading alone, s", "GB/s", "pass of a fit, s", "CPU, s", "peak memory of the process"]
        table(f"{points:.0e} points (1.6 GB) of an HDF5 file", header, rows)
    finally:
        path.unlink(missing_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", metavar="PYTHON", help="a Python with nlsq and optimistix")
    parser.add_argument("--points", type=int, nargs="+", default=[10**3, 10**4, 10**5, 10**6, 10**7])
    parser.add_argument("--fits", type=int, default=1000, help="small fits to make together")
    parser.add_argument("--large", type=Path, metavar="FOLDER", help="fit 1e8 points of a file in this folder")
    parser.add_argument("--only", nargs="+", choices=["times", "memory", "many", "compiles", "start", "large"])
    options = parser.parse_args()
    only = set(options.only or ["times", "memory", "many", "compiles", "start", *(["large"] if options.large else [])])
    if "times" in only:
        warm_and_cold(options.points, options.peers)
    if "memory" in only:
        peaks(options.points, options.peers)
    if "many" in only:
        many(options.peers, options.fits)
    if "compiles" in only:
        compiles()
    if "start" in only:
        cold_start()
    if "large" in only:
        large_file(options.large or Path(tempfile.gettempdir()))


if __name__ == "__main__":
    main()
