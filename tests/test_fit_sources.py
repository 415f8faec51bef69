"""Data of a fit from files, maps and functions: the same points whatever they come from, and every way to be wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import jax.numpy as jnp
import numpy as np
import pyarrow  # type: ignore[import-untyped]
import pyarrow.parquet  # type: ignore[import-untyped]
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jax import Array
from numpy.typing import NDArray
from socm_workflows.fit.solver.passes import Block, read_ahead
from socm_workflows.fit.solver.solution import solve
from socm_workflows.fit.sources import Source, array_source, block_source, open_source

Floats = NDArray[np.float64]
Columns = dict[str, Floats]
Writer = Callable[[Path, Columns], Path]

NAMES = ("amplitude", "rate", "offset")
START = (2.0, 1.0, 0.3)


def decay(x: Array, amplitude: Array, rate: Array, offset: Array) -> Array:
    return amplitude * jnp.exp(-rate * x) + offset


def data_of(count: int) -> Columns:
    x = np.linspace(0, 5, count)
    spread = np.where(np.arange(count) % 3, 0.05, 0.1)
    y = 2.5 * np.exp(-1.3 * x) + 0.5 + spread * np.random.default_rng(5).normal(size=count)
    return {"x": x, "y": y, "s": spread}


def write_npy(path: Path, columns: Columns) -> Path:
    records = np.empty(columns["x"].size, [("s", "f8"), ("note", "S3"), ("x", "f8"), ("y", "f8")])
    for name, values in columns.items():
        records[name] = values
    np.save(path / "data.npy", records)
    return path / "data.npy"


def write_npz(path: Path, columns: Columns) -> Path:
    np.savez(path / "data.npz", allow_pickle=False, other=np.arange(3), **columns)
    return path / "data.npz"


def write_packed_npz(path: Path, columns: Columns) -> Path:
    np.savez_compressed(path / "packed.npz", allow_pickle=False, **columns)
    return path / "packed.npz"


def write_hdf5(path: Path, columns: Columns) -> Path:
    with h5py.File(path / "data.h5", "w") as file:
        for name, values in columns.items():
            file[name] = values
    return path / "data.h5"


def write_chunked_hdf5(path: Path, columns: Columns) -> Path:
    with h5py.File(path / "data.hdf5", "w") as file:
        file.create_dataset("x", data=columns["x"], chunks=(97,), maxshape=(None,), compression="gzip", shuffle=True)
        file.create_dataset("y", data=columns["y"], chunks=(31,), maxshape=(None,))
        file["s"] = columns["s"]
    return path / "data.hdf5"


def write_csv(path: Path, columns: Columns) -> Path:
    rows = zip(*(map(repr, map(float, columns[name])) for name in ("s", "x", "y")), strict=True)
    text = "# of Monday\ns,x,y\n" + "\n".join("\n".join((",".join(row), "# more")) for row in rows)
    (path / "data.csv").write_text(text)
    return path / "data.csv"


def write_parquet(path: Path, columns: Columns) -> Path:
    pyarrow.parquet.write_table(pyarrow.table(columns), path / "data.parquet", row_group_size=100)
    return path / "data.parquet"


WRITERS = (write_npy, write_npz, write_packed_npz, write_hdf5, write_chunked_hdf5, write_csv, write_parquet)
every_format = pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__.removeprefix("write_"))


def gather(source: Any) -> tuple[Floats, Floats, Floats | None]:
    """Return all points of one pass."""
    blocks = [*source.blocks()]
    x, y = (np.concatenate([block[row] for block in blocks], axis=-1) for row in (0, 1))
    return x, y, None if blocks[0][2] is None else np.concatenate([block[2] for block in blocks])


@every_format
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(1, 400), points=st.integers(1, 500))
def test_every_format_gives_all_points_in_order_in_every_pass(
    write: Writer, count: int, points: int, tmp_path: Path
) -> None:
    columns = data_of(count)
    source = open_source(write(tmp_path, columns), "x", "y", "s", block_points=points)
    for _ in range(2):
        x, y, sigma = gather(source)
        assert sigma is not None
        assert (x.tobytes(), y.tobytes(), sigma.tobytes()) == tuple(columns[name].tobytes() for name in "xys")
    assert source.n in (count, None)
    longest = 97 if write is write_chunked_hdf5 else 0
    assert max(block[1].size for block in source.blocks()) <= max(points, longest)


@every_format
def test_a_fit_of_a_file_is_the_fit_of_its_arrays_to_the_bit(write: Writer, tmp_path: Path) -> None:
    columns = data_of(3000)
    standard = solve(decay, columns["x"], columns["y"], START, names=NAMES, sigma=columns["s"])
    source = open_source(write(tmp_path, columns), "x", "y", "s", block_points=700)
    found = solve(decay, None, None, START, names=NAMES, source=source)
    arrays = array_source(*(columns[name] for name in "xys"))
    of_arrays = solve(decay, None, None, START, names=NAMES, source=arrays)
    assert found.parameters.tobytes() == of_arrays.parameters.tobytes()
    assert found.covariance is not None
    assert standard.covariance is not None
    np.testing.assert_allclose(found.parameters, standard.parameters, rtol=1e-10)
    np.testing.assert_allclose(found.covariance, standard.covariance, rtol=1e-8)
    assert found.points == 3000


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f8", ">f8", "<f4", "<i4", ">u2"])
def test_columns_of_a_matrix_are_chosen_by_number(order: Any, dtype: str, tmp_path: Path) -> None:
    matrix = np.asarray(np.arange(1, 41).reshape(10, 4), dtype, order=order)
    np.save(tmp_path / "m.npy", matrix)
    source = open_source(tmp_path / "m.npy", (3, 0), 2, 1, block_points=3)
    x, y, sigma = gather(source)
    np.testing.assert_array_equal(x, matrix[:, [3, 0]].T)
    np.testing.assert_array_equal(y, matrix[:, 2])
    np.testing.assert_array_equal(sigma, matrix[:, 1])
    assert (x.dtype.name, source.k, source.n) == ("float64", 2, 10)


def test_maps_of_files_are_sources_and_what_was_written_to_a_copy_stays(tmp_path: Path) -> None:
    columns = data_of(1000)
    np.save(tmp_path / "x.npy", columns["x"])
    np.save(tmp_path / "y.npy", columns["y"].astype("f4"))
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    y = np.load(tmp_path / "y.npy", mmap_mode="c")
    y[5] = 7.0
    found, response, _ = gather(array_source(x[::-1], y, block_points=300))
    np.testing.assert_array_equal(found, columns["x"][::-1])
    assert (response[5], y[5]) == (7.0, 7.0)


def test_arrays_in_memory_are_not_copied() -> None:
    x, y, _ = data_of(100).values()
    (block,) = array_source(x, y).blocks()
    assert np.shares_memory(block[0], x)
    assert np.shares_memory(block[1], y)
    rows = np.stack([x, x])
    assert gather(array_source(rows, y, block_points=7))[0].tobytes() == rows.tobytes()


def of_blocks(columns: Columns, length: int) -> Iterator[tuple[Floats, Floats]]:
    for begin in range(0, columns["x"].size, length):
        yield columns["x"][begin : begin + length], columns["y"][begin : begin + length]


def test_a_function_of_blocks_is_called_for_every_pass() -> None:
    columns, calls = data_of(1000), []

    def blocks() -> Iterator[tuple[Floats, Floats]]:
        calls.append(1)
        return of_blocks(columns, 130)

    found = solve(decay, None, None, START, names=NAMES, source=block_source(blocks))
    standard = solve(decay, None, None, START, names=NAMES, source=array_source(columns["x"], columns["y"]))
    assert found.parameters.tobytes() == standard.parameters.tobytes()
    assert len(calls) == found.passes + 1  # and one for a look at the first block
    listed = block_source([*of_blocks(columns, 130)])
    assert listed.identity()["sample"] == block_source(blocks).identity()["sample"]
    assert listed.identity() != block_source([*of_blocks(columns, 131)]).identity()
    assert solve(decay, None, None, START, names=NAMES, source=listed).rss == standard.rss


SPENT = (
    "a generator can be gone through once, and a fit goes through the data once per iteration; "
    "pass the function that makes it, such as source=blocks instead of source=blocks()"
)


def test_a_generator_is_refused_and_so_is_one_that_comes_again() -> None:
    columns = data_of(10)
    with pytest.raises(TypeError) as error:
        block_source(of_blocks(columns, 5))
    assert str(error.value) == SPENT
    once = of_blocks(columns, 5)

    def same() -> Iterator[tuple[Floats, Floats]]:
        return once

    source = block_source(same)
    with pytest.raises(TypeError) as error:
        gather(source)
    assert str(error.value) == f"{same.__qualname__} returns the same generator again: {SPENT}"


BAD_BLOCKS: dict[str, tuple[Any, str]] = {
    "none": ([], "list gives no blocks; it must yield (x, y) or (x, y, sigma)"),
    "no block": ([np.zeros(3)], "list: block 0 is no (x, y) or (x, y, sigma)"),
    "lengths": (
        [(np.zeros(3), np.zeros(4))],
        "list: block 0 has shapes (3,), (4,); they must be (n,) or (k, n), and (n,)",
    ),
    "rows": (
        [(np.zeros(3), np.zeros(3)), (np.zeros((2, 3)), np.zeros(3))],
        "list: block 1 has 2 predictors and no sigma, and block 0 1 and none",
    ),
    "sigma": (
        [(np.zeros(3), np.zeros(3)), (np.zeros(3), np.zeros(3), np.ones(3))],
        "list: block 1 has 1 predictors and a sigma, and block 0 1 and none",
    ),
}


@pytest.mark.parametrize("case", BAD_BLOCKS)
def test_blocks_that_do_not_go_together_are_named(case: str) -> None:
    blocks, message = BAD_BLOCKS[case]
    with pytest.raises(ValueError) as error:
        gather(block_source(blocks))
    assert str(error.value) == message


PLACES: dict[Writer, str] = {
    write_npy: ", {name}[7]",
    write_npz: ", {name}[7]",
    write_packed_npz: ", {name}[7]",
    write_hdf5: ", {name}[7]",
    write_chunked_hdf5: ", {name}[7]",
    write_csv: ", line 17, {name}",
    write_parquet: ", {name}[7]",
}


@every_format
@pytest.mark.parametrize(("name", "value"), [("x", np.inf), ("y", np.nan), ("s", -np.inf)])
def test_a_number_that_is_not_finite_is_named_or_its_point_left_out(
    write: Writer, name: str, value: float, tmp_path: Path
) -> None:
    columns = data_of(20)
    columns[name][[7, 12]] = value
    path = write(tmp_path, columns)
    with pytest.raises(ValueError) as error:
        gather(open_source(path, "x", "y", "s", block_points=5))
    place = f"{path}{PLACES[write].format(name=name)}"
    assert (
        str(error.value) == f'{place}: {value} is not a finite number; leave such points out with nan_policy = "omit"'
    )
    source = open_source(path, "x", "y", "s", block_points=5, nan_policy="omit")
    assert source.n is None
    for _ in range(2):
        assert gather(source)[1].tobytes() == np.delete(columns["y"], [7, 12]).tobytes()
        assert source.omitted == 2


def test_a_sigma_must_be_positive_and_some_point_be_left(tmp_path: Path) -> None:
    columns = data_of(20)
    columns["s"][3] = 0
    path = write_hdf5(tmp_path, columns)
    with pytest.raises(ValueError) as error:
        gather(open_source(path, "x", "y", "s"))
    assert str(error.value) == f"{path}, s[3]: 0; sigma must be positive"
    columns["y"][:] = np.nan
    path = write_npz(tmp_path, columns)
    with pytest.raises(ValueError) as error:
        gather(open_source(path, "x", "y", nan_policy="omit"))
    assert str(error.value) == f"{path}, x[0]: no points with finite numbers"


@every_format
def test_a_file_that_is_written_to_between_passes_is_found_out(write: Writer, tmp_path: Path) -> None:
    path = write(tmp_path, data_of(50))
    source = open_source(path, "x", "y")
    gather(source)
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    message = f"{path} changed during the fit, with its size kept; fit a file that nobody writes to"
    with pytest.raises(ValueError) as error:
        gather(source)
    assert str(error.value) == message
    source = open_source(path, "x", "y", block_points=10)
    blocks = source.blocks()
    next(blocks)
    with path.open("ab") as file:
        file.write(b"# \n")
    with pytest.raises(ValueError) as error:
        list(blocks)
    size = path.stat().st_size
    assert str(error.value) == (
        f"{path} changed during the fit, from {size - 3} to {size} bytes; fit a file that nobody writes to"
    )
    path.unlink()
    with pytest.raises(ValueError) as error:
        gather(source)
    assert str(error.value) == f"{path} cannot be read any more: No such file or directory"


@every_format
def test_a_column_that_is_not_there_is_answered_with_the_nearest(write: Writer, tmp_path: Path) -> None:
    columns = {**data_of(5), "voltage": np.ones(5)}
    if write in (write_npy, write_csv):
        columns.pop("voltage")
        wanted, near = "xx", "x"
    else:
        wanted, near = "votlage", "voltage"
    if write is write_chunked_hdf5:
        wanted, near = "ss", "s"
    path = write(tmp_path, columns)
    with pytest.raises(ValueError) as error:
        open_source(path, wanted, "y")
    assert str(error.value).startswith(f"{path} has no ")
    assert f"{wanted!r}; did you mean {near!r}?; it has" in str(error.value)


def wrong_text(text: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / "a.txt").write_text(text)
        return folder / "a.txt"

    return write


def different_lengths(folder: Path) -> Path:
    np.savez(folder / "a.npz", x=np.ones(3), y=np.ones(4))
    return folder / "a.npz"


def empty_hdf5(folder: Path) -> Path:
    return write_hdf5(folder, dict.fromkeys("xy", np.empty(0)))


def table_in_hdf5(folder: Path) -> Path:
    return write_hdf5(folder, {"x": np.ones((3, 2)), "y": np.ones(3)})


def vector(folder: Path) -> Path:
    np.save(folder / "a.npy", np.ones(3))
    return folder / "a.npy"


def no(suffix: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / f"a{suffix}").write_bytes(b"nothing of the kind")
        return folder / f"a{suffix}"

    return write


WRONG: dict[str, tuple[Callable[[Path], Path], tuple[Any, Any], str]] = {
    "ragged": (wrong_text("1 2\n\n3 4\n5\n6 7\n"), (0, 1), "{path}, line 4: 1 columns, but column 1 is wanted"),
    "word": (wrong_text("x,y\n1,2\n3,four\n"), ("x", "y"), "{path}, line 3, y: 'four' is not a number"),
    "cell": (wrong_text("x,y\n1,2\n3,\n"), ("x", "y"), "{path}, line 3, y: the cell is empty"),
    "empty": (wrong_text("\n# nothing\n"), (0, 1), "{path} holds no data"),
    "number": (wrong_text("1 2\n"), (0, 2), "{path} has no column 2 (counted from 0); it has 2 columns"),
    "twice": (wrong_text("1 2\n"), (1, 1), "{path}: column 1 stands twice among x, y and sigma"),
    "no x": (wrong_text("1 2\n"), ((), 1), "{path}: x names no column"),
    "lengths": (different_lengths, ("x", "y"), "{path}: different lengths: x 3, y 4"),
    "numbers": (
        different_lengths,
        (0, 1),
        "{path}: columns of .npz files have names: write names for x, y and sigma",
    ),
    "empty hdf5": (empty_hdf5, ("x", "y"), "{path} holds no data"),
    "matrix": (
        table_in_hdf5,
        ("x", "y"),
        "{path}, x: shape (3, 2) of float64; a column has one dimension and numbers",
    ),
    "vector": (
        vector,
        (0, 1),
        "{path} holds (3,) of float64; it must be records with named fields or a matrix with a row per point. "
        "For an array per file: array_source(np.load(..., mmap_mode='r'), np.load(..., mmap_mode='r'))",
    ),
    "no npz": (no(".npz"), ("x", "y"), "{path} is not a readable .npz file"),
    "no hdf5": (no(".h5"), ("x", "y"), "{path} is not a readable HDF5 file"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_a_file_is_said(case: str, tmp_path: Path) -> None:
    write, (x, y), message = WRONG[case]
    path = write(tmp_path)
    with pytest.raises(ValueError) as error:
        gather(open_source(path, x, y, block_points=2))
    assert str(error.value) == message.format(path=path)


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_a_file_of_another_format_is_refused(suffix: str, tmp_path: Path) -> None:
    path = no(suffix)(tmp_path)
    with pytest.raises(ValueError, match=f"^{path} is not a readable "):
        open_source(path, "x", "y")


@pytest.mark.parametrize("write", [write_packed_npz, write_chunked_hdf5])
def test_damage_is_found_where_it_is_read(write: Writer, tmp_path: Path) -> None:
    columns = data_of(5000)
    path = write(tmp_path, columns)
    content = bytearray(path.read_bytes())
    if write is write_packed_npz:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo("y.npy")
        middle = info.header_offset + info.compress_size // 2
    else:
        with h5py.File(path) as file:
            chunk = file["x"].id.get_chunk_info(30)
        middle = chunk.byte_offset + chunk.size // 2
    content[middle : middle + 64] = bytes(64)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{path}, /?[xy]: cannot be read: "):
        gather(open_source(path, "x", "y"))


def test_settings_of_a_source_are_checked(tmp_path: Path) -> None:
    path = write_csv(tmp_path, data_of(5))
    with pytest.raises(ValueError) as error:
        open_source(path, "x", "y", block_points=0)
    assert str(error.value) == "block_points is 0; write a positive number of points"
    with pytest.raises(ValueError) as error:
        open_source(path, "x", "y", nan_policy="mean")  # type: ignore[arg-type]
    assert str(error.value) == 'nan_policy is \'mean\'; write "raise" or "omit"'
    with pytest.raises(ValueError) as error:
        array_source([1.0, 2.0], [1.0])
    assert str(error.value) == "x is (2,), y (1,); they must be (n,) or (k, n), and (n,)"
    with pytest.raises(ValueError) as error:
        array_source(["a"], [1.0])
    assert str(error.value) == "x is of <U1; it must be numbers"
    path = write_npz(tmp_path, data_of(5))
    with pytest.raises(ValueError) as error:
        open_source(path, "x", "y", skip=1)
    assert str(error.value) == f"{path}: skip and delimiter are for files of text, not .npz"


def test_the_next_block_is_read_while_one_is_held() -> None:
    asked = [threading.Event() for _ in range(4)]

    def blocks() -> Iterator[Block]:
        for event in asked:
            event.set()
            yield np.zeros(3), np.zeros(3), None

    for index, _ in enumerate(read_ahead(blocks())):
        assert index == 3 or asked[index + 1].wait(60)
        assert not any(event.is_set() for event in asked[index + 2 :])


LARGE = """
import resource, sys
import jax.numpy as jnp
from socm_workflows.fit.solver.solution import solve
from socm_workflows.fit.sources import open_source, array_source
import numpy as np

