"""The ``command`` kind: any program."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from socm_like.fields import FileWords
from socm_like.workflow import Workflow, fill


def _as_list(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class CommandWorkflow(Workflow):
    """Run any program in a directory of its own."""

    command: Annotated[tuple[str, ...], FileWords()] = Field(min_length=1)
    """The program and its arguments, a list or one string; ``{name}`` is filled from ``parameters``."""
    inputs: Annotated[tuple[Path, ...], BeforeValidator(_as_list)] = ()
    """Further files the program reads, one or a list; their content is part of the identity."""

    def get_command(self, **kwargs: Any) -> Sequence[str]:  # noqa: ARG002 - part of the contract
        """Return the words of the command with every placeholder filled."""
        return fill(self.command, self.parameters)
