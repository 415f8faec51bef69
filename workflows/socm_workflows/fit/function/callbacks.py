"""Callbacks of a fit: a progress line, a log of iterations, an early stop; and how a fit calls them.

A callback is ``callback(iteration, cost, parameters, info)``; ``info`` has at least ``gradient_norm``, ``nfev`` and
``step_norm`` where they are known. It stops the fit by raising :class:`StopOptimization`. Any other exception is
reported as a warning and the fit goes on: hours of computing are worth more than a line of a log.
"""

from __future__ import annotations

import math
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

Callback = Callable[[int, float, Sequence[float], Mapping[str, float]], None]


class StopOptimization(Exception):  # noqa: N818 - the pages' name; it is a request, not an error
    """Raised by a callback to end a fit: it has not converged, and its status says who stopped it."""


def notify(
    callback: Callback | None, iteration: int, cost: float, parameters: Sequence[float], info: Mapping[str, float]
) -> str | None:
    """Call a callback, if there is one; return why it wants the fit to stop, or None to go on.

    An exception of it is reported as a RuntimeWarning.
    """
    if callback is None:
        return None
    try:
        callback(iteration, cost, parameters, info)
    except StopOptimization as stop:
        return str(stop) or "a callback stopped the fit"
    except Exception as error:  # noqa: BLE001 - a stranger's function must not cost the fit
        message = f"Callback raised exception: {type(error).__name__}: {error}"
        warnings.warn(message, RuntimeWarning, stacklevel=2)
    return None


class CallbackChain:
    """Calls several callbacks in order. One that stops the fit does so after all have been called."""

    def __init__(self, *callbacks: Callback) -> None:
        self.callbacks = callbacks

    def __call__(self, iteration: int, cost: float, parameters: Sequence[float], info: Mapping[str, float]) -> None:
        """Call them all. Raises StopOptimization if one of them does."""
        reasons = [notify(callback, iteration, cost, parameters, info) for callback in self.callbacks]
        stops = [reason for reason in reasons if reason is not None]
        if stops:
            raise StopOptimization("; ".join(stops))

    def close(self) -> None:
        """Close those that can be closed."""
        for callback in self.callbacks:
            close = getattr(callback, "close", None)
            if close is not None:
                close()


def open_text(path: Path, mode: str) -> TextIO:
    """Return a file opened to write or append text. Raises ValueError for another mode."""
    if mode not in ("w", "a"):
        raise ValueError(f"mode is {mode!r}: write 'w' for a new file, 'a' to append")
    return path.open("w" if mode == "w" else "a", encoding="utf-8")


class _Writer:
    """A callback that writes lines to a stream, stderr by default, or to a file of its own."""

    def __init__(self, stream: TextIO | None, path: Path | None = None, mode: str = "w") -> None:
        self._own: TextIO | None = None if path is None else open_text(path, mode)
        self._stream = stream

    @property
    def stream(self) -> TextIO:
        """Where it writes; stderr is looked up at each line, because it may be replaced."""
        return self._own or self._stream or sys.stderr

    def close(self) -> None:
        """Close the file, if it has one."""
        if self._own is not None:
            self._own.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class ProgressBar(_Writer):
    """One line that says how far a fit is, written over on a terminal, at most ten times a second."""

    def __init__(
        self, max_iterations: int | None = None, description: str = "fit", stream: TextIO | None = None
    ) -> None:
        super().__init__(stream)
        self.max_iterations, self.description = max_iterations, description
        self._shown = -math.inf

    def __call__(self, iteration: int, cost: float, parameters: Sequence[float], info: Mapping[str, float]) -> None:  # noqa: ARG002
        """Show an iteration."""
        now = time.monotonic()
        is_last = iteration == self.max_iterations
        if now - self._shown < 0.1 and not is_last:
            return
        self._shown = now
        gradient = info.get("gradient_norm")
        extra = "" if gradient is None else f"  gradient {gradient:.2e}"
        of = "" if self.max_iterations is None else f" of {self.max_iterations}"
        line = f"{self.description}: iteration {iteration}{of}  cost {cost:.6e}{extra}"
        is_terminal = self.stream.isatty()
        self.stream.write(f"\r\x1b[K{line}" if is_terminal else f"{line}\n")
        self.stream.flush()

    def close(self) -> None:
        """End the line on a terminal."""
        if self._shown > -math.inf and self.stream.isatty():
            self.stream.write("\n")


class IterationLogger(_Writer):
    """One line per iteration, to stderr, a stream, or a file."""

    def __init__(
        self,
        filename: Path | str | None = None,
        mode: str = "w",
        log_params: bool = False,
        file: TextIO | None = None,
    ) -> None:
        super().__init__(file, None if filename is None else Path(filename), mode)
        self.log_params = log_params
        self._start = time.monotonic()

    def __call__(self, iteration: int, cost: float, parameters: Sequence[float], info: Mapping[str, float]) -> None:
        """Write an iteration: its number, the seconds since the logger was made, cost and what ``info`` has."""
        words = [f"iteration {iteration}", f"{time.monotonic() - self._start:.2f} s", f"cost {cost:.9e}"]
        words += [f"{name} {info[name]:.3e}" for name in ("gradient_norm", "step_norm") if name in info]
        words += [f"nfev {info['nfev']:.0f}"] if "nfev" in info else []
        if self.log_params:
            words.append("parameters " + " ".join(f"{float(value):.9g}" for value in parameters))
        self.stream.write("  ".join(words) + "\n")
        self.stream.flush()


class EarlyStopping:
    """Stops a fit whose cost has not fallen by more than ``min_delta`` for ``patience`` iterations in a row."""

    def __init__(self, patience: int = 10, min_delta: float = 0.0) -> None:
        if patience < 1:
            raise ValueError(f"patience is {patience!r}: write a whole number of at least 1")
        if not min_delta >= 0:
            raise ValueError(f"min_delta is {min_delta!r}: write a number of at least 0")
        self.patience, self.min_delta = patience, min_delta
        self._best, self._waited = math.inf, 0

    def __call__(self, iteration: int, cost: float, parameters: Sequence[float], info: Mapping[str, float]) -> None:  # noqa: ARG002
        """Judge an iteration. Raises StopOptimization."""
        if cost < self._best - self.min_delta:
            self._best, self._waited = cost, 0
            return
        self._waited += 1
        if self._waited >= self.patience:
            raise StopOptimization(
                f"the cost has not fallen by more than {self.min_delta:g} for {self._waited} iterations"
            )
