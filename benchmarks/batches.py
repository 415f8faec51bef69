"""The same campaign of small fits with shared processes and without, beside a SciPy loop in one process.

    python benchmarks/batches.py [--fits 1000] [--single 100]

Every one of them reads each table from its own file, fits two parameters to 50 points and writes parameters and
covariance as text. The loop is told the tolerances of the kind ``fit``; it records nothing else, checks nothing, and
loses everything when one fit raises. ``--single`` says how many fits are run with a process each (it takes seconds per
fit); their wall time is scaled to all.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

LOOP = """
import sys
from pathlib import Path
import numpy as np
from scipy.optimize import curve_fit
def model(x, amplitude, rate): return amplitude * np.exp(-rate * x)
for path in sorted(Path("data").glob("*.txt"))[: int(sys.argv[1])]:
    x, y = np.loadtxt(path, unpack=True)
    popt, pcov = curve_fit(model, x, y, p0=(1.0, 1.0), ftol=1e-14, xtol=1e-14, gtol=1e-10)
    folder = Path("loop", path.stem)
    folder.mkdir(parents=True)
    np.savetxt(folder / "parameters.csv", np.c_[popt, np.sqrt(np.diag(pcov))], delimiter=",")
    np.savetxt(folder / "covariance.csv", pcov, delimiter=",")
"""

CAMPAIGN = """
[campaign]
name = "small-fits"
[campaign.fits]
kind = "fit"
model = "exponential"
p0 = { amplitude = 1.0, rate = 1.0 }
plot = false
sweep.csv = "list.csv"
"""


def write_tables(folder: Path, count: int) -> None:
    random = np.random.default_rng(20261121)
    x = np.linspace(0, 5, 50)
    (folder / "data").mkdir()
    for index in range(count):
        y = (2 + index / count) * np.exp(-(0.5 + index / count) * x) + 0.01 * random.normal(size=x.size)
        np.savetxt(folder / "data" / f"{index:05d}.txt", np.column_stack([x, y]))
    (folder / "campaign.toml").write_text(CAMPAIGN)


def write_list(folder: Path, count: int) -> None:
    (folder / "list.csv").write_text("data\n" + "".join(f"data/{index:05d}.txt\n" for index in range(count)))


def seconds(argv: Sequence[str], folder: Path) -> float:
    """Return the wall seconds of a command."""
    start = time.perf_counter()
    process = subprocess.Popen(argv, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, errors = process.communicate()
    if process.returncode:
        raise SystemExit(f"{' '.join(argv)} ended with status {process.returncode}: {errors.decode()}")
    return time.perf_counter() - start


def submit(folder: Path, store: str, *settings: str) -> float:
    words = [word for setting in settings for word in ("--set", setting)]
    argv = [sys.executable, "-m", "socm_like.cli", "submit", "--store", store, *words]
    return seconds(argv, folder)


def cpu_of(folder: Path, store: str) -> float:
    """Return the CPU seconds of all tasks of the store's only run."""
    argv = [sys.executable, "-m", "socm_like.cli", "results", "--json", "--store", store]
    rows = json.loads(subprocess.run(argv, cwd=folder, check=True, capture_output=True).stdout)
    return float(sum(row["cpu_seconds"] for row in rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fits", type=int, default=1000)
    parser.add_argument("--single", type=int, default=100)
    arguments = parser.parse_args()
    count, single = arguments.fits, min(arguments.single, arguments.fits)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_tables(folder, count)
        loop = seconds([sys.executable, "-c", LOOP, str(count)], folder)
        write_list(folder, count)
        batched = submit(folder, "batched")
        again = submit(folder, "batched")
        write_list(folder, single)
        alone = submit(folder, "alone", "execution.batch_size=1") * count / single
        cpu = cpu_of(folder, "alone") * count / single
        rows = (
            (f"SciPy loop in one process, {count} fits", loop, None),
            ("campaign, shared processes", batched, cpu_of(folder, "batched")),
            ("campaign, submitted again", again, None),
            (f"campaign, a process per fit ({single} run, scaled)", alone, cpu),
        )
        print(f"{len(os.sched_getaffinity(0))} cores{'':46}{'wall s':>8}{'ratio':>8}{'CPU s of tasks':>16}")
        for label, wall, used in rows:
            print(f"{label:53}{wall:8.1f}{wall / loop:8.2f}{'' if used is None else format(used, '16.1f')}")


if __name__ == "__main__":
    main()
