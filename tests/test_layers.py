"""The architecture, read off the imports: who may know whom, who names which engine, and how large things get."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "socm_like"
WORKFLOWS = ROOT / "workflows" / "socm_workflows"

LEVELS = (
    ("errors", "fields", "units"),
    (
        "batch",
        "clock",
        "contract",
        "faults",
        "identity",
        "journal",
        "kernel",
        "logs",
        "requests",
        "resources",
        "store",
        "window",
    ),
    ("workflow",),
    ("declared_kind", "document", "labels", "reads", "references", "registry", "sweep"),
    ("campaign", "edges", "entry", "machine_file", "policy", "settings"),
    (
        "pairing",
        "recipe",
        "regression",
        "shared_sweeps",
        "sizes",
        "sizing",
        "sweeps",
        "task",
        "trials",
        "unfold",
        "variations",
    ),
    (
        "accuracy",
        "estimate",
        "experience",
        "growth",
        "measurements",
        "openings",
        "outcome",
        "plan",
        "schedule",
        "tasks",
        "timeline",
    ),
    ("executors",),
    (
        "flight",
        "forecast",
        "frontier",
        "ledger",
        "neighbours",
        "quota",
        "runner",
        "searches",
        "shared",
        "simulation",
        "status",
        "submission",
        "waiting",
        "workplace",
    ),
    ("provenance", "results"),
    ("cli", "sciflow"),
)
"""Modules and packages of socm_like: each imports lower levels, and without a cycle its own."""

CONTRACT = {name for level in LEVELS[:4] for name in level}
"""What a kind may know: the shipped ones know no more than a stranger's."""

EXECUTORS = {"local", "parsl", "radical_pilot", "simulated", "slurm"}
"""They never import each other; the other modules of the folder are parts of them and import none of them."""

ENGINES = {"radical": "socm_like/executors/radical_pilot.py", "parsl": "socm_like/executors/parsl.py"}
"""Optional engines, and the only file that may import each, also inside functions."""

LATE = {
    "socm_workflows.fit.function.fitting": "scipy.optimize",
    "socm_workflows.fit.function.journey": "socm_workflows.fit.search.multistart",
    "socm_workflows.fit.function.result": "socm_workflows.fit.plot",
}
"""What the face of the fitter loads only when it is needed: scipy.stats and Matplotlib take a second, a fit none."""
FORBIDDEN_NAMES = {"utils", "util", "core", "common", "misc", "helpers", "helper", "manager", "handler"}
LINES_PER_FILE = 400
LINES_PER_FUNCTION = 50


@dataclass(frozen=True)
class Import:
    """One module that a file imports, by its full name, and where."""

    module: str
    line: int
    functions: tuple[str, ...]
    """The names of the functions around it, the outermost first; empty at module level."""


@dataclass(frozen=True)
class Source:
    path: Path
    name: str
    """Relative to the repository."""
    module: str
    text: str
    tree: ast.Module

    @property
    def layer(self) -> str:
        """The module or package of socm_like that it belongs to; empty for the package's own face."""
        return self.module.partition(".")[2].partition(".")[0]


@cache
def sources(folder: Path) -> tuple[Source, ...]:
    """Return every Python file below a folder; files that a user gets as examples are data, not modules."""
    found = []
    for path in sorted(folder.rglob("*.py")):
        if "starter" in path.parts:
            continue
        parts = path.relative_to(folder.parent).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        text = path.read_text(encoding="utf-8")
        found.append(Source(path, str(path.relative_to(ROOT)), module, text, ast.parse(text, str(path))))
    return tuple(found)


@cache
def known_modules() -> frozenset[str]:
    return frozenset(source.module for folder in (PACKAGE, WORKFLOWS) for source in sources(folder))


def _named(node: ast.AST, source: Source) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        package = source.module if source.path.name == "__init__.py" else source.module.rpartition(".")[0]
        for _ in range(node.level - 1):
            package = package.rpartition(".")[0]
        base = ".".join(part for part in (package if node.level else "", node.module) if part)
        for alias in node.names:
            inner = f"{base}.{alias.name}"
            yield inner if inner in known_modules() else base
    elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        called = ast.unparse(node.func).rpartition(".")[2]
        if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
            yield node.args[0].value


def _walk(node: ast.AST, source: Source, functions: tuple[str, ...]) -> Iterator[Import]:
    yield from (Import(name, getattr(node, "lineno", 0), functions) for name in _named(node, source))
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        functions = (*functions, node.name)
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, source, functions)


@cache
def imports(source: Source) -> tuple[Import, ...]:
    return tuple(_walk(source.tree, source, ()))


def of_package(module: str) -> str | None:
    """Return the layer of a module of socm_like, None for any other module."""
    package, _, rest = module.partition(".")
    return rest.partition(".")[0] if package == "socm_like" else None


