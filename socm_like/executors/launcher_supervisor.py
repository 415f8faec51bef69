"""Runs tasks: starts what fits, watches time and memory, ends what must end, and records how each ended.

Part of the launcher: standard library only, and of that only what loads in a moment.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from math import inf

from .launcher_gpus import GpuWatch
from .launcher_processes import Process, ProcessTable, has_group, is_alive, machine_is_short_of_memory, memory_of, send
from .launcher_spawn import NotStartedError, Spawner, rebind
from .launcher_tasks import Exit, Key, Queue, Shares, Task
from .launcher_warm import Warm

TYPE_CHECKING = False  # the typing module takes as long to load as all the rest
if TYPE_CHECKING:
    from typing import Any

SIGKILL, SIGTERM, SIGCONT = 9, 15, 18
_SHORT = 0.05
"""Seconds a task may run before its memory is looked at."""
_SAMPLE = 0.1
"""Least seconds between two looks at memory; more where looking takes long, so that it costs 5 % of a core."""
_AGAIN = 0.5
"""Seconds between two tries to kill what is still there."""
_TRIES = 10
"""How often leftovers are killed before they count as unkillable (uninterruptible sleep)."""
_WORTH_ENDING = 256 << 20
"""Bytes a task must use to be ended because the machine is short of memory: smaller ones are not to blame."""


class Supervisor:
    """All tasks from request to end. What happened is told by calling ``tell`` with a record for the log."""

    def __init__(self, run: str, tell: Callable[[dict[str, Any]], None]) -> None:
        self._run = run
        self._tell = tell
        self._queue = Queue()
        self._shares = Shares()
        self._spawner = Spawner(run, self._shares)
        self._table = ProcessTable(run)
        self._gpus = GpuWatch()
        self._active: dict[Key, Task] = {}
        """Tasks that hold a share of the machine."""
        self._mains: dict[int, Task] = {}
        """Those whose main process has not ended, by its pid."""
        self._draining: dict[Key, Task] = {}
        """Those whose main process has ended and whose other processes have not."""
        self._for_warm: dict[Key, Task] = {}
        """Python tasks that wait for a warm process to be ready."""
        self._warm: Warm | None = None
        self.warms: dict[int, Warm] = {}
        """Every warm process that lives, by pid; all but one are retired."""
        self._orders: dict[str, Any] = {}
        self._environ: dict[bytes, bytes] = {}
        self._requests = 0
        self._next_deadline = inf
        self._next_sample = inf

    # what clients ask

    def serve(self, environ: dict[str, str], machine: dict[str, Any], orders: dict[str, Any]) -> None:
        """Take the environment, machine and Python of a new client for all that it will ask.

        A new warm process will serve it: plug-ins may have been edited since the old one imported them.
        """
        self._environ = {os.fsencode(name): os.fsencode(value) for name, value in environ.items()}
        for name in (b"SOCM_RUN", b"SOCM_TASK", b"SOCM_ATTEMPT"):
            self._environ.pop(name, None)
        self._orders = orders
        self._gpus.serve(self._environ, self.running())
        self._shares.reset(machine["cores"], machine["memory"], machine["gpus"], list(self._active.values()))
        if self._warm is not None:
            self._warm.retire()
            self._warm = None
            self._put_back(self._for_warm)

    def ask(self, wanted: Iterable[dict[str, Any]]) -> None:
        """Take requests; an attempt that is known already is not taken twice."""
        for asked in wanted:
            self._requests += 1
            task = Task(asked, self._environ, self._requests)
            refusal = self._shares.refusal(task)
            if refusal is not None:
                self._refuse(task, refusal)
            elif not any(task.key in known for known in (self._active, self._for_warm, self._queue)):
                self._queue.put(task)

    def cancel(self, keys: Iterable[Key]) -> None:
        """End tasks that run, withdraw those that wait; what is over already stays as it is."""
        for key in keys:
            waiting = self._queue.remove(key) or self._for_warm.pop(key, None)
            if waiting is not None:
                waiting.reason = "cancelled"
                self._tell(waiting.end_record(time.time()))
            elif key in self._active:
                self._end(self._active[key], "cancelled", None)

    def waiting(self) -> list[Key]:
        """Return the attempts that hold nothing yet."""
        return [*self._queue.keys(), *self._for_warm, *(key for key, task in self._active.items() if not task.pid)]

    def running(self) -> list[Task]:
        """Return the tasks that have a process."""
        return [task for task in self._active.values() if task.pid]

    def is_busy(self) -> bool:
        """Whether tasks wait, so that no core idles until a client has thought of more."""
        return len(self._queue) > 0

    def is_idle(self) -> bool:
        """Whether there is nothing to do until somebody asks."""
        return not (self._active or self._queue or self._for_warm or self._gpus.pid)

    # starting

    def start(self) -> None:
        """Start as many waiting tasks as fit, the most urgent first."""
        while (task := self._queue.take(self._shares)) is not None:
            if task.argv is not None:
                self._start_program(task, task.argv)
            elif task.env:
                self._start_program(task, [*self._orders["python"], task.cwd])
            else:
                self._start_python(task)

    def _start_program(self, task: Task, argv: list[str]) -> None:
        self._shares.take(task)
        try:
            pid = self._spawner.spawn(task, argv)
        except NotStartedError as error:
            self._shares.give_back(task)
            self._refuse(task, str(error))
            return
        self._active[task.key] = task
        self._started(task, pid, time.time())

    def _start_python(self, task: Task) -> None:
        warm = self._warm
        if warm is not None and warm.is_ready:
            self._shares.take(task)
            self._active[task.key] = task
            warm.fork(task, self._spawner.variables(task), sorted(self._shares.usable(task)))
            return
        self._for_warm[task.key] = task
        if warm is None:
            try:
                self._warm = warm = Warm(self._orders["warm"], self._environ, self._run)
            except NotStartedError as error:
                self._refuse_all(self._for_warm, str(error))
                return
            self.warms[warm.pid] = warm

    def _started(self, task: Task, pid: int, at: float) -> None:
        task.pid, task.started, task.since = pid, at, time.monotonic()
        self._mains[pid] = task
        if task.runtime is not None:
            task.deadline = task.since + task.runtime
            self._next_deadline = min(self._next_deadline, task.deadline)
        self._next_sample = min(self._next_sample, task.since + _SHORT)
        if task.devices:
            self._gpus.expect(task)
        self._tell({"task": task.name, "attempt": task.attempt, "event": "start", "pid": pid, "at": at})

    def _refuse(self, task: Task, why: str) -> None:
        task.reason = f"not started: {why}"
        self._tell(task.end_record(time.time()))

    def _refuse_all(self, tasks: dict[Key, Task], why: str) -> None:
        for task in list(tasks.values()):
            if self._active.pop(task.key, None) is not None:
                self._shares.give_back(task)
            if task.reason is None:
                self._refuse(task, why)
            else:
                self._tell(task.end_record(time.time()))
        tasks.clear()

    # warm processes

    def hear(self, warm: Warm) -> None:
        """Take in what a warm process says."""
        was_ready = warm.is_ready
        for answer in warm.receive():
            if "ended" in answer:
                task = self._mains.pop(answer["ended"], None)
                if task is not None:
                    code = os.waitstatus_to_exitcode(answer["status"])
                    self._main_ended(task, Exit(code, answer["cpu"], answer["peak"], answer["at"]))
            elif "task" in answer:
                self._forked(warm.asked.pop((answer["task"], answer["attempt"])), answer)
        if warm.is_ready and not was_ready and warm is self._warm:
            self._put_back(self._for_warm)

    def _put_back(self, tasks: dict[Key, Task]) -> None:
        for task in tasks.values():
            self._queue.put(task)
        tasks.clear()

    def _forked(self, task: Task, answer: dict[str, Any]) -> None:
        if "refused" in answer:
            self._refuse_all({task.key: task}, answer["refused"])
            return
        self._started(task, answer["pid"], answer["at"])
        if task.reason is not None:
            task.stage = 0
            self._end(task, task.reason, task.why)

    def _warm_ended(self, warm: Warm, status: int) -> None:
        """Let go of a warm process; its tasks that run have become children of this process."""
        self.hear(warm)
        del self.warms[warm.pid]
        warm.close()
        code = os.waitstatus_to_exitcode(status)
        how = f"exit status {code}" if code >= 0 else f"signal {-code}"
        why = f"the warm Python process ended with {how}: {warm.last_words()}"
        unanswered = bool(warm.asked)
        self._refuse_all(warm.asked, why)
        if warm is self._warm:
            self._warm = None
            self._refuse_all(self._for_warm, why)
        if unanswered:  # it may have forked one and died before it could say so
            _, adopted = self._table.scan(list(self._active.values()))
            ours = {*self.warms, self._gpus.pid}
            send(SIGKILL, [process for process in adopted if process.pid not in ours])

    # ending

    def reap(self) -> None:
        """Bury every child that has ended, and pass on how."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in self.warms:
                self._warm_ended(self.warms[pid], status)
                continue
            if pid == self._gpus.pid:
                for over, why in self._gpus.ended(status, usage.ru_utime + usage.ru_stime, self.running()):
                    self._end(over, "oom", why, exceeded="gpu_memory")
                continue
            task = self._mains.pop(pid, None)
            if task is None and self.warms:  # a fork of a dead warm process, told of but not heard yet
                for warm in list(self.warms.values()):
                    self.hear(warm)
                task = self._mains.pop(pid, None)
            if task is not None:
                cpu = usage.ru_utime + usage.ru_stime
                end = Exit(os.waitstatus_to_exitcode(status), cpu, usage.ru_maxrss << 10, time.time())
                self._main_ended(task, end)

    def _main_ended(self, task: Task, end: Exit) -> None:
        """The task is over; its record waits until the last of its processes is."""
        task.exit = end
        limit = task.memory or self._shares.total_memory
        if end.signal == SIGKILL and task.reason is None and end.peak > limit:
            task.reason, task.why, task.exceeded = "oom", _over(end.peak, limit), "memory"
        if not has_group(task.pid) and not any(is_alive(pid) for pid in task.parts):
            self._finish(task)
            return
        processes = self._processes_of(task)
        if not processes:
            self._finish(task)
            return
        task.leftover = len(processes)
        self._draining[task.key] = task
        if task.stage == 0:
            self._end(task, task.reason, task.why, exceeded=task.exceeded)

    def _processes_of(self, task: Task) -> list[Process]:
        processes = self._table.scan(list(self._active.values()))[0][task.key]
        task.parts = [process.pid for process in processes if process.pid != task.pid]
        return processes

    def _finish(self, task: Task) -> None:
        del self._active[task.key]
        self._draining.pop(task.key, None)
        self._shares.give_back(task)
        self._tell(task.end_record(time.time()))

    def _end(self, task: Task, reason: str | None, why: str | None, *, exceeded: str | None = None) -> None:
        """Tell all processes of a task to end: now kindly, after its grace by force."""
        has_just_ended = task.pid and task.exit is None and not is_alive(task.pid)
        if task.stage > 0 or has_just_ended:
            return
        task.reason, task.why, task.exceeded, task.stage = reason, why, exceeded, 1
        if task.pid == 0:
            return  # the warm process has not answered yet
        processes = self._processes_of(task)
        send(SIGTERM, processes, task.pid)
        send(SIGCONT, processes, task.pid)  # a stopped process does not hear
        self._set_deadline(task, task.grace)

    def _kill(self, task: Task, why: str | None = None) -> None:
        """End all processes of a task by force, again and again until none is left; ``why`` if it has no memory."""
        if task.stage == 0 and why is not None:
            task.reason, task.why, task.exceeded = "oom", why, "memory"
        task.stage = max(task.stage, 1) + 1
        send(SIGKILL, self._processes_of(task), task.pid)
        self._set_deadline(task, _AGAIN)

    def _set_deadline(self, task: Task, seconds: float) -> None:
        task.deadline = time.monotonic() + seconds
        self._next_deadline = min(self._next_deadline, task.deadline)

    # watching

    def next_look(self) -> float:
        """Return when :meth:`look` has something to do, by the monotonic clock."""
        if self._draining:
            return time.monotonic() + _SHORT
        return min(self._next_deadline, self._next_sample, self._gpus.next_look)

    def look(self) -> None:
        """Do what time demands: limits, leftovers, memory, that of GPUs."""
        now = time.monotonic()
        for task in list(self._draining.values()):
            if not any(is_alive(pid) for pid in task.parts) and not self._processes_of(task):
                self._finish(task)
        if now >= self._next_deadline:
            for task in list(self._active.values()):
                if now >= task.deadline:
                    self._overdue(task)
            self._next_deadline = min((task.deadline for task in self._active.values()), default=inf)
        if now >= self._next_sample:
            self._sample(now)
        if now >= self._gpus.next_look:
            self._gpus.look(now, self.running())

    def _overdue(self, task: Task) -> None:
        if task.stage == 0:
            self._end(task, "timeout", f"ran longer than its limit of {task.runtime:g} s")
        elif task.exit is not None and task.stage > _TRIES:
            self._finish(task)
        else:
            self._kill(task)

    def _sample(self, now: float) -> None:
        """Look at the memory of all tasks, unless all of them have only just started."""
        tasks = self.running()
        oldest = min((task.since for task in tasks), default=inf)
        if now < oldest + _SHORT:
            self._next_sample = oldest + _SHORT
            return
        owned = self._table.scan(tasks)[0]
        used: dict[Key, int] = {}
        for key, processes in owned.items():
            task = self._active[key]
            if not task.peak:
                rebind((process.pid for process in processes), self._shares.usable(task))
            task.parts = [process.pid for process in processes if process.pid != task.pid]
            limit = task.memory or self._shares.total_memory
            used[key] = memory_of(processes, limit)
            task.peak = max(task.peak, used[key])
            if used[key] > limit and task.stage < 2:
                self._kill(task, _over(used[key], limit))
        everything = [process for processes in owned.values() for process in processes]
        total = self._shares.total_memory
        if machine_is_short_of_memory() or memory_of(everything, total) > total:
            self._sacrifice(used)
        finished = time.monotonic()
        self._next_sample = finished + max(_SAMPLE, 20 * (finished - now))

    def _sacrifice(self, used: dict[Key, int]) -> None:
        """End the largest task before the kernel ends one of its choice, unless that would hardly help."""
        largest = self._active[max(used, key=lambda key: used[key])]
        if largest.stage < 2 and used[largest.key] >= _WORTH_ENDING:
            why = f"machine out of memory; this was its largest task, with {used[largest.key] >> 20} MiB"
            self._kill(largest, why)


def _over(used: int, limit: int) -> str:
    return f"used {used >> 20} MiB of memory, the limit is {limit >> 20} MiB"
