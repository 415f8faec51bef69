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
    oom_retries: Annotated[int, Field(strict=True, ge=0)] = 3
    """New attempts with more memory after ``oom``."""
    timeout_retries: Annotated[int, Field(strict=True, ge=0)] = 2
    """New attempts with more time after ``timeout``, for kinds that go on from where they were."""
    grace: Duration = Field(default="10 s", validate_default=True)
    """Time between SIGTERM and SIGKILL."""

    def retries_after(self, state: TaskState) -> int:
        """Return how often a task that ended so is tried again by itself."""
        return {
            TaskState.FAILED: self.retries,
            TaskState.LOST: self.lost_retries,
            TaskState.NODE_FAIL: self.lost_retries,
            TaskState.OOM: self.oom_retries,
            TaskState.TIMEOUT: self.timeout_retries,
        }.get(state, 0)
