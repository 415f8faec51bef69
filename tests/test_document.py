"""TOML files with lines: what is written where, what cannot be read, what ``--set`` puts over it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socm_like.document import Document, KeyPath, dotted, read_document
from socm_like.errors import CampaignError


def read(tmp_path: Path, content: str | bytes, *settings: str) -> Document:
    path = tmp_path / "c.toml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_document(path, settings)


def refused(tmp_path: Path, content: str | bytes) -> str:
    with pytest.raises(CampaignError) as caught:
        read(tmp_path, content)
    return str(caught.value).replace(f"{tmp_path}/", "")


def faults(document: Document) -> list[str]:
    return [str(fault).replace(f"{document.path.parent}/", "") for fault in document.faults]


def lines_of(text: str) -> dict[KeyPath, int]:
    document = Document(Path("c.toml"), text, tomllib.loads(text))
    return {key: int(document.where(key).rpartition(":")[2]) for key in keys_of(document.data)}


def keys_of(value: Any, key: KeyPath = ()) -> list[KeyPath]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    below = [found for name, item in items for found in keys_of(item, (*key, name))]
    return [key, *below] if key else below


def test_each_key_stands_on_the_line_it_was_written_on() -> None:
    text = '''\
# a comment with [brackets] and "quotes
title = """
[not.a.table]
x = 1
"""
list = [  # one
  1,

  "two, ] three", [
    3 ],
  { four = 4, five.six = [5,
    6] },
]

[ table . "quoted.name" . 'it"s' ]
a.b.c = 1
"d e" = '''
    text += "'''\n\\'''\n"
    text += """\
a.b.f = 2020-01-01 10:00:00  # a date with a space
[table]
late = 1
[[rows]]
x = 1
[rows.below]
y = 2
[[rows]]
[[rows.inner]]
z = ""
[[rows.inner]]
"""
    quoted = ("table", "quoted.name", 'it"s')
    assert lines_of(text) == {
        ("title",): 2,
        ("list",): 6,
        ("list", 0): 7,
        ("list", 1): 9,
        ("list", 2): 9,
        ("list", 2, 0): 10,
        ("list", 3): 11,
        ("list", 3, "four"): 11,
        ("list", 3, "five"): 11,
        ("list", 3, "five", "six"): 11,
        ("list", 3, "five", "six", 0): 11,
        ("list", 3, "five", "six", 1): 12,
        ("table",): 20,
        quoted[:2]: 15,
        quoted: 15,
        (*quoted, "a"): 16,
        (*quoted, "a", "b"): 16,
        (*quoted, "a", "b", "c"): 16,
        (*quoted, "d e"): 17,
        (*quoted, "a", "b", "f"): 19,
        ("table", "late"): 21,
        ("rows",): 22,
        ("rows", 0): 22,
        ("rows", 0, "x"): 23,
        ("rows", 0, "below"): 24,
        ("rows", 0, "below", "y"): 25,
        ("rows", 1): 26,
        ("rows", 1, "inner"): 27,
        ("rows", 1, "inner", 0): 27,
        ("rows", 1, "inner", 0, "z"): 28,
        ("rows", 1, "inner", 1): 29,
    }


STRINGS = (
    '""',
    "''",
    '"\\\\"',
    "'#]}'",
    '"\\"=,"',
    '"""\n# "no" [x]\ny = 1\n"""',
    "'''a\n''b\n'''''",
    '"""a\\""\n"""""',
)
SCALARS = ("1", "-1.5e3", "true", "2020-01-01", "2020-01-01 10:00:00", "inf", "0x1F")
BLANKS = ("", " ", "\n", '  # [comment] "\n\n')
SPELLINGS = (("{}", "{}"), ("{}.#", '"{}.#"'), ('{}"]', "'{}\"]'"), ("{}é", '"{}\\u00e9"'))
"""A key, and how it is written."""


