"""Fit a line to the table named on the command line by least squares; write line.json."""

import csv
import json
import sys
from pathlib import Path

with Path(sys.argv[1]).open(encoding="utf-8") as file:
    points = [(float(row["x"]), float(row["y"])) for row in csv.DictReader(file)]

mean_x = sum(x for x, _ in points) / len(points)
mean_y = sum(y for _, y in points) / len(points)
spread = sum((x - mean_x) ** 2 for x, _ in points)
slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
intercept = mean_y - slope * mean_x
residual = sum((y - slope * x - intercept) ** 2 for x, y in points)
variance = residual / (len(points) - 2)

line = {"slope": slope, "slope_error": (variance / spread) ** 0.5, "intercept": intercept}
Path("line.json").write_text(json.dumps(line, indent=2), encoding="utf-8")
print(f"slope {slope:.4f} +- {line['slope_error']:.4f}")
