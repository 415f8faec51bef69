"""GPU memory of tasks: measured with a fake nvidia-smi that lists real processes, and enforced."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from real_runs import campaign
from test_launcher import make_task
from test_local_executor import Bench, wait_until

from socm_like.executors.launcher_gpus import GpuWatch
from socm_like.executors.launcher_log import translate
from socm_like.executors.launcher_tasks import Task
from socm_like.journal import TaskState

MEBIBYTE = 1 << 20
GIBIBYTE = 1 << 30

FAKE = """#!/bin/sh
case "$*" in
"--query-gpu=index,uuid,memory.total --format=csv,noheader,nounits")
    echo "0, GPU-aa, 40960"; echo "1, GPU-bb, 40960"; exit ;;
"--query-gpu=index,uuid --format=csv,noheader")
    echo "0, GPU-aa"; echo "1, GPU-bb"; exit ;;
"--query-compute-apps=pid,gpu_uuid,used_gpu_memory --format=csv,noheader,nounits") ;;
*)
    echo "unknown option: $*"; exit 2 ;;
esac
cd {folder} || exit
. ./script
"""

LIST = """
for pid in used/*; do
    [ -e "$pid" ] || continue
    while read -r line; do echo "${pid#used/}, $line"; done < "$pid" | tee -a samples
done
"""
"""Lists what the files in ``used``, named after processes, say."""

TELL = 'echo "{gpu}, {size}" >> {folder}/used/{pid}; '
SEEN_TWICE = 'until [ "$(grep -cs "^{pid}, {gpu}, {size}\\$" {folder}/samples)" -ge 2 ]; do sleep 0.02; done; '
"""When a second sample is there the first one has been taken in."""


class Gpus:
    """Two GPUs on which tasks pretend to use memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "gpus"
        (self.folder / "used").mkdir(parents=True)
        program = self.folder / "bin" / "nvidia-smi"
        program.parent.mkdir()
        program.write_text(FAKE.format(folder=self.folder))
        program.chmod(0o755)
        self.answer(LIST)

    def answer(self, script: str) -> None:
        """Let nvidia-smi do this when it is asked what processes use."""
        (self.folder / "script").write_text(script)

    def use(self, gpu: str, size: object, pid: str = "$$") -> str:
        """Return a line of shell that uses memory."""
        return TELL.format(folder=self.folder, gpu=gpu, size=size, pid=pid)

    def until_measured(self, gpu: str, size: object, pid: str = "$$") -> str:
        """Return a line of shell that waits until that is on record."""
        return SEEN_TWICE.format(folder=self.folder, gpu=gpu, size=size, pid=pid)

    @property
    def asked(self) -> int:
        """How often it was asked, by a script that says so."""
        return len((self.folder / "asked").read_bytes()) if (self.folder / "asked").exists() else 0


@pytest.fixture
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gpus:
    gpus = Gpus(tmp_path)
    monkeypatch.setenv("PATH", f"{gpus.folder}/bin:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("XLA_PYTHON_CLIENT_PREALLOCATE", raising=False)
    return gpus


@pytest.fixture
def bench(tmp_path: Path, gpus: Gpus) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    bench.use(gpus=("0", "1"))
    yield bench
    bench.end()


def log_of(bench: Bench) -> str:
    """Return what the launcher complains about."""
    return (bench.run.path / "launcher.log").read_text()


# what is measured


def test_peak_is_the_sum_over_the_processes_of_a_task_on_the_gpu_that_has_most(bench: Bench, gpus: Gpus) -> None:
    inner = gpus.use("GPU-aa", 1000) + gpus.until_measured("GPU-aa", 1000) + "exit 0"
    (gpus.folder / "inner").write_text(inner)
    script = (
        f"{gpus.use('GPU-aa', 3000)} {gpus.use('GPU-bb', 3500)} setsid sh {gpus.folder}/inner & child=$!; "
        f"{gpus.use('GPU-aa', 50, '1')} {gpus.until_measured('GPU-aa', 3000)} wait $child"
    )
    (end,) = bench.run_to_end(bench.shell(script, gpus=2))
    assert end.state is TaskState.DONE
    assert end.detail["peak_gpu_memory"] == 4000 * MEBIBYTE
    assert log_of(bench) == ""


def test_peak_is_the_most_that_was_ever_used(bench: Bench, gpus: Gpus) -> None:
    script = gpus.use("GPU-aa", 700) + gpus.until_measured("GPU-aa", 700)
    script += f"rm {gpus.folder}/used/$$; " + gpus.use("GPU-aa", 200) + gpus.until_measured("GPU-aa", 200)
    (end,) = bench.run_to_end(bench.shell(script, gpus=1, gpu_memory=GIBIBYTE))
    assert (end.state, end.detail["peak_gpu_memory"]) == (TaskState.DONE, 700 * MEBIBYTE)


def test_each_of_several_tasks_has_its_own_peak(bench: Bench, gpus: Gpus) -> None:
    scripts = [gpus.use(gpu, size) + gpus.until_measured(gpu, size) for gpu, size in (("GPU-aa", 11), ("GPU-bb", 22))]
    ends = bench.run_to_end(*(bench.shell(script, name=f"t{i}", gpus=1) for i, script in enumerate(scripts)))
    assert [end.detail["peak_gpu_memory"] // MEBIBYTE for end in ends] == [11, 22]


def test_task_that_ends_before_the_first_sample_has_no_peak(bench: Bench) -> None:
    (end,) = bench.run_to_end(bench.launch("true", gpus=1, gpu_memory=GIBIBYTE))
    assert end.state is TaskState.DONE
    assert "peak_gpu_memory" not in end.detail


def test_record_of_an_older_launcher_has_no_gpu_memory() -> None:
    record = {
        "task": "a", "attempt": 1, "event": "end", "at": 0.0, "code": 0, "signal": None, "reason": None,
        "why": None, "peak_memory": 1, "cpu": 0.5, "leftover": 0,
    }  # fmt: skip
    assert translate(record).detail == {"exit_code": 0, "peak_memory": 1, "cpu": 0.5}
    assert translate({**record, "peak_gpu_memory": 7}).detail["peak_gpu_memory"] == 7


# the limit


def test_task_over_its_limit_on_one_gpu_is_ended_and_others_are_not(bench: Bench, gpus: Gpus) -> None:
    within = gpus.use("GPU-bb", 8000) + "until [ -e ../go ]; do sleep 0.02; done"
    over = gpus.use("GPU-aa", 9000) + "sleep 1000"
    runs = bench.shell(within, name="runs", gpus=1, gpu_memory=8 * GIBIBYTE)
    bench.executor.submit([runs])
    (end,) = bench.run_to_end(bench.shell(over, name="over", gpus=1, gpu_memory=8 * GIBIBYTE))
    assert end.state is TaskState.OOM
    assert end.detail["reason"] == "used 9000 MiB on GPU 0, the limit is 8192 MiB"
    assert end.detail["exceeded"] == "gpu_memory"
    assert end.detail["peak_gpu_memory"] == 9000 * MEBIBYTE
    assert runs.attempt not in bench.ends()
    (bench.folder / "work" / "go").touch()
    bench.wait(lambda: runs.attempt in bench.ends())
    assert bench.ends()[runs.attempt].state is TaskState.DONE
    assert bench.ends()[runs.attempt].detail["peak_gpu_memory"] == 8000 * MEBIBYTE


def test_task_that_is_over_its_limit_only_now_and_then_goes_on(bench: Bench, gpus: Gpus) -> None:
    """Every other sample is over the limit."""
    gpus.answer("printf x >> asked; [ -e odd ] && { rm odd; exit; }; touch odd\n" + LIST)
    script = gpus.use("GPU-aa", 900) + f"until [ $(wc -c < {gpus.folder}/asked) -ge 4 ]; do sleep 0.02; done"
    (end,) = bench.run_to_end(bench.shell(script, gpus=1, gpu_memory=100 * MEBIBYTE))
    assert (end.state, end.detail["peak_gpu_memory"]) == (TaskState.DONE, 900 * MEBIBYTE)


def gpu_task(**asked: Any) -> Task:
    """Return a task that runs on a GPU, its main process being this one."""
    task = make_task(**{"gpus": 1, **asked})
    task.pid, task.devices = os.getpid(), ("0",)
    return task


def started_watch(tasks: Sequence[Task]) -> GpuWatch:
    """Return a watch whose tasks have started, as after the greeting of a client."""
    watch = GpuWatch()
    watch.serve(os.environb, tasks)
    return watch


def sample(watch: GpuWatch, tasks: Sequence[Task]) -> list[tuple[Task, str]]:
    """Ask once and take in the answer, like the launcher's loop; return which tasks are to be ended."""
    found: list[tuple[Task, str]] = []
    watch.look(time.monotonic(), tasks)
    while watch.pid:
        _, status, usage = os.wait4(watch.pid, 0)
        found = watch.ended(status, usage.ru_utime, tasks)
    return found


def test_two_samples_must_be_over_on_the_same_gpu(gpus: Gpus) -> None:
    task = gpu_task(gpus=2, gpu_memory=100 * MEBIBYTE)
    watch = started_watch([task])
    for gpu in ("aa", "bb", "aa"):
        gpus.answer(f"echo {task.pid}, GPU-{gpu}, 200")
        assert sample(watch, [task]) == []
    gpus.answer(f"echo {task.pid}, GPU-aa, 250")
    assert sample(watch, [task]) == [(task, "used 250 MiB on GPU 0, the limit is 100 MiB")]


def test_exactly_the_limit_is_within_it(gpus: Gpus) -> None:
    task = gpu_task(gpu_memory=100 * MEBIBYTE)
    watch = started_watch([task])
    gpus.answer(f"echo {task.pid}, GPU-aa, 100")
    assert [sample(watch, [task]) for _ in range(3)] == [[], [], []]
    assert task.gpu_peak == 100 * MEBIBYTE


def test_gpu_without_a_known_number_is_named_by_its_uuid(gpus: Gpus) -> None:
    task = gpu_task(gpu_memory=MEBIBYTE)
    watch = started_watch([task])
    gpus.answer(f"echo {task.pid}, GPU-other, 2")
    assert [sample(watch, [task]) for _ in range(2)][1] == [(task, "used 2 MiB on GPU GPU-other, the limit is 1 MiB")]


# when it is asked


def test_nothing_is_asked_while_no_task_has_a_gpu(gpus: Gpus) -> None:
    gpus.answer("printf x >> asked")
    task = make_task()
    task.pid = os.getpid()
    assert started_watch([task]).next_look == math.inf
    with_gpu = gpu_task()
    watch = started_watch([with_gpu])
    sample(watch, [with_gpu])
    assert (gpus.asked, watch.next_look < math.inf) == (1, True)
    watch.look(time.monotonic(), [task])  # the last one has ended
    assert (watch.pid, watch.next_look) == (0, math.inf)


def test_a_burst_of_tasks_does_not_hasten_the_next_sample(gpus: Gpus) -> None:
    task = gpu_task()
    watch = started_watch([task])
    begun = time.monotonic()
    sample(watch, [task])
    due = watch.next_look
    for _ in range(3):
        watch.expect(gpu_task())
    assert watch.next_look == due >= begun + 1


# an nvidia-smi that fails

FAILURES = {
    "echo hello": "nvidia-smi says 'hello', not pid, GPU and memory",
    "echo 12, GPU-aa": "nvidia-smi says '12, GPU-aa', not pid, GPU and memory",
    "head -c 999 /dev/urandom; exit 9": "nvidia-smi failed (exit status 9): ",
    "echo NVIDIA-SMI has failed >&2; exit 9": "nvidia-smi failed (exit status 9): NVIDIA-SMI has failed",
    "kill -11 $$": "nvidia-smi failed (signal 11): ",
    "echo $PPID, GPU-aa, '[N/A]'": "nvidia-smi says '[N/A]' for the memory of processes",
    "echo $PPID, '[N/A], [N/A]'": "nvidia-smi says '[N/A]' for the memory of processes",
}


@pytest.mark.parametrize("answer", FAILURES)
def test_after_three_failures_it_is_asked_no_more_and_the_log_says_so(
    answer: str, gpus: Gpus, capfd: pytest.CaptureFixture[str]
) -> None:
    gpus.answer(answer)
    task = gpu_task(gpu_memory=MEBIBYTE)
    watch = started_watch([task])
    for _ in range(3):
        assert (watch.next_look < math.inf, capfd.readouterr().err) == (True, "")
        assert sample(watch, [task]) == []
    watch.expect(task)
    assert (watch.next_look, task.gpu_peak) == (math.inf, 0)
    told = capfd.readouterr().err
    assert f" GPU memory is not measured, nor its limits enforced: {FAILURES[answer]}" in told
    assert told.endswith(" (3 times in a row)\n")
    gpus.answer("echo $PPID, GPU-aa, 5")
    watch.serve(os.environb, [task])  # another client may have brought a better one
    assert sample(watch, [task]) == []
    assert task.gpu_peak == 5 * MEBIBYTE


def test_an_nvidia_smi_that_fails_now_and_then_is_asked_again(gpus: Gpus, capfd: pytest.CaptureFixture[str]) -> None:
    task = gpu_task()
    watch = started_watch([task])
    for _ in range(3):
        for answer in ("exit 1", "exit 1", f"echo {task.pid}, GPU-aa, 5"):
            gpus.answer(answer)
            sample(watch, [task])
    assert (watch.next_look < math.inf, task.gpu_peak, capfd.readouterr().err) == (True, 5 * MEBIBYTE, "")


def test_processes_of_strangers_and_without_a_figure_do_not_count(gpus: Gpus) -> None:
    task = gpu_task()
    watch = started_watch([task])
    task.parts = [os.getppid()]
    lines = [f"{task.pid}, GPU-aa, [N/A]", f"{os.getppid()}, GPU-aa, 30", "1, GPU-aa, 7000", "2, GPU-bb, [N/A]"]
    gpus.answer("; ".join(f"echo '{line}'" for line in lines))
    for _ in range(4):
        sample(watch, [task])
    assert (task.gpu_peak, watch.next_look < math.inf) == (30 * MEBIBYTE, True)


@pytest.mark.parametrize("answer", ["true", "echo No running processes found"])
def test_no_process_on_any_gpu_is_an_answer(answer: str, gpus: Gpus) -> None:
    gpus.answer(answer)
    task = gpu_task()
    watch = started_watch([task])
    for _ in range(4):
        sample(watch, [task])
    assert (task.gpu_peak, watch.next_look < math.inf) == (0, True)


def test_machine_without_nvidia_smi_measures_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    task = gpu_task()
    watch = started_watch([task])
    for _ in range(3):
        sample(watch, [task])
    assert watch.next_look == math.inf
    assert "nvidia-smi cannot be started: not found on PATH (3 times in a row)" in capfd.readouterr().err


def is_broken(pipe: int) -> bool:
    """Whether nobody is left to read what is written into a pipe."""
    try:
        os.write(pipe, b"x")
    except BrokenPipeError:
        return True
    return False


def test_an_nvidia_smi_that_hangs_is_killed_with_its_children_and_given_up(
    gpus: Gpus, capfd: pytest.CaptureFixture[str]
) -> None:
    pipe = gpus.folder / "pipe"
    os.mkfifo(pipe)
    task = gpu_task()
    watch = started_watch([task])
    sample(watch, [task])
    gpus.answer(f"cat {pipe}")
    for _ in range(3):
        begun = time.monotonic()
        watch.look(begun, [task])
        pid = watch.pid
        held = os.open(pipe, os.O_WRONLY)  # it waits for us now, and we are not going to write
        assert watch.next_look == begun + 8
        watch.look(watch.next_look, [task])
        assert (watch.pid, os.waitpid(pid, 0)[1]) == (0, 9)
        wait_until(partial(is_broken, held))
        os.close(held)
    assert watch.next_look == math.inf
    assert "nvidia-smi did not answer within 8 s (3 times in a row)" in capfd.readouterr().err


def test_an_nvidia_smi_that_hangs_stalls_no_task(bench: Bench, gpus: Gpus) -> None:
    pipe = gpus.folder / "pipe"
    os.mkfifo(pipe)
    gpus.answer(f"printf x >> asked; cat {pipe}")
    until_asked = f"until [ -e {gpus.folder}/asked ]; do sleep 0.02; done"
    hog = f"x = bytearray({300 * MEBIBYTE}); import time; time.sleep(1000)"
    first, second, third = bench.run_to_end(
        bench.shell(until_asked, name="first", gpus=1, gpu_memory=GIBIBYTE),
        bench.python(hog, name="second", gpus=1, memory=100 * MEBIBYTE),
        bench.shell(until_asked, name="third", gpus=2),
    )
    assert (first.state, second.state, third.state) == (TaskState.DONE, TaskState.OOM, TaskState.DONE)
    assert second.detail["exceeded"] == "memory"
    assert gpus.asked == 1
    assert not any("peak_gpu_memory" in end.detail for end in (first, second, third))
    os.close(os.open(pipe, os.O_WRONLY))


def test_launcher_gives_up_an_nvidia_smi_without_figures_and_its_tasks_go_on(bench: Bench, gpus: Gpus) -> None:
    task = gpus.use("GPU-aa", "[N/A]") + f"until [ -s {bench.run.path}/launcher.log ]; do sleep 0.02; done"
    (end,) = bench.run_to_end(bench.shell(task, gpus=1, gpu_memory=GIBIBYTE))
    assert end.state is TaskState.DONE
    assert "peak_gpu_memory" not in end.detail
    assert "nvidia-smi says '[N/A]' for the memory of processes (3 times in a row)" in log_of(bench)


# what tasks are told


PRINT = 'echo "$CUDA_VISIBLE_DEVICES ${XLA_PYTHON_CLIENT_PREALLOCATE-unset}"'


def test_jax_takes_what_it_needs_of_a_gpu_so_that_it_can_be_measured(bench: Bench, gpus: Gpus) -> None:
    mine = {"XLA_PYTHON_CLIENT_PREALLOCATE": "true"}
    launches = [
        bench.shell(PRINT, name="asks", gpus=1, gpu_memory=GIBIBYTE),
        bench.shell(PRINT, name="asks for no memory", gpus=1),
        bench.shell(PRINT, name="knows better", gpus=1, gpu_memory=GIBIBYTE, environment=mine),
        bench.shell(PRINT, name="has none", gpu_memory=GIBIBYTE),
    ]
    bench.run_to_end(*launches)
    told = [launch.stdout.read_text().split()[-1] for launch in launches]
    assert told == ["false", "false", "true", "unset"]
    rendered = [bench.executor.render(launch) for launch in launches]
    assert ["PREALLOCATE=false" in text for text in rendered] == [True, True, False, False]
    assert rendered[0].splitlines()[1] == "# 'asks', attempt 1: 1 cores, 1 GPUs with 1 GiB each"


def test_what_the_submitter_says_about_preallocation_counts(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "true")
    bench.use(gpus=("0",))
    launch = bench.shell(PRINT, gpus=1, gpu_memory=GIBIBYTE)
    bench.run_to_end(launch)
    assert launch.stdout.read_text() == "0 true\n"
    assert "export XLA_PYTHON_CLIENT_PREALLOCATE=true" in bench.executor.render(launch)


# a whole campaign

CAMPAIGN = """
[campaign]
name = "gpu"

[campaign.train]
kind = "command"
command = ["sh", "{folder}/train"]
[campaign.train.resources]
gpus = 1
gpu_memory = "2 GiB"
"""


def test_campaign_says_what_its_tasks_used_of_a_gpu(tmp_path: Path, gpus: Gpus) -> None:
    (gpus.folder / "train").write_text(gpus.use("GPU-aa", 1500) + gpus.until_measured("GPU-aa", 1500))
    assert campaign(tmp_path, "submit", text=CAMPAIGN.format(folder=gpus.folder)).returncode == 0
    (row,) = json.loads(campaign(tmp_path, "results", "--json").stdout)
    assert (row["state"], row["peak_gpu_memory_bytes"]) == ("done", 1500 * MEBIBYTE)
    (result,) = tmp_path.glob("runs/command/*/result.json")
    assert json.loads(result.read_text())["peak_gpu_memory"] == 1500 * MEBIBYTE
