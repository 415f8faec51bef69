"""Where a fit had best begin: many starts, looked at and advanced together, the hopeless ones given up early.

1. Candidates are drawn, ``CANDIDATES`` for each start, and the cost alone is computed at all of them.
2. The starts are p0, the best half of the candidates, and for the rest the first ones drawn, which cover the space
   whatever the cost says.
3. All starts are advanced side by side by damped Gauss-Newton steps, in one program, in rounds of ``TURNS`` turns.
   After each round those that still go on and are not among the best part are given up: the part halves (successive
   halving, Jamieson and Talwalkar 2016, AISTATS 51, 240-248).
4. The ends are returned, best first, each minimum once. The ordinary solver goes on from there.

This is done on at most ``SAMPLE`` points, drawn at random, of data of more. All is the same for the same seed.
Cost: ``(CANDIDATES + turns p) n_starts`` evaluations of the sample; two programs are compiled.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray
from scipy.optimize import differential_evolution

from socm_workflows.fit.search.sampling import REACH, draw_starts
from socm_workflows.fit.solver.accumulation import sums_at_once, sums_count
from socm_workflows.fit.solver.formula import Formula, Points, points_of, whiten
from socm_workflows.fit.solver.least_squares import Tolerances
from socm_workflows.fit.solver.loss import scales_of
from socm_workflows.fit.solver.passes import Block
from socm_workflows.fit.solver.resident import Numbers, bucket_of, pack_numbers, padded, unpack_numbers

Floats = NDArray[np.float64]

SAMPLE = 4096
"""Points that starts are compared on."""
CANDIDATES = 32
"""Costs that are looked at for each start."""
TURNS = 8
"""Turns of a round."""
ROUNDS = 16
FLAT, STUCK, EQUAL = 1e-7, 1e10, 1e-11
"""A start has ended where the largest cosine is below the first, the damping above the second, or the cost falls by
less than the third of itself."""
LEAST = 3
"""Starts that are never given up."""
SAME = 1e-6
"""Relative difference of costs up to which two ends are one minimum."""
NEAR = 8.0
"""Standard deviations of a cost on a sample, within which another minimum may be the better one on all data."""
MOST_ENDS = 3
"""Ends that are worth a fit of all the data."""
GENERATIONS = 200


@dataclass(frozen=True, slots=True)
class Plan:
    """How to search."""

    n_starts: int
    sampler: str = "sobol"
    seed: int = 0
    center_on_p0: bool = True
    scale_factor: float = 1.0


class Terrain(NamedTuple):
    """What is searched: a formula, the points of a sample, where the parameters may be and where they start."""

    formula: Formula
    points: Points
    f_scale: float
    start: Floats
    lower: Floats
    upper: Floats
    sampled: int
    """Points of the sample."""
    is_all: bool
    """Whether these are all data."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Search:
    """What came of the starts."""

    n_starts: int
    sampler: str
    seed: int
    candidates: int
    """Points at which the cost alone was computed."""
    points: int
    """Of the data, on which starts were compared."""
    starts: Floats
    """(n_starts, p), p0 first."""
    ends: Floats
    """(n_starts, p): where each ended, or was given up."""
    costs: Floats
    """(n_starts,) at the ends; inf where the model is not finite."""
    given_up: int
    """Starts that were given up early."""
    reached_best: int
    """Starts that ended in the best minimum."""
    best: Floats
    """(m, p): the ends that are worth a fit of all the data, the best first."""
    seconds: float

    def __repr__(self) -> str:
        return (
            f"Search: {self.n_starts} starts ({self.sampler}, seed {self.seed}) out of {self.candidates}, "
            f"{self.given_up} given up, {self.reached_best} reached the best cost, {min(self.costs):.6g}"
        )


def terrain_of(
    formula: Formula, block: Block, *, f_scale: float, limits: tuple[Floats, Floats, Floats], total: int, is_apart: bool
) -> Terrain:
    """Return what is searched; ``limits`` are start, lower and upper bounds, ``total`` the points of all data.

    Where the model treats each point by itself, the points are padded to a length of which there are few, so that
    programs are shared; those that fill up have an infinite sigma.
    """
    x, y, sigma = block
    count = y.size
    if is_apart:
        length = bucket_of(count)
        spread = np.full(length, np.inf)
        spread[:count] = 1.0 if sigma is None else sigma
        x, y, sigma = padded(x, length), padded(y, length), spread
    start, lower, upper = limits
    return Terrain(formula, points_of(x, y, sigma), f_scale, start, lower, upper, count, count == total)


