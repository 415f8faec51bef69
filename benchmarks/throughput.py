"""Tasks per second of ``campaign submit`` beside the bare posix_spawn loop, in one run on one machine.

    python benchmarks/throughput.py [--tasks 1000 10000] [--repeat 3]

Everything is measured from outside, as whole processes: wall seconds, CPU seconds of the process tree, and the peak
memory of the submitting process. The bare loop runs the same programs with two workers and records nothing.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

WORKERS = len(os.sched_getaffinity(0))

BARE = f"""
import os, sys
count, running = int(sys.argv[1]), 0
for index in range(count):
    if running == {WORKERS}:
        os.wait()
        running -= 1
    os.posix_spawn("/bin/true", ["/bin/true", str(index)], os.environ)
    running += 1
while running:
    os.wait()
    running -= 1
"""


def independent(count: int) -> str:
    tables = (f'[campaign.t{index}]\nkind = "command"\ncommand = ["/bin/true", "{index}"]\n' for index in range(count))
    return '[campaign]\nname = "independent"\n' + "".join(tables)


def layered(layers: int, width: int) -> str:
    """Every task of a layer depends on every task of the layer before."""
    lines = ['[campaign]\nname = "layered"\n']
    for layer in range(layers):
        lines.append(f'[campaign.layer{layer}]\nkind = "command"\n')
        if layer:
            lines.append(f'depends_on = ["layer{layer - 1}"]\n')
        lines += [
            f'[campaign.layer{layer}.t{index}]\ncommand = ["/bin/true", "{layer}", "{index}"]\n'
            for index in range(width)
        ]
    return "".join(lines)


def measure(argv: Sequence[str], folder: Path) -> tuple[float, float, float]:
    """Return wall seconds, CPU seconds and peak MB of a command; the launcher it leaves behind is not its child."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    subprocess.run(argv, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, after.ru_maxrss / 1000


def median_of(
    folder: Path, repeat: int, run: Callable[[Path], tuple[float, float, float]]
) -> tuple[float, float, float]:
    """Return the medians; each repetition has a folder of its own inside ``folder``."""
    rows = []
    for _ in range(repeat):
        place = Path(tempfile.mkdtemp(dir=folder))
        rows.append(run(place))
    wall, cpu, peak = (statistics.median(column) for column in zip(*rows, strict=True))
    return wall, cpu, peak


def submit(text: str) -> Callable[[Path], tuple[float, float, float]]:
    def run(folder: Path) -> tuple[float, float, float]:
        (folder / "campaign.toml").write_text(text)
        return measure([sys.executable, "-m", "socm_like.cli", "submit"], folder)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    # Nothing is deleted before the end: for five seconds ext4 walks around every inode it has just freed.
    with tempfile.TemporaryDirectory() as name:
        compare(Path(name), arguments.tasks, arguments.repeat)


def compare(folder: Path, counts: Sequence[int], repeat: int) -> None:
    print(f"{'':34}{'wall s':>8}{'ratio':>7}{'CPU s':>8}{'MB':>6}")
    for count in counts:
        argv = [sys.executable, "-c", BARE, str(count)]
        bare = median_of(folder, repeat, partial(measure, argv))
        rows = [
            (f"bare loop, {count} x /bin/true", bare),
            (f"campaign submit, {count} independent", median_of(folder, repeat, submit(independent(count)))),
        ]
        if count == 1000:
            rows.append(("campaign submit, 50 layers x 20", median_of(folder, repeat, submit(layered(50, 20)))))
        for label, (wall, cpu, peak) in rows:
            print(f"{label:34}{wall:8.2f}{wall / bare[0]:7.2f}{cpu:8.2f}{peak:6.0f}", flush=True)


if __name__ == "__main__":
    main()
