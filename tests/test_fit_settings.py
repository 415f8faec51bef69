"""What a fit does, from all that was said: presets, nlsq.yaml, the environment, arguments, and who wins."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from socm_workflows.fit.strategy.budget import ChunkedConfig, MemoryBudgetSelector
from socm_workflows.fit.strategy.configuration import StatedCluster, WorkflowConfig, read_environment
from socm_workflows.fit.strategy.memory_model import FitSize
from socm_workflows.fit.strategy.presets import WORKFLOW_PRESETS, get_preset
from socm_workflows.fit.strategy.selection import WorkflowSelector, auto_select_workflow
from socm_workflows.fit.strategy.settings import Settings, resolve_settings
from socm_workflows.fit.strategy.streaming_config import HybridStreamingConfig
from socm_workflows.fit.strategy.tiers import OptimizationGoal, WorkflowTier
from socm_workflows.fit.strategy.yaml_file import read_folder, read_yaml

SIZE = FitSize(50_000, 3)

PAGE = """\
workflow:
  goal: robust
  memory_limit_gb: 16.0
  enable_checkpointing: true
  checkpoint_dir: ./checkpoints

tolerances:
  ftol: 1e-10
  xtol: 1e-10
  gtol: 1e-10

cluster:
  type: pbs
  nodes: 4
  gpus_per_node: 2