def search(terrain: Terrain, plan: Plan) -> Search:
    """Return the ends of many starts."""
    begun = time.perf_counter()
    drawn = draw_starts(
        terrain.start, (terrain.lower, terrain.upper), n_starts=1 + CANDIDATES * (plan.n_starts - 1),
        sampler=plan.sampler, seed=plan.seed, center_on_p0=plan.center_on_p0, scale_factor=plan.scale_factor,
    )  # fmt: skip
    starts = _choose(drawn, costs_at(terrain, drawn), plan.n_starts)
    ends, costs, given_up = _advance(terrain, starts)
    best, reached = _distinct(terrain, ends, costs)
    return Search(
        plan.n_starts, plan.sampler, plan.seed, len(drawn), terrain.sampled, starts, ends, costs, given_up, reached,
        best, time.perf_counter() - begun,
    )  # fmt: skip


def evolve(terrain: Terrain, seed: int) -> Search:
    """Return the end of differential evolution on the cost (Storn and Price 1997, J. Global Optim. 11, 341-359).

    Within the bounds, and where there is none, ``REACH`` times the start (or 1) to each side.
    """
    begun = time.perf_counter()
    size = np.where(terrain.start == 0, 1.0, np.abs(terrain.start)) * REACH
    lower = np.where(np.isfinite(terrain.lower), terrain.lower, terrain.start - size)
    upper = np.where(np.isfinite(terrain.upper), terrain.upper, terrain.start + size)

    evaluated = 0

    def cost(population: Floats) -> Floats:
        nonlocal evaluated
        evaluated += population.shape[-1]
        values = costs_at(terrain, np.asarray(population.T, float))
        return np.where(np.isfinite(values), values, 1e300)

    found = differential_evolution(
        cost, list(zip(lower, upper, strict=True)), rng=np.random.default_rng(seed), x0=terrain.start,
        vectorized=True, updating="deferred", polish=False, maxiter=GENERATIONS, tol=1e-4, init="sobol",
    )  # fmt: skip
    ends, costs = np.asarray(found.population), np.asarray(found.population_energies)
    best, reached = _distinct(terrain, ends, costs)
    return Search(
        len(ends), "differential evolution", seed, evaluated, terrain.sampled, ends, ends, costs, 0, reached,
        best, time.perf_counter() - begun,
    )  # fmt: skip


def costs_at(terrain: Terrain, thetas: Floats) -> Floats:
    """Return the cost at parameters (m, p), (m,); inf where the model is not finite."""
    length = bucket_of(len(thetas))
    filled = np.vstack([thetas, np.repeat(thetas[-1:], length - len(thetas), axis=0)])
    costs = np.asarray(_costs(terrain.formula, terrain.points, terrain.f_scale, filled))[: len(thetas)]
    return np.where(np.isfinite(costs), costs, np.inf)


@partial(jax.jit, static_argnames=("formula",))
def _costs(formula: Formula, points: Points, f_scale: Array, thetas: Array) -> Array:
    """Return the cost at each of the parameters (m, p); sixteen at a time, so that they stay in the cache."""

    def cost(theta: Array) -> Array:
        residuals = whiten(formula.model(points.x, *theta) - points.y, points.sigma)
        if formula.loss is None:
            return jnp.sum(residuals**2) / 2
        return jnp.sum(scales_of(formula.loss, residuals, f_scale).cost) / 2

    costs: Array = jax.lax.map(cost, thetas, batch_size=16)
    return costs


class Lanes(NamedTuple):
    """What each of W starts has come to."""

    theta: Array
    """(W, p), the best so far."""
    sums: Array
    """(W, ...) of accumulation.py, there."""
    cost: Array
    """(W,)."""
    damping: Array
    """(W,), relative to the diagonal of ``J^T J``."""
    trial: Array
    """(W, p), to be evaluated next."""
    running: Array
    """(W,) bool."""


@partial(jax.jit, static_argnames=("formula",))
def _play(formula: Formula, points: Points, told: Array, lanes: Lanes) -> Lanes:
    """Return the lanes after a round of at most ``TURNS`` turns; those that have stopped do not change."""
    numbers = unpack_numbers(told)

    def turn(carry: tuple[Lanes, Array]) -> tuple[Lanes, Array]:
        before, count = carry
        after = jax.vmap(partial(_turn, formula, points, numbers))(before)
        chosen = jax.tree.map(
            lambda new, old: jnp.where(before.running.reshape(-1, *[1] * (new.ndim - 1)), new, old), after, before
        )
        return chosen, count + 1

    def goes_on(carry: tuple[Lanes, Array]) -> Array:
        return jnp.any(carry[0].running) & (carry[1] < TURNS)

    played: Lanes = jax.lax.while_loop(goes_on, turn, (lanes, jnp.zeros((), int)))[0]
    return played


