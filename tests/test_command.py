"""The ``command`` kind: any program, its words, its files, its placeholders."""

from __future__ import annotations

from pathlib import Path

import pytest
from socm_workflows.command import CommandWorkflow

from socm_like.campaign import load_campaign
from socm_like.errors import CampaignError
from socm_like.identity import FileDigests
from socm_like.resources import Machine, Resources
from socm_like.task import Task
from socm_like.tasks import resolve
from socm_like.workflow import Workflow

MACHINE = Machine(name="small", cores=(0, 1), memory=8 * 2**30)


def tasks_of(folder: Path, *keys: str, more: str = "") -> dict[str, Task]:
    text = "\n".join(["[campaign.a]", 'kind = "command"', *keys, more, ""])
    (folder / "campaign.toml").write_text(text)
    campaign = load_campaign(folder / "campaign.toml")
    return {task.name: task for task in resolve(campaign, folder / "runs", MACHINE, FileDigests()).tasks}


def argv(folder: Path, *keys: str) -> tuple[str, ...]:
    words = tasks_of(folder, *keys)["a"].argv
    assert words is not None
    return tuple(word.replace(f"{folder}/", "FOLDER/") for word in words)


def faults(folder: Path, *keys: str) -> list[str]:
    with pytest.raises(CampaignError) as caught:
        tasks_of(folder, *keys)
    return [str(fault).replace(f"{folder}/", "") for fault in caught.value.faults]


def identity(folder: Path, *keys: str) -> str:
    return tasks_of(folder, *keys)["a"].id


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("script.py", "data.txt", "run", "my file.txt"):
        (tmp_path / name).write_text(name)
    return tmp_path


def test_a_command_is_a_list_of_words_or_one_string_split_like_a_shell_would(folder: Path) -> None:
    expected = ("python", "-c", "print(1, 2)", "")
    assert argv(folder, "command = ['python', '-c', 'print(1, 2)', '']") == expected
    assert argv(folder, "command = '''python -c \"print(1, 2)\" \"\" '''") == expected
    assert argv(folder, 'command = """\npython -c \'print(1, 2)\' \\\n   ""\n"""') == expected


def test_no_shell_reads_the_words(folder: Path) -> None:
    words = ("echo", "$HOME", "${HOME}", "*", "a;b", "$(x)", "~", "|", ">", "{}", "{1}", "{a b}", "{x}")
    assert argv(folder, f"command = {[*words[:-1], '{{x}}']}") == words


def test_parameters_fill_placeholders_in_words(folder: Path) -> None:
    keys = (
        "command = ['p', '{f}', '{n}', '--flag={flag}', '{s}/{n}', 'data.txt', '{{f}}', '{s}']",
        "parameters = { f = 0.1, n = 3, flag = true, s = 'a {n} b', unused = 1.0 }",
    )
    assert argv(folder, *keys) == (
        "p", "0.1", "3", "--flag=true", "a {n} b/3", "FOLDER/data.txt", "{f}", "a {n} b",
    )  # fmt: skip
    assert tasks_of(folder, *keys)["a"].parameters["unused"] == 1.0


def test_a_parameter_may_be_a_file_or_an_output(folder: Path) -> None:
    more = '[campaign.b]\nkind = "command"\ncommand = "p {x} {y}"\n[campaign.b.parameters]\n'
    tasks = tasks_of(folder, "command = ['x']", more=f'{more}x = "file://data.txt"\ny = "output://a/y.txt"\n')
    assert tasks["b"].argv == ("p", f"{folder}/data.txt", f"{folder}/runs/{tasks['a'].folder}/y.txt")
    assert (tasks["b"].dependencies, tasks["a"].outputs) == (("a",), {"y.txt": "y.txt"})


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        (("command = ['p', '{x}']",), "3: campaign.a: nothing fills {x}; set it under parameters, or use one of: none"),
        (
            ("command = 'p {x} {alpha} {y}'", "parameters = { alpha = 1, beta = 2 }"),
            "3: campaign.a: nothing fills {x}, {y}; set it under parameters, or use one of: alpha, beta",
        ),
        (("parameters.x = 1",), "1: campaign.a: the required key 'command' is missing"),
        (("command = []",), "3: campaign.a: command: write at least 1 of them, got []"),
        (("command = ''",), "3: campaign.a: command: write at least 1 of them, got []"),
        (("command = ['']",), "3: campaign.a: nothing to run: set executable, or have CommandWorkflow.get_command "
         "return it"),
        (("command = ['p', 3]",), "3: campaign.a: command.1: write text in quotes, got 3"),
        (("command = 3",), "3: campaign.a: command: write a list, got 3"),
        (("command = \"it's\"",), "3: campaign.a: command: no closing quotation in \"it's\""),
        (("command = ['p', \"a\\u0000b\"]",), "1: campaign.a: a command is words of text without NUL, got 'a\\x00b'"),
        (("command = ['p', 'file://none']",), "3: campaign.a: command.1: no such file: none"),
        (("command = ['p', '--x=file://data.tx']",), "3: campaign.a: command.1: no such file: data.tx; did you mean "
         "'data.txt'?"),
        (("command = ['p']", "inputs = ['data.txt', 'dota.txt']"), "4: campaign.a: inputs.1: no such file: dota.txt; "
         "did you mean 'data.txt'?"),
        (("command = ['p']", "inputs = { x = 3 }"), "4: campaign.a: inputs: write a list, got {'x': 3}"),
        (("command = ['p']", "outputs = { x = 'x', y = '../y' }"), "4: campaign.a: outputs.y: the output '../y' is not "
         "inside the task's directory; write a relative path without '..'"),
    ],
)  # fmt: skip
def test_a_command_that_cannot_run_is_a_fault_at_check_time(folder: Path, keys: tuple[str, ...], fault: str) -> None:
    assert faults(folder, *keys) == [f"campaign.toml:{fault}"]


