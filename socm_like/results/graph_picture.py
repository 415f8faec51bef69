"""A graph as SVG: boxes from left to right, coloured by state, joined by smooth curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from socm_like.journal import TaskState
from socm_like.results.graph import FILLS, Graph, Node
from socm_like.results.graph_layout import Layout, Place, lay_out
from socm_like.results.svg_text import safe, text_width
from socm_like.status import FAILURES

BOX = 46.0
"""Height of a box; all lengths are SVG user units, CSS pixels at scale 1."""
GAP = 14.0
"""Least space between two boxes of a layer."""
PASSAGE = 8.0
"""Height kept free for an edge that passes a layer."""
MARGIN = 28.0
TITLE = 34.0
PADDING = 12.0
NARROWEST = 96.0
LONGEST = 30
"""Characters of a line in a box; what is longer is cut and told in full in the tooltip."""

_STROKES: Mapping[TaskState, str] = {
    **dict.fromkeys(TaskState, "#8a94a0"),
    **dict.fromkeys(FAILURES, "#c62f23"),
    TaskState.DONE: "#2a8a45",
    TaskState.CACHED: "#2a8a45",
    TaskState.RUNNING: "#0f74bd",
    TaskState.QUEUED: "#4a6bc4",
    TaskState.HELD: "#4a6bc4",
    TaskState.CANCELLED: "#a86f00",
    TaskState.SKIPPED: "#a86f00",
}
_PLAIN_FILL, _PLAIN_STROKE = "#eef3f8", "#5b6b7c"
_FONT = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"


@dataclass(frozen=True, slots=True)
class _Column:
    left: float
    width: float

    @property
    def right(self) -> float:
        return self.left + self.width


def to_svg(graph: Graph) -> str:
    """Return a picture of the graph as one SVG document that needs no other file."""
    layout = lay_out([node.name for node in graph.nodes], graph.edges, box=BOX, gap=GAP, passage=PASSAGE)
    nodes = {node.name: node for node in graph.nodes}
    columns = _columns(layout, nodes)
    tops = {place: height + MARGIN + TITLE for place, height in layout.heights.items()}
    width = max((column.right for column in columns), default=0.0) + MARGIN
    width = max(width, text_width(graph.title, 16) + 2 * MARGIN)
    height = max((top + BOX / 2 for top in tops.values()), default=MARGIN + TITLE) + MARGIN
    column_of = {place: column for layer, column in zip(layout.layers, columns, strict=True) for place in layer}
    body = [
        *(_curve(route, column_of, tops) for route in layout.routes),
        *(_box(node, column_of[node.name], tops[node.name]) for node in graph.nodes),
    ]
    return "\n".join([*_head(graph.title, width, height), *body, "</svg>"]) + "\n"


def _head(title: str, width: float, height: float) -> list[str]:
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="{_FONT}">',
        f"<title>{safe(title)}</title>",
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0.8 L7.2 4 L0 7.2 z" fill="#8a94a0"/></marker></defs>',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{MARGIN:.0f}" y="{MARGIN + 10:.0f}" font-size="16" font-weight="bold" fill="#1d2733">'
        f"{safe(title)}</text>",
    ]


def _columns(layout: Layout, nodes: Mapping[str, Node]) -> list[_Column]:
    """Return where each layer stands; the space before one grows with the height its edges have to climb."""
    columns: list[_Column] = []
    left = MARGIN
    for index, layer in enumerate(layout.layers):
        if index:
            steps = [
                abs(layout.heights[first] - layout.heights[then])
                for route in layout.routes
                for first, then in pairwise(route)
                if then in layer
            ]
            left = columns[-1].right + min(320.0, 56.0 + max(steps, default=0.0) * 0.18)
        width = max((_box_width(nodes[place]) for place in layer if isinstance(place, str)), default=0.0)
        columns.append(_Column(left, width))
    return columns


def _box_width(node: Node) -> float:
    first, second = _lines(node)
    state = text_width(str(node.state), 11) + 16 if node.state else 0.0
    return max(NARROWEST, 2 * PADDING + max(text_width(first, 13) * 1.06 + state, text_width(second, 11)))


def _lines(node: Node) -> tuple[str, str]:
    return _cut(node.workflow), _cut(node.label or node.kind)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]}…{text[-LONGEST // 2 + 1 :]}"


def _box(node: Node, column: _Column, middle: float) -> str:
    fill = FILLS[node.state] if node.state else _PLAIN_FILL
    stroke = _STROKES[node.state] if node.state else _PLAIN_STROKE
    first, second = _lines(node)
    left, top = column.left, middle - BOX / 2
    parts = [
        f"<g><title>{safe(_tooltip(node))}</title>",
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{column.width:.1f}" height="{BOX:.0f}" rx="7" fill="{fill}" '
        f'stroke="{stroke}" stroke-width="1.4"/>',
        f'<text x="{left + PADDING:.1f}" y="{top + 19:.1f}" font-size="13" font-weight="bold" fill="#1d2733">'
        f"{safe(first)}</text>",
        f'<text x="{left + PADDING:.1f}" y="{top + 36:.1f}" font-size="11" fill="#4b5763">{safe(second)}</text>',
    ]
    if node.state:
        parts.append(
            f'<text x="{column.right - PADDING:.1f}" y="{top + 19:.1f}" font-size="11" text-anchor="end" '
            f'fill="{stroke}">{node.state}</text>'
        )
    return "".join([*parts, "</g>"])


def _tooltip(node: Node) -> str:
    parts = (node.name, f"kind {node.kind}", node.label if node.label not in node.name else "", node.state)
    return ", ".join(str(part) for part in parts if part)


def _curve(route: Sequence[Place], columns: Mapping[Place, _Column], heights: Mapping[Place, float]) -> str:
    """Return an edge that leaves and arrives level, and runs level where it passes a layer."""
    x, y = columns[route[0]].right, heights[route[0]]
    path = [f"M{x:.1f} {y:.1f}"]
    for place in route[1:]:
        column, end = columns[place], heights[place]
        left = column.left - (1 if place == route[-1] else 0)
        bend = (left - x) * 0.5
        path.append(f"C{x + bend:.1f} {y:.1f} {left - bend:.1f} {end:.1f} {left:.1f} {end:.1f}")
        x, y = left, end
        if place != route[-1]:
            x = column.right
            path.append(f"L{x:.1f} {y:.1f}")
    line = 'fill="none" stroke="#8a94a0" stroke-width="1.3" marker-end="url(#arrow)"'
    return f'<path d="{" ".join(path)}" {line}/>'
