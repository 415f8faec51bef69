"""``campaign graph``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import click

from socm_like.cli.loading import plan_campaign
from socm_like.cli.options import campaign_store_option, json_option
from socm_like.cli.render import print_json, shown_path
from socm_like.errors import UsageError
from socm_like.journal import TaskState, store_errors
from socm_like.results.graph import Graph, TaskLike, graph_of_tasks, graph_of_workflows
from socm_like.results.graph_picture import to_svg
from socm_like.status import read_status
from socm_like.store import find_run, write_atomically

MOST_TASKS = 60
"""Tasks drawn one by one; of a larger graph the workflows are drawn."""


@click.command("graph")
@click.argument("source", metavar="[CAMPAIGN_OR_RUN]", required=False, default=None)
@campaign_store_option
@click.option("--output", "-o", type=click.Path(path_type=Path, dir_okay=False), help="Write FILE.svg or FILE.dot.")
@click.option("--by", type=click.Choice(["task", "workflow"]), default=None, help="Draw every task, or workflows.")
@json_option
def command(
    *,
    source: str | None,
    store: Path | None,
    output: Path | None,
    by: Literal["task", "workflow"] | None,
    as_json: bool,
) -> None:
    """Draw what depends on what: DOT on stdout, or a picture with --output.

    CAMPAIGN_OR_RUN is a campaign file or a run, the latest run by default; a run is coloured by state. More than 60
    tasks are drawn as workflows unless --by says otherwise.
    """
    if output is not None and output.suffix not in (".svg", ".dot"):
        raise UsageError(f"--output {output}: the name must end in .svg or .dot")
    title, tasks, states = _read(source, store)
    is_large = len(tasks) > MOST_TASKS and not as_json
    make = graph_of_workflows if by == "workflow" or (by is None and is_large) else graph_of_tasks
    graph = make(title, tasks, states)
    if output is not None:
        _write(graph, output)
    if as_json:
        print_json(graph.to_json())
    elif output is None:
        click.echo(graph.to_dot(), nl=False)


def _read(source: str | None, store: Path | None) -> tuple[str, Mapping[str, TaskLike], Mapping[str, TaskState]]:
    """Return a title, the tasks, and for a run their states."""
    if source is not None and (Path(source).is_file() or source.endswith(".toml")):
        plan, _ = plan_campaign(Path(source), (), store)
        return plan.campaign, {task.name: task for task in plan.tasks}, {}
    status = read_status(find_run(store or Path("runs").absolute(), source))
    states = {task.task: task.state for task in status.tasks}
    return f"{status.run}: {status.state}", {task.task: task for task in status.tasks}, states


def _write(graph: Graph, output: Path) -> None:
    with store_errors(output):
        output.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(output, to_svg(graph) if output.suffix == ".svg" else graph.to_dot())
    click.echo(f"wrote {shown_path(output.absolute())}", err=True)
