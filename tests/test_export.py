"""Results for other programs and for papers: nothing lost, nothing read as markup, and the command around it."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow  # type: ignore[import-untyped]
import pyarrow.parquet  # type: ignore[import-untyped]
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from real_runs import campaign

from socm_like.errors import StoreError
from socm_like.journal import TaskState
from socm_like.logs import printable
from socm_like.results.columns import columns_of, exact
from socm_like.results.export import latex_number, latex_text, markdown_text, to_csv, to_latex, to_markdown
from socm_like.results.parquet import to_arrow, write_parquet
from socm_like.results.table import Ancestor, Row

AT_NOON = "2027-01-15T08:00:00.000000Z"
LATER = "2027-01-15T08:00:02.500000Z"
FACTS_BEHIND = "attempts,started,ended,wall_seconds,cpu_seconds,peak_memory_bytes,peak_gpu_memory_bytes"


def row(task: str, parameters: Mapping[str, Any], metrics: Mapping[str, Any], **changes: Any) -> Row:
    facts = {"workflow": "w", "kind": "k", "id": "0" * 64, "state": TaskState.DONE, "started": None, "ended": None}
    return Row(task=task, parameters=parameters, metrics=metrics, **{**facts, **changes})


_SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
_VALUES = _SCALARS | st.lists(_SCALARS, max_size=2)
_TABLES = st.dictionaries(st.text(min_size=1), _VALUES, max_size=4)
_TEXTS = st.text() | st.text(alphabet="\\|`*_~$[]()<>&%#{}^\"'-,\n\r\t ab\x1b\x85\u2028é")


@st.composite
def tables(draw: st.DrawFn) -> list[Row]:
    """Draw rows of one workflow with the columns that Hypothesis thinks of."""
    found = draw(st.lists(st.tuples(_TABLES, _TABLES, _TABLES), min_size=1, max_size=4))
    return [
        row(f"t{index}", own, metrics, ancestors={"above": Ancestor("x", above)} if above else {})
        for index, (above, own, metrics) in enumerate(found)
    ]


# CSV


def test_csv_has_dotted_names_exact_numbers_and_json_for_what_is_deeper() -> None:
    above = {"sim": Ancestor("sim", {"noise": 0.1, "box": {"side": 3}})}
    rows = [
        row("a[1]", {"seed": 7, "words": ["x", "y"]}, {"fit": {"chi2": 0.1 + 0.2, "deep": {"p": 1}}, "ok": True}),
        row("b", {"seed": 8}, {"note": 'say "hi",\nplease', "ok": None}, state=TaskState.CACHED, ancestors=above),
        row("c", {}, {}, started=AT_NOON, ended=LATER, attempts=2, cpu=1.25, peak_memory=2**40),
    ]
    assert to_csv(rows) == (
        "task,workflow,kind,state,sim.noise,sim.box.side,seed,words,fit.chi2,fit.deep,ok,note," + FACTS_BEHIND + "\n"
        'a[1],w,k,done,,,7,"[""x"", ""y""]",0.30000000000000004,"{""p"": 1}",true,,,,,,,,\n'
        'b,w,k,cached,0.1,3,8,,,,,"say ""hi"",\nplease",,,,,,,\n'
        f"c,w,k,done,,,,,,,,,2,{AT_NOON},{LATER},2.5,1.25,1099511627776,\n"
    )


@given(tables())
def test_csv_loses_nothing(rows: list[Row]) -> None:
    header, *lines = csv.reader(io.StringIO(to_csv(rows), newline=""))
    columns = columns_of(rows)

    assert header == list(columns.names)
    assert len(set(header)) == len(header)
    for line, values in zip(lines, columns.values, strict=True):
        for name, cell in zip(header, line, strict=True):
            value = values.get(name)
            assert (cell if isinstance(value, str | None) else json.loads(cell)) == ("" if value is None else value)


# Markdown


def test_markdown_has_swept_parameters_what_differs_and_every_metric() -> None:
    above = {"sim": Ancestor("sim", {"noise": 0.5, "box": 1}, ("noise",))}
    rows = [
        row("m[1]", {"seed": 1, "same": 2}, {"loss": 1 / 3, "dof": 8, "cov": [[1.0] * 9]}, ancestors=above),
        row("m[2]", {"seed": 2, "same": 2}, {"loss": 1e-9, "dof": 8}, ancestors=above),
    ]
    assert to_markdown(rows, digits=4, all_columns=False) == (
        "| task | noise | seed | loss | dof |\n"
        "| --- | ---: | ---: | ---: | ---: |\n"
        "| m[1] | 0.5 | 1 | 0.3333 | 8 |\n"
        "| m[2] | 0.5 | 2 | 1e-09 | 8 |\n"
    )


def test_documents_name_the_state_only_when_something_has_not_succeeded() -> None:
    rows = [row("a", {}, {"x": 1}), row("b", {}, {}, state=TaskState.FAILED)]
    same = "| task | x |\n| --- | ---: |\n| a | 1 |\n| c | 2 |\n"
    cached = row("c", {}, {"x": 2}, state=TaskState.CACHED)
    assert to_markdown([rows[0], cached], digits=6, all_columns=False) == same
    assert to_markdown(rows, digits=6, all_columns=False) == (
        "| task | state | x |\n| --- | --- | ---: |\n| a | done | 1 |\n| b | failed |  |\n"
    )


def test_documents_show_every_column_when_asked() -> None:
    above = {"sim": Ancestor("sim", {"noise": 0.5, "box": 1}, ("noise",))}
    text = to_markdown([row("a", {"x": [1] * 30}, {}, ancestors=above)], digits=6, all_columns=True)
    header = text.splitlines()[0]
    facts = FACTS_BEHIND.replace(",", " | ")
    assert header == f"| task | workflow | kind | state | noise | box | x | {facts} |"


def test_markdown_of_several_workflows_has_their_names_above_the_tables() -> None:
    rows = [row("a", {}, {"x": 1}, workflow="a"), row("b", {}, {"y": True}, workflow="b")]
    assert to_markdown(rows, digits=6, all_columns=False) == (
        "### a\n\n| task | x |\n| --- | ---: |\n| a | 1 |\n\n### b\n\n| task | y |\n| --- | --- |\n| b | true |\n"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a|b", r"a\|b"),
        ("a\\|b", r"a\\\|b"),
        ("one\ntwo\r\nthree\rfour", "one<br>two<br>three<br>four"),
        ("<b>&amp;", "&lt;b>&amp;amp;"),
        ("lr_rate __init__ _a_", r"lr_rate \_\_init\_\_ \_a\_"),
        ("*a* `b` ~c~ $d$", r"\*a\* \`b\` \~c\~ \$d\$"),
        ("fit[x=1] [a](b) [a][b]", r"fit[x=1] [a\](b) [a\][b]"),
        ("tab\there \x1b[31m", r"tab here \\x1b[31m"),
        ("µ ≤ 3", "µ ≤ 3"),
    ],
)
def test_text_in_markdown_is_shown_as_it_is(text: str, expected: str) -> None:
    assert markdown_text(text) == expected


@given(tables())
def test_markdown_rows_all_have_the_same_cells(rows: list[Row]) -> None:
    lines = to_markdown(rows, digits=6, all_columns=True).splitlines()
    cells = [re.findall(r" ((?:\\.|[^\\|])*) (?=\|)", line) for line in lines]
    assert len(lines) == 2 + len(rows)
    assert {len(found) for found in cells} == {len(columns_of(rows).names)}
    assert ["|" + "".join(f" {cell} |" for cell in found) for found in cells] == lines


@given(_TEXTS)
def test_markdown_escapes_can_be_undone(text: str) -> None:
    shown = markdown_text(text).replace("<br>", "\n").replace("&lt;", "<").replace("&amp;", "&")
    plain = re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", shown)
    lines = re.split(r"\r\n?|\n", text)
    assert plain == "\n".join(printable(line).replace("\t", " ").strip() for line in lines)


# LaTeX


def test_latex_is_a_booktabs_table_per_workflow() -> None:
    rows = [
        row("fit[a_b]", {"rate": 1e-5, "name": "50%"}, {"loss": -0.125, "n": 3}),
        row("fit[c]", {"rate": 0.5, "name": "A & B"}, {}, state=TaskState.OOM),
        row("sum", {}, {"total": 6.5e20}, workflow="sum"),
    ]
    assert (
        to_latex(rows, digits=3, all_columns=False)
        == r"""% needs \usepackage{booktabs}

