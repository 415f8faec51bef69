"""The Workflow contract: what a class in a plug-in file gets for free, and how its command line is made."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from socm_like import EstimateContext, Machine, Resources, Result, Workflow
from socm_like.errors import PluginError
from socm_like.resources import ResourcePatch
from socm_like.workflow import fill, placeholders


class MyCustomWorkflow(Workflow):
    """The class of the documentation, word for word."""

    custom_param: str
    threshold: float = 0.5

    def get_command(self, **kwargs: Any) -> str:
        return f"{self.executable} {self.subcommand}"

    def get_arguments(self, **kwargs: Any) -> str:
        return f"--param {self.custom_param} --threshold {self.threshold}"


class PythonWorkflow(Workflow):
    seed: int

    def run(self, directory: Path) -> Result:
        return Result(metrics={"seed": self.seed})


class Command(Workflow):
    words: tuple[str, ...] = ()

    def get_command(self, **kwargs: Any) -> Sequence[str]:
        return self.words


def argv(workflow: Workflow) -> tuple[str, ...]:
    return workflow.argv("task", Resources())


# The class


def test_the_documented_class_works_as_it_stands() -> None:
    workflow = MyCustomWorkflow(executable="/opt/tool", subcommand="fit", custom_param="x")
    assert MyCustomWorkflow.kind == "my-custom"
    assert argv(workflow) == ("/opt/tool", "fit", "--param", "x", "--threshold", "0.5")
    assert workflow.own_fields() == {"custom_param": "x", "threshold": 0.5}
    assert not workflow.runs_python()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("MyCustomWorkflow", "my-custom"),
        ("MLMapmakingWorkflow", "ml-mapmaking"),
        ("SATSimsWorkflow", "sat-sims"),
        ("LLC", "llc"),
        ("LLCWorkflow", "llc"),
        ("Fit", "fit"),
        ("Fit2DWorkflow", "fit2-d"),
        ("HMC2Sampler", "hmc2-sampler"),
        ("Snake_caseWorkflow", "snake-case"),
        ("_PrivateWorkflow", "private"),
        ("WorkflowOfMine", "workflow-of-mine"),
    ],
)
def test_a_kind_is_the_class_name_in_kebab_case(name: str, kind: str) -> None:
    assert type(name, (Workflow,), {"__module__": __name__}).kind == kind  # type: ignore[attr-defined]


def test_a_class_may_name_its_kind_and_its_children_have_their_own() -> None:
    class Named(Workflow):
        kind: ClassVar[str] = "ml-null-tests.mission-tests"

    class ChildOfNamedWorkflow(Named):
        pass

    class Bare(Workflow):
        kind = "bare.kind"

    assert (Named.kind, ChildOfNamedWorkflow.kind, Bare.kind) == (
        "ml-null-tests.mission-tests",
        "child-of-named",
        "bare.kind",
    )


def test_a_workflow_has_the_fields_every_table_may_set() -> None:
    assert MyCustomWorkflow(custom_param="x").model_dump() == {
        "executable": "",
        "subcommand": "",
        "context": "",
        "environment": {},
        "resources": ResourcePatch().model_dump(),
        "depends_on": (),
        "for_each": (),
        "parameters": {},
        "outputs": {},
        "metrics": "",
        "custom_param": "x",
        "threshold": 0.5,
    }


def test_an_unknown_field_a_missing_one_and_a_change_are_refused() -> None:
    with pytest.raises(ValidationError) as caught:
        MyCustomWorkflow.model_validate({"costum_param": "x"})
    assert [(error["loc"], error["msg"]) for error in caught.value.errors()] == [
        (("custom_param",), "Field required"),
        (("costum_param",), "Extra inputs are not permitted"),
    ]
    with pytest.raises(ValidationError, match="Instance is frozen"):
        MyCustomWorkflow(custom_param="x").threshold = 1.0  # type: ignore[misc]


def test_two_workflows_do_not_share_their_defaults() -> None:
    one, other = Command(), Command()
    one.environment["OMP_NUM_THREADS"] = "1"
    assert other.environment == {}


def test_a_free_parameter_keeps_its_type() -> None:
    parameters = {"flag": True, "count": 1, "ratio": 1.0, "text": "1"}
    kept = Command(parameters=parameters).parameters
    assert [(name, type(value), value) for name, value in kept.items()] == [
        ("flag", bool, True),
        ("count", int, 1),
        ("ratio", float, 1.0),
        ("text", str, "1"),
    ]


def test_a_class_with_run_runs_python_and_one_without_does_not(tmp_path: Path) -> None:
    assert PythonWorkflow.runs_python()
    assert PythonWorkflow(seed=7).run(tmp_path) == Result(metrics={"seed": 7})
    assert not Command.runs_python()
    with pytest.raises(NotImplementedError):
        Command().run(tmp_path)


def test_every_method_has_a_default_that_asks_for_little() -> None:
    workflow = Command()
    machine = Machine(name="m", cores=(0,), memory=1)
    assert workflow.estimate(EstimateContext(machine=machine)) == Resources()
    assert workflow.expand() == (workflow,)
    assert workflow.folder("0123456789abcdef" * 4) == "command/0123456789ab"
    assert Workflow.get_arguments(workflow) == ()


def test_defining_a_workflow_gives_no_warning_for_a_field_that_looks_like_a_models() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        class Fitted(Workflow):
            model_file: str = ""

    assert Fitted.own_field_names() == ("model_file",)


# The command line


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("python", "fit.py"), ("python", "fit.py")),
        (("sh", "-c", "echo $HOME; ls *"), ("sh", "-c", "echo $HOME; ls *")),
        (("a b", "", "'"), ("a b", "", "'")),
    ],
)
def test_words_are_passed_as_they_are(words: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert argv(Command(words=words)) == expected


def test_a_string_is_split_like_a_shell_would_and_nothing_is_expanded() -> None:
    class Text(Workflow):
        def get_command(self, **kwargs: Any) -> str:
            return "'/opt/my tool' sub\\ command $HOME # *"

    assert argv(Text()) == ("/opt/my tool", "sub command", "$HOME", "#", "*")


def test_the_command_is_told_the_task_and_its_resources() -> None:
    class Told(Workflow):
        def get_command(self, **kwargs: Any) -> Sequence[str]:
            return ("run", kwargs["name"], str(kwargs["resources"].cores))

        def get_arguments(self, **kwargs: Any) -> Sequence[str]:
            return sorted(kwargs)

    assert Told().argv("maps[1]", Resources(ranks=3)) == ("run", "maps[1]", "3", "name", "resources")


@pytest.mark.parametrize("workflow", [Command(), Command(words=("",)), Command(words=("", "x"))])
def test_a_workflow_without_a_program_says_what_to_set(workflow: Workflow) -> None:
    with pytest.raises(ValueError) as caught:
        argv(workflow)
    assert str(caught.value) == "nothing to run: set executable, or have Command.get_command return it"


def test_a_string_that_no_shell_could_split_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="No closing quotation"):
        argv(MyCustomWorkflow(executable="tool", custom_param="it's"))


def test_arguments_alone_are_no_program() -> None:
    with pytest.raises(ValueError) as caught:
        argv(MyCustomWorkflow(custom_param="x"))
    assert str(caught.value) == "nothing to run: set executable, or have MyCustomWorkflow.get_command return it"


def test_a_subcommand_alone_is_no_program() -> None:
    with pytest.raises(ValueError):
        argv(MyCustomWorkflow(subcommand="fit", custom_param="x"))


def test_a_program_whose_path_has_a_space_is_run() -> None:
    class Plain(Workflow):
        pass

    assert argv(Plain(executable="/opt/my tools/fit", subcommand="all")) == ("/opt/my tools/fit", "all")


# Placeholders

VALUES = {
    "text": "a b",
    "number": 1.5,
    "yes": True,
    "no": False,
    "files": ("x.h5", "y z.h5"),
    "flags": [True, 2],
    "none": (),
    "braces": "{text}",
}


@pytest.mark.parametrize(
    ("words", "filled"),
    [
        (("{text}",), ("a b",)),
        (("--x={number}", "{yes}", "{no}"), ("--x=1.5", "true", "false")),
        (("{text}{text}-{number}",), ("a ba b-1.5",)),
        (("{files}",), ("x.h5", "y z.h5")),
        (("--in={files}",), ("--in=x.h5,y z.h5",)),
        (("{flags}", "[{flags}]"), ("true", "2", "[true,2]")),
        (("a", "{none}", "b"), ("a", "b")),
        (("--in={none}",), ("--in=",)),
        (("{braces}",), ("{text}",)),
        (("{{text}}", "{{missing}}"), ("{text}", "{missing}")),
        (("${HOME}", "${text}", "$HOME"), ("${HOME}", "${text}", "$HOME")),
        (("{}", "{ }", "{1}", "{a-b}", "{", "}"), ("{}", "{ }", "{1}", "{a-b}", "{", "}")),
        (('{"a": {"b": 1}}', '{"a": "{text}"}'), ('{"a": {"b": 1}}', '{"a": "a b"}')),
        (("awk '{ print $1 }'",), ("awk '{ print $1 }'",)),
        ((), ()),
    ],
)
def test_placeholders_are_filled_and_all_other_braces_left_alone(
    words: tuple[str, ...], filled: tuple[str, ...]
) -> None:
    assert fill(words, VALUES) == filled


def test_a_placeholder_inside_json_is_filled() -> None:
    assert fill(('{"n": {number}}',), VALUES) == ('{"n": 1.5}',)


def test_every_placeholder_that_nobody_fills_is_named_at_once() -> None:
    with pytest.raises(ValueError) as caught:
        fill(("{seed}", "x", "{text}{mass}", "{{not_this}}", "${nor_this}"), {"text": "t", "ratio": 1})
    assert str(caught.value) == "nothing fills {mass}, {seed}; set it under parameters, or use one of: ratio, text"


def test_with_nothing_to_use_the_message_says_none() -> None:
    with pytest.raises(ValueError) as caught:
        fill(("{seed}",), {})
    assert str(caught.value) == "nothing fills {seed}; set it under parameters, or use one of: none"


def test_the_placeholders_of_a_command_are_listed_once() -> None:
    assert placeholders(("{b}", "{a}{b}", "${c}", "{{d}}", "e")) == ["a", "b"]


@pytest.mark.filterwarnings("ignore:Field name:UserWarning")  # pydantic's own, beside our error
def test_a_field_may_not_hide_a_part_of_the_contract() -> None:
    with pytest.raises(PluginError) as caught:

        class Odd(Workflow):
            kind: str = "odd"  # type: ignore[misc]

    assert str(caught.value).endswith(".Odd: 'kind' cannot be a field; write kind: ClassVar = \"...\"")
    with pytest.raises(PluginError, match="'folder' cannot be a field; choose another name"):

        class Odder(Workflow):
            folder: str = ""  # type: ignore[assignment]


def test_a_parameter_may_not_repeat_a_field() -> None:
    with pytest.raises(ValidationError, match="'threshold' is a key of the kind; set it there"):
        MyCustomWorkflow(custom_param="x", parameters={"threshold": 1.0})
