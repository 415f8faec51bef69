"""Peak memory of one fit beyond Python, JAX and NumPy, beside what MemoryBudget predicts.

    python benchmarks/fit_memory.py [--points 1000 100000 1000000 10000000] [--parameters 3 10 20] [--strategy standard]

Each figure is one fresh process: it imports, makes JAX compute something, remembers how much memory it has taken,
makes the data in place, fits, and reads the highest mark of the kernel (VmHWM of proc(5)). The model is a sum of
decays with an offset. Aim: predicted over measured between 1/1.3 and 1.3.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

CHILD = """
import json, sys
from pathlib import Path
import jax.numpy as jnp
import numpy as np
from socm_workflows.fit.strategy.budget import MemoryBudget
from socm_workflows.fit.solver.solution import solve
from socm_workflows.fit.strategy.tiers import WorkflowTier

points, size, strategy, chunk = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
truth = np.array([0.3, *[2.0 / (i + 1) if i % 2 == 0 else 0.5 * 3.0 ** (i // 2) for i in range(size - 1)]])

def memory(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024

def decays(exp, x, theta):
    total = theta[0] + 0.0 * x
    for i in range(1, size, 2):
        total = total + (theta[i] * exp(-theta[i + 1] * x) if i + 1 < size else theta[i] * x)
    return total

def data(begin, end):
    x = np.arange(begin, end) * (5.0 / points)
    return x, decays(np.exp, x, truth) + 0.01 * np.random.default_rng(begin).standard_normal(x.size), None

class Made:
    n, k = points, 1

    def blocks(self):
        for begin in range(0, points, chunk):
            x, y = np.empty(min(chunk, points - begin)), np.empty(min(chunk, points - begin))
            for at in range(0, x.size, 65536):
                x[at : at + 65536], y[at : at + 65536], _ = data(begin + at, begin + min(at + 65536, x.size))
            yield x, y, None

jnp.zeros(8).sum().block_until_ready()
before = memory("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # the highest mark begins again
given = {"x": None, "y": None, "source": Made()}
if strategy != "streaming":
    x, y = np.empty(points), np.empty(points)
    for at in range(0, points, 65536):
        x[at : at + 65536], y[at : at + 65536], _ = data(at, min(at + 65536, points))
    given = {"x": x, "y": y, "strategy": strategy, "chunk_points": chunk if strategy == "chunked" else None}
names = [f"theta{i}" for i in range(size)]
solve(lambda x, *theta: decays(jnp.exp, x, theta), start=truth * 1.01, names=names, **given)
measured = memory("VmHWM") - before
predicted = MemoryBudget.compute(points, size).peak_of(WorkflowTier(strategy), chunk) * 2**30
print(json.dumps([predicted, measured]))
"""


def measure(points: int, parameters: int, strategy: str, chunk: int) -> tuple[float, float]:
    """Return the bytes predicted and measured."""
    argv = [sys.executable, "-W", "ignore", "-c", CHILD, str(points), str(parameters), strategy, str(chunk)]
    child = subprocess.run(argv, capture_output=True, text=True, check=False)
    if child.returncode:
        raise SystemExit(child.stderr)
    predicted, measured = json.loads(child.stdout.splitlines()[-1])
    return predicted, measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, nargs="+", default=[1_000, 100_000, 1_000_000, 10_000_000])
    parser.add_argument("--parameters", type=int, nargs="+", default=[3, 10, 20])
    parser.add_argument("--strategy", default="standard", choices=["standard", "chunked", "streaming"])
    parser.add_argument("--chunk", type=int, default=1_000_000, help="points of a chunk")
    parser.add_argument("--json", action="store_true", help="print [predicted, measured] in bytes, for each a line")
    options = parser.parse_args()
    if options.json:
        for points in options.points:
            for parameters in options.parameters:
                print(json.dumps(measure(points, parameters, options.strategy, options.chunk)), flush=True)
        return
    print(
        f"{'points':>12} {'parameters':>10} {'predicted':>10} {'measured':>10} {'ratio':>6}   (MB, {options.strategy})"
    )
    for points in options.points:
        for parameters in options.parameters:
            predicted, measured = measure(points, parameters, options.strategy, options.chunk)
            ratio = predicted / measured
            print(
                f"{points:12d} {parameters:10d} {predicted / 1e6:10.0f} {measured / 1e6:10.0f} {ratio:6.2f}", flush=True
            )


if __name__ == "__main__":
    main()