% w
\begin{tabular}{llrlrr}
\toprule
task & state & rate & name & loss & n \\
\midrule
fit[a\_b] & done & $1\times10^{-5}$ & 50\% & $-0.125$ & 3 \\
fit[c] & oom & 0.5 & A \& B & --- & --- \\
\bottomrule
\end{tabular}

% sum
\begin{tabular}{lr}
\toprule
task & total \\
\midrule
sum & $6.5\times10^{20}$ \\
\bottomrule
\end{tabular}
"""
    )


def test_documents_of_nothing_are_empty() -> None:
    assert to_latex([], digits=6, all_columns=False) == to_markdown([], digits=6, all_columns=True) == ""


@pytest.mark.parametrize(
    ("value", "digits", "expected"),
    [
        (1.2e-5, 6, r"$1.2\times10^{-5}$"),
        (-1.25e-7, 2, r"$-1.2\times10^{-7}$"),
        (1234567.0, 6, r"$1.23457\times10^{6}$"),
        (1234567, 6, "1234567"),
        (-3, 6, "$-3$"),
        (0.1 + 0.2, 6, "0.3"),
        (0.1 + 0.2, 17, "0.30000000000000004"),
        (8.0, 6, "8"),
    ],
)
def test_numbers_in_latex_are_rounded_with_powers_of_ten(value: float, digits: int, expected: str) -> None:
    assert latex_number(value, digits) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a&b%c$d#e_f{g}", r"a\&b\%c\$d\#e\_f\{g\}"),
        ("~^\\<>|", r"\textasciitilde{}\textasciicircum{}\textbackslash{}\textless{}\textgreater{}\textbar{}"),
        ("\"'`", r"\symbol{34}\textquotesingle{}\textasciigrave{}"),
        ("--rate ,,", "-{}-rate ,{},"),
        ("[1, 2]", "{}[1, 2]"),
        ("*", "{}*"),
        ("one\ntwo\tthree", "one two three"),
        ("µ ≤ 3 é", "µ ≤ 3 é"),
        ("\x1b", r"\textbackslash{}x1b"),
    ],
)
def test_text_in_latex_is_shown_as_it_is(text: str, expected: str) -> None:
    assert latex_text(text) == expected


_LATEX_TOKEN = re.compile(r"\\([&%$#_{}])|\\(text[a-z]+|symbol)\{(?:34)?\}|(\{\})|([^\\&%$#_{}~^<>|\"'`])")
_NAMED = {
    "textasciitilde": "~", "textasciicircum": "^", "textbackslash": "\\", "textless": "<", "textgreater": ">",
    "textbar": "|", "symbol": '"', "textquotesingle": "'", "textasciigrave": "`",
}  # fmt: skip


@given(_TEXTS)
def test_latex_leaves_no_special_character_and_can_be_undone(text: str) -> None:
    escaped = latex_text(text)
    plain, position = "", 0
    while position < len(escaped):
        token = _LATEX_TOKEN.match(escaped, position)
        assert token is not None, escaped[position:]
        plain += token[1] or _NAMED.get(token[2] or "", "") or token[4] or ""
        position = token.end()
    assert plain == " ".join(printable(line).replace("\t", " ") for line in re.split(r"\r\n?|\n", text))
    assert "--" not in escaped
    assert not escaped.startswith(("[", "*"))


@given(tables())
def test_latex_rows_all_have_the_same_cells(rows: list[Row]) -> None:
    lines = to_latex(rows, digits=6, all_columns=True).splitlines()
    begin, top, head, middle, *body = lines[3:]
    assert (top, middle, body[-2:]) == ("\\toprule", "\\midrule", ["\\bottomrule", "\\end{tabular}"])
    found = {len(re.findall(r"(?<!\\)&", line)) + 1 for line in (head, *body[:-2])}
    assert found == {len(columns_of(rows).names)} == {len(begin.removeprefix("\\begin{tabular}{")) - 1}
    assert all(line.endswith(r" \\") for line in (head, *body[:-2]))


# Parquet


def column(*values: Any) -> tuple[str, list[Any]]:
    """Return the type and the values of a Parquet column with these values."""
    found = to_arrow([row(f"t{index}", {"x": value}, {}) for index, value in enumerate(values)])["x"]
    return str(found.type), found.to_pylist()


@pytest.mark.parametrize(
    ("values", "type_", "expected"),
    [
        ([1, None, -3], "int64", [1, None, -3]),
        ([1, 2.5], "double", [1.0, 2.5]),
        ([True, None], "bool", [True, None]),
        (["a", None], "string", ["a", None]),
        ([None, None], "string", [None, None]),
        ([[1, 2.5], {}], "string", ["[1, 2.5]", "{}"]),
        ([1, "a"], "string", ["1", '"a"']),
        ([True, 1], "string", ["true", "1"]),
        ([2**63, 1], "string", ["9223372036854775808", "1"]),
        ([2**53 + 1, 0.5], "string", ["9007199254740993", "0.5"]),
        ([10**400, 0.5], "string", [str(10**400), "0.5"]),
        (["\ud800"], "string", ["\\ud800"]),
    ],
)
def test_parquet_column_has_the_type_its_values_share(values: list[Any], type_: str, expected: list[Any]) -> None:
    assert column(*values) == (type_, expected)


def test_parquet_facts_have_the_same_types_whatever_is_known() -> None:
    known = row("a", {}, {}, started=AT_NOON, ended=LATER, attempts=2, cpu=1.25, peak_memory=2**40)
    instant = "timestamp[us, tz=UTC]"
    types = ["string"] * 4 + ["int64", instant, instant, "double", "double", "int64", "int64"]
    for rows in ([known], [row("a", {}, {})], []):
        assert [str(field.type) for field in to_arrow(rows).schema] == types
    assert to_arrow([known]).to_pylist() == [
        {
            "task": "a", "workflow": "w", "kind": "k", "state": "done", "attempts": 2,
            "started": datetime(2027, 1, 15, 8, tzinfo=UTC), "ended": datetime(2027, 1, 15, 8, 0, 2, 500_000, UTC),
            "wall_seconds": 2.5, "cpu_seconds": 1.25, "peak_memory_bytes": 2**40, "peak_gpu_memory_bytes": None,
        }
    ]  # fmt: skip


@given(tables())
@example([row("t0", {"x": 1, "y": 1}, {}), row("t1", {"x": 1.5, "y": "1"}, {})])
def test_parquet_read_back_equals_the_rows(rows: list[Row]) -> None:
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(to_arrow(rows), buffer)
    found = pyarrow.parquet.read_table(io.BytesIO(buffer.getvalue()))
    columns = columns_of(rows)

    assert found.column_names == list(columns.names)
    for name in (*columns.ancestors, *columns.parameters, *columns.metrics):
        values, cells = columns.column(name), found[name].to_pylist()
        is_text = str(found[name].type) == "string" and not all(isinstance(value, str | None) for value in values)
        assert [json.loads(cell) if is_text and cell is not None else cell for cell in cells] == values


def test_parquet_that_cannot_be_written_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "taken"
    folder.mkdir()
    with pytest.raises(StoreError, match=re.escape(str(folder))):
        write_parquet([row("a", {}, {})], folder)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


# the command


def on_terminal(folder: Path, width: int, *words: str) -> tuple[int, list[str]]:
    """Run ``campaign results`` on a terminal; return its exit status and the lines that were shown."""
    ours, theirs = pty.openpty()
    variables = {**os.environ, "COLUMNS": str(width), "NO_COLOR": "1"}
    command = [sys.executable, "-m", "socm_like.cli", "results", *words]
    with subprocess.Popen(command, cwd=folder, env=variables, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # EIO: nobody holds the other end any more
            while data := os.read(ours, 65536):
                shown += data
    os.close(ours)
    return process.returncode, shown.decode().splitlines()


WORK = """
import json, sys
noise, seed = float(sys.argv[1]), int(sys.argv[2])
metrics = {"loss": noise / seed, "note": "a|b_c, long enough", "dof": 8}
json.dump(metrics, open("metrics.json", "w"))
sys.exit(seed == 3)
"""
SWEEP = f"""
[campaign]
name = "sweep"
[campaign.simulate]
kind = "command"
command = "{sys.executable} file://work.py {{noise}} 1"
metrics = "metrics.json"
parameters = {{ noise = 0.5, box = "large" }}
""" + "".join(
    f"""
