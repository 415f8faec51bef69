"""The nodes that a batch system has given to this job, and a directory for checkpoints.

Read from the environment of the job, nothing else. GPUs are those that the batch system, or nvidia-smi on this node,
names: NLSQ assumes 8 per node where it finds none, and reports 16 GPUs for two nodes without any.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from socm_like.resources import detect_machine

CHECKPOINTS = "nlsq_checkpoints"
_MOST_NODES = 100_000


@dataclass(frozen=True, slots=True)
class ClusterInfo:
    """The nodes of a job."""

    scheduler: str
    """``pbs``, ``slurm`` or ``lsf``."""
    node_list: tuple[str, ...]
    """Names of the nodes, each once, in the order of the batch system."""
    job_id: str | None = None
    gpus_per_node: int = 0
    """0 where nobody names any."""
    details: Mapping[str, str] = field(default_factory=dict)
    """The variables that this was read from."""

    @property
    def node_count(self) -> int:
        """Number of nodes."""
        return len(self.node_list)

    @property
    def total_gpus(self) -> int:
        """GPUs of all nodes."""
        return self.node_count * self.gpus_per_node

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON; :meth:`from_dict` reads them."""
        return {**asdict(self), "node_list": list(self.node_list), "details": dict(self.details)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ClusterInfo:
        """Return what :meth:`to_dict` wrote. Raises TypeError for a key that it does not write."""
        return cls(**{**values, "node_list": tuple(values["node_list"])})


@dataclass(frozen=True, slots=True)
class ClusterDetector:
    """Finds out which batch system runs this process: PBS, Slurm, LSF or none."""

    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    def detect(self) -> ClusterInfo | None:
        """Return the nodes of this job, or None outside of one, or where its list of nodes is missing or empty.

        Raises ValueError: a list of nodes that cannot be read, with the variable and its value.
        """
        return self.detect_pbs() or self.detect_slurm() or self.detect_lsf()

    def detect_pbs(self) -> ClusterInfo | None:
        """Return the nodes of a PBS job: the file ``PBS_NODEFILE`` has one line per process (qsub(1B))."""
        path = self.environ.get("PBS_NODEFILE", "")
        if not path or not Path(path).is_file():
            return None
        nodes = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines()]
        return self._info("pbs", nodes, "PBS_JOBID", ("PBS_NODEFILE", "PBS_NGPUS"))

    def detect_slurm(self) -> ClusterInfo | None:
        """Return the nodes of a Slurm job (sbatch(1), "OUTPUT ENVIRONMENT VARIABLES")."""
        text = self.environ.get("SLURM_JOB_NODELIST") or self.environ.get("SLURM_NODELIST") or ""
        nodes = expand_nodes(text, "SLURM_JOB_NODELIST")
        count = self.environ.get("SLURM_JOB_NUM_NODES") or self.environ.get("SLURM_NNODES") or ""
        if nodes and count.isdecimal() and int(count) != len(nodes):
            raise ValueError(f"SLURM_JOB_NODELIST is {text!r}, {len(nodes)} nodes, but SLURM_NNODES is {count}")
        names = ("SLURM_JOB_NODELIST", "SLURM_NNODES", "SLURM_GPUS_ON_NODE", "SLURM_JOB_GPUS")
        return self._info("slurm", nodes, "SLURM_JOB_ID", names)

    def detect_lsf(self) -> ClusterInfo | None:
        """Return the nodes of an LSF job: ``LSB_MCPU_HOSTS`` is name and slots in turn, ``LSB_HOSTS`` a name per slot.

        The first is shorter, and there also where LSF leaves out the second because it would be too long.
        """
        words = self.environ.get("LSB_MCPU_HOSTS", "").split()
        if len(words) % 2 or not all(word.isdecimal() for word in words[1::2]):
            raise ValueError(f"LSB_MCPU_HOSTS is {' '.join(words)!r}: it should be names and slots in turn")
        nodes = words[::2] or self.environ.get("LSB_HOSTS", "").split()
        return self._info("lsf", nodes, "LSB_JOBID", ("LSB_MCPU_HOSTS", "LSB_HOSTS"))

    def _info(self, scheduler: str, nodes: list[str], job: str, names: tuple[str, ...]) -> ClusterInfo | None:
        node_list = tuple(dict.fromkeys(node for node in nodes if node))
        if not node_list:
            return None
        details = {name: self.environ[name] for name in (*names, job) if name in self.environ}
        return ClusterInfo(
            scheduler=scheduler,
            node_list=node_list,
            job_id=self.environ.get(job),
            gpus_per_node=self._gpus_per_node(),
            details=details,
        )

    def _gpus_per_node(self) -> int:
        """Return the GPUs that the batch system names, else those that nvidia-smi lists here, else 0."""
        on_node = self.environ.get("SLURM_GPUS_ON_NODE", "")
        if on_node.isdecimal():
            return int(on_node)
        for name in ("SLURM_STEP_GPUS", "SLURM_JOB_GPUS"):
            if self.environ.get(name):
                return len(self.environ[name].split(","))
        if self.environ.get("PBS_NGPUS", "").isdecimal():
            return int(self.environ["PBS_NGPUS"])
        return len(detect_machine().gpus)


