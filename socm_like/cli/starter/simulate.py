"""Write data.csv: 200 points of the line y = 2 x + 1 with Gaussian noise."""

import argparse
import random
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int, required=True)
parser.add_argument("--noise", type=float, required=True)
options = parser.parse_args()

generator = random.Random(options.seed)
with Path("data.csv").open("w", encoding="utf-8") as file:
    file.write("x,y\n")
    for index in range(200):
        x = index / 20
        file.write(f"{x},{2 * x + 1 + generator.gauss(0, options.noise)}\n")
print("wrote 200 points to data.csv")