"""
"""The example of seeds/001*.txt."""


@pytest.fixture
def settle(tmp_path: Path) -> Any:
    """Return resolve_settings where nothing is said but by the test, with 64 GB of memory."""

    def resolve(size: FitSize = SIZE, *, yaml: str = "", **said: Any) -> Settings:
        if yaml:
            (tmp_path / "nlsq.yaml").write_text(yaml)
        names = ("workflow", "preset", "config", "environ", "available")
        rest = {name: said.pop(name) for name in names if name in said}
        rest = {"environ": {}, "available": 64, **rest}
        return resolve_settings(size, WorkflowConfig(**said), folder=tmp_path, **rest)

    return resolve


class TestDefaults:
    def test_nothing_said_is_one_fit_in_memory_with_the_tolerance_of_its_size(self, settle: Any) -> None:
        found = settle()
        assert (found.strategy, found.strategy_config, found.chunk_size) == ("standard", None, 50_000)
        assert found.tolerances == (1e-8, 1e-8, 1e-8)
        assert (found.goal, found.n_starts, found.multistart, found.confirms) == (None, 1, False, False)
        assert (found.sampler, found.seed, found.center_on_p0, found.scale_factor) == ("lhs", 0, True, 1.0)
        assert (found.max_nfev, found.checkpoint_dir, found.cluster) == (None, None, None)
        assert found.size_tier.name == "MEDIUM"
        assert found.why.startswith("the peak of ")

    @pytest.mark.parametrize(
        ("goal", "expected"),
        [
            ("fast", (1e-7, 1, False, "standard")),
            ("robust", (1e-8, 5, False, "standard")),
            ("global", (1e-8, 20, False, "standard")),
            ("memory_efficient", (1e-8, 1, False, "chunked")),
            ("quality", (1e-10, 10, True, "standard")),
        ],
    )
    def test_each_goal_changes_what_it_says(
        self, settle: Any, goal: str, expected: tuple[float, int, bool, str]
    ) -> None:
        found = settle(goal=goal)
        assert (found.tolerances.gtol, found.n_starts, found.confirms, found.strategy) == expected

    def test_several_starts_are_ten_unless_said_otherwise(self, settle: Any) -> None:
        assert settle(multistart=True).n_starts == 10
        assert settle(n_starts=7).n_starts == 7
        assert settle(multistart=True, goal="global").n_starts == 20
        assert settle(multistart=False, goal="global").n_starts == 1
        assert settle(multistart=True, preset="kinetics").n_starts == 20
        assert settle(workflow="auto_global").n_starts == 20


class TestPresets:
    @pytest.mark.parametrize(
        ("name", "strategy", "n_starts"),
        [
            ("fast", "standard", 1),
            ("standard", "standard", 1),
            ("quality", "standard", 10),
            ("large_robust", "chunked", 5),
            ("streaming", "streaming", 5),
            ("hpc_distributed", "streaming_checkpoint", 10),
            ("robust", "standard", 5),
            ("global", "standard", 20),
            ("memory_efficient", "chunked", 1),
            ("hpc", "streaming_checkpoint", 10),
            ("kinetics", "standard", 20),
            ("kinetics_quality", "standard", 30),
            ("saxs", "standard", 10),
            ("saxs_quality", "standard", 20),
            ("xpcs", "standard", 15),
            ("xpcs_quality", "standard", 25),
        ],
    )
    def test_strategy_and_starts_are_those_of_the_pages(
        self, settle: Any, name: str, strategy: str, n_starts: int
    ) -> None:
        # seeds/000*.txt "Workflow Presets", 001*.txt "WORKFLOW_PRESETS", reference/nlsq.md section 0
        for found in (settle(workflow=name), settle(preset=name)):
            assert (found.strategy, found.n_starts) == (strategy, n_starts)

    def test_a_preset_reads_like_a_mapping_of_the_keywords_of_fit(self) -> None:
        quality = WORKFLOW_PRESETS["quality"]
        assert dict(quality) == {"workflow": "standard", "goal": "quality", "multistart": True, "n_starts": 10}
        assert repr(quality) == "WorkflowConfig(workflow='standard', goal='quality', multistart=True, n_starts=10)"
        assert ("goal" in quality, "gtol" in quality, quality.get("gtol", 3), len(quality)) == (True, False, 3, 4)
        with pytest.raises(KeyError, match=r"goals; did you mean 'goal'\? \(it says workflow, goal, "):
            quality["goals"]

    def test_the_domains_keep_the_numbers_of_the_examples(self) -> None:
        found = {
            name: (WORKFLOW_PRESETS[name].gtol, WORKFLOW_PRESETS[name].sampler)
            for name in ("kinetics", "kinetics_quality", "saxs", "saxs_quality", "xpcs", "xpcs_quality")
        }
        assert found == {
            "kinetics": (1e-8, "lhs"), "kinetics_quality": (1e-10, "sobol"),
            "saxs": (1e-9, "lhs"), "saxs_quality": (1e-10, "sobol"),
            "xpcs": (1e-8, "sobol"), "xpcs_quality": (1e-10, "sobol"),
        }  # fmt: skip

    def test_an_unknown_word_is_refused_with_the_near_one(self, settle: Any) -> None:
        with pytest.raises(ValueError, match=r"^workflow is 'qualty'; did you mean 'quality'\? \(one of auto, "):
            settle(workflow="qualty")
        with pytest.raises(ValueError, match=r"^preset is 'robst'; did you mean 'robust'\? \(one of standard, "):
            get_preset("robst")
        with pytest.raises(ValueError, match=r"^config is 3: write a word, a WorkflowConfig or a HybridStreaming"):
            settle(config=3)


class TestStrategy:
    def test_a_strategy_that_is_named_is_taken_if_it_fits(self, settle: Any) -> None:
        found = settle(workflow=WorkflowTier.CHUNKED)
        assert (found.strategy, found.why) == ("chunked", "chunked was asked for")
        assert isinstance(found.strategy_config, ChunkedConfig)
        assert settle(config=WorkflowConfig(tier=WorkflowTier.STREAMING, goal="quality")).strategy == "streaming"

    def test_one_that_does_not_fit_gives_way_to_one_that_does(self, settle: Any) -> None:
        found = settle(FitSize(10**9, 5), workflow="standard", available=15)
        assert found.strategy == "streaming"
        assert found.why == (
            "standard was asked for, but the data of 14.9 GB exceed the threshold of 11.2 GB (available)"
        )

    def test_one_above_the_threshold_but_within_the_memory_is_the_users_to_choose(self, settle: Any) -> None:
        size = FitSize(10**7, 5)
        tight = MemoryBudgetSelector().select(size.points, 5, available=4).budget.peak_gb * 1.1
        assert settle(size, available=tight).strategy == "chunked"
        assert settle(size, available=tight, workflow="standard").strategy == "standard"

    def test_checkpoints_belong_to_streams(self, settle: Any, tmp_path: Path) -> None:
        streamed = settle(workflow="streaming", enable_checkpointing=True, checkpoint_dir=tmp_path)
        assert (streamed.strategy, streamed.checkpoint_dir) == ("streaming_checkpoint", tmp_path)
        assert streamed.strategy_config.checkpoint_dir == tmp_path
        assert settle(workflow="hpc", enable_checkpointing=False).strategy == "streaming"
        in_memory = settle(enable_checkpointing=True, checkpoint_dir=tmp_path)
        assert (in_memory.strategy, in_memory.checkpoint_dir) == ("standard", None)
        assert in_memory.why.endswith("; no checkpoints, which only a stream of data needs")

    def test_a_configuration_for_streaming_streams_with_its_chunks_tolerance_and_starts(self, settle: Any) -> None:
        config = HybridStreamingConfig(chunk_size=500, gauss_newton_tol=1e-9, enable_multistart=True, n_starts=4)
        for found in (settle(config=config), settle(workflow=config)):
            assert (found.strategy, found.chunk_size, found.n_starts, found.max_nfev) == ("streaming", 500, 4, 100)
            assert found.tolerances == (1e-9, 1e-9, 1e-9)
        assert settle(config=config, gtol=1e-4).tolerances == (1e-4, 1e-9, 1e-9)

    def test_profiles_of_defence_change_nothing_but_what_they_may(self, settle: Any) -> None:
        strict = settle(workflow="streaming", config=HybridStreamingConfig.defense_strict())
        assert (strict.strategy, strict.n_starts, strict.strategy_config.without_effect) == ("streaming", 5, ())

    def test_what_the_selector_returns_can_be_passed_on(self, settle: Any) -> None:
        size = FitSize(10**9, 5)
        strategy, config = MemoryBudgetSelector().select(size.points, size.parameters, available=2)
        found = settle(size, workflow=strategy, config=config, available=2)
        assert found.strategy is strategy is WorkflowTier.STREAMING_CHECKPOINT
        assert found.tolerances == settle(size, available=2).tolerances
        assert found.chunk_size == config.chunk_size

    def test_a_selection_with_everything_is_what_fit_would_take(self, settle: Any) -> None:
        for goal in (None, *OptimizationGoal):
            config = auto_select_workflow(50_000, 3, goal=goal, available=64)
            by_config, by_goal = settle(config=config), settle(goal=goal)
            for name in ("strategy", "tolerances", "n_starts", "confirms", "chunk_size"):
                assert getattr(by_config, name) == getattr(by_goal, name)
        limited = WorkflowSelector(memory_limit_gb=1).select(10**8, 10, available=64)
        assert (limited.tier, limited.memory_limit_gb) == ("streaming", 1)
        assert limited.description.startswith("the data of 1.49 GB exceed the threshold of 0.75 GB (memory_limit_gb)")


class TestPrecedence:
    def test_defaults_yaml_environment_arguments(self, settle: Any) -> None:
        yaml = "workflow:\n  goal: robust\n  seed: 5\n"
        environ = {"NLSQ_WORKFLOW_GOAL": "global"}
        assert settle(yaml=yaml).n_starts == 5
        assert settle(yaml=yaml, environ=environ).n_starts == 20
        found = settle(yaml=yaml, environ=environ, goal="quality")
        assert (found.n_starts, found.seed) == (10, 5)

    def test_memory_is_limited_by_the_strongest_that_says_so(self, settle: Any) -> None:
        yaml, environ = "workflow: {memory_limit_gb: 8}\n", {"NLSQ_MEMORY_LIMIT_GB": "4"}
        limits = [
            settle(yaml=yaml).budget,
            settle(yaml=yaml, environ=environ).budget,
            settle(yaml=yaml, environ=environ, memory_limit_gb=2).budget,
        ]
        assert [budget.available_gb for budget in limits] == [8, 4, 2]

    def test_a_goal_drops_tolerances_and_starts_stated_below_it_and_no_others(self, settle: Any) -> None:
        yaml = "tolerances: {gtol: 1e-3}\nworkflow: {n_starts: 3, sampler: sobol}\n"
        below = settle(yaml=yaml)
        assert (below.tolerances.gtol, below.n_starts, below.sampler) == (1e-3, 3, "sobol")
        above = settle(yaml=yaml, goal="fast")
        assert (above.tolerances.gtol, above.n_starts, above.sampler) == (1e-7, 1, "sobol")
        assert settle(goal="fast", gtol=1e-3).tolerances == (1e-3, 1e-7, 1e-7)

    def test_config_is_stronger_than_a_preset_and_a_keyword_than_both(self, settle: Any) -> None:
        config = WorkflowConfig(n_starts=6)
        assert settle(preset="global", config=config).n_starts == 6
        assert settle(preset="global", config=config, n_starts=2).n_starts == 2

    @given(st.data())
    def test_laying_over_keeps_what_is_said_on_top(self, data: st.DataObject) -> None:
        texts: dict[str, list[Any]] = {
            "goal": ["fast", "quality"],
            "sampler": ["lhs", "sobol"],
            "seed": [1, 2],
            "gtol": [1e-3, 1e-4],
        }
        said = [
            WorkflowConfig(**{name: data.draw(st.sampled_from([None, *values])) for name, values in texts.items()})
            for _ in range(3)
        ]
        low, middle, high = said
        assert high.over(WorkflowConfig()) == high
        assert WorkflowConfig().over(high) == high
        top = high.over(middle).over(low)
        assert {key: top[key] for key in high} == dict(high)
        assert top == high.over(middle.over(low))


class TestYaml:
    def test_the_example_of_the_page_is_read(self, settle: Any, tmp_path: Path) -> None:
        found = settle(yaml=PAGE)
        assert (found.goal, found.n_starts, found.tolerances) == ("robust", 5, (1e-10, 1e-10, 1e-10))
        assert found.budget.available_gb == 16
        assert found.cluster == StatedCluster("pbs", 4, 2)
        assert found.stated.checkpoint_dir == tmp_path / "checkpoints"
        assert settle(workflow="streaming", yaml=PAGE).checkpoint_dir == tmp_path / "checkpoints"

    def test_a_folder_without_one_says_nothing(self, tmp_path: Path) -> None:
        assert read_folder(tmp_path) == WorkflowConfig()
        (tmp_path / "nlsq.yaml").write_text("# nothing\nworkflow:\n")
        assert read_folder(tmp_path) == WorkflowConfig()

    def test_a_preset_lies_below_what_else_is_said(self, tmp_path: Path) -> None:
        (tmp_path / "nlsq.yaml").write_text("workflow:\n  n_starts: 3\n  preset: kinetics\n")
        found = read_folder(tmp_path)
        assert (found.n_starts, found.gtol, found.sampler) == (3, 1e-8, "lhs")

    def test_every_fault_is_told_with_its_line(self, tmp_path: Path) -> None:
        path = tmp_path / "nlsq.yaml"
        path.write_text("""\
