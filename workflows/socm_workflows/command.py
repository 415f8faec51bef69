"""The ``command`` kind: any program."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from socm_like.fields import FileWords
from socm_like.workflow import Workflow, fill


class CommandWorkflow(Workflow):
    """Run any program in a directory of its own."""

    command: Annotated[tuple[str, ...], FileWords()] = Field(min_length=1)
    """The program and its arguments, a list or one string; ``{name}`` is filled from ``parameters``."""
    inputs: tuple[Path, ...] = ()
    """Further files the program reads; their content is part of the identity."""

    def get_command(self, **kwargs: Any) -> Sequence[str]:  # noqa: ARG002 - part of the contract
        """Return the words of the command with every placeholder filled."""
        return fill(self.command, self.parameters)
