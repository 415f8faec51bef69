"""When a schedule window lets tasks start, as the planner asks: at many instants, at little cost."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from socm_like.window import WEEK, YEAR, Decision, NoWindowError, WindowTable, choose_start, preferred_intervals


@dataclass
class Openings:
    """When tasks may start by a window, in seconds from an instant, as the runner decides when they become ready.

    A task that is cut at the ends of windows is stopped there, and what is left of it is decided on anew; the runner
    decides on all of its parts at once, which differs where windows are of different length or a part starts late.
    """

    window: WindowTable
    now: datetime
    _spans: list[tuple[float, float]] = field(default_factory=list)
    """Preferred time from now to the horizon."""
    _horizon: float = 0.0
    _decisions: dict[tuple[float, float], Decision | str] = field(default_factory=dict)

    def release(self, ready: float, seconds: float) -> float:
        """Return the second from which a task that is ready may start, infinity where no window will hold it."""
        fit = self._fit(ready, seconds)
        if fit is not None:
            return fit
        decision = self._decide(ready, seconds, restartable=False)
        return math.inf if isinstance(decision, str) else self._second(ready, decision.start)

    def split(self, ready: float, seconds: float) -> tuple[float, float]:
        """Return the second from which a task that can be restarted may start, and the one at which it is stopped."""
        fit = self._fit(ready, seconds)
        if fit is not None:
            return fit, math.inf
        decision = self._decide(ready, seconds, restartable=True)
        if isinstance(decision, str):
            return math.inf, math.inf
        stop = (decision.pieces[0].end - self.now).total_seconds() if len(decision.pieces) > 1 else math.inf
        return self._second(ready, decision.start), stop

    def closed(self, until: float) -> tuple[tuple[float, float], ...]:
        """Return the spans outside the preferred time from now to a second."""
        end, spans, last = self.now + timedelta(seconds=until), [], 0.0
        for found in preferred_intervals(self.window, self.now, end):
            start = (found.start - self.now).total_seconds()
            if start > last:
                spans.append((last, start))
            last = max(last, (found.end - self.now).total_seconds())
        return tuple(spans) if last >= until else (*spans, (last, until))

    def problem(self, ready: float, seconds: float) -> str:
        """Return why no window will hold a task."""
        decision = self._decide(ready, seconds, restartable=False)
        return decision if isinstance(decision, str) else ""

    def _fit(self, ready: float, seconds: float) -> float | None:
        """Return the start in the first window that is long enough and opens in time, as ``choose_start`` has it."""
        longest = self._longest_wait()
        while True:
            for start, end in self._spans[max(bisect_right(self._spans, (ready, math.inf)) - 1, 0) :]:
                if start > ready + longest:
                    return None
                if end - max(start, ready) >= seconds and end > ready:
                    return max(start, ready)
            if self._horizon >= ready + longest + seconds or self._horizon > 10 * YEAR.total_seconds():
                return None
            self._horizon = max(2 * self._horizon, WEEK.total_seconds(), ready + seconds)
            until = self.now + timedelta(seconds=self._horizon)
            self._spans = [
                ((found.start - self.now).total_seconds(), (found.end - self.now).total_seconds())
                for found in preferred_intervals(self.window, self.now, until)
            ]

    def _longest_wait(self) -> float:
        usual = WEEK if self.window.on_unsatisfied == "degrade" else YEAR
        stated = None if self.window.on_unsatisfied == "wait" else self.window.max_wait
        return min(YEAR, usual if stated is None else stated).total_seconds()

    def _decide(self, ready: float, seconds: float, *, restartable: bool) -> Decision | str:
        key = (ready, -seconds if restartable else seconds)
        if key not in self._decisions:
            at, runtime = self.now + timedelta(seconds=ready), timedelta(seconds=max(seconds, 1e-6))
            try:
                self._decisions[key] = choose_start(at, runtime, self.window, restartable=restartable)
            except NoWindowError as error:
                self._decisions[key] = str(error)
        return self._decisions[key]

    def _second(self, ready: float, start: datetime) -> float:
        """Return an instant in seconds; one that is no later but for rounding is when the task is ready."""
        return ready if start <= self.now + timedelta(seconds=ready) else (start - self.now).total_seconds()
