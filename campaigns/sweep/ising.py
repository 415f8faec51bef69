"""Monte Carlo of the square Ising model: spins s = +-1, energy E = -J sum_<ij> s_i s_j - h sum_i s_i, with J = k = 1.

Checkerboard Metropolis sweeps; the first third is left out of the means. Writes metrics.json.
"""

import argparse
import json
from pathlib import Path

import numpy as np


def simulate(size: int, temperature: float, field: float, sweeps: int, seed: int) -> dict[str, float]:
    """Return the means of |magnetisation| and energy per spin, with the standard deviation of the magnetisation."""
    random = np.random.default_rng(seed)
    spins = np.ones((size, size))
    colour = np.add.outer(np.arange(size), np.arange(size)) % 2
    magnetisation, energy = [], []
    for _ in range(sweeps):
        for parity in (0, 1):
            around = sum(np.roll(spins, step, axis) for step in (-1, 1) for axis in (0, 1))
            cost = 2 * spins * (around + field)
            flips = (random.random(spins.shape) < np.exp(-np.maximum(cost, 0) / temperature)) & (colour == parity)
            spins[flips] *= -1
        right, below = np.roll(spins, -1, 1), np.roll(spins, -1, 0)
        magnetisation.append(spins.mean())
        energy.append(-(spins * (right + below)).mean() - field * spins.mean())
    kept = slice(sweeps // 3, None)
    return {
        "magnetisation": float(np.mean(np.abs(magnetisation[kept]))),
        "fluctuation": float(np.std(np.abs(magnetisation[kept]))),
        "energy": float(np.mean(energy[kept])),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name, kind in (("size", int), ("temperature", float), ("field", float), ("sweeps", int), ("seed", int)):
        parser.add_argument(f"--{name}", type=kind, required=True)
    Path("metrics.json").write_text(json.dumps(simulate(**vars(parser.parse_args()))), encoding="utf-8")
