"""``campaign machines``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from socm_like.cli.options import json_option
from socm_like.cli.render import Cell, coloured, print_json, shown_path, table, terminal_width
from socm_like.machine_file import LOCAL, MachineFile, Nodes, Partition, find_machine, shipped_machines
from socm_like.units import format_size, format_span

NONE = "-"


def _names(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    names = [name for name in (LOCAL, *shipped_machines()) if name.startswith(incomplete)]
    return [CompletionItem(name) for name in names] or [CompletionItem(incomplete, type="file")]


@click.command("machines")
@click.argument("machine", required=False, default=None, shell_complete=_names)
@json_option
def command(*, machine: str | None, as_json: bool) -> None:
    """List machines, or describe one: nodes, partitions, limits, and where each figure comes from.

    MACHINE is a name from the list, or the path of a machine file, which is checked.
    """
    files = shipped_machines()
    if machine is not None:
        found = find_machine(machine, Path())
        path = None if machine == LOCAL else files.get(machine, Path(machine))
        if as_json:
            print_json(_as_json(found, path))
        else:
            _describe(found, path)
        return
    machines = {name: find_machine(name, Path()) for name in (LOCAL, *files)}
    if as_json:
        print_json([_as_json(found, files.get(name)) for name, found in machines.items()])
    else:
        _list(machines)


def _as_json(machine: MachineFile, path: Path | None) -> dict[str, Any]:
    file = None if path is None else str(path.absolute())
    return {"file": file, **machine.model_dump(mode="json")}


def _list(machines: Mapping[str, MachineFile]) -> None:
    headers = ("machine", "nodes", "cores", "memory", "GPUs", "longest", "what it is")
    click.echo(table(headers, [row for name, machine in machines.items() for row in _rows(name, machine)]))
    click.echo()
    _print_text("Cores, memory and GPUs are of one node; the longest is that of a job.", dim=True)
    local = machines[LOCAL]
    how = [f"{field}: {local.source_of(f'nodes.{LOCAL}.{field}')}" for field in ("cores", "memory", "gpus")]
    _print_text(f"{LOCAL} was detected; {'; '.join(how)}.", dim=True)


def _rows(name: str, machine: MachineFile) -> Iterator[list[str | Cell]]:
    """Yield a row for each type of nodes; of several, the first stands beside the name."""
    names = [name, *(f"  {kind}" for kind in list(machine.nodes)[1:])]
    for label, (kind, nodes) in zip(names, machine.nodes.items(), strict=True):
        longest = max((partition.walltime for partition in machine.partitions_of(kind).values()), default=None)
        yield [
            Cell(label, "cyan"),
            str(nodes.count),
            str(nodes.cores),
            format_size(nodes.memory),
            str(nodes.gpus or NONE),
            _span(longest.total_seconds()) if longest else NONE,
            Cell(machine.doc if label == name else _described(nodes), dim=True),
        ]


def _described(nodes: Nodes) -> str:
    memory = f"{format_size(nodes.gpu_memory)} each" if nodes.gpu_memory else ""
    return ", ".join(part for part in (nodes.gpu_model, memory) if part)


def _span(seconds: float) -> str:
    """Return a limit of time in the one unit that is whole, ``5 h`` or ``15 d``, else as a time span."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds % size == 0 and seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return format_span(seconds)


def _describe(machine: MachineFile, path: Path | None) -> None:
    click.echo(f"{coloured(machine.name, bold=True)}  {machine.doc}".rstrip())
    facts = {
        "file": shown_path(path.absolute()) if path else "",
        "scheduler": machine.scheduler,
        "launcher": machine.launcher,
        "account": machine.account,
        "time zone": machine.timezone,
    }
    for name, fact in facts.items():
        if fact:
            click.echo(f"  {coloured(f'{name:9}', dim=True)}  {fact}")
    _print_table("nodes", ("type", "nodes", "cores", "memory", "GPUs", "of", "model", "features"), _node_rows(machine))
    headers = ("partition", "type", "time", "nodes", "jobs", "cores", "QoS", "constraint", "cost")
    title = "partitions, the preferred first (nodes of one job; jobs and cores of one user)"
    _print_table(title, headers, _partition_rows(machine.partitions))
    if machine.schedule is not None:
        stated = machine.schedule.model_dump(mode="json", exclude_unset=True)
        _print_table("schedule", ("key", "value"), [(key, _words(value)) for key, value in stated.items()])
    _print_sources(machine)


def _node_rows(machine: MachineFile) -> list[tuple[str, ...]]:
    return [
        (
            name, str(nodes.count), str(nodes.cores), format_size(nodes.memory), str(nodes.gpus or ""),
            format_size(nodes.gpu_memory) if nodes.gpu_memory else "", nodes.gpu_model, _words(nodes.features),
        )
        for name, nodes in machine.nodes.items()
    ]  # fmt: skip


def _partition_rows(partitions: Mapping[str, Partition]) -> list[tuple[str, ...]]:
    return [
        (
            name, _words(partition.nodes), _span(partition.walltime.total_seconds()), _range(partition),
            str(partition.max_jobs or ""), str(partition.max_cores or ""),
            partition.qos if partition.qos != name else "same", partition.constraint,
            "" if partition.cost_per_node_hour is None else f"{partition.cost_per_node_hour:g}",
        )
        for name, partition in partitions.items()
    ]  # fmt: skip


def _range(partition: Partition) -> str:
    """Return the nodes of one job: ``8``, ``2 to 8`` or ``from 2``; nothing where they are not limited."""
    least, most = partition.min_nodes, partition.max_nodes
    if least is None or least == 1:
        return f"{most}" if most else ""
    return f"{least} to {most}" if most else f"from {least}"


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)


def _print_table(title: str, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table under its title, without the columns that nothing is said in."""
    used = [index for index in range(len(headers)) if any(row[index] for row in rows)]
    if not used:
        return
    body = [[row[index] or NONE for index in used] for row in rows]
    click.echo(f"\n{coloured(title, bold=True)}")
    click.echo(table([headers[index] for index in used], body))


def _print_sources(machine: MachineFile) -> None:
    """Print every source with the figures that come from it."""
    sources: dict[str, dict[str, list[str]]] = {}
    for figure in machine.figures():
        place, _, field = figure.rpartition(".")
        sources.setdefault(machine.source_of(figure), {}).setdefault(place, []).append(field)
    click.echo(f"\n{coloured('where the figures come from', bold=True)}")
    for source, places in sources.items():
        _print_text(source)
        for place, fields in places.items():
            _print_text(f"{place}: {', '.join(fields)}", indent=4, dim=True)


def _print_text(text: str, *, indent: int = 0, dim: bool = False) -> None:
    width = (terminal_width() or 100) - indent
    for line in click.wrap_text(text, width).splitlines():
        click.echo(f"{' ' * indent}{coloured(line, dim=dim)}")
