"""What makes two tasks the same: golden digests, paths that stand for content, and files by what is in them."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socm_like import identity
from socm_like.errors import StoreError
from socm_like.identity import FileDigests, canonical, digest, substitute

HELLO = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"  # echo hello | sha256sum
NOTHING = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # sha256sum < /dev/null

# Canonical JSON


@pytest.mark.parametrize(
    ("value", "text", "hexadecimal"),
    [
        (None, "null", "74234e98afe7498fb5daf1f36ac2d78acc339464f950703b8c019892f982b90b"),
        ("", '""', "12ae32cb1ec02d01eda3581b127c1fee3b0dc53572ed6baf239721a03d82e126"),
        ({}, "{}", "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"),
        (1, "1", "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"),
        (1.0, "1.0", "d0ff5974b6aa52cf562bea5921840c032a860a91a3512f7fe8f768f6bbe005f6"),
        (1e-7, "1e-07", "e485fac25775a7da830698e7daac582737fc8b43ba4b351467a16cf8ed83122a"),
        ("é😀", r'"\u00e9\ud83d\ude00"', "03b28a2dafc32cfb4cb604e4980681c6b9885434f8a23c3af4c52b8899dfc1ce"),
        (
            {"b": "é", "a": [1, 2.5, True, None]},
            r'{"a":[1,2.5,true,null],"b":"\u00e9"}',
            "51308dad8f473557c288bdcf663e8b151a041fa4029f9876860486c5ec15cbed",
        ),
        (
            {"kind": "command", "command": ("python", "fit.py"), "seed": 7, "ratio": 1.0},
            '{"command":["python","fit.py"],"kind":"command","ratio":1.0,"seed":7}',
            "2897b990c030b5d86cdb2c98636a97541c526efcb0f0510ca04f0360f670bb60",
        ),
    ],
)
def test_golden_digests_stay_what_they_are(value: Any, text: str, hexadecimal: str) -> None:
    assert canonical(value) == text
    assert digest(value) == hexadecimal


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10)


def backwards(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: backwards(value[key]) for key in reversed(value)}
    return [backwards(item) for item in value] if isinstance(value, list) else value


@given(VALUES)
def test_key_order_does_not_count_and_nothing_is_lost(value: Any) -> None:
    assert canonical(backwards(value)) == canonical(value)
    assert json.loads(canonical(value)) == value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [float("-inf")]}])
def test_a_number_that_is_none_has_no_digest(value: Any) -> None:
    with pytest.raises(ValueError, match="Out of range float values are not JSON compliant"):
        digest(value)


# Paths


TOKENS = {
    "/a/b": "sha256:1",
    "/a/bc": "sha256:2",
    "/a/b/deep": "sha256:3",
    "/a/my file": "sha256:4",
    "/runs/maps/0123": "output:5",
}


@pytest.mark.parametrize(
    ("text", "substituted"),
    [
        ("/a/b", "sha256:1"),
        ("/a/bc", "sha256:2"),
        ("/a/b /a/bc", "sha256:1 sha256:2"),
        ("/a/b/c", "sha256:1/c"),
        ("/a/b/deep", "sha256:3"),
        ("/a/b/deeper", "sha256:1/deeper"),
        ("/a/my file", "sha256:4"),
        ("cp /a/my file /a/b;", "cp sha256:4 sha256:1;"),
        ("/runs/maps/0123/map.fits", "output:5/map.fits"),
        ("--data=/a/b", "--data=sha256:1"),
        ("-I/a/b", "-Isha256:1"),
        ("rel/a/b", "relsha256:1"),  # cannot be told from the line before, and does no harm
        ("/a/b:/a/bc", "sha256:1:sha256:2"),
        ("/a/b,/a/bc", "sha256:1,sha256:2"),
        ("models.py:/a/b:name", "models.py:sha256:1:name"),
        ("file:///a/b", "file://sha256:1"),
        ("'/a/b'", "'sha256:1'"),
        ('{"x":"/a/b"}', '{"x":"sha256:1"}'),
    ],
)
def test_a_whole_path_is_replaced_by_what_it_stands_for(text: str, substituted: str) -> None:
    assert substitute(text, TOKENS) == substituted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a/b",
        "/a",
        "/a/bd",
        "/a/b.fits",
        "/a/b-2",
        "/a/b_2",
        "/a/b2",
        "/a/b~",
        "/a/bé",
        "/data/a/b",
        "/data/a/b/a/b",
        "./data/a/b",
        "s3://bucket/a/b",
        "https://a/b",
        "/runs/maps/01234",
    ],
)
def test_another_path_stays_as_it_is(text: str) -> None:
    assert substitute(text, TOKENS) == text


def test_what_a_path_stands_for_is_not_searched_again() -> None:
    assert substitute("/x /y", {"/x": "/y", "/y": "/x"}) == "/y /x"


def test_no_token_changes_nothing() -> None:
    assert substitute(["/a/b", {"x": 1}], {}) == ["/a/b", {"x": 1}]
    assert substitute("text", {"": "never"}) == "text"


def test_every_string_of_a_value_is_searched_and_keys_stay() -> None:
    value = {"/a/b": ("/a/b", 1, None, True, 2.5), "x": {"y": ["/a/bc", []]}}
    assert substitute(value, TOKENS) == {
        "/a/b": ["sha256:1", 1, None, True, 2.5],
        "x": {"y": ["sha256:2", []]},
    }


NAMES = st.lists(st.sampled_from(["a", "ab", "a.b", "a b", "é", "-1"]), min_size=1, max_size=3).map("/".join)
PIECES = st.sampled_from([" ", ":", ",", "=", "--in=", " -I", "'", "\n", "file://"])


@given(st.lists(st.tuples(PIECES, NAMES), min_size=1, max_size=5), st.lists(NAMES, max_size=3))
def test_a_value_does_not_depend_on_where_things_lie(pieces: list[tuple[str, str]], inputs: list[str]) -> None:
    def at(root: str) -> Any:
        text = "".join(f"{piece}{root}/{name}" for piece, name in pieces)
        return substitute(text, {root: "root", **{f"{root}/{name}": f"sha256:{name}" for name in inputs}})

    assert at("/home/me") == at("/scratch/x/a")
    assert "/home/me" not in at("/home/me")


# Files


def test_a_file_counts_by_its_content_only(tmp_path: Path) -> None:
    one, other, empty = tmp_path / "one", tmp_path / "other.txt", tmp_path / "empty"
    one.write_text("hello\n")
    other.write_text("hello\n")
    os.utime(other, (0, 0))
    empty.touch()
    digests = FileDigests()
    assert [digests.of(path) for path in (one, other, empty)] == [HELLO, HELLO, NOTHING]


def test_a_changed_file_has_another_digest_at_once_even_with_the_old_size_and_time(tmp_path: Path) -> None:
    path = tmp_path / "data"
    digests = FileDigests(tmp_path / "cache.json")
    seen = set()
    for letter in "abcdefgh":
        path.write_text(letter)
        os.utime(path, (1, 1))
        seen.add(digests.of(path))
    assert len(seen) == 8


def test_the_cache_notices_a_change_that_sets_size_and_time_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "_RACY", -(10**15))  # remember what has just changed, too
    path = tmp_path / "data"
    path.write_text("hello\n")
    os.utime(path, (1, 1))
    digests = FileDigests()
    assert digests.of(path) == HELLO
    before = path.stat()
    while path.stat().st_ctime_ns == before.st_ctime_ns:
        path.write_text("jello\n")
        os.utime(path, (1, 1))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert digests.of(path) != HELLO


def test_what_has_long_been_there_is_remembered_from_process_to_process(tmp_path: Path) -> None:
    cache, old = tmp_path / "store" / "digests.json", Path(os.__file__)
    digests = FileDigests(cache)
    found = digests.of(old)
    assert not cache.parent.exists()
    digests.save()
    assert list(json.loads(cache.read_text()).values()) == [found]
    cache.write_text(cache.read_text().replace(found, "remembered"))
    assert FileDigests(cache).of(old) == "remembered"


def test_what_has_just_changed_is_not_remembered(tmp_path: Path) -> None:
    fresh = tmp_path / "fresh"
    fresh.write_text("hello\n")
    digests = FileDigests(tmp_path / "digests.json")
    assert digests.of(fresh) == HELLO
    digests.save()
    assert [path.name for path in tmp_path.iterdir()] == ["fresh"]


@pytest.mark.parametrize("content", ["", "[]", '{"cut', "\0", '"text"'])
def test_a_damaged_cache_is_thrown_away(content: str, tmp_path: Path) -> None:
    cache = tmp_path / "digests.json"
    cache.write_text(content)
    found = FileDigests().of(Path(os.__file__))
    digests = FileDigests(cache)
    assert digests.of(Path(os.__file__)) == found
    digests.save()
    assert list(json.loads(cache.read_text()).values()) == [found]


def test_a_cache_that_cannot_be_written_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    digests = FileDigests(tmp_path / "file" / "digests.json")
    digests.of(Path(os.__file__))
    with pytest.raises(StoreError) as caught:
        digests.save()
    assert str(caught.value) == (
        f"{tmp_path}/file/digests.json: File exists; make room or fix the permissions, then submit again"
    )


# Folders


def make_folder(folder: Path) -> Path:
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "b").touch()
    (folder / "a.txt").write_text("hello\n")
    return folder


FOLDER = "56667048f108cf1bd08100fc80c61bc65807810626cb5d64787dde8b33863b43"


def test_a_folder_counts_by_the_names_and_contents_below_it(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "folder")
    assert digest([["a.txt", HELLO], ["sub/b", NOTHING]]) == FOLDER
    assert FileDigests().of(folder) == FOLDER
    assert FileDigests().of(folder.rename(tmp_path / "moved")) == FOLDER


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "a.txt").write_text("jello\n"),
        lambda folder: (folder / "a.txt").rename(folder / "b.txt"),
        lambda folder: (folder / "sub" / "b").unlink(),
        lambda folder: (folder / ".hidden").touch(),
        lambda folder: (folder / "sub" / "b").rename(folder / "b"),
    ],
)
def test_any_change_in_a_folder_changes_its_digest(change: Callable[[Path], object], tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "folder")
    change(folder)
    assert FileDigests().of(folder) != FOLDER


def test_an_empty_folder_and_what_has_no_content_do_not_count(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "folder")
    (folder / "empty").mkdir()
    os.mkfifo(folder / "pipe")
    assert FileDigests().of(folder) == FOLDER


def test_links_count_as_what_they_point_to(tmp_path: Path) -> None:
    real, folder = make_folder(tmp_path / "real"), tmp_path / "folder"
    folder.mkdir()
    (folder / "a.txt").symlink_to(real / "a.txt")
    (folder / "sub").symlink_to("../real/sub")
    (tmp_path / "link").symlink_to(folder)
    assert FileDigests().of(folder) == FOLDER
    assert FileDigests().of(tmp_path / "link") == FOLDER
    (real / "sub" / "b").write_text("other")
    assert FileDigests().of(folder) != FOLDER


def broken(code: int, path: Path) -> str:
    return str(OSError(code, os.strerror(code), str(path)))


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "folder")
    (folder / "link").symlink_to("nowhere")
    for path, missing in (
        (tmp_path / "absent", tmp_path / "absent"),
        (folder / "link", folder / "link"),
        (folder, folder / "link"),
    ):
        with pytest.raises(FileNotFoundError) as caught:
            FileDigests().of(path)
        assert str(caught.value) == broken(errno.ENOENT, missing)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "mem").symlink_to("/proc/self/mem")  # readable by nobody at offset 0, not even by root
    for path in (tmp_path / "mem", tmp_path):
        with pytest.raises(OSError) as caught:
            FileDigests().of(path)
        assert str(caught.value) == broken(errno.EIO, tmp_path / "mem")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError) as caught:
        FileDigests().of(tmp_path / "pipe")
    assert str(caught.value) == f"[Errno 22] Neither a file nor a folder: '{tmp_path}/pipe'"


def test_a_folder_that_contains_itself_is_named(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "folder")
    (folder / "sub" / "up").symlink_to("..")
    with pytest.raises(OSError) as caught:
        FileDigests().of(folder)
    assert str(caught.value) == broken(errno.ELOOP, folder / "sub" / "up")


def test_two_folders_that_contain_each_other_are_named(tmp_path: Path) -> None:
    for one, other in (("a", "b"), ("b", "a")):
        (tmp_path / one).mkdir()
        (tmp_path / one / "to").symlink_to(f"../{other}")
    with pytest.raises(OSError) as caught:
        FileDigests().of(tmp_path / "a")
    assert str(caught.value) == broken(errno.ELOOP, tmp_path / "a" / "to" / "to")


AS_NOBODY = """
import os, sys
from pathlib import Path
from socm_like.identity import FileDigests

folder = os.open(sys.argv[1], os.O_RDONLY)
if os.getuid() == 0:
    os.setuid(65534)
try:
    os.fchdir(folder)
    print(FileDigests().of(Path("data")))
except PermissionError as error:
    print(error)
"""


def test_a_folder_somebody_else_closed_is_not_taken_for_empty(
    run_python: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    folder = make_folder(tmp_path / "data")
    tmp_path.chmod(0o755)
    (folder / "sub").chmod(0)
    child = run_python(AS_NOBODY, tmp_path)
    (folder / "sub").chmod(0o755)
    assert (child.stdout, child.stderr) == ("[Errno 13] Permission denied: 'data/sub'\n", "")