def _is_lazy(source: Source, found: Import) -> bool:
    """Whether an import may wait until it is needed: the numerics of a kind, a command, an optional engine."""
    is_kind = source.path.is_relative_to(WORKFLOWS) and source.path.stem in ("workflow", "command")
    is_numerics = is_kind and found.functions[:1] in (("run",), ("run_batch",), ("extend",), ("stops",))
    is_numerics |= source.module == "socm_like.sweep.samples" and found.module.startswith(("scipy", "numpy"))
    is_numerics |= found.module.startswith(LATE.get(source.module, "-"))
    return bool(found.functions) and (is_numerics or source.layer == "cli" or source.name in ENGINES.values())


def ids(source: Source) -> str:
    return source.name


every_module = pytest.mark.parametrize("source", sources(PACKAGE), ids=ids)
every_workflow_module = pytest.mark.parametrize("source", sources(WORKFLOWS), ids=ids)
every_file = pytest.mark.parametrize("source", (*sources(PACKAGE), *sources(WORKFLOWS)), ids=ids)


def level_of(layer: str) -> int:
    return next(number for number, level in enumerate(LEVELS) if layer in level)


def test_every_module_has_a_level() -> None:
    known = {name for level in LEVELS for name in level}
    missing = sorted({source.layer for source in sources(PACKAGE) if source.layer} - known)
    assert missing == [], f"give these modules a level in {Path(__file__).name}: {', '.join(missing)}"


@every_module
def test_a_module_imports_no_higher_level(source: Source) -> None:
    if not source.layer:
        return
    higher = {
        f"line {found.line}: {found.module}"
        for found in imports(source)
        if (layer := of_package(found.module)) and level_of(layer) > level_of(source.layer)
    }
    assert higher == set()


@pytest.mark.parametrize("folder", [PACKAGE, WORKFLOWS], ids=lambda folder: folder.name)
def test_no_module_imports_itself_round_a_circle(folder: Path) -> None:
    graph = {
        source.module: {found.module for found in imports(source) if not _is_lazy(source, found)} - {source.module}
        for source in sources(folder)
        if source.module != folder.name  # the face names everything, and imports it when asked
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(error.args[1][::-1]))


def test_the_face_of_the_package_imports_nothing_of_it_at_once(
    run_python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    child = run_python("import sys, socm_like; print(sorted(n for n in sys.modules if n.startswith('socm_like.')))")
    assert (child.stdout, child.stderr) == ("[]\n", "")


@every_module
def test_only_the_command_line_imports_the_command_line(source: Source) -> None:
    if source.layer != "cli":
        assert [found.module for found in imports(source) if of_package(found.module) == "cli"] == []


@every_module
def test_an_executor_imports_no_other_and_its_parts_import_none(source: Source) -> None:
    if source.layer == "executors":
        others = {f"socm_like.executors.{name}" for name in EXECUTORS} - {source.module}
        assert {found.module for found in imports(source)} & others == set()


@every_file
def test_an_engine_is_imported_by_its_own_executor_only(source: Source) -> None:
    engines = {found.module.partition(".")[0] for found in imports(source)} & set(ENGINES)
    assert {engine for engine in engines if ENGINES[engine] != source.name} == set()


@every_module
def test_the_manager_names_neither_jax_nor_a_science(source: Source) -> None:
    packages = {found.module.partition(".")[0] for found in imports(source)}
    assert packages & {"jax", "jaxlib", "socm_workflows"} == set()
    docstrings = {
        id(node.value)
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    named = [
        node.lineno
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in docstrings
        and node.value.partition(".")[0] in ("jax", "jaxlib")
    ]
    assert named == []


@every_workflow_module
def test_a_kind_knows_the_contract_and_nothing_above_it(source: Source) -> None:
    layers = {layer for found in imports(source) if (layer := of_package(found.module)) is not None}
    assert layers - {""} - CONTRACT == set()


def test_a_login_node_loads_every_kind_without_the_numerics(
    run_python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    kinds = [source for source in sources(WORKFLOWS) if source.path.stem in ("workflow", "command")]
    at_once = {
        source.name: {i.module.partition(".")[0] for i in imports(source) if not i.functions} for source in kinds
    }
    assert {name for name, packages in at_once.items() if packages & {"jax", "jaxlib"}} == set()
    program = "import sys, importlib; [importlib.import_module(n) for n in sys.argv[1:]]; print('jax' in sys.modules)"
    child = run_python(program, *(source.module for source in kinds))
    assert (child.stdout, child.stderr) == ("False\n", "")


@every_file
def test_functions_import_nothing_but_numerics_in_run_commands_and_optional_engines(source: Source) -> None:
    late = [
        f"line {found.line}: {found.module} in {found.functions[-1]}"
        for found in imports(source)
        if found.functions and not _is_lazy(source, found)
    ]
    assert late == []


@every_file
def test_no_module_is_named_after_nothing(source: Source) -> None:
    assert set(source.module.split(".")) & FORBIDDEN_NAMES == set()


@every_file
def test_files_and_functions_stay_small(source: Source) -> None:
    lines = len(source.text.splitlines())
    assert lines <= LINES_PER_FILE, f"{lines} lines: split it"
    long = [
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(source.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > LINES_PER_FUNCTION
    ]
    assert long == []
