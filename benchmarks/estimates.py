"""How near predictions come to what tasks need, and how often they are exceeded, beside simple rules.

    python benchmarks/estimates.py [--records 50] [--tasks 1000] [--seeds 20]

Each workload draws the records that are learned from and the tasks that are predicted from the same distribution. The
rules: the largest record; the mean and two standard deviations of the records; twice what the task typically needs,
which is what a careful user asks for who knows the program.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from socm_like.estimate import Family, Needs

Fields = Mapping[str, Any]
Draw = Callable[[random.Random], Fields]


class Workload(NamedTuple):
    """Tasks: their fields, what one with them typically needs, and a factor on that."""

    draw: Draw
    needed: Callable[[Fields], float]
    noise: Callable[[random.Random], float]


class Score(NamedTuple):
    over_used: float
    """Median of asked over used."""
    exceeded: float
    wasted: float
    """Asked and not used, over used."""
    answered: float
    """Share of the tasks that are predicted at all."""


def sized(chance: random.Random) -> Fields:
    return {"n": round(10 ** chance.uniform(2, 4)), "seed": chance.getrandbits(32)}


def chosen(chance: random.Random) -> Fields:
    return {**sized(chance), "sampler": chance.choice(["hmc", "vi", "sgld", "mclmc"])}


def lognormal(sigma: float) -> Callable[[random.Random], float]:
    return lambda chance: math.exp(chance.gauss(0, sigma))


def heavy(chance: random.Random) -> float:
    """Return the exponential of 0.2 times Student's t with 3 degrees of freedom."""
    return math.exp(0.2 * chance.gauss(0, 1) / math.sqrt(sum(chance.gauss(0, 1) ** 2 for _ in range(3)) / 3))


FACTORS = {"hmc": 1.0, "vi": 3.0, "sgld": 0.5, "mclmc": 8.0}
WORKLOADS = {
    "constant, noise 5 %": Workload(sized, lambda _: 2e9, lognormal(0.05)),
    "linear, noise 10 %": Workload(sized, lambda task: 1e6 * task["n"], lognormal(0.1)),
    "100 MB + 8 B n^2, noise 5 %": Workload(sized, lambda task: 1e8 + 8 * task["n"] ** 2, lognormal(0.05)),
    "n^1.5 by sampler, noise 10 %": Workload(
        chosen, lambda task: float(1e3 * task["n"] ** 1.5 * FACTORS[task["sampler"]]), lognormal(0.1)
    ),
    "linear, noise 50 %": Workload(sized, lambda task: 1e6 * task["n"], lognormal(0.5)),
    "linear, heavy tails (t3, 20 %)": Workload(sized, lambda task: 1e6 * task["n"], heavy),
}


def score(asked: Sequence[float | None], used: Sequence[float]) -> Score:
    pairs = [(high, need) for high, need in zip(asked, used, strict=True) if high is not None]
    wasted = sum(max(high - need, 0.0) for high, need in pairs) / sum(need for _, need in pairs)
    ratio = statistics.median(high / need for high, need in pairs)
    return Score(ratio, sum(need > high for high, need in pairs) / len(pairs), wasted, len(pairs) / len(used))


def scores(workload: Workload, records: int, tasks: int, seed: int) -> dict[str, Score]:
    chance = random.Random(seed)

    def one() -> tuple[Fields, float]:
        fields = workload.draw(chance)
        return fields, workload.needed(fields) * workload.noise(chance)

    known = [one() for _ in range(records)]
    coming = [one() for _ in range(tasks)]
    sizes, used = [size for _, size in known], [size for _, size in coming]
    learned = Family([(fields, Needs(size, None, None)) for fields, size in known])
    predictions = [learned.predict(fields) for fields, _ in coming]
    rule = statistics.mean(sizes) + 2 * statistics.stdev(sizes)
    return {
        "learned": score([None if found is None else found.memory for found in predictions], used),
        "largest": score([max(sizes)] * tasks, used),
        "mean + 2 sigma": score([rule] * tasks, used),
        "twice the typical": score([2 * workload.needed(fields) for fields, _ in coming], used),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=50)
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=20)
    arguments = parser.parse_args()
    print(f"{arguments.records} records, {arguments.tasks} tasks, mean of {arguments.seeds} draws")
    print(f"{'workload':32}{'rule':20}{'asked/used':>11}{'exceeded':>10}{'wasted':>9}{'answered':>10}")
    for name, workload in WORKLOADS.items():
        draws = [scores(workload, arguments.records, arguments.tasks, seed) for seed in range(arguments.seeds)]
        for index, rule in enumerate(draws[0]):
            ratio, exceeded, wasted, answered = map(statistics.mean, zip(*(draw[rule] for draw in draws), strict=True))
            label = "" if index else name
            print(f"{label:32}{rule:20}{ratio:11.2f}{exceeded:10.1%}{wasted:9.2f}{answered:10.0%}")
    tell_cost()


def tell_cost() -> None:
    chance = random.Random(0)
    workload = WORKLOADS["100 MB + 8 B n^2, noise 5 %"]
    rows = [workload.draw(chance) for _ in range(1000)]
    start = time.process_time()
    needs = [workload.needed(row) * workload.noise(chance) for row in rows]
    learned = Family([(row, Needs(need, None, need / 1e8)) for row, need in zip(rows, needs, strict=True)])
    middle = time.process_time()
    for row in rows:
        learned.predict(row)
    end = time.process_time()
    print(f"\n1000 records of two quantities: learned in {1e3 * (middle - start):.0f} ms, "
          f"one prediction {1e6 * (end - middle) / len(rows):.1f} us")  # fmt: skip


if __name__ == "__main__":
    main()