[campaign.maps.s{seed}]
kind = "command"
command = "{sys.executable} file://work.py 0.25 {{seed}}"
metrics = "metrics.json"
depends_on = ["simulate"]
parameters = {{ seed = {seed}, nside = 64 }}
"""
    for seed in (1, 2, 3)
)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run whose ``maps`` a sweep over noise led to, ``maps.s3`` failed."""
    folder = tmp_path_factory.mktemp("swept")
    (folder / "work.py").write_text(WORK)
    answer = campaign(folder, "submit", text=SWEEP)
    assert answer.returncode == 1, answer.stdout + answer.stderr
    (path,) = folder.glob("runs/campaigns/*/plan.json")
    plan = json.loads(path.read_text())
    for task in plan["tasks"]:
        is_map = task["workflow"].startswith("maps.")
        task["ancestors"] = {"simulate": "simulate"} if is_map else {}
        task["swept"] = ["seed"] if is_map else ["noise"]
    path.write_text(json.dumps(plan))
    return folder


def answer(folder: Path, *words: str) -> str:
    found = campaign(folder, "results", *words)
    assert (found.returncode, found.stderr) == (0, "")
    return found.stdout


def test_results_show_the_swept_parameters_of_ancestors_first(swept: Path) -> None:
    assert answer(swept) == (
        "simulate  command, 1 task\n"
        "task      state  noise  loss  note                dof\n"
        "simulate  done     0.5   0.5  a|b_c, long enough    8\n"
        "\n"
        "maps.*  command, 3 tasks\n"
        "task     state   noise  seed   loss\n"
        "maps.s1  done      0.5     1  0.250\n"
        "maps.s2  done      0.5     2  0.125\n"
        "maps.s3  failed    0.5     3\n"
        "the same in all: note = a|b_c, long enough, dof = 8\n"
    )


