"""Words that stand for files: what they become, which files they bring along, what is wrong with them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socm_like.document import KeyPath
from socm_like.fields import FileWords, Model
from socm_like.references import (
    OutputReference,
    Resolver,
    cycles,
    names_in,
    output_reference,
    output_references,
    path_inputs,
    path_problem,
    split_commands,
)
from socm_like.workflow import Workflow


class Source(Model):
    file: Path
    note: str = ""
    more: dict[str, Path] = {}  # noqa: RUF012 - pydantic copies it


class Reader(Workflow):
    text: str = ""
    path: Path | None = None
    paths: tuple[Path, ...] = ()
    named: dict[str, Path] = {}  # noqa: RUF012
    words: Annotated[tuple[str, ...], FileWords()] = ()
    source: Source | None = None
    sources: tuple[Source, ...] = ()
    template: Path = Path(__file__)
    templates: tuple[Path, ...] = (Path("relative"), Path("/nowhere/absolute"), Path(__file__).parent)


def outputs(reference: OutputReference) -> Sequence[str]:
    return [
        f"/runs/{reference.workflow}/{number}/{reference.path}"
        for number in range(2 if reference.workflow == "two" else 1)
    ]


def resolve(folder: Path, **values: Any) -> tuple[dict[str, Any], list[str], list[tuple[KeyPath, str]]]:
    resolver = Resolver(str(folder), outputs)
    resolved = resolver.resolve(Reader, values)
    return resolved, sorted(str(path.relative_to(folder)) for path in resolver.inputs), resolver.problems


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    for name in ("a.txt", "sub/b.txt", "plain", "models.py"):
        (tmp_path / name).write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("word", "reference"),
    [
        ("plain", None),
        ("output:/w/x", None),
        ("output://w", OutputReference("", "w", "")),
        ("output://w/", OutputReference("", "w", "")),
        ("output://w/a/b.txt", OutputReference("", "w", "a/b.txt")),
        ("output://w/maps/", OutputReference("", "w", "maps")),
        ("--in=output://g.my w/x", OutputReference("--in=", "g.my w", "x")),
    ],
)
def test_a_reference_stands_at_the_end_of_a_word(word: str, reference: OutputReference | None) -> None:
    assert output_reference(word) == reference


@pytest.mark.parametrize(
    ("word", "problem"),
    [
        ("output://w", ""),
        ("output://w/x..y/.z", ""),
        ("output://", "output:// names no workflow; write output://workflow/path"),
        ("output:///x", "output:///x names no workflow; write output://workflow/path"),
        (
            "output://a/x:output://b/y",
            "output://a/x:output://b/y holds several references; a word holds one, at its end",
        ),
        ("file://x,output://b/y", "file://x,output://b/y holds several references; a word holds one, at its end"),
        ("output://a/file://x", "output://a/file://x holds several references; a word holds one, at its end"),
        ("output://a/../x", "the path '../x' is not inside the task's directory; write a relative path without '..'"),
        ("output://a//etc", "the path '/etc' is not inside the task's directory; write a relative path without '..'"),
        ("output://a//", "the path '/' is not inside the task's directory; write a relative path without '..'"),
    ],
)
def test_a_reference_knows_what_is_wrong_with_its_words(word: str, problem: str) -> None:
    reference = output_reference(word)
    assert reference is not None
    assert reference.problem == problem


@pytest.mark.parametrize("path", ["a", "a/b", "./a", "a..b", "..a", "a/", "."])
def test_a_relative_path_is_inside(path: str) -> None:
    assert path_problem(path, "path") == ""


@pytest.mark.parametrize("path", ["", "/", "/a", "..", "../a", "a/../b", "a/..", "a\0"])
def test_an_empty_absolute_or_climbing_path_is_not_inside(path: str) -> None:
    assert path_problem(path, "output") == (
        f"the output {path!r} is not inside the task's directory; write a relative path without '..'"
    )


def test_references_are_found_in_tables_and_lists_at_their_keys() -> None:
    value = {"a": "output://x/1", "b": ["plain", {"c": ["--d=output://y"]}], "e": 3}
    assert list(output_references(value)) == [
        (("a",), OutputReference("", "x", "1")),
        (("b", 1, "c", 0), OutputReference("--d=", "y", "")),
    ]


def test_a_table_names_what_it_waits_for_and_refers_to() -> None:
    values = {
        "depends_on": ["a", 3, "output://b/x"],
        "for_each": ["c", 4],
        "parameters": {"p": "output://d/x"},
        "command": ["output://", "e=output://e"],
    }
    assert list(names_in(values)) == [
        (("for_each", 0), "c", ""),
        (("depends_on", 0), "a", ""),
        (("depends_on", 2), "output://b/x", ""),
        (("parameters", "p"), "d", ""),
        (("command", 0), "", "output:// names no workflow; write output://workflow/path"),
        (("command", 1), "e", ""),
    ]
    assert list(names_in({"depends_on": "a", "for_each": 3})) == []


def test_command_lines_are_split_as_a_shell_would_and_other_text_is_not() -> None:
    values = {"words": "run 'a b' \"c\" d\\ e output://w/x", "text": "a b", "nothing": "a b", "paths": "a b"}
    assert split_commands(Reader, values) == (
        {**values, "words": ["run", "a b", "c", "d e", "output://w/x"]},
        {},
    )
    assert split_commands(Reader, {"words": "it's"}) == (
        {"words": ["it's"]},
        {"words": 'no closing quotation in "it\'s"'},
    )


def test_paths_and_files_start_in_the_folder_and_text_stays(folder: Path) -> None:
    resolved, inputs, problems = resolve(
        folder,
        text="a.txt",
        path="sub/../a.txt",
        paths=["a.txt", f"{folder}/sub", "file://plain"],
        named={"one": "sub/b.txt"},
        context="file://a.txt",
        parameters={"p": "--x=file://plain", "q": "a.txt", "n": 3},
        environment={"FILE": "file://a.txt"},
    )
    assert resolved == {
        "text": "a.txt",
        "path": f"{folder}/a.txt",
        "paths": [f"{folder}/a.txt", f"{folder}/sub", f"{folder}/plain"],
        "named": {"one": f"{folder}/sub/b.txt"},
        "context": f"{folder}/a.txt",
        "parameters": {"p": f"--x={folder}/plain", "q": "a.txt", "n": 3},
        "environment": {"FILE": f"{folder}/a.txt"},
    }
    assert (inputs, problems) == (["a.txt", "plain", "sub", "sub/b.txt"], [])


def test_paths_inside_models_start_in_the_folder_too(folder: Path) -> None:
    source = {"file": "a.txt", "note": "a.txt", "more": {"x": "plain"}}
    resolved, inputs, problems = resolve(folder, source=source, sources=[source, {"file": "none"}])
    found = {"file": f"{folder}/a.txt", "note": "a.txt", "more": {"x": f"{folder}/plain"}}
    assert resolved == {"source": found, "sources": [found, {"file": f"{folder}/none"}]}
    assert inputs == ["a.txt", "plain"]
    assert problems == [(("sources", 1, "file"), f"no such file: {folder}/none")]


def test_a_word_that_names_a_file_stands_for_it_and_one_that_looks_like_text_does_not(folder: Path) -> None:
    words = [
        "a.txt",
        "sub/b.txt",
        "plain",
        "sub",
        "./plain",
        "none.txt",
        "--in=a.txt",
        ".",
        "1.5",
        "x\0.y",
        "a/" * 3000,
    ]
    resolved, inputs, problems = resolve(folder, words=words)
    found = {"a.txt": f"{folder}/a.txt", "sub/b.txt": f"{folder}/sub/b.txt", "./plain": f"{folder}/plain"}
    assert resolved == {"words": [found.get(word, word) for word in words]}
    assert (inputs, problems) == (["a.txt", "plain", "sub/b.txt"], [])


def test_a_file_may_be_followed_by_a_name_inside_it(folder: Path) -> None:
    resolved, inputs, problems = resolve(folder, text="file://models.py:line", path="models.py:a:b")
    assert resolved == {"text": f"{folder}/models.py:line", "path": f"{folder}/models.py:a:b"}
    assert inputs == ["models.py"]
    assert problems == [(("path",), f"no such file: {folder}/models.py:a:b; did you mean 'models.py'?")]
    (folder / "odd:name").write_text("")
    assert resolve(folder, path="odd:name")[1:] == (["odd:name"], [])


def test_references_expand_in_lists_and_keep_their_prefix(folder: Path) -> None:
    resolved, _, problems = resolve(
        folder, words=["x", "--in=output://two/m", "output://one"], paths=["output://two/m"], text="a output://one/m"
    )
    assert resolved == {
        "words": ["x", "--in=/runs/two/0/m", "--in=/runs/two/1/m", "/runs/one/0/"],
        "paths": ["/runs/two/0/m", "/runs/two/1/m"],
        "text": "a /runs/one/0/m",
    }
    assert problems == []


def test_every_word_that_stands_for_nothing_is_a_problem_of_its_key(folder: Path) -> None:
    _, inputs, problems = resolve(
        folder,
        text="output://two/m",
        path="a.tx",
        paths=["a.txt", "no/where"],
        context="file://",
        parameters={"p": "file://plan", "q": "--x=output://two/m"},
        words=["file://a.text"],
    )
    hint = "this key takes one; take one per task with for_each = 'two'"
    assert problems == [
        (("text",), f"'output://two/m' stands for 2 files, {hint}"),
        (("path",), f"no such file: {folder}/a.tx; did you mean 'a.txt'?"),
        (("paths", 1), f"no such file: {folder}/no/where"),
        (("context",), "file:// names no file; write file://path"),
        (("parameters", "p"), f"no such file: {folder}/plan; did you mean 'plain'?"),
        (("parameters", "q"), f"'--x=output://two/m' stands for 2 files, {hint}"),
        (("words", 0), f"no such file: {folder}/a.text; did you mean 'a.txt'?"),
    ]
    assert inputs == ["a.txt"]


def test_what_stands_in_path_fields_is_an_input_whoever_put_it_there(folder: Path) -> None:
    here = Path(__file__)
    assert list(path_inputs(Reader(), "/runs")) == [here, here.parent]
    reader = Reader(path=folder / "a.txt", named={"x": folder / "sub", "y": folder / "none"}, template=Path("relative"))
    assert list(path_inputs(reader, "/runs")) == [folder / "a.txt", folder / "sub", here.parent]
    assert list(path_inputs(reader, str(folder))) == [here.parent]
    assert list(path_inputs(reader, str(folder / "su"))) == [folder / "a.txt", folder / "sub", here.parent]


def test_cycles_are_named_from_where_they_begin() -> None:
    assert list(cycles({"a": ["a"], "b": ["c"], "c": ["d", "b"], "d": ["b"], "e": ["b"]})) == [
        ["a", "a"],
        ["b", "c", "d", "b"],
        ["b", "c", "b"],
    ]


@given(st.lists(st.lists(st.integers(0, 7), unique=True), min_size=8, max_size=8))
def test_without_the_edges_that_close_cycles_there_is_none(edges: list[list[int]]) -> None:
    graph = {str(node): [str(other) for other in others] for node, others in enumerate(edges)}
    found = list(cycles(graph))
    for cycle in found:
        assert cycle[0] == cycle[-1]
        assert all(second in graph[first] for first, second in pairwise(cycle))
    closing = {(cycle[-2], cycle[-1]) for cycle in found}
    left = {node: {other for other in others if (node, other) not in closing} for node, others in graph.items()}
    while free := [node for node, others in left.items() if not others]:
        left = {node: others - set(free) for node, others in left.items() if node not in free}
    assert left == {}
    assert bool(found) == has_cycle(graph)


def has_cycle(graph: dict[str, list[str]]) -> bool:
    reached = {node: set(others) for node, others in graph.items()}
    for middle in graph:
        for node in graph:
            if middle in reached[node]:
                reached[node] |= reached[middle]
    return any(node in others for node, others in reached.items())
