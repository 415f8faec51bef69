"""Reading tables for the ``fit`` kind: every format, and every way a file can be wrong with its whole message."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from socm_workflows.fit.data import make_sample, read_table

TEXTS = {
    "whitespace": "1 10 0.1\n2 20 0.2\n3 30 0.3\n",
    "tabs": "1\t10\t0.1\n2\t20\t0.2\n3\t30\t0.3",
    "csv": "1,10,0.1\n2,20,0.2\n3,30,0.3\n",
    "semicolons": "1; 10; 0.1\n2; 20; 0.2\n3; 30; 0.3\n",
    "header": "x,y,s\n1,10,0.1\n2,20,0.2\n3,30,0.3\n",
    "quoted header": '"x", "y", "s"\r\n1, 10, 0.1\r\n2, 20, 0.2\r\n3, 30, 0.3\r\n',
    "whitespace header": "x   y   s\n1 10 0.1\n2 20 0.2\n3 30 0.3\n",
    "comment header": "# taken on Monday\n# x y s\n1 10 0.1\n\n2 20 0.2  # good\n3 30 0.3\n",
    "byte order mark": "\ufeffx,y,s\n1,10,0.1\n2,20,0.2\n3,30,0.3\n",
    "exponents": "1E0 .1e2 +1e-1\n2.0E0 2e1 2.E-1\n3e0 30. 3E-01\n",
}


@pytest.mark.parametrize("name", TEXTS)
def test_text_is_read_in_every_layout(name: str, tmp_path: Path) -> None:
    path = tmp_path / "data.txt"
    path.write_bytes(TEXTS[name].encode())
    columns = ("x", "y", "s") if "header" in name or "mark" in name else (0, 1, 2)
    table = read_table(path, columns)
    assert [column.tolist() for column in table.columns] == [[1, 2, 3], [10, 20, 30], [0.1, 0.2, 0.3]]
    assert table.labels == (("x", "y", "s") if isinstance(columns[0], str) else ("column 0", "column 1", "column 2"))


def test_columns_of_text_need_not_be_numbers_unless_they_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("name,x,y\nfirst,1,10\nsecond,2,20\n")
    assert [column.tolist() for column in read_table(path, ("y", 1)).columns] == [[10, 20], [1, 2]]


def test_skipped_lines_are_not_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "data.txt"
    path.write_text("anything, 1 2\nmore\n1 10\n2 20\n")
    assert read_table(path, (1,), skip=2).columns[0].tolist() == [10, 20]


def test_a_stated_delimiter_is_used(tmp_path: Path) -> None:
    path = tmp_path / "data.tsv"
    path.write_text("time (s)\tflux, mJy\n1\t10\n2\t20\n")
    assert read_table(path, ("time (s)", "flux, mJy"), delimiter="\t").columns[1].tolist() == [10, 20]


@given(
    rows=st.lists(st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 3), min_size=1, max_size=20),
    separator=st.sampled_from([" ", ",", ";", "\t"]),
)
def test_numbers_survive_being_written_and_read(
    rows: list[tuple[float, ...]], separator: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("text") / "data.txt"
    path.write_text("".join(separator.join(map(repr, row)) + "\n" for row in rows))
    columns = read_table(path, (0, 1, 2)).columns
    assert list(zip(*(column.tolist() for column in columns), strict=True)) == rows


def write_npz(path: Path, **arrays: Any) -> Path:
    np.savez(path.with_suffix(".npz"), **arrays)
    return path.with_suffix(".npz")


def write_hdf5(path: Path, **arrays: Any) -> Path:
    with h5py.File(path.with_suffix(".h5"), "w") as file:
        for name, array in arrays.items():
            file[name.replace("__", "/")] = array
    return path.with_suffix(".h5")


Write = Callable[..., Path]


@pytest.mark.parametrize("write", [write_npz, write_hdf5])
def test_named_datasets_are_read(write: Write, tmp_path: Path) -> None:
    path = write(tmp_path / "data", x=np.arange(3), y=np.arange(3, dtype=np.float32) / 2, other=np.array([b"a"]))
    table = read_table(path, ("x", "y"))
    assert [column.tolist() for column in table.columns] == [[0, 1, 2], [0, 0.5, 1]]
    assert {column.dtype for column in table.columns} == {np.dtype(np.float64)}


def test_datasets_in_groups_are_read_by_path(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "data", run__x=np.arange(2.0))
    assert read_table(path, ("/run/x",)).columns[0].tolist() == [0, 1]


def message(path: Path, columns: tuple[int | str, ...], **options: Any) -> str:
    with pytest.raises(ValueError) as error:
        read_table(path, columns, **options)
    return str(error.value).replace(str(path), "FILE")


@pytest.mark.parametrize(
    ("text", "columns", "expected"),
    [
        ("", (0,), "FILE holds no data"),
        ("# only\n\n# comments\n", (0,), "FILE holds no data"),
        ("x,y\n", ("x",), "FILE holds no data"),
        ("1 2\n3 4\n", (0, 2), "FILE has no column 2 (counted from 0); it has 2 columns"),
        ("1 2\n3 4\n", ("x",), "FILE has no column 'x'; it has 2 columns, without names"),
        (
            "time,flux\n1,2\n",
            ("fluxx",),
            "FILE has no column 'fluxx'; did you mean 'flux'?; it has 2 columns: time, flux",
        ),
        ("x,y,y\n1,2,3\n", ("y",), "FILE has 2 columns 'y'; it has 3 columns: x, y, y; choose by number"),
        ("x,y\n1,2,3\n", ("x",), "FILE, line 2: 3 columns under a header of 2"),
        ("1 2\n3 four\n", (0, 1), "FILE, line 2, column 1: 'four' is not a number"),
        ("x,y\n1,2\n\n# note\n3,oops\n", ("y",), "FILE, line 5, y: 'oops' is not a number"),
        ("x,y\n1,2\n3,\n", ("y",), "FILE, line 3, y: the cell is empty"),
        ("1 2\n3\n", (0, 1), "FILE, line 2: 1 columns, but column 1 is wanted"),
        ("1 2\n# c\n3 nan\n", (0, 1), "FILE, line 3, column 1: nan is not a finite number"),
        ("x y\n1 2\n\n-inf 4\n", ("x",), "FILE, line 4, x: -inf is not a finite number"),
    ],
)
def test_wrong_text_is_refused_with_its_place(
    text: str, columns: tuple[int | str, ...], expected: str, tmp_path: Path
) -> None:
    path = tmp_path / "data.txt"
    path.write_text(text)
    assert message(path, columns) == expected


def test_skipping_everything_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.txt"
    path.write_text("1 2\n")
    assert message(path, (0,), skip=3) == "FILE holds no data after the first 3 lines"


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.dat"
    path.write_bytes(b"\xff\xfe\x00\x01")
    assert message(path, (0,)) == "FILE is not a file of text (nor .npz, .h5, .hdf5)"


@pytest.mark.parametrize("write", [write_npz, write_hdf5])
@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"x": [1.0], "z": [2.0]}, "FILE has no dataset 'y'; it has: x, z"),
        ({"x": [1.0, 2.0], "y": [2.0]}, "FILE: different lengths: x 2, y 1"),
        ({"x": [], "y": []}, "FILE holds no data"),
        ({"x": [1.0, 2.0], "y": [1.0, np.nan]}, "FILE, y[1]: nan is not a finite number"),
        (
            {"x": [1.0, 2.0], "y": [[1.0], [2.0]]},
            "FILE, y: shape (2, 1) of float64; a column has one dimension and numbers",
        ),
    ],
)
def test_wrong_datasets_are_refused(write: Write, arrays: dict[str, Any], expected: str, tmp_path: Path) -> None:
    assert message(write(tmp_path / "data", **arrays), ("x", "y")) == expected


def test_a_broken_archive_is_refused(tmp_path: Path) -> None:
    for suffix, kind in ((".npz", ".npz"), (".h5", "HDF5")):
        path = tmp_path / f"data{suffix}"
        path.write_bytes(b"PK\x03\x04 not really")
        assert message(path, ("x",)) == f"FILE is not a readable {kind} file"


def test_objects_in_an_archive_are_refused(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "data", x=np.array([{"a": 1}], dtype=object))
    expected = "FILE, x: cannot be read: Object arrays cannot be loaded when allow_pickle=False"
    assert message(path, ("x",)) == expected


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for name in ("data.txt", "data.npz", "data.h5"):
        with pytest.raises(FileNotFoundError, match=name):
            read_table(tmp_path / name, ("x",))


def test_the_logarithm_of_the_response_takes_sigma_along(tmp_path: Path) -> None:
    path = tmp_path / "data.txt"
    path.write_text("1 2 0.2\n2 4 0.1\n")
    sample = make_sample(read_table(path, (0, 1, 2)), predictors=1, response="log")
    np.testing.assert_allclose(sample.y, np.log([2, 4]))
    assert sample.sigma is not None
    np.testing.assert_allclose(sample.sigma, [0.1, 0.025])
    assert (sample.x_label, sample.y_label) == ("x (column 0)", "log(y (column 1))")


@pytest.mark.parametrize(
    ("text", "response", "expected"),
    [
        ("1 2 1\n2 -4 1\n", "log", "FILE, line 2, column 1: -4; it has no logarithm"),
        ("1 2 1\n2 4 0\n", "identity", "FILE, line 2, column 2: 0; sigma must be positive"),
    ],
)
def test_what_must_be_positive_is(text: str, response: Any, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "data.txt"
    path.write_text(text)
    with pytest.raises(ValueError) as error:
        make_sample(read_table(path, (0, 1, 2)), predictors=1, response=response)
    assert str(error.value).replace(str(path), "FILE") == expected