def test_best_are_the_first_of_the_order(swept: Path) -> None:
    assert answer(swept, "--sort", "loss", "--limit", "1") == (
        "maps.s2  command, 1 task\n"
        "task     state  noise  seed   loss  note                dof\n"
        "maps.s2  done     0.5     2  0.125  a|b_c, long enough    8\n"
    )
    rows = json.loads(answer(swept, "--json", "--sort", "-loss", "--limit", "3"))
    assert [row["task"] for row in rows] == ["simulate", "maps.s1", "maps.s2"]
    lines = answer(swept, "--csv", "--sort", "-seed").splitlines()
    assert [line.partition(",")[0] for line in lines] == ["task", "maps.s3", "maps.s2", "maps.s1", "simulate"]


def test_failures_of_a_sweep_are_shown_with_their_parameters(swept: Path) -> None:
    assert answer(swept, "--state", "failed,timeout") == (
        "maps.s3  command, 1 task\ntask     state   noise  seed\nmaps.s3  failed    0.5     3\n"
    )
    nothing = campaign(swept, "results", "--state", "oom, lost", "--sort", "loss")
    (run,) = (path.name for path in swept.glob("runs/campaigns/*"))
    assert (nothing.stdout, nothing.stderr, nothing.returncode) == ("", f"no task of {run} is oom or lost\n", 0)


