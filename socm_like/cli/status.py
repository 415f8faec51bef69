"""``campaign status``."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click

from socm_like.cli.options import json_option, run_argument, store_option
from socm_like.cli.render import (
    GAP,
    Cell,
    coloured,
    counts_line,
    cut,
    print_json,
    short_span,
    shown_path,
    state_cell,
    state_colour,
    state_text,
    table_lines,
    terminal_width,
)
from socm_like.cli.watch import watch
from socm_like.errors import UsageError
from socm_like.forecast import Forecast, forecast
from socm_like.journal import TaskState
from socm_like.logs import printable
from socm_like.status import FAILURES, RunState, RunStatus, TaskStatus, read_status
from socm_like.store import find_run
from socm_like.units import format_span, parse_instant

LISTED = 40
"""Tasks listed one by one; of a larger run the workflows are listed."""
RUNNING_LISTED = 10
FAILURES_LISTED = 10
BAR = 40
"""Width of the bar."""


@click.command("status")
@run_argument
@store_option
@click.option("--watch", "is_watched", is_flag=True, help="Redraw every second until the run ends.")
@click.option("--failed", "only_failed", is_flag=True, help="Only the tasks that went wrong, all of them.")
@json_option
def command(run: str | None, store: Path, is_watched: bool, only_failed: bool, as_json: bool) -> None:
    """Show how a run stands, whether it is alive or dead.

    RUN is the latest by default: a run's name, a campaign's name, or a directory. Exit status 1 when tasks failed.
    """
    if is_watched and as_json:
        raise UsageError("--json shows one moment; leave --watch out")
    directory = find_run(store, run)
    status = watch(directory, screen) if is_watched else read_status(directory)
    if as_json:
        answer = status.to_json(status.failures if only_failed else None)
        print_json({**answer, **forecast(status, time.time()).to_json()})
    elif only_failed:
        click.echo("\n".join(_failure_lines(status, status.failures) or ["no task has failed"]))
    elif not is_watched or sys.stdout.isatty():
        click.echo("\n".join(screen(status)))
        _advise(status)
    sys.exit(1 if status.failures else 0)


def screen(status: RunStatus, room: int | None = None) -> list[str]:
    """Return the whole answer as lines, no more than ``room`` as far as that can be."""
    now = time.time()
    head = [*_head(status, now), ""]
    failures = _news_of_failures(status, FAILURES_LISTED if room is None else max(1, room // 6))
    if len(status.tasks) <= LISTED and (room is None or len(head) + len(status.tasks) + 1 + len(failures) <= room):
        return [*head, *_task_lines(status.tasks, now), *failures]
    running = _running_lines(status, now, RUNNING_LISTED if room is None else max(1, room // 6))
    table = _workflow_lines(status, now)
    space = len(table) if room is None else max(2, room - len(head) - len(running) - len(failures))
    if len(table) > space:
        table = [*table[: space - 1], f"and {len(table) - space + 1} more"]
    return [*head, *table, *running, *failures]


def _news_of_failures(status: RunStatus, limit: int) -> list[str]:
    failures = status.failures
    if not failures:
        return []
    lines = ["", coloured("went wrong", bold=True), *_failure_lines(status, failures[:limit])]
    if len(failures) > limit:
        lines.append(f"and {len(failures) - limit} more; see them all: campaign status --failed {status.run}")
    return lines


def _head(status: RunStatus, now: float) -> list[str]:
    title = f"{coloured(printable(status.run), bold=True)}{GAP}{state_text(status.state)}"
    facts = [printable(f"campaign {status.campaign}")]
    if status.holder is not None:
        facts.append(f"held by {status.holder}")
    elif status.state is RunState.INTERRUPTED:
        facts.append("nobody works on it")
    facts += _times(status, now)
    counts = status.counts
    finished = sum(number for state, number in counts.items() if state.is_final)
    return [
        title,
        ", ".join(facts),
        "",
        f"{_bar(status)}{finished} of {len(status.tasks)} finished: {counts_line(counts)}",
    ]


def _times(status: RunStatus, now: float) -> list[str]:
    if status.started is None or status.last_news is None:
        return []
    started, last = parse_instant(status.started), parse_instant(status.last_news)
    ago = f"{format_span(round(max(0.0, now - last)))} ago"
    if status.state is RunState.INTERRUPTED:
        return [f"last news {ago}"]
    found = forecast(status, now)
    if status.state is not RunState.RUNNING:
        deadline = _kept(found) if status.state is RunState.DONE else _deadline(found)
        return [f"took {short_span(last - started)}", f"ended {ago}", *deadline]
    elapsed = [f"{format_span(round(max(0.0, now - started)))} so far"]
    if found.left is not None:
        elapsed.append(f"about {format_span(round(found.left))} left")
    return [*elapsed, *_deadline(found)]


def _kept(found: Forecast) -> list[str]:
    """Return whether a run that is done kept its deadline, where there is one."""
    if found.deadline is None:
        return []
    late = format_span(round(-found.deadline)) if found.deadline < 0 else ""
    return [coloured(f"deadline missed by {late}", "red") if late else "deadline kept"]


def _deadline(found: Forecast) -> list[str]:
    """Return whether the deadline will hold, where there is one."""
    if found.deadline is None:
        return []
    if found.deadline < 0:
        return [coloured(f"deadline was {format_span(round(-found.deadline))} ago", "red")]
    text = f"deadline in {format_span(round(found.deadline))}"
    if found.margin is None:
        return [text]
    if found.margin >= 0:
        return [f"{text}: will hold"]
    return [coloured(f"{text}: will be missed by about {format_span(round(-found.margin))}", "red")]


def _bar(status: RunStatus) -> str:
    """Return a bar of the finished, running and remaining share, for a terminal."""
    total = len(status.tasks)
    if terminal_width() is None or not total:
        return ""
    counts = status.counts
    shares = {
        "green": sum(counts[state] for state in TaskState if state.is_success),
        "red": sum(counts[state] for state in FAILURES),
        "yellow": counts[TaskState.CANCELLED] + counts[TaskState.SKIPPED],
        "cyan": counts[TaskState.RUNNING],
    }
    bar, cells, seen = "", 0, 0
    for colour, share in shares.items():
        seen += share
        end = max(round(BAR * seen / total), min(cells + 1, BAR)) if share else cells
        bar += coloured("━" * (end - cells), colour)
        cells = end
    return bar + coloured("─" * (BAR - cells), dim=True) + GAP


def _running_lines(status: RunStatus, now: float, limit: int) -> list[str]:
    running = [task for task in status.tasks if task.state is TaskState.RUNNING]
    if not running:
        return []
    longest_first = sorted(running, key=lambda task: task.started or "")
    lines = ["", coloured("running", bold=True), *_task_lines(longest_first[:limit], now)]
    return lines if len(running) <= limit else [*lines, f"and {len(running) - limit} more"]


def _task_lines(tasks: Sequence[TaskStatus], now: float) -> list[str]:
    rows = []
    for task in tasks:
        runtime = task.runtime(now)
        rows.append(
            (
                task.task,
                state_cell(task.state),
                str(task.attempts) if task.attempts else "-",
                "-" if runtime is None else short_span(runtime),
                Cell(_reason(task, now), dim=True),
            )
        )
    return table_lines(("task", "state", "attempts", "runtime", "reason"), rows)


def _reason(task: TaskStatus, now: float) -> str:
    """Return the reason of a task's state; of one that is held, with how long it is held from now on."""
    reason = task.reason or ""
    if task.held_until is None or task.state is not TaskState.HELD:
        return reason
    left = f" (in {format_span(round(task.held_until - now))})" if task.held_until > now else ""
    return _SPAN.sub(lambda _: left, reason, count=1)