def expand_nodes(text: str, where: str = "the list of nodes") -> list[str]:
    """Return the names in a list of Slurm: ``gpu[01-03,7],login`` is gpu01, gpu02, gpu03, gpu7 and login.

    A name may have several brackets; the last one counts fastest, as ``scontrol show hostnames`` has it.

    Raises ValueError, naming ``where`` it stands: brackets that do not match, a range that is none or runs backwards.
    """
    nodes: list[str] = []
    for part in _split(text, where):
        nodes += _expand_one(part, where)
        if len(nodes) > _MOST_NODES:
            raise ValueError(f"{where} names more than {_MOST_NODES} nodes")
    return nodes


def _split(text: str, where: str) -> Iterator[str]:
    """Yield the parts between the commas that stand outside of brackets."""
    depth, part = 0, ""
    for letter in text.strip():
        depth += (letter == "[") - (letter == "]")
        if depth not in (0, 1):
            raise ValueError(f"{where} is {text!r}: its brackets do not match")
        if letter == "," and depth == 0:
            yield part
            part = ""
        else:
            part += letter
    if depth:
        raise ValueError(f"{where} is {text!r}: its brackets do not match")
    if part:
        yield part


def _expand_one(part: str, where: str) -> list[str]:
    head, bracket, rest = part.partition("[")
    if not bracket:
        return [part]
    ranges, _, tail = rest.partition("]")
    tails = _expand_one(tail, where)
    return [f"{head}{number}{end}" for number in _numbers(ranges, where) for end in tails]


def _numbers(ranges: str, where: str) -> Iterator[str]:
    """Yield the numbers of ``01-03,7``, with their zeros in front."""
    for item in ranges.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", item.strip())
        first, last = (match[1], match[2] or match[1]) if match else ("1", "0")
        count = int(last) - int(first) + 1
        if not 0 < count <= _MOST_NODES:
            raise ValueError(f"{where} has [{ranges}]: write ranges as in [01-03,7], smaller numbers first")
        width = len(first) if first.startswith("0") or len(first) == len(last) else 0
        yield from (str(int(first) + step).zfill(width) for step in range(count))


def create_checkpoint_directory(base: Path | str | None = None) -> Path:
    """Make ``nlsq_checkpoints/YYYYMMDD_HHMMSS`` below ``base`` (here by default), and return it.

    The name is the local time. Two in one second get the same directory.
    """
    stamp = datetime.now().astimezone().strftime("%Y%m%d_%H%M%S")
    directory = Path.cwd() if base is None else Path(base)
    directory = directory / CHECKPOINTS / stamp
    directory.mkdir(parents=True, exist_ok=True)
    return directory