def test_json_has_ancestors_and_times(swept: Path) -> None:
    (found,) = json.loads(answer(swept, "--json", "--workflow", "maps.s2"))
    above = json.loads(answer(swept, "--json", "--workflow", "simulate"))[0]["parameters"]
    assert found["ancestors"] == {"simulate": {"task": "simulate", "parameters": above}}
    assert above["noise"] == 0.5
    assert found["attempts"] == 1
    span = datetime.fromisoformat(found["ended"]) - datetime.fromisoformat(found["started"])
    assert found["wall_seconds"] == span.total_seconds() > 0
    assert found["cpu_seconds"] > 0
    assert found["peak_memory_bytes"] > 2**20


@pytest.mark.parametrize(
    ("option", "ending"), [("--csv", ".csv"), ("--markdown", ".md"), ("--latex", ".tex"), ("--json", ".json")]
)
def test_format_of_a_file_is_that_of_the_option_or_else_of_its_ending(
    swept: Path, tmp_path: Path, option: str, ending: str
) -> None:
    printed = answer(swept, option)
    for name, words in ((f"new/by{ending}", []), ("new/by.option", [option])):
        path = tmp_path / name
        found = campaign(swept, "results", *words, "--output", str(path))
        assert (found.stdout, found.stderr, found.returncode) == ("", f"wrote {path}\n", 0)
        written = path.read_text()
        if option == "--json":
            assert (json.loads(written), written[-1]) == (json.loads(printed), "\n")
        else:
            assert written == printed
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted([f"by{ending}", "by.option"])


def test_table_in_a_file_is_the_printed_one_whatever_the_terminal(swept: Path, tmp_path: Path) -> None:
    status, shown = on_terminal(swept, 30, "--output", str(tmp_path / "table.txt"))
    assert (status, shown) == (0, [f"wrote {tmp_path}/table.txt"])
    assert (tmp_path / "table.txt").read_text() == answer(swept)