def test_words_that_name_files_become_absolute_and_others_stay_as_they_are(folder: Path) -> None:
    words = ["script.py", "./run", "run", "data.txt", "my file.txt", "--in=data.txt", "1.5", "no.txt", "file://run"]
    assert argv(folder, f"command = {words}") == (
        "FOLDER/script.py", "FOLDER/run", "run", "FOLDER/data.txt", "FOLDER/my file.txt", "--in=data.txt", "1.5",
        "no.txt", "FOLDER/run",
    )  # fmt: skip


def test_a_program_by_absolute_path_is_no_input_but_an_argument_is(folder: Path) -> None:
    program = folder / "run"
    before = [identity(folder, f"command = ['{program}', '1']"), identity(folder, f"command = ['x', '{program}']")]
    program.write_text("changed")
    after = [identity(folder, f"command = ['{program}', '1']"), identity(folder, f"command = ['x', '{program}']")]
    assert (before[0] == after[0], before[1] == after[1]) == (True, False)


@pytest.mark.parametrize(
    ("keys", "file", "counts"),
    [
        (("command = ['python', 'script.py']",), "script.py", True),
        (("command = 'python script.py'",), "script.py", True),
        (("command = ['cat', '--in=file://data.txt']",), "data.txt", True),
        (("command = ['cat']", "inputs = ['data.txt']"), "data.txt", True),
        (("command = ['cat']", "environment = { D = 'file://data.txt' }"), "data.txt", True),
        (("command = ['cat', '{d}']", "parameters = { d = 'file://data.txt' }"), "data.txt", True),
        (("command = ['cat', '--in=data.txt']",), "data.txt", False),
        (("command = ['cat', 'run']",), "run", False),
        (("command = ['cat', './run']",), "run", True),
        (("command = ['cat']", "parameters = { d = 'data.txt' }"), "data.txt", False),
    ],
)
def test_the_content_of_a_named_file_counts_in_the_identity(
    folder: Path, keys: tuple[str, ...], file: str, counts: bool
) -> None:
    before = identity(folder, *keys)
    (folder / file).write_text("changed")
    assert (identity(folder, *keys) != before) == counts


def test_a_word_that_only_looks_like_a_file_is_the_same_everywhere(folder: Path, tmp_path: Path) -> None:
    """``no.txt`` names nothing here; once a file is there, it is an input and another computation."""
    before = identity(folder, "command = ['cat', 'no.txt']")
    (tmp_path / "no.txt").write_text("")
    assert identity(folder, "command = ['cat', 'no.txt']") != before


def test_the_same_words_as_string_and_list_are_the_same_computation(folder: Path) -> None:
    assert identity(folder, "command = 'python script.py {x}'", "parameters.x = 1") == identity(
        folder, "command = ['python', 'script.py', '{x}']", "parameters = { x = 1 }"
    )


def test_a_renamed_input_of_the_same_content_is_the_same_computation(folder: Path) -> None:
    before = identity(folder, "command = ['cat', 'data.txt']")
    (folder / "data.txt").rename(folder / "other.txt")
    assert identity(folder, "command = ['cat', 'other.txt']") == before


def test_outputs_environment_and_metrics_are_those_of_the_table(folder: Path) -> None:
    task = tasks_of(
        folder,
        "command = ['p']",
        "outputs = { a = 'x/a.txt', b = 'b' }",
        "metrics = 'm.json'",
        "environment = { A = '1' }",
    )["a"]
    assert (dict(task.outputs), task.metrics, task.environment) == ({"a": "x/a.txt", "b": "b"}, "m.json", {"A": "1"})
    assert (task.restartable, task.resources) == (False, Resources())


def test_the_kind_is_an_ordinary_workflow() -> None:
    assert issubclass(CommandWorkflow, Workflow)
    assert (CommandWorkflow.kind, CommandWorkflow.version) == ("command", "1")
    assert CommandWorkflow.own_field_names() == ("command", "inputs")
    schema = CommandWorkflow.model_json_schema()
    assert schema["required"] == ["command"]
    assert schema["properties"]["command"]["minItems"] == 1
    assert CommandWorkflow(command=("p", "{x}"), parameters={"x": 1}).argv("a", Resources()) == ("p", "1")