def _turn(formula: Formula, points: Points, numbers: Numbers, lane: Lanes) -> Lanes:
    """Return one lane after a damped Gauss-Newton step: Marquardt 1963, J. SIAM 11, 431-441, within bounds.

    Small and quick to compile; accuracy is left to the ordinary solver, which goes on from the ends.
    """
    size = lane.theta.size
    sums = sums_at_once(formula, lane.trial, points, numbers.f_scale)
    cost = jnp.where(jnp.all(jnp.isfinite(sums)), sums[-1] / 2, jnp.inf)
    accepted = cost < lane.cost
    theta = jnp.where(accepted, lane.trial, lane.theta)
    best = jnp.where(accepted, sums, lane.sums)
    gram = jnp.zeros((size + 1, size + 1)).at[np.triu_indices(size + 1)].set(best[:-2])
    norms = jnp.sqrt(jnp.diag(gram)[:size])
    scale = jnp.where(norms > 0, norms, 1.0)
    gradient = gram[:size, size] / scale
    limits = numbers.limits
    held = ((theta <= limits.lower) & (gradient >= 0)) | ((theta >= limits.upper) & (gradient <= 0))
    free = jnp.where(held, 0.0, gradient)
    upper = gram[:size, :size] / scale / scale[:, None]
    both = jnp.where(held | held[:, None], 0.0, jnp.triu(upper, 1) + jnp.triu(upper, 1).T)
    damping = jnp.where(accepted, lane.damping / 5, lane.damping * 8)
    step = -jnp.linalg.solve(both + (1 + damping) * jnp.eye(size), free)
    longest = jnp.maximum(jnp.linalg.norm(scale * theta), 1e-2 * jnp.sqrt(gram[size, size]))
    step = step * jnp.minimum(1.0, longest / jnp.maximum(jnp.linalg.norm(step), 1e-300)) / scale
    lowest = jnp.where(accepted, cost, lane.cost)
    is_flat = jnp.max(jnp.abs(free)) <= FLAT * jnp.sqrt(gram[size, size])
    is_done = is_flat | (damping > STUCK) | (accepted & (lane.cost - cost <= EQUAL * cost))
    return Lanes(
        theta, best, lowest, damping, jnp.clip(theta + step, limits.lower, limits.upper),
        lane.running & ~is_done & jnp.isfinite(lowest),
    )  # fmt: skip


def _choose(drawn: Floats, costs: Floats, count: int) -> Floats:
    """Return the starts among what was drawn: p0, the best, and the first ones."""
    order = [int(index) for index in np.argsort(costs, kind="stable")]
    chosen = dict.fromkeys([0, *order[: max(count // 2, 1)], *range(1, len(drawn))])
    return drawn[list(chosen)[:count]]


def _advance(terrain: Terrain, starts: Floats) -> tuple[Floats, Floats, int]:
    """Return where the starts ended or were given up, (W, p), their costs (W,), and how many were given up."""
    count, size = starts.shape
    width = bucket_of(count)
    filled = np.vstack([starts, np.repeat(starts[:1], width - count, axis=0)])
    told = pack_numbers(
        terrain.lower, terrain.upper, Tolerances(), f_scale=terrain.f_scale, count=terrain.points.y.size
    )
    running = np.arange(width) < count
    lanes = Lanes(*map(jnp.asarray, (
        filled, np.zeros((width, sums_count(size))), np.full(width, np.inf), np.full(width, 1e-2), filled, running
    )))  # fmt: skip
    given_up = 0
    for turn in range(1, ROUNDS + 1):
        lanes = _play(terrain.formula, terrain.points, told, lanes)
        running, costs = np.asarray(lanes.running), np.asarray(lanes.cost)
        kept = np.argsort(costs[:count], kind="stable")[: max(LEAST, count >> turn)]
        hopeless = running & ~np.isin(np.arange(width), kept)
        given_up += int(hopeless.sum())
        lanes = lanes._replace(running=jnp.asarray(running & ~hopeless))
        if not (running & ~hopeless).any():
            break
    return np.asarray(lanes.theta)[:count], np.asarray(lanes.cost)[:count], given_up


def _distinct(terrain: Terrain, ends: Floats, costs: Floats) -> tuple[Floats, int]:
    """Return the ends that may be the best on all data, each minimum once, and how many are in the best one.

    On a sample of m points a cost is known to ``sqrt(2 / m)`` of itself.
    """
    order = np.argsort(costs, kind="stable")
    lowest = costs[order[0]]
    floor = 1e-24 * float(np.sum(np.asarray(terrain.points.y) ** 2))
    margin = SAME if terrain.is_all else NEAR * np.sqrt(2 / terrain.sampled)
    chosen: list[int] = []
    for index in order:
        is_near = not chosen or costs[index] <= lowest * (1 + margin) + floor
        is_new = all(abs(costs[index] - costs[other]) > SAME * costs[index] + floor for other in chosen)
        if is_near and is_new and len(chosen) < MOST_ENDS:
            chosen.append(int(index))
    reached = int(np.sum(costs <= lowest * (1 + 1e3 * SAME) + floor)) if np.isfinite(lowest) else 0
    return ends[chosen], reached