workflow:
  gaol: robust
  goal: qualty
  goal: fast
  memory_limit_gb: lots
  n_starts: [1, 2]
tolerance:
  gtol: 1
tolerances:
  gtol: '1e-8'
  ftol: -1
cluster:
  type: pbz
  nodes: 0
""")
        with pytest.raises(ValueError) as caught:
            read_yaml(path)
        keys = "center_on_p0, checkpoint_dir, chunk_size, enable_checkpointing, goal, max_nfev, memory_limit_gb, "
        keys += "multistart, n_starts, preset, safety_factor, sampler, scale_factor, seed, tier"
        tolerance = "write a number of at least 0, below 1, such as 1e-8"
        assert sorted(str(caught.value).replace(str(path), "").splitlines()) == sorted(
            [
                f":2: workflow has no key 'gaol'; did you mean 'goal'? (keys: {keys})",
                ":3: workflow.goal is 'qualty'; did you mean 'quality'? "
                "(one of fast, robust, global, memory_efficient, quality)",
                ":4: workflow has 'goal' twice",
                ":5: workflow.memory_limit_gb is 'lots': write a positive number of GB, such as 16",
                ":6: workflow.n_starts is a single value",
                ":7: no table 'tolerance'; did you mean 'tolerances'? (tables: workflow, tolerances, cluster)",
                f":10: tolerances.gtol is '1e-8': {tolerance}",
                f":11: tolerances.ftol is -1: {tolerance}",
                ":13: cluster.type is 'pbz'; did you mean 'pbs'? (one of pbs, slurm, lsf)",
                ":14: cluster.nodes is 0: write a whole number of at least 1",
            ]
        )

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("- a\n", r":1: write the tables workflow, tolerances, cluster"),
            ("workflow: robust\n", r":1: workflow is a table: write its keys below it"),
            ("a: [\n", r": not YAML: while parsing"),
            ("cluster: {nodes: 3}\n", r": cluster has no type (one of pbs, slurm, lsf)"),
            ("workflow: {multistart: false, n_starts: 3}\n", r": multistart is False, but n_starts is 3"),
            ("workflow: {goal: !!python/object:os.system x}\n", r":1: workflow.goal is 'x'"),
        ],
    )
    def test_a_file_of_another_form_is_refused(self, tmp_path: Path, text: str, message: str) -> None:
        path = tmp_path / "nlsq.yaml"
        path.write_text(text)
        with pytest.raises(ValueError, match=re.escape(str(path) + message)):
            read_yaml(path)


class TestEnvironment:
    def test_all_four_variables_are_read(self) -> None:
        environ = {
            "NLSQ_WORKFLOW_GOAL": "Robust",
            "NLSQ_MEMORY_LIMIT_GB": "16",
            "NLSQ_CHECKPOINT_DIR": "/scratch/c",
            "NLSQ_ENABLE_CHECKPOINTING": "0",
        }
        assert read_environment(environ) == WorkflowConfig(
            goal=OptimizationGoal.ROBUST,
            memory_limit_gb=16.0,
            checkpoint_dir=Path("/scratch/c"),
            enable_checkpointing=False,
        )
        assert read_environment(dict.fromkeys(environ, " ")) == WorkflowConfig()

    def test_every_wrong_value_is_named_by_its_variable(self) -> None:
        environ = {
            "NLSQ_WORKFLOW_GOAL": "globl",
            "NLSQ_MEMORY_LIMIT_GB": "16GB",
            "NLSQ_ENABLE_CHECKPOINTING": "maybe",
        }
        with pytest.raises(ValueError) as caught:
            read_environment(environ)
        assert str(caught.value).splitlines() == [
            "NLSQ_WORKFLOW_GOAL is 'globl'; did you mean 'global'? "
            "(one of fast, robust, global, memory_efficient, quality)",
            "NLSQ_MEMORY_LIMIT_GB is '16GB': write a positive number of GB, such as 16",
            "NLSQ_ENABLE_CHECKPOINTING is 'maybe': write 1 or 0",
        ]


class TestWorkflowConfig:
    @pytest.mark.parametrize(
        ("said", "message"),
        [
            ({"tier": "chunkd"}, "tier is 'chunkd'; did you mean 'chunked'? "
             "(one of standard, chunked, streaming, streaming_checkpoint)"),
            ({"gtol": 1}, "gtol is 1: write a number of at least 0, below 1, such as 1e-8"),
            ({"n_starts": 0}, "n_starts is 0: write a whole number of at least 1"),
            ({"sampler": "sobl"}, "sampler is 'sobl'; did you mean 'sobol'? (one of lhs, sobol, halton)"),
            ({"multistart": 1}, "multistart is 1: write true or false"),
            ({"safety_factor": 2}, "safety_factor is 2: write a number above 0, at most 1"),
            ({"checkpoint_dir": ""}, "checkpoint_dir is '': write the path of a directory"),
            ({"multistart": True, "n_starts": 1}, "multistart is True, but n_starts is 1"),
        ],
    )  # fmt: skip
    def test_a_wrong_value_is_refused_by_name(self, said: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError) as caught:
            WorkflowConfig(**said)
        assert str(caught.value) == message

    def test_words_become_members(self) -> None:
        config = WorkflowConfig(tier="Streaming", goal="FAST", sampler="LHS")
        assert (config.tier, config.goal, config.sampler) == (WorkflowTier.STREAMING, OptimizationGoal.FAST, "lhs")
