"""The settings of a campaign file: the scalar keys of ``[campaign]``, and ``[execution]``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from socm_like.fields import Bytes, Duration, Model
from socm_like.journal import TaskState


class Settings(Model):
    """The scalar keys of ``[campaign]``."""

    name: str = Field(default="", max_length=100)
    doc: str = ""
    deadline: Duration | None = None
    resource: str = "local"
    plugins: tuple[str, ...] = ()
    store: str | None = None


class Execution(Model):
    """``[execution]``: how tasks are run."""

    executor: Literal["local"] = "local"
    cores: Annotated[int, Field(strict=True, gt=0)] | None = None
    """Cores to use at the most."""
    memory: Bytes | None = None
    """Memory to use at the most."""
    batch_size: Annotated[int, Field(strict=True, gt=0)] = 1024
    """Tasks that share one process at the most, for kinds that can; 1 gives each a process of its own."""
    retries: Annotated[int, Field(strict=True, ge=0)] = 0
    """New attempts after a plain failure."""
    lost_retries: Annotated[int, Field(strict=True, ge=0)] = 2
    """New attempts after ``lost`` or ``node_fail``."""
    grace: Duration = Field(default="10 s", validate_default=True)
    """Time between SIGTERM and SIGKILL."""

    def retries_after(self, state: TaskState) -> int:
        """Return how often a task that ended so is tried again by itself."""
        if state is TaskState.FAILED:
            return self.retries
        return self.lost_retries if state in (TaskState.LOST, TaskState.NODE_FAIL) else 0