class Writer:
    """Writes TOML piece by piece and knows the line of all it wrote."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        self.draw = draw
        self.text = ""
        self.lines: dict[KeyPath, int] = {}
        self.headers: list[KeyPath] = []
        self.arrays: dict[KeyPath, int] = {}
        self.names = 0

    def write(self, choices: Sequence[str]) -> None:
        self.text += self.draw(st.sampled_from(choices))

    def note(self, key: KeyPath) -> None:
        for length in range(1, len(key) + 1):
            self.lines.setdefault(key[:length], self.text.count("\n") + 1)

    def key(self, above: KeyPath, parts: int) -> KeyPath:
        """Write a key of fresh names, bare or quoted, with dots and blanks between."""
        key = above
        for index in range(parts):
            self.names += 1
            name, spelling = self.draw(st.sampled_from(SPELLINGS))
            key = (*key, name.format(f"k{self.names}"))
            self.note(key)
            if index:
                self.write((".", " . ", "\t."))
            self.text += spelling.format(f"k{self.names}")
        return key

    def value(self, key: KeyPath, depth: int) -> None:
        kind = self.draw(st.sampled_from(["scalar", "string", "array", "table"][: 4 if depth else 2]))
        if kind == "array":
            self.text += "["
            for index in range(self.draw(st.integers(0, 3))):
                self.write(BLANKS)
                self.note((*key, index))
                self.value((*key, index), depth - 1)
                self.write(BLANKS)
                self.text += ","
            self.write(BLANKS)
            self.text += "]"
        elif kind == "table":
            self.text += "{"
            for index in range(self.draw(st.integers(0, 2))):
                self.text += ", " if index else ""
                inner = self.key(key, self.draw(st.integers(1, 2)))
                self.write(("=", " = "))
                self.value(inner, depth - 1)
            self.text += "}"
        else:
            self.write(STRINGS if kind == "string" else SCALARS)

    def pair(self, table: KeyPath) -> None:
        self.write(("", "  ", "\t"))
        key = self.key(table, self.draw(st.integers(1, 3)))
        self.write(("=", " = "))
        self.value(key, 2)
        self.write(("\n", "  # comment = [\n", "\n\n# [x]\n\n"))

    def header(self) -> KeyPath:
        """Write a [table] or one more of [[tables]], at the top or in a table that is there."""
        above = self.draw(st.sampled_from([(), *self.headers]))
        is_array = self.draw(st.booleans())
        again = [key for key in self.arrays if key[:-1] == above] if is_array else []
        line = self.text.count("\n") + 1
        self.text += "[[" if is_array else "["
        self.text += "".join(f"{dotted((part,))}." for part in above if isinstance(part, str))
        if again and self.draw(st.booleans()):
            key = again[-1]
            self.text += dotted(key[-1:])
        else:
            key = self.key(above, 1)
        self.text += "]]\n" if is_array else "]\n"
        if is_array:
            self.arrays[key] = self.arrays.get(key, -1) + 1
            self.headers = [header for header in self.headers if header[: len(key)] != key]
            key = (*key, self.arrays[key])
        self.lines.setdefault(key, line)
        self.headers.append(key)
        return key


@st.composite
def written(draw: Callable[[st.SearchStrategy[Any]], Any]) -> tuple[str, dict[KeyPath, int]]:
    writer = Writer(draw)
    table: KeyPath = ()
    for _ in range(draw(st.integers(0, 4))):
        for _ in range(draw(st.integers(0, 3))):
            writer.pair(table)
        table = writer.header()
    return writer.text, writer.lines


@given(written())
def test_lines_are_those_of_whoever_wrote_the_file(document: tuple[str, dict[KeyPath, int]]) -> None:
    text, lines = document
    assert lines_of(text) == lines


def test_a_header_counts_more_than_what_an_earlier_one_implied_of_it() -> None:
    assert lines_of("[a.b]\nx = 1\n[a]\ny = 2\n")["a",] == 3


def test_what_is_not_written_stands_where_its_nearest_ancestor_does(tmp_path: Path) -> None:
    document = read(tmp_path, "[a]\nb = [1]\n")
    assert document.where(("a", "b", 3, "x")) == f"{tmp_path}/c.toml:2"
    assert document.where(("a", "missing")) == f"{tmp_path}/c.toml:1"
    assert document.where(("nothing",)) == f"{tmp_path}/c.toml:1"
    assert document.where(()) == f"{tmp_path}/c.toml:1"


@pytest.mark.parametrize(
    "content",
    [
        "[a]\nb = 1\n",
        "\ufeff[a]\nb = 1\n",
        "[a]\r\nb = 1\r\n",
        "\ufeff[a]\r\n\tb\t=\t1",
        "[a]\n\n# \u00e9\u2028\nb = 1",
    ],
)
def test_byte_order_marks_line_ends_and_tabs_make_no_difference(tmp_path: Path, content: str) -> None:
    document = read(tmp_path, content)
    assert document.data == {"a": {"b": 1}}
    assert document.where(("a", "b")) == f"{tmp_path}/c.toml:{content.count(chr(10), 0, content.index('b')) + 1}"


def test_an_empty_file_holds_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, "").data == {}


def test_paths_start_beside_the_file_and_a_link_counts_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "linked").mkdir()
    (tmp_path / "real" / "c.toml").write_text("")
    (tmp_path / "linked" / "c.toml").symlink_to(tmp_path / "real" / "c.toml")
    assert read_document(tmp_path / "linked" / "c.toml").folder == tmp_path / "linked"
    assert read_document(tmp_path / "real" / ".." / "linked" / "c.toml").folder == tmp_path / "linked"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a = 1\n# caf\xe9\n", "c.toml:2: not UTF-8 text: byte 0xe9; save the file as UTF-8"),
        (b"\xff\xfea\x00", "c.toml:1: not UTF-8 text: byte 0xff; save the file as UTF-8"),
        (b"a = 1\nb = \x00\n", r"c.toml:2: not TOML: Invalid value, at column 5 of 'b = \x00'; text needs quotes"),
        (
            "x = 1\nmemory = 8 GiB\n",
            "c.toml:2: not TOML: Expected newline or end of document after a statement, at column 12 of "
            "'memory = 8 GiB'; text needs quotes",
        ),
        (
            "# a comment with a carriage return\ra = 1\n",
            "c.toml:1: not TOML: Found invalid character '\\r', at column 35 of "
            "'# a comment with a carriage return\\ra = 1'",
        ),
        ("a = GiB\n", "c.toml:1: not TOML: Invalid value, at column 5 of 'a = GiB'; text needs quotes"),
        (
            "[campaign\nx = 1",
            "c.toml:1: not TOML: Expected ']' at the end of a table declaration, at column 10 of '[campaign'",
        ),
        ("x = [1,\n  2\n", "c.toml:2: not TOML: Unclosed array, at the end of '2'"),
        ('x = """\n\u2028\n', "c.toml:2: not TOML: Unterminated string, at the end of ''"),
        (
            "a = {b = 1, b = 2}\n",
            "c.toml:1: not TOML: Duplicate inline table key 'b', at column 18 of 'a = {b = 1, b = 2}'",
        ),
        ("a.b = 1\n[a]\n", "c.toml:2: not TOML: Cannot declare ('a',) twice, at column 3 of '[a]'"),
        (
            f"a = {'9' * 5000}",
            "c.toml: not TOML: Exceeds the limit (4300 digits) for integer string conversion: value has 5000 digits; "
            "use sys.set_int_max_str_digits() to increase the limit",
        ),
        (f"a = {'[' * 5000}{']' * 5000}", "c.toml: nested more than 64 levels deep"),
        (f"a = {'[' * 65}{']' * 65}", "c.toml: a.0.0.0... is nested more than 64 levels deep"),
        (f"{'.'.join(['a'] * 2000)} = {{ b = 1 }}", "c.toml: a.a.a.a... is nested more than 64 levels deep"),
    ],
    ids=range(15),
)
def test_what_is_no_toml_is_refused_with_its_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    assert refused(tmp_path, content) == message


