"""What a user meets on a bad day: full disks, forbidden folders, huge and binary logs, tasks that leave children."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from real_runs import campaign


def submit(folder: Path, script: str, extra: str = "", *words: str) -> subprocess.CompletedProcess[str]:
    command = json.dumps(["sh", "-c", script])
    text = f'[campaign]\nname = "hard"\n[campaign.a]\nkind = "command"\ncommand = {command}\n{extra}\n'
    return campaign(folder, "submit", *words, text=text)


def task(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(campaign(folder, "status", "--json").stdout)["tasks"][0]
    return found


def in_own_mounts(folder: Path, mount: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command where ``mount`` has been done for it alone; needs no privilege but user namespaces."""
    line = f"{mount} && exec {sys.executable} -m socm_like.cli {' '.join(words)}"
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return subprocess.run(
        ["unshare", *user, "--mount", "--fork", "sh", "-c", line],
        cwd=folder, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_full_disk_is_one_clear_message_and_the_run_goes_on_when_there_is_room(tmp_path: Path) -> None:
    tables = "".join(f'[campaign.t{i}]\nkind = "command"\ncommand = ["echo", "{i}"]\n' for i in range(300))
    (tmp_path / "campaign.toml").write_text(f'[campaign]\nname = "full"\n{tables}')
    (tmp_path / "runs").mkdir()

    full = in_own_mounts(tmp_path, f"mount -t tmpfs -o size=600k tmpfs {tmp_path}/runs", "submit")

    assert full.returncode == 1
    assert "No space left on device; make room or fix the permissions, then submit again" in full.stderr
    assert "Traceback" not in full.stderr
    assert campaign(tmp_path, "submit").returncode == 0


def test_read_only_store_is_one_clear_message(tmp_path: Path) -> None:
    (tmp_path / "campaign.toml").write_text(
        '[campaign]\nname = "ro"\n[campaign.a]\nkind = "command"\ncommand = ["true"]\n'
    )
    (tmp_path / "runs").mkdir()

    answer = in_own_mounts(tmp_path, f"mount -t tmpfs -o size=1m,ro tmpfs {tmp_path}/runs", "submit")

    assert answer.returncode == 1
    assert answer.stderr.startswith(f"{tmp_path}/runs/campaigns/ro-")
    assert answer.stderr.endswith("Read-only file system; make room or fix the permissions, then submit again\n")
    assert answer.stderr.count("\n") == 1


def test_store_that_is_a_file_is_one_clear_message(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("not a folder")
    answer = submit(tmp_path, "true")
    assert answer.returncode == 1
    assert "Not a directory" in answer.stderr
    assert answer.stderr.count("\n") == 1


@pytest.mark.slow
def test_task_that_prints_a_gigabyte_is_done_and_its_log_can_be_looked_at(tmp_path: Path) -> None:
    answer = submit(tmp_path, "head -c 1000000000 /dev/zero | tr '\\0' 'x'; echo; echo the end")
    assert answer.returncode == 0
    (log,) = tmp_path.glob("runs/campaigns/*/logs/a/a.1.out")
    assert log.stat().st_size == 1_000_000_000 + len("\nthe end\n")
    assert campaign(tmp_path, "logs", "a", "--out", "--tail", "1").stdout == "the end\n"
    log.unlink()


def test_binary_garbage_in_a_log_is_shown_escaped(tmp_path: Path) -> None:
    answer = submit(tmp_path, "printf 'before\\n\\377\\033[31mred\\000\\n' >&2; exit 1")
    assert answer.returncode == 1
    assert "\x1b[31mred" not in answer.stdout
    assert "\\x1b[31mred\\x00" in answer.stdout


def test_children_a_task_leaves_behind_are_ended_with_it(tmp_path: Path) -> None:
    answer = submit(tmp_path, "sleep 600 & echo $! > ../../../pid")
    assert answer.returncode == 0
    pid = int((tmp_path / "pid").read_text())
    assert not Path(f"/proc/{pid}").exists() or Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"


def test_task_over_its_memory_limit_ends_as_oom(tmp_path: Path) -> None:
    hog = f"exec {sys.executable} -c 'x = bytearray(400_000_000); import time; time.sleep(60)'"
    extra = 'resources = { memory = "100 MiB" }\n[execution]\noom_retries = 0'
    assert submit(tmp_path, hog, extra).returncode == 1
    found = task(tmp_path)
    assert found["state"] == "oom"
    assert "100 MiB" in found["reason"]


def test_task_over_its_runtime_ends_as_timeout_though_it_ignores_sigterm(tmp_path: Path) -> None:
    script = "trap '' TERM; while true; do sleep 0.1; done"
    extra = 'resources = { runtime = "300 ms" }\n[execution]\ngrace = "200 ms"'
    assert submit(tmp_path, script, extra).returncode == 1
    found = task(tmp_path)
    assert found["state"] == "timeout"
    assert "0.3 s" in found["reason"]


def test_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    text = '[campaign]\nname = "hard"\n[campaign.a]\nkind = "command"\ncommand = ["no-such-program"]\n'
    (tmp_path / "campaign.toml").write_text(text)
    assert campaign(tmp_path, "submit").returncode == 1
    found = task(tmp_path)
    assert found["state"] == "failed"
    assert "program not found: 'no-such-program'" in found["reason"]