if sys.argv[2] == "map":
    mapped = np.load(sys.argv[1], mmap_mode="r")
    source = array_source(mapped["x"], mapped["y"])
else:
    source = open_source(sys.argv[1], "x", "y")

def fit(source):
    return solve(lambda x, a, b: a * x + b, None, None, (1.0, 1.0), names=("a", "b"), source=source)

small = np.linspace(0, 1, 2**18)
fit(array_source(small, 3 * small))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = fit(source)
print(found.points, *found.parameters.round(6), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["npy", "map", "h5"])
def test_a_file_larger_than_the_memory_it_takes_is_fitted(how: str, tmp_path: Path) -> None:
    count = 12_000_000  # 192 MB
    x = np.linspace(0, 1, count)
    if how == "h5":
        path = tmp_path / "large.h5"
        with h5py.File(path, "w") as file:
            file.create_dataset("x", data=x, chunks=(2**18,))
            file.create_dataset("y", data=3 * x + 1, chunks=(2**18,))
    else:
        path = tmp_path / "large.npy"
        records = np.lib.format.open_memmap(path, mode="w+", dtype=[("x", "f8"), ("y", "f8")], shape=(count,))
        records["x"], records["y"] = x, 3 * x + 1
        records.flush()
        del records
    argv = [sys.executable, "-W", "ignore", "-c", LARGE, str(path), how]
    child = subprocess.run(argv, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    points, slope, offset, kilobytes = child.stdout.split()
    assert (int(points), float(slope), float(offset)) == (count, 3.0, 1.0)
    assert int(kilobytes) * 1024 < 96 * 2**20


def test_opening_a_source_does_not_import_jax(run_python: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    child = run_python("import sys, socm_workflows.fit.sources; print('jax' in sys.modules, 'pyarrow' in sys.modules)")
    assert (child.stdout, child.stderr) == ("False False\n", "")


def test_a_source_is_what_the_passes_take() -> None:
    source = array_source([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert isinstance(source, Source)
    assert source.identity()["columns"] == ["x", "y"]
    assert source.identity() == array_source([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]).identity()
    assert source.identity() != array_source([1.0, 2.0, 3.0], [1.0, 2.5, 3.0]).identity()
