"""Machines as data: what a file says, what is wrong with it, and the machines that are shipped."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socm_like.errors import CampaignError, UsageError
from socm_like.machine_file import (
    NOT_STATED,
    MachineFile,
    Nodes,
    Partition,
    Schedule,
    find_machine,
    read_machine,
    shipped_machines,
)
from socm_like.resources import detect

GIB = 2**30
SHIPPED = ["laptop", "perlmutter", "slurm", "tiger3", "universe"]
SMALL = """
name = "small"
scheduler = "slurm"
[nodes.cpu]
count = 2
cores = 8
memory = "16 GiB"
[partitions.main]
nodes = "cpu"
walltime = "1 h"
"""


def faults(folder: Path, text: str) -> list[str]:
    path = folder / "m.toml"
    path.write_text(text)
    with pytest.raises(CampaignError) as caught:
        read_machine(path)
    return [str(fault).replace(f"{folder}/", "") for fault in caught.value.faults]


def machine_of(folder: Path, text: str) -> MachineFile:
    path = folder / "m.toml"
    path.write_text(text)
    return read_machine(path)


def test_a_file_says_nodes_partitions_schedule_and_sources(tmp_path: Path) -> None:
    text = """
name = "small"
doc = "a small one"
scheduler = "slurm"
launcher = "mpiexec"
account = "abc"
timezone = "Europe/London"
[nodes.gpu]
count = 2
cores = 8
memory = "16 GiB"
gpus = 4
gpu_memory = "40 GB"
gpu_model = "A100"
features = ["a100", "ib"]
[partitions.main]
nodes = ["gpu"]
walltime = "1 h 30 min"
min_nodes = 1
max_nodes = 2
max_jobs = 3
max_cores = 16
partition = "batch"
qos = "normal"
constraint = "a100"
cost_per_node_hour = 2
[schedule]
preferred_hours = "20:00-06:00"
weekends = true
holidays = [2026-12-25, "2027-01-01"]
timezone = "Europe/London"
[sources]
nodes.gpu = "sinfo"
"""
    machine = machine_of(tmp_path, text)
    assert machine.nodes == {
        "gpu": Nodes(
            count=2, cores=8, memory=16 * GIB, gpus=4, gpu_memory=40 * 10**9, gpu_model="A100", features=("a100", "ib")
        )
    }
    assert machine.partitions == {
        "main": Partition(
            nodes=("gpu",), walltime=timedelta(minutes=90), min_nodes=1, max_nodes=2, max_jobs=3, max_cores=16,
            partition="batch", qos="normal", constraint="a100", cost_per_node_hour=2.0,
        )
    }  # fmt: skip
    assert machine.schedule is not None
    assert machine.schedule.preferred_hours == ("20:00-06:00",)
    assert machine.model_dump(mode="json")["schedule"]["holidays"] == ["2026-12-25", "2027-01-01"]
    assert (machine.launcher, machine.account, machine.timezone) == ("mpiexec", "abc", "Europe/London")
    assert machine.sources == {"nodes.gpu": "sinfo"}


def test_a_schedule_says_nothing_it_was_not_told() -> None:
    assert Schedule() == Schedule(preferred_hours=(), weekends=None, holidays=None, timezone="")


def test_a_figure_has_its_own_source_or_its_tables_or_none(tmp_path: Path) -> None:
    sources = '[sources]\n"nodes" = "a"\n"nodes.cpu.memory" = "b"\n"partitions.main.walltime" = "c"\n'
    machine = machine_of(tmp_path, SMALL.replace('"1 h"', '"1 h"\nmax_jobs = 3') + sources)
    assert {figure: machine.source_of(figure) for figure in machine.figures()} == {
        "nodes.cpu.count": "a",
        "nodes.cpu.cores": "a",
        "nodes.cpu.memory": "b",
        "partitions.main.walltime": "c",
        "partitions.main.max_jobs": NOT_STATED,
    }


def test_the_ways_to_a_type_of_nodes_keep_their_order(tmp_path: Path) -> None:
    more = '[partitions.a]\nnodes = "cpu"\nwalltime = "2 h"\n'
    machine = machine_of(tmp_path, SMALL + more)
    assert list(machine.partitions_of("cpu")) == ["main", "a"]
    assert machine.partitions_of("gpu") == {}


def test_every_fault_of_a_file_is_told_at_once_with_its_line(tmp_path: Path) -> None:
    text = """name = "bad"