def test_sixty_four_levels_are_not_too_deep(tmp_path: Path) -> None:
    document = read(tmp_path, f"a = {'[' * 64}1{']' * 64}\n")
    assert document.where(("a", *[0] * 64)) == f"{tmp_path}/c.toml:1"


def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path: Path) -> None:
    for path, message in [
        (tmp_path / "none.toml", f"{tmp_path}/none.toml: no such file; write a starter with: campaign init"),
        (tmp_path, f"{tmp_path}: cannot be read: Is a directory"),
        (tmp_path / "x\0.toml", f"'{tmp_path}/x\\x00.toml': cannot be read: embedded null byte"),
    ]:
        with pytest.raises(CampaignError) as caught:
            read_document(path)
        assert str(caught.value) == message


def test_each_key_or_table_that_is_written_twice_is_a_fault_and_its_first_value_counts(tmp_path: Path) -> None:
    document = read(
        tmp_path,
        "x = 1\nx = [\n2]\n[a]\nb = 1\n'b' = 2\nc = 3\n[a]\nc = 4\nnew = 5\n"
        "[e]\n[a.c]\n[[rows]]\n[[rows]]\n[a.'d e']\n[a.'d e']\n",
    )
    assert document.data == {"x": 1, "a": {"b": 1, "c": 3, "d e": {}}, "e": {}, "rows": [{}, {}]}
    assert faults(document) == [
        "c.toml:2: x is written twice, first on line 1",
        "c.toml:6: a.b is written twice, first on line 5",
        "c.toml:8: a is written twice, first on line 4",
        "c.toml:12: a.c is written twice, first on line 7",
        'c.toml:16: a."d e" is written twice, first on line 15',
    ]
    assert [document.where(key) for key in [("a",), ("a", "c"), ("a", "d e")]] == [
        f"{tmp_path}/c.toml:{line}" for line in (4, 7, 15)
    ]


