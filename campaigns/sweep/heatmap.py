"""Draw the mean magnetisation by temperature and field from the results of the simulations.

Each cell is the mean over the replicates; a combination that was not run stays white.
"""

import csv
import json
import sys
from collections import defaultdict
from pathlib import Path
from statistics import mean

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

CRITICAL = 2.269185  # Onsager (1944), Phys. Rev. 65, 117: 2 / ln(1 + sqrt 2)


def main(paths: list[str]) -> None:
    cells = defaultdict(list)
    for path in paths:
        result = json.loads(Path(path).read_text(encoding="utf-8"))
        where = (result["parameters"]["temperature"], result["parameters"]["field"])
        cells[where].append(result["metrics"]["magnetisation"])
    temperatures = sorted({temperature for temperature, _ in cells})
    fields = sorted({field for _, field in cells})
    with Path("magnetisation.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["temperature", "field", "magnetisation", "replicates"])
        table.writerows([*where, mean(values), len(values)] for where, values in sorted(cells.items()))
    draw(temperatures, fields, {where: mean(values) for where, values in cells.items()}, len(paths))


def draw(temperatures: list[float], fields: list[float], cells: dict[tuple[float, float], float], count: int) -> None:
    figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
    rows = [[cells.get((temperature, field), float("nan")) for temperature in temperatures] for field in fields]
    image = axes.imshow(rows, origin="lower", aspect="auto", cmap="viridis", vmin=0, vmax=1)
    for row, values in enumerate(rows):
        for column, value in enumerate(values):
            if value == value:  # noqa: PLR0124 - not a NaN
                colour = "white" if value < 0.6 else "black"
                axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=9)
    axes.set_xticks(range(len(temperatures)), [f"{temperature:g}" for temperature in temperatures])
    axes.set_yticks(range(len(fields)), [f"{field:g}" for field in fields])
    step = temperatures[1] - temperatures[0]
    axes.axvline((CRITICAL - temperatures[0]) / step, color="crimson", linestyle="--", linewidth=1.2)
    axes.set(xlabel="temperature  (J / k); dashed: the critical point of the infinite lattice", ylabel="field  (J)")
    axes.set_title(f"Ising model, 32 x 32: mean |magnetisation| of {count} simulations", fontsize=11)
    figure.colorbar(image, label="|magnetisation|")
    figure.savefig("heatmap.svg")


if __name__ == "__main__":
    main(sys.argv[1:])