def test_parquet_file_has_the_rows_of_the_csv(swept: Path, tmp_path: Path) -> None:
    path = tmp_path / "new" / "all.parquet"
    found = campaign(swept, "results", "--parquet", str(path), "--sort", "-seed")
    assert (found.stdout, found.stderr, found.returncode) == ("", f"wrote {path}\n", 0)
    table = pyarrow.parquet.read_table(path)
    lines = list(csv.reader(io.StringIO(answer(swept, "--csv", "--sort", "-seed"), newline="")))
    instants = ("started", "ended")
    cells = [[exact(value) for name, value in line.items() if name not in instants] for line in table.to_pylist()]
    kept = [index for index, name in enumerate(lines[0]) if name not in instants]
    assert table.column_names == lines[0]
    assert cells == [[line[index] for index in kept] for line in lines[1:]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--csv", "--latex"], "--csv and --latex: name one format"),
        (["--csv", "--json", "--parquet", "x"], "--csv, --json and --parquet: name one format"),
        (["--parquet", "x", "-o", "y"], "--parquet FILE and --output FILE: name one file"),
        (["--digits", "3"], "--digits goes with --markdown or --latex; --csv, --json and --parquet keep every digit"),
        (
            ["-o", "x.xlsx"],
            "--output x.xlsx: the name must end in .txt, .csv, .json, .md, .tex, .parquet, or name a format: --csv",
        ),
        (
            ["--state", "dome"],
            "'dome' is no state; there are: STATES; did you mean 'done'?",
        ),
        (
            ["--workflow", "simulate", "--sort", "los"],
            "no column is called 'los'; there are: attempts, box, command, cpu_seconds, dof, ended, inputs, kind, "
            "loss, noise, note, peak_gpu_memory_bytes, peak_memory_bytes, started, state, task, wall_seconds, "
            "workflow; did you mean 'loss'?",
        ),
    ],
)  # fmt: skip
def test_question_that_is_wrong_is_refused(swept: Path, words: list[str], message: str) -> None:
    found = campaign(swept, "results", *words)
    message = message.replace("STATES", ", ".join(sorted(TaskState)))
    assert (found.stdout, found.stderr, found.returncode) == ("", f"{message}\n", 2)


@pytest.mark.parametrize("missing", ["pyarrow", "pyarrow.parquet"])
def test_missing_pyarrow_is_told_with_what_to_type(swept: Path, run_python: Callable[..., Any], missing: str) -> None:
    program = (
        "import os, sys; os.chdir(sys.argv.pop(1)); sys.modules[sys.argv.pop(1)] = None\n"
        "from socm_like.cli import main; main()"
    )
    found = run_python(program, swept, missing, "results", "--parquet", "x.parquet")
    assert (found.stdout, found.returncode) == ("", 2)
    assert found.stderr == 'Parquet needs pyarrow: pip install "socm-like[parquet]"\n'
    assert not (swept / "x.parquet").exists()


def test_other_missing_modules_are_no_want_of_pyarrow(swept: Path, run_python: Callable[..., Any]) -> None:
    program = (
        "import os, sys; os.chdir(sys.argv.pop(1)); import socm_like.cli.results; sys.modules['uuid'] = None\n"
        "from socm_like.cli import main; main()"
    )
    found = run_python(program, swept, "results", "--parquet", "x.parquet")
    assert found.stderr.splitlines()[-1] == "ModuleNotFoundError: import of uuid halted; None in sys.modules"


def test_results_start_without_what_only_some_formats_need(run_python: Callable[..., Any]) -> None:
    program = "import sys, socm_like.cli.results; print({'pyarrow', 'pydantic', 'numpy'} & set(sys.modules))"
    found: subprocess.CompletedProcess[str] = run_python(program)
    assert (found.stdout, found.stderr) == ("set()\n", "")


def test_terminal_shows_swept_parameters_before_what_does_not_fit(swept: Path) -> None:
    status, lines = on_terminal(swept, 30, "--workflow", "maps")
    assert status == 0
    assert lines[:3] == ["maps.*  command, 3 tasks", "task     state   noise   loss", "maps.s1  done      0.5  0.250"]
    assert lines[-1] == "1 column does not fit; see all: campaign results --all-columns"


def test_all_columns_are_shown_however_narrow_the_terminal(swept: Path) -> None:
    _, lines = on_terminal(swept, 30, "--workflow", "maps.s1", "--all-columns")
    assert lines[1].split() == [
        "task", "workflow", "kind", "state", "simulate.command", "simulate.inputs", "noise", "box", "command",
        "inputs", "seed", "nside", "loss", "note", "dof", *FACTS_BEHIND.split(","),
    ]  # fmt: skip
    assert len(lines) == 3
