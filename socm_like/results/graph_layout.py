"""Where the boxes of a graph go: layers from left to right, few crossings, neighbours level with each other.

The method is that of Sugiyama, Tagawa & Toda (1981), IEEE Trans. SMC 11(2), 109-125: layers by longest path, an
invisible box wherever an edge passes a layer, barycentre sweeps for the order, then positions under that order.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

SWEEPS = 12
"""Barycentre sweeps; the best order seen is kept."""
RELAXATIONS = 30
"""Rounds of pulling boxes towards their neighbours."""

Place = str | tuple[int, int]
"""A node's name, or (edge, layer) for the place where an edge passes a layer."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Layers from left to right, each from top to bottom, and the centre of each place."""

    layers: tuple[tuple[Place, ...], ...]
    heights: Mapping[Place, float]
    """Place -> the vertical coordinate of its centre; the uppermost edge of all is at 0."""
    routes: tuple[tuple[Place, ...], ...]
    """For each edge the places it goes through, both ends included."""


def lay_out(
    nodes: Sequence[str], edges: Sequence[tuple[str, str]], *, box: float, gap: float, passage: float
) -> Layout:
    """Return the layout of a graph whose nodes come each after those it depends on.

    ``box`` is the height of a node, ``passage`` that of a place an edge passes, ``gap`` the least space between.
    """
    layer_of = _layers(nodes, edges)
    routes = tuple(_route(index, edge, layer_of) for index, edge in enumerate(edges))
    layers: list[list[Place]] = [[] for _ in range(max(layer_of.values(), default=-1) + 1)]
    for node in nodes:
        layers[layer_of[node]].append(node)
    for index, route in enumerate(routes):
        for place in route[1:-1]:
            layers[layer_of[edges[index][0]] + route.index(place)].append(place)
    before, after = _neighbours(routes)
    ordered = _ordered(layers, before, after)
    sizes = {place: box if isinstance(place, str) else passage for layer in ordered for place in layer}
    heights = _positions(ordered, before, after, sizes, gap)
    return Layout(tuple(map(tuple, ordered)), heights, routes)


def crossings(layers: Sequence[Sequence[Place]], after: Mapping[Place, Sequence[Place]]) -> int:
    """Return how many pairs of edges between neighbouring layers cross."""
    total = 0
    for left, right in pairwise(layers):
        rank = {place: index for index, place in enumerate(right)}
        seen: list[int] = []
        for place in left:
            ends = sorted(rank[end] for end in after.get(place, ()))
            total += sum(len(seen) - bisect_right(seen, end) for end in ends)
            for end in ends:
                insort(seen, end)
    return total


def _layers(nodes: Sequence[str], edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Return the layer of each node: one more than the last of those it depends on."""
    parents: dict[str, list[str]] = {}
    for first, then in edges:
        parents.setdefault(then, []).append(first)
    layer_of: dict[str, int] = {}
    for node in nodes:
        layer_of[node] = max((layer_of[parent] + 1 for parent in parents.get(node, ())), default=0)
    return layer_of


def _route(index: int, edge: tuple[str, str], layer_of: Mapping[str, int]) -> tuple[Place, ...]:
    first, then = edge
    return (first, *((index, layer) for layer in range(layer_of[first] + 1, layer_of[then])), then)


def _neighbours(routes: Sequence[Sequence[Place]]) -> tuple[dict[Place, list[Place]], dict[Place, list[Place]]]:
    before: dict[Place, list[Place]] = {}
    after: dict[Place, list[Place]] = {}
    for route in routes:
        for first, then in pairwise(route):
            after.setdefault(first, []).append(then)
            before.setdefault(then, []).append(first)
    return before, after


def _ordered(
    layers: Sequence[Sequence[Place]], before: Mapping[Place, Sequence[Place]], after: Mapping[Place, Sequence[Place]]
) -> list[list[Place]]:
    """Return the layers in the order with the fewest crossings that the sweeps met."""
    present = [list(layer) for layer in layers]
    best, fewest = present, crossings(present, after)
    for sweep in range(SWEEPS):
        if fewest == 0:
            break
        is_forward = sweep % 2 == 0
        present = [list(layer) for layer in present]
        order = range(1, len(present)) if is_forward else range(len(present) - 2, -1, -1)
        for index in order:
            fixed = present[index - 1] if is_forward else present[index + 1]
            _sort(present[index], fixed, before if is_forward else after)
        found = crossings(present, after)
        if found < fewest:
            best, fewest = present, found
    return best


def _sort(layer: list[Place], fixed: Sequence[Place], neighbours: Mapping[Place, Sequence[Place]]) -> None:
    """Sort a layer by the mean rank of each place's neighbours; places without any stay where they are."""
    rank = {place: index for index, place in enumerate(fixed)}
    scale = max(1, len(fixed)) / max(1, len(layer))

    def centre(item: tuple[int, Place]) -> float:
        index, place = item
        ranks = [rank[neighbour] for neighbour in neighbours.get(place, ())]
        return sum(ranks) / len(ranks) if ranks else index * scale

    layer[:] = [place for _, place in sorted(enumerate(layer), key=centre)]


def _positions(
    layers: Sequence[Sequence[Place]],
    before: Mapping[Place, Sequence[Place]],
    after: Mapping[Place, Sequence[Place]],
    sizes: Mapping[Place, float],
    gap: float,
) -> dict[Place, float]:
    """Return centres that keep the order and the gaps, each as near to the mean of its neighbours as that allows."""
    heights: dict[Place, float] = {}
    for layer in layers:
        heights.update(_spread(layer, dict.fromkeys(layer, 0.0), sizes, gap))
    for step in range(RELAXATIONS):
        is_forward = step % 2 == 0
        for layer in layers if is_forward else reversed(layers):
            wanted = {}
            for place in layer:
                near = before.get(place) if is_forward else after.get(place)
                near = near or [*before.get(place, ()), *after.get(place, ())]
                wanted[place] = sum(heights[other] for other in near) / len(near) if near else heights[place]
            heights.update(_spread(layer, wanted, sizes, gap))
    top = min((heights[place] - sizes[place] / 2 for layer in layers for place in layer), default=0.0)
    return {place: height - top for place, height in heights.items()}


def _spread(
    layer: Sequence[Place], wanted: Mapping[Place, float], sizes: Mapping[Place, float], gap: float
) -> dict[Place, float]:
    """Return the positions nearest to the wanted ones (least squares) that keep the order and the gaps.

    Subtracting the room that all places above need makes it isotonic regression, solved by pooling adjacent
    violators: Barlow et al. (1972), Statistical Inference under Order Restrictions, section 1.2.
    """
    offsets, offset = [], 0.0
    for index, place in enumerate(layer):
        offset += (sizes[layer[index - 1]] + sizes[place]) / 2 + gap if index else 0.0
        offsets.append(offset)
    pools: list[tuple[float, int]] = []
    for place, offset in zip(layer, offsets, strict=True):
        mean, count = wanted[place] - offset, 1
        while pools and pools[-1][0] > mean:
            above, number = pools.pop()
            mean, count = (above * number + mean * count) / (number + count), number + count
        pools.append((mean, count))
    flat = [mean for mean, count in pools for _ in range(count)]
    return {place: mean + offset for place, mean, offset in zip(layer, flat, offsets, strict=True)}