_SPAN = re.compile(r" \(in [^)]*\)")
"""How long a task was to be held when that was decided."""


def _workflow_lines(status: RunStatus, now: float) -> list[str]:
    """Return one line per workflow, or per group: how many tasks are in which state, and the mean runtime."""
    are_many = len({task.workflow for task in status.tasks}) > LISTED
    members: dict[str, list[TaskStatus]] = {}
    for task in status.tasks:
        group = task.workflow.rpartition(".")[0] if are_many else ""
        members.setdefault(f"{group}.*" if group else task.workflow, []).append(task)
    total = status.counts
    present = [state for state in TaskState if total[state]]
    rows = []
    for workflow, tasks in members.items():
        states = [task.state for task in tasks]
        counts = [states.count(state) for state in present]
        runtimes = [task.runtime(now) or 0.0 for task in tasks if task.state is TaskState.DONE]
        mean = short_span(sum(runtimes) / len(runtimes)) if runtimes else "-"
        cells = [
            Cell(str(number), state_colour(state)) if number else "-"
            for state, number in zip(present, counts, strict=True)
        ]
        rows.append((workflow, str(len(tasks)), *cells, mean))
    return table_lines(("workflow", "tasks", *present, "mean runtime"), rows)


def _failure_lines(status: RunStatus, failures: Sequence[TaskStatus]) -> list[str]:
    width = terminal_width()
    lines = []
    for task in failures:
        tries = f" at attempt {task.attempt}" if task.attempt and task.attempt > 1 else ""
        reason = printable(task.reason or "no reason given").replace("\t", " ")
        name = cut(printable(task.task), max(20, (width or 1000) // 2), keep_end=True)
        text = f"{name}{tries}: {reason}"
        room = None if width is None else max(20, width - len(task.state) - 4)
        lines.append(f"{GAP}{state_text(task.state)} {text if room is None else cut(text, room)}")
        log = _telling_log(status, task)
        if log is not None:
            lines.append(f"{GAP}{GAP}{coloured(shown_path(log), dim=True)}")
    return lines


def _telling_log(status: RunStatus, task: TaskStatus) -> Path | None:
    """Return the log to look at first: stderr, or stdout when only that holds anything."""
    err, out = status.log(task, "err"), status.log(task, "out")
    is_out = out is not None and err is not None and _size(err) == 0 < _size(out)
    return out if is_out else err


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _advise(status: RunStatus) -> None:
    """Say on stderr what to type next, where something waits for it."""
    if status.state is RunState.INTERRUPTED:
        click.echo(f"\ngo on: campaign submit {shown_path(status.source)}", err=True)
    elif status.state is RunState.FAILED:
        click.echo(f"\nlook closer: campaign logs TASK --run {status.run}", err=True)
        click.echo(f"run again what failed: campaign retry {status.run}", err=True)
    elif status.state is RunState.CANCELLED:
        click.echo(f"\ngo on: campaign submit {shown_path(status.source)}", err=True)