def test_repeated_keys_and_the_first_fault_of_syntax_are_told_together(tmp_path: Path) -> None:
    assert refused(tmp_path, "x = 1\nx = 2\ny = = 3\nz = 1\nz = 2\n") == (
        "c.toml:2: x is written twice, first on line 1\n"
        "c.toml:3: not TOML: Invalid value, at column 5 of 'y = = 3'; text needs quotes"
    )


@given(text=st.text(st.sampled_from("ab.=[]{}\"'#,\n 1\\"), max_size=60))
def test_any_text_is_read_or_refused_with_a_line(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(text)
    try:
        document = read_document(path)
    except CampaignError as error:
        places = [fault.where for fault in error.faults]
    else:
        places = [fault.where for fault in document.faults] + [document.where(key) for key in keys_of(document.data)]
        assert bool(document.faults) != is_toml(text)
    assert all(re.fullmatch(rf"{path}:[1-9][0-9]*", place) for place in places)


def is_toml(text: str) -> bool:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    return True


@pytest.mark.parametrize(
    ("setting", "data"),
    [
        ("a=1", {"a": 1}),
        ("a.b = 1", {"a": {"b": 1}}),
        ("a.b=x y", {"a": {"b": "x y"}}),
        ('a.b="x y"', {"a": {"b": "x y"}}),
        ("a.b=", {"a": {"b": ""}}),
        ("a=8 GiB", {"a": "8 GiB"}),
        ("a=b=c", {"a": "b=c"}),
        ("a=1 # five", {"a": "1 # five"}),
        ("a=1\nb=2", {"a": "1\nb=2"}),
        ("a=1, b=2", {"a": "1, b=2"}),
        ("a=1 }\n[b]\nc = {d = 1", {"a": "1 }\n[b]\nc = {d = 1"}),
        ("a=[1, 'x']", {"a": [1, "x"]}),
        ("a={b = 1}", {"a": {"b": 1}}),
        ("a=2026-01-01", {"a": date(2026, 1, 1)}),
        ("a=true", {"a": True}),
        ("a=True", {"a": "True"}),
        ("a=1e3", {"a": 1000.0}),
        ("a=07", {"a": "07"}),
        (f"a={'9' * 5000}", {"a": "9" * 5000}),
        (f"a={'[' * 5000}", {"a": "[" * 5000}),
        ('"a=b"."c.d".e=1', {"a=b": {"c.d": {"e": 1}}}),
        ("'a b' . c=1", {"a b": {"c": 1}}),
    ],
)
def test_a_setting_is_a_toml_value_or_else_text(tmp_path: Path, setting: str, data: dict[str, Any]) -> None:
    document = read(tmp_path, "", setting)
    assert (document.data, document.faults) == (data, ())


@pytest.mark.parametrize(
    "setting", ["", "a", "=1", ".a=1", "a..b=1", "a b=1", "a\n=1", 'a."b=1', '"\\q"=1', "größe=1", "a=\udcff", "[a]=1"]
)
def test_a_setting_without_a_key_is_a_fault(tmp_path: Path, setting: str) -> None:
    document = read(tmp_path, "x = 1\n", setting)
    assert document.data == {"x": 1}
    assert faults(document) == [f"--set {setting}: write it as key.key=value, e.g. campaign.maps.maxiter=50"]


def test_settings_go_over_the_file_in_their_order_and_say_where_a_key_comes_from(tmp_path: Path) -> None:
    text = "[a]\nb = 1\nc = { d = 1 }\n[a.t]\nu = 1\n"
    settings = ("a.b=2", "a.b=3", "a.c.d=4", "a.t={v = 5}", "new.table.key=6")
    document = read(tmp_path, text, *settings)
    assert document.data == {
        "a": {"b": 3, "c": {"d": 4}, "t": {"v": 5}},
        "new": {"table": {"key": 6}},
    }
    where = {".".join(map(str, key)): document.where(key) for key in keys_of(document.data)}
    assert where == {
        "a": f"{tmp_path}/c.toml:1",
        "a.b": "--set a.b=3",
        "a.c": f"{tmp_path}/c.toml:3",
        "a.c.d": "--set a.c.d=4",
        "a.t": "--set a.t={v = 5}",
        "a.t.v": "--set a.t={v = 5}",
        "new": "--set new.table.key=6",
        "new.table": "--set new.table.key=6",
        "new.table.key": "--set new.table.key=6",
    }
    assert document.where(("a", "t", "u")) == "--set a.t={v = 5}"


def test_a_setting_cannot_go_through_a_value(tmp_path: Path) -> None:
    document = read(tmp_path, "a = 1\n[[rows]]\n", "a.b=1", "a.b.c=1", "rows.x=1", 'x."y z"=1', 'x."y z".w=1')
    assert document.data == {"a": 1, "rows": [{}], "x": {"y z": 1}}
    assert faults(document) == [
        "--set a.b=1: a is a value, not a table",
        "--set a.b.c=1: a is a value, not a table",
        "--set rows.x=1: rows is a value, not a table",
        '--set x."y z".w=1: x."y z" is a value, not a table',
    ]


def test_a_setting_nested_too_deep_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CampaignError) as caught:
        read(tmp_path, "x = 1\nx = 2\n", f"{'a.' * 70}b={{}}", "y")
    assert str(caught.value).replace(f"{tmp_path}/", "") == (
        "c.toml:2: x is written twice, first on line 1\n"
        "--set y: write it as key.key=value, e.g. campaign.maps.maxiter=50\n"
        "c.toml: a.a.a.a... is nested more than 64 levels deep"
    )


def test_a_key_path_is_shown_as_a_file_writes_it() -> None:
    assert dotted(("campaign", "my maps", "a.b", 'c"', 3, "x-1_y")) == 'campaign."my maps"."a.b"."c\\"".3.x-1_y'
