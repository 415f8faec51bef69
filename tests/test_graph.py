"""The dependency graph: its layers, its crossings, its picture, its DOT."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socm_like.journal import TaskState
from socm_like.results.graph import Graph, Node, graph_of_tasks, graph_of_workflows
from socm_like.results.graph_layout import Layout, crossings, lay_out
from socm_like.results.graph_picture import to_svg

SVG = "{http://www.w3.org/2000/svg}"


@dataclass(frozen=True)
class Part:
    workflow: str
    dependencies: tuple[str, ...] = ()
    kind: str = "command"


TASKS: Mapping[str, Part] = {
    "sim[seed=1]": Part("sim"),
    "sim[seed=2]": Part("sim"),
    "maps[seed=1]": Part("maps", ("sim[seed=1]",)),
    "maps[seed=2]": Part("maps", ("sim[seed=2]",)),
    "sum": Part("sum", ("maps[seed=1]", "maps[seed=2]", "sim[seed=1]")),
}
STATES = {
    "sim[seed=1]": TaskState.DONE,
    "sim[seed=2]": TaskState.CACHED,
    "maps[seed=1]": TaskState.DONE,
    "maps[seed=2]": TaskState.FAILED,
    "sum": TaskState.SKIPPED,
}


def laid_out(nodes: str, edges: str) -> Layout:
    """Nodes and edges as words: ``a b c``, ``ab bc``."""
    pairs = [(edge[0], edge[1]) for edge in edges.split()]
    return lay_out(nodes.split(), pairs, box=10.0, gap=2.0, passage=4.0)


def crossings_of(layout: Layout) -> int:
    after: dict[object, list[object]] = {}
    for route in layout.routes:
        for first, then in pairwise(route):
            after.setdefault(first, []).append(then)
    return crossings(layout.layers, after)  # type: ignore[arg-type]


def test_node_is_one_layer_after_the_last_it_depends_on() -> None:
    layout = laid_out("a b c d", "ab bc ac cd ad")
    assert [[place for place in layer if isinstance(place, str)] for layer in layout.layers] == [
        ["a"], ["b"], ["c"], ["d"],
    ]  # fmt: skip
    assert layout.routes[2] == ("a", (2, 1), "c")
    assert layout.routes[4] == ("a", (4, 1), (4, 2), "d")


def test_crossed_pairs_are_uncrossed() -> None:
    layout = laid_out("a b c d e f", "af be cd")
    assert crossings_of(layout) == 0


def test_only_the_crossing_that_must_be_is_left() -> None:
    assert crossings_of(laid_out("a b c d", "ac ad bc bd")) == 1


def test_chain_is_level() -> None:
    layout = laid_out("a b c x y", "ab bc")
    assert layout.heights["a"] == pytest.approx(layout.heights["b"], abs=0.5)
    assert layout.heights["b"] == pytest.approx(layout.heights["c"], abs=0.5)


_GRAPHS = st.integers(1, 9).flatmap(
    lambda count: st.tuples(
        st.just(count),
        st.sets(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)).filter(lambda e: e[0] < e[1])),
    )
)


@given(_GRAPHS)
def test_every_graph_is_laid_out_without_overlap_and_from_left_to_right(
    graph: tuple[int, set[tuple[int, int]]],
) -> None:
    count, pairs = graph
    nodes, edges = [str(index) for index in range(count)], sorted((str(a), str(b)) for a, b in pairs)
    layout = lay_out(nodes, edges, box=10.0, gap=2.0, passage=4.0)

    layer_of = {place: index for index, layer in enumerate(layout.layers) for place in layer}
    assert {place for place in layer_of if isinstance(place, str)} == set(nodes)
    for route, edge in zip(layout.routes, edges, strict=True):
        assert (route[0], route[-1]) == edge
        assert all(layer_of[then] == layer_of[first] + 1 for first, then in pairwise(route))
    sizes = {place: 10.0 if isinstance(place, str) else 4.0 for place in layer_of}
    for layer in layout.layers:
        for above, below in pairwise(layer):
            space = layout.heights[below] - layout.heights[above] - (sizes[above] + sizes[below]) / 2
            assert space >= 2.0 - 1e-6
    assert min(layout.heights[place] - sizes[place] / 2 for place in layer_of) == pytest.approx(0.0, abs=1e-6)


def test_tasks_become_nodes_labelled_by_what_tells_them_apart() -> None:
    graph = graph_of_tasks("run", TASKS, STATES)
    assert graph.nodes[3] == Node("maps[seed=2]", "maps", "seed=2", "command", TaskState.FAILED)
    assert graph.edges == (
        ("sim[seed=1]", "maps[seed=1]"), ("sim[seed=2]", "maps[seed=2]"),
        ("maps[seed=1]", "sum"), ("maps[seed=2]", "sum"), ("sim[seed=1]", "sum"),
    )  # fmt: skip


def test_workflows_become_nodes_that_count_their_tasks() -> None:
    assert graph_of_workflows("run", TASKS, STATES) == Graph(
        "run",
        (
            Node("sim", "sim", "2 tasks: 1 done, 1 cached", "command", TaskState.DONE),
            Node("maps", "maps", "2 tasks: 1 failed, 1 done", "command", TaskState.FAILED),
            Node("sum", "sum", "1 task", "command", TaskState.SKIPPED),
        ),
        (("sim", "maps"), ("maps", "sum"), ("sim", "sum")),
    )


def test_json_names_states_and_edges() -> None:
    graph = graph_of_workflows("plan", TASKS, {})
    answer = json.loads(json.dumps(graph.to_json()))
    assert answer["nodes"][0] == {
        "name": "sim", "workflow": "sim", "label": "2 tasks", "kind": "command", "state": None,
    }  # fmt: skip
    assert answer["edges"] == [["sim", "maps"], ["maps", "sum"], ["sim", "sum"]]


def test_dot_quotes_every_name() -> None:
    graph = Graph('a "b"', (Node('x "1"', "x", "\\", "k", TaskState.DONE), Node("y", "y", "", "k")), (('x "1"', "y"),))
    assert graph.to_dot() == (
        'digraph "a \\"b\\"" {\n'
        "  rankdir=LR;\n"
        '  node [shape=box, style="rounded,filled", fillcolor=white, fontname=Helvetica];\n'
        '  "x \\"1\\"" [label="x\\n\\\\\\ndone", fillcolor="#def3e2"];\n'
        '  "y" [label="y"];\n'
        '  "x \\"1\\"" -> "y";\n'
        "}\n"
    )


def boxes(svg: str) -> list[tuple[float, float, float, float]]:
    """Left, top, right and bottom of every box in a picture."""
    root = ElementTree.fromstring(svg)
    found = []
    for rect in root.iter(f"{SVG}rect"):
        if "rx" in rect.attrib:
            x, y, width, height = (float(rect.attrib[name]) for name in ("x", "y", "width", "height"))
            found.append((x, y, x + width, y + height))
    return found


def test_picture_has_a_box_per_task_an_edge_per_dependency_and_all_inside() -> None:
    svg = to_svg(graph_of_tasks("run: failed", TASKS, STATES))
    root = ElementTree.fromstring(svg)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    found = boxes(svg)
    assert len(found) == 5
    assert len([path for path in root.iter(f"{SVG}path") if "marker-end" in path.attrib]) == 5
    assert all(0 < left < right < width and 0 < top < bottom < height for left, top, right, bottom in found)
    for index, (left, top, right, bottom) in enumerate(found):
        for other in found[index + 1 :]:
            assert right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert texts[0] == "run: failed"
    assert texts.count("failed") == 1
    assert "seed=2" in texts


def test_picture_is_xml_whatever_the_names() -> None:
    nodes = (Node('<a> & "b" \x00\ud800 ☂', '<a> & "b" \x00\ud800 ☂' * 9, "</svg>", "k", TaskState.RUNNING),)
    root = ElementTree.fromstring(to_svg(Graph("\x1b]0;x", nodes, ())))
    assert [text.text for text in root.iter(f"{SVG}text")][-2:] == ["</svg>", "running"]


def test_empty_graph_is_a_picture() -> None:
    assert boxes(to_svg(Graph("nothing", (), ()))) == []
