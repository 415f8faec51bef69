"""``[schedule]``: when tasks run by preference, which come first, how many at once, and what all may cost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from socm_like.fields import Model

Priority = Annotated[int, Field(strict=True, ge=-1000, le=1000)]
Cap = Annotated[int, Field(strict=True, gt=0)]


class Policy(Model):
    """The keys of ``[schedule]`` that are not about hours; names are those of workflows and groups."""

    priorities: dict[str, Priority] = Field(default_factory=dict)
    """Higher starts first, before any longer chain; 0 by default. What a task waits for is as urgent as it is."""
    concurrency: dict[str, Cap] = Field(default_factory=dict)
    """Tasks of a workflow or a group that run at once, at the most."""
    core_hours: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Cores x hours that all attempts of a run may use together; what would go beyond is not started."""

    def priority(self, workflow: str) -> int:
        """Return the priority of a workflow: its own, else that of the innermost group that has one."""
        return next((self.priorities[name] for name in _groups(workflow) if name in self.priorities), 0)

    def caps(self, workflow: str) -> tuple[str, ...]:
        """Return the names of the caps that hold for a workflow: its own and those of its groups."""
        return tuple(name for name in _groups(workflow) if name in self.concurrency) if self.concurrency else ()

    def __bool__(self) -> bool:
        return bool(self.priorities or self.concurrency or self.core_hours is not None)


def _groups(workflow: str) -> Iterator[str]:
    """Yield a workflow's name and those of the groups it is in, the innermost first."""
    yield workflow
    while "." in workflow:
        workflow = workflow.rpartition(".")[0]
        yield workflow
