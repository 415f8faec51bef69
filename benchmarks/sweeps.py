"""CPU time and memory of planning sweeps, of looking at them and of submitting them again.

    python benchmarks/sweeps.py [--combinations 1000 100000] [--tasks 10000] [--repeat 3]

Whole processes, measured from outside. The peer of planning is the least that any planner has to do: the product of
the axes, and for each combination its canonical JSON and the sha256 of it, in a bare Python process.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

BARE = """
import hashlib, itertools, json, sys
axes = {"a": range(int(sys.argv[1]) // 1000), "b": range(10), "c": list("xyzuv"), "d": [k / 10 for k in range(20)]}
tasks = []
for values in itertools.product(*axes.values()):
    text = json.dumps(dict(zip(axes, values)), sort_keys=True, separators=(",", ":"))
    tasks.append((hashlib.sha256(text.encode()).hexdigest(), text))
"""


def campaign(combinations: int, name: str = "sweep") -> str:
    return f"""
[campaign]
name = "{name}"
[campaign.run]
kind = "command"
command = "/bin/true {{a}} {{b}} {{c}} {{d}}"
[campaign.run.sweep]
a = {{ min = 1, max = {combinations // 1000}, n = {combinations // 1000} }}
b = {{ min = 1, max = 10, n = 10 }}
c = ["x", "y", "z", "u", "v"]
d = {{ min = 0.0, max = 1.9, n = 20 }}
"""


def measure(argv: Sequence[str], folder: Path) -> tuple[float, float, float]:
    """Return wall seconds, CPU seconds and peak MB of a command."""
    start = time.perf_counter()
    process = subprocess.Popen(argv, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(argv)} ended with status {status}")
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def median(argv: Sequence[str], folder: Path, repeat: int) -> tuple[float, float, float]:
    rows = [measure(argv, folder) for _ in range(repeat)]
    wall, cpu, peak = (statistics.median(column) for column in zip(*rows, strict=True))
    return wall, cpu, peak


def cli(*words: str) -> list[str]:
    return [sys.executable, "-m", "socm_like.cli", *words]


def show(label: str, found: tuple[float, float, float], note: str = "") -> None:
    wall, cpu, peak = found
    print(f"{label:44}{wall:8.2f}{cpu:8.2f}{peak:7.0f}  {note}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--combinations", type=int, nargs="+", default=[1000, 100000])
    parser.add_argument("--tasks", type=int, default=10000)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{'':44}{'wall s':>8}{'CPU s':>8}{'MB':>7}")
    with tempfile.TemporaryDirectory() as name:
        plan(Path(name), arguments.combinations, arguments.repeat)
        run(Path(name), arguments.tasks, arguments.repeat)


def plan(folder: Path, counts: Sequence[int], repeat: int) -> None:
    (folder / "one.toml").write_text('[campaign]\n[campaign.run]\nkind = "command"\ncommand = "/bin/true"\n')
    start_up = median(cli("plan", "one.toml"), folder, repeat)
    show("campaign plan, 1 task (start-up)", start_up)
    for count in counts:
        (folder / "campaign.toml").write_text(campaign(count))
        bare = median([sys.executable, "-c", BARE, str(count)], folder, repeat)
        found = median(cli("plan", "campaign.toml"), folder, repeat)
        above = found[1] - start_up[1]
        show(f"bare product and sha256, {count}", bare)
        show(f"campaign plan, {count} combinations", found, f"{above:.2f} CPU s above start-up, {above / bare[1]:.1f}x")


def run(folder: Path, count: int, repeat: int) -> None:
    (folder / "campaign.toml").write_text(campaign(count))
    (folder / "other.toml").write_text(campaign(count, "other"))
    show(f"campaign submit, {count} x /bin/true", measure(cli("submit", "campaign.toml"), folder))
    show("campaign submit again: nothing to do", median(cli("submit", "campaign.toml"), folder, repeat))
    show("the same tasks from another file: cached", measure(cli("submit", "other.toml"), folder))
    show("campaign status", median(cli("status"), folder, repeat))
    show("campaign results --csv", median(cli("results", "--csv"), folder, repeat))


if __name__ == "__main__":
    main()