schedular = "slurm"
scheduler = "slrm"
timezone = 3
[nodes.cpu]
count = 3.5
cores = "8"
memory = 512
[nodes.big]
count = 2
cores = true
memory = "5 GB"
[partitions.main]
nodes = ["cpi", "big"]
walltime = "two days"
[partitions.other]
nodes = []
walltime = 60
qos = ["a"]
[schedule]
weekends = "yes"
weekend = true
[sources]
nodes.cpu.cuont = "x"
partitions.main = 3
"nodes.big" = " "
"""
    keys = "account, doc, launcher, name, nodes, partitions, schedule, scheduler, sources, timezone"
    assert faults(tmp_path, text) == [
        f"m.toml:2: unknown key 'schedular'; allowed: {keys}; did you mean 'scheduler'?",
        "m.toml:3: scheduler: write 'local' or 'slurm'; did you mean 'slurm'?, got 'slrm'",
        "m.toml:4: timezone: write text in quotes, got 3",
        "m.toml:6: nodes.cpu.count: write a whole number, got 3.5",
        "m.toml:7: nodes.cpu.cores: write a whole number, got '8'",
        'm.toml:8: nodes.cpu.memory: a size needs a number and a unit (write "512 GiB", not 512)',
        "m.toml:11: nodes.big.cores: write a whole number, got true",
        "m.toml:14: partitions.main.nodes: no [nodes.cpi]; known types: big, cpu; did you mean 'cpu'?",
        "m.toml:15: partitions.main.walltime: a time span needs a number and a unit (s, min, h, d, w), got 'two days'",
        "m.toml:17: partitions.other.nodes: write at least 1 of them, got []",
        'm.toml:18: partitions.other.walltime: a time span needs a number and a unit (write "60 min", not 60)',
        "m.toml:19: partitions.other.qos: write text in quotes, got ['a']",
        "m.toml:21: schedule.weekends: write true or false, got 'yes'",
        "m.toml:22: schedule: unknown key 'weekend'; "
        "allowed: holidays, preferred_hours, timezone, weekends; did you mean 'weekends'?",
        "m.toml:24: sources.nodes.cpu.cuont: this file states no 'nodes.cpu.cuont'; did you mean 'nodes.cpu.count'?",
        'm.toml:25: sources.partitions.main: write a document and a date, or "assumed", got 3',
        'm.toml:26: sources."nodes.big": write a document and a date, or "assumed", got \' \'',
    ]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"16 GiB"', '"16 GiB"\ngpu_memory = "40 GB"',
         "m.toml:4: nodes.cpu: a GPU is described, but gpus is 0; write how many"),
        ('"1 h"', '"1 h"\nmax_nodes = 3', "m.toml:11: partitions.main.max_nodes: 3 nodes of one job, but cpu has 2"),
        ('"1 h"', '"1 h"\nmin_nodes = 2\nmax_nodes = 1',
         "m.toml:11: partitions.main.min_nodes: 2 is more than max_nodes, 1"),
        ("[partitions.main]", '[partitions."my main"]',
         "m.toml:8: 'my main' cannot name a table of partitions; "
         "use letters, digits, '-' and '_'; what sbatch calls it is partition or qos"),
        ('name = "small"', 'name = ""', "m.toml:2: name: string should have at least 1 character, got ''"),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_a_fault(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert faults(tmp_path, SMALL.replace(old, new)) == [told]


def test_a_local_machine_is_one_node_without_partitions(tmp_path: Path) -> None:
    assert faults(tmp_path, SMALL.replace('"slurm"', '"local"')) == [
        'm.toml:4: scheduler "local" runs on one node; write count = 1, or scheduler "slurm"',
        'm.toml:8: scheduler "local" has no partitions; remove them, or write "slurm"',
    ]


def test_slurm_without_a_way_in_and_a_file_without_nodes_are_faults(tmp_path: Path) -> None:
    assert faults(tmp_path, SMALL.partition("[partitions")[0]) == [
        'm.toml:3: scheduler "slurm" needs a partition: add a table such as [partitions.main]'
    ]
    assert faults(tmp_path, 'name = "a"\nscheduler = "local"\n[nodes]\n') == [
        "m.toml:3: nodes: write at least 1 of them, got {}"
    ]
    assert faults(tmp_path, "nodes = 3\nsources = 4\npartitions = 5\nscheduler = 6\n[schedule]\nholidays = 7\n") == [
        "m.toml:1: the required key 'name' is missing",
        "m.toml:1: nodes: write a table, got 3",
        "m.toml:2: sources: write a table, got 4",
        "m.toml:3: partitions: write a table, got 5",
        "m.toml:4: scheduler: write 'local' or 'slurm', got 6",
        "m.toml:6: schedule.holidays: write a list or true or false, got 7",
    ]


@given(st.binary(max_size=200))
def test_any_bytes_are_a_machine_or_faults(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(content)
    with pytest.raises(CampaignError):
        read_machine(path)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_figure_of_a_shipped_file_has_a_source(name: str, tmp_path: Path) -> None:
    machine = find_machine(name, tmp_path)
    assert machine.name == name
    assert machine.doc
    assert {figure for figure in machine.figures() if machine.source_of(figure) == NOT_STATED} == set()


def test_the_shipped_machines_are_these() -> None:
    assert list(shipped_machines()) == SHIPPED


def test_tiger3_is_what_socm_says_of_it(tmp_path: Path) -> None:
    machine = find_machine("tiger3", tmp_path)
    assert machine.nodes == {"cpu": Nodes(count=492, cores=112, memory=10**12)}
    limits = {
        name: (each.walltime // timedelta(minutes=1), each.max_jobs, each.max_cores)
        for name, each in machine.partitions.items()
    }
    assert list(limits) == ["test", "vshort", "short", "medium", "long", "vlong"]
    assert limits == {
        "test": (60, 1, 8000),
        "vshort": (300, 2000, 55104),
        "short": (1440, 50, 8000),
        "medium": (4320, 80, 4000),
        "long": (8640, 16, 1000),
        "vlong": (21600, 8, 900),
    }


def test_perlmutter_has_the_memory_that_nersc_says_and_the_limits_of_socm_in_nodes(tmp_path: Path) -> None:
    machine = find_machine("perlmutter", tmp_path)
    assert {name: (each.count, each.cores, each.memory, each.gpus) for name, each in machine.nodes.items()} == {
        "cpu": (3072, 128, 512 * 10**9, 0),
        "gpu": (1536, 64, 256 * 10**9, 4),
        "gpu80": (256, 64, 256 * 10**9, 4),
    }
    limits = {
        name: (each.walltime // timedelta(minutes=1), each.max_jobs, each.max_nodes)
        for name, each in machine.partitions_of("cpu").items()
    }
    assert limits == {
        "regular": (2880, 5000, 3072),
        "interactive": (240, 2, 4),
        "shared_interactive": (240, 2, 1),
        "debug": (30, 5, 8),
    }
    assert machine.partitions["shared_interactive"].max_cores == 64


def test_a_path_is_relative_to_the_campaign_file(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner/mine.toml").write_text(SMALL)
    assert find_machine("inner/mine.toml", tmp_path).name == "small"
    assert find_machine("mine.toml", tmp_path / "inner").name == "small"
    assert find_machine(str(tmp_path / "inner/mine.toml"), Path("/")).name == "small"


@pytest.mark.parametrize(
    ("resource", "told"),
    [
        ("tigr3", "unknown machine 'tigr3'; {known}; did you mean 'tiger3'?"),
        ("mine", "unknown machine 'mine'; {known}; did you mean 'mine.toml'?"),
        ("", "unknown machine ''; {known}"),
        ("other.toml", "no machine file {folder}/other.toml; {known}"),
        ("a/b", "no machine file {folder}/a/b; {known}"),
    ],
)
def test_an_unknown_machine_is_an_error_that_lists_what_there_is(resource: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(SMALL)
    known = "known machines: laptop, local, perlmutter, slurm, tiger3, universe, or the path of a .toml file"
    with pytest.raises(UsageError) as caught:
        find_machine(resource, tmp_path)
    assert str(caught.value) == told.format(known=known, folder=tmp_path)


def test_local_is_this_machine_and_says_how_it_was_detected(tmp_path: Path) -> None:
    machine, found = find_machine("local", tmp_path), detect()
    assert machine.nodes["local"].cores == len(found.machine.cores)
    assert machine.nodes["local"].memory == found.machine.memory
    assert (machine.scheduler, machine.partitions) == ("local", {})
    assert machine.source_of("nodes.local.cores") == found.cores
    assert [figure for figure in machine.figures() if machine.source_of(figure) == NOT_STATED] == []
