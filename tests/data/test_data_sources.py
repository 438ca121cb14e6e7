import contextlib
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.data import Dataset, InputSpec, load_calibration, load_evaluation
from edgec.errors import BadInputError, Error, UsageError

F32 = np.dtype("float32")
IMAGE = InputSpec("image", F32, ("batch", 3, 4))


def savez(path, **arrays):
    np.savez(path, **arrays)
    return str(path)


def test_npz_of_the_inputs_rank_keeps_the_batch_axis(tmp_path):
    x = np.arange(60, dtype=np.float32).reshape(5, 3, 4)
    data = load_calibration(savez(tmp_path / "c.npz", image=x, label=np.arange(5)), [IMAGE])
    assert len(data) == 5
    for _ in range(2):  # iterable again
        feeds = list(data)
        assert [f["image"].shape for f in feeds] == [(1, 3, 4)] * 5
        np.testing.assert_array_equal(np.concatenate([f["image"] for f in feeds]), x)


def test_npz_of_one_rank_more_drops_the_sample_axis(tmp_path):
    x = np.ones((5, 2, 3, 4), np.float32)
    data = load_calibration(savez(tmp_path / "c.npz", image=x), [IMAGE])
    assert next(iter(data))["image"].shape == (2, 3, 4)


def test_npz_with_a_fixed_batch_needs_whole_batches(tmp_path):
    path = savez(tmp_path / "c.npz", image=np.ones((8, 3, 4), np.float32))
    with pytest.raises(BadInputError) as e:
        load_calibration(path, [InputSpec("image", F32, (8, 3, 4))])
    assert "batch" in e.value.why


def test_single_unnamed_array_serves_a_single_input(tmp_path):
    np.savez(tmp_path / "c.npz", np.ones((2, 3, 4), np.float32))
    assert len(list(load_calibration(str(tmp_path / "c.npz"), [IMAGE]))) == 2


def test_column_major_and_compressed_arrays(tmp_path):
    x = np.asfortranarray(np.arange(60, dtype=np.float32).reshape(5, 3, 4))
    np.savez_compressed(tmp_path / "c.npz", image=x)
    feeds = list(load_calibration(str(tmp_path / "c.npz"), [IMAGE]))
    np.testing.assert_array_equal(np.concatenate([f["image"] for f in feeds]), x)
    assert feeds[0]["image"].flags.c_contiguous


def test_folder_is_one_feed_a_file_in_order(tmp_path):
    for name, value in (("b", 2), ("a", 1)):
        np.savez(tmp_path / f"{name}.npz", image=np.full((1, 3, 4), value, np.float32))
    assert [f["image"][0, 0, 0] for f in load_calibration(str(tmp_path), [IMAGE])] == [1, 2]
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInputError, match="no sample"):
        load_calibration(str(tmp_path / "empty"), [IMAGE])


def test_function_of_a_file_with_neighbours(tmp_path):
    (tmp_path / "neighbour_of_feeds.py").write_text("N = 3\n")
    (tmp_path / "mine.py").write_text(
        "import numpy as np\nfrom neighbour_of_feeds import N\n"
        "def feeds(split='calib'):\n    for i in range(N): yield {'image': np.full((1, 3, 4), i, 'float32')}\n"
    )
    before = list(sys.path)
    data = load_calibration(f"{tmp_path}/mine.py:feeds", [IMAGE])
    assert sys.path == before
    assert data.count is None
    assert len(list(data)) == 3 and len(list(data)) == 3
    assert len(data) == 3


def test_function_of_a_module_for_evaluation():
    assert load_evaluation("statistics:mean").describe == "statistics:mean"


def test_pickled_npz_is_refused_and_never_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    np.savez(tmp_path / "c.npz", image=np.array([Trap()], dtype=object))
    for spec in (tmp_path / "c.npz", tmp_path):
        with pytest.raises(BadInputError) as e:
            list(load_calibration(str(spec), [IMAGE]))
        assert e.value.code == "E929"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("array", "code"),
    [
        (np.full((2, 3, 4), np.nan, np.float32), "E926"),
        (np.full((2, 3, 4), np.inf, np.float32), "E926"),
        (np.full((2, 3, 4), 1e35, np.float32), "E926"),
        (np.full((2, 3, 4), 1e200, np.float64), "E926"),
        (np.zeros((2, 3, 4), np.uint8), "E924"),
        (np.zeros((2, 3, 4), np.float16), "E924"),
        (np.zeros((2, 3, 5), np.float32), "E925"),
        (np.zeros((2, 3), np.float32), "E925"),
        (np.zeros((0, 3, 4), np.float32), "E921"),
        (np.float32(1), "E925"),
    ],
)
def test_bad_samples_are_told(tmp_path, array, code):
    with pytest.raises(BadInputError) as e:
        list(load_calibration(savez(tmp_path / "c.npz", image=array), [IMAGE]))
    assert e.value.code == code
    assert e.value.why and e.value.what


def test_missing_and_unknown_inputs_are_named(tmp_path):
    with pytest.raises(BadInputError, match="'image'"):
        load_calibration(savez(tmp_path / "c.npz", picture=np.ones((1, 3, 4))), [IMAGE])
    feed = {"image": np.ones((1, 3, 4), np.float32), "mask": np.ones(1)}
    with pytest.raises(BadInputError, match="'mask'"):
        list(Dataset.of([feed], [IMAGE]))
    with pytest.raises(BadInputError, match="missing"):
        list(Dataset.of([{}], [IMAGE]))


def test_unequal_numbers_of_samples(tmp_path):
    path = savez(tmp_path / "c.npz", a=np.ones((2, 1), np.float32), b=np.ones((3, 1), np.float32))
    with pytest.raises(BadInputError, match="different numbers"):
        load_calibration(path, [InputSpec("a", F32, (1, 1)), InputSpec("b", F32, (1, 1))])


def test_float64_and_integers_that_fit_are_taken():
    ids = InputSpec("ids", np.dtype("int64"), (1, 2))
    (feed,) = Dataset.of([{"ids": np.array([[1, 2]], np.int32)}], [ids])
    assert feed["ids"].dtype == np.int64
    (feed,) = Dataset.of([{"image": np.ones((1, 3, 4))}], [IMAGE])
    assert feed["image"].dtype == F32
    small = InputSpec("ids", np.dtype("int8"), (1,))
    with pytest.raises(BadInputError):
        list(Dataset.of([{"ids": np.array([300])}], [small]))


@pytest.mark.parametrize("spec", ["nowhere", "nowhere/", "a.py:", ":f", "x.py:a-b"])
def test_data_that_is_no_data_is_a_usage_error(spec):
    with pytest.raises(UsageError):
        load_calibration(spec, [IMAGE])


@pytest.mark.parametrize("spec", ["nowhere.py:f", "no_such_module_anywhere:f", "statistics:nothing", "nowhere.npz"])
def test_data_that_is_not_there(spec):
    with pytest.raises(BadInputError):
        load_calibration(spec, [IMAGE])


def test_what_the_users_code_raises_is_told(tmp_path):
    (tmp_path / "broken.py").write_text(
        "def f():\n    yield {}\n    raise OSError('disk')\ndef g(): return 3\ndef h(x): pass\n"
    )
    spec = InputSpec("x", F32, None)
    for function, words in (("f", "missing"), ("g", "int"), ("h", "argument")):
        with pytest.raises(BadInputError) as e:
            list(load_calibration(f"{tmp_path}/broken.py:{function}", [spec]))
        assert words in str(e.value)
    with pytest.raises(BadInputError) as e:
        list(load_calibration(f"{tmp_path}/broken.py:f", []))
    assert "OSError: disk" in e.value.why


def test_digest_depends_on_content_alone(tmp_path):
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    a = load_calibration(savez(tmp_path / "a.npz", image=x), [IMAGE])
    b = Dataset.of([{"image": x[i : i + 1]} for i in range(2)], [IMAGE])
    assert a.digest == b.digest and len(a.digest) == 64
    assert Dataset.of([{"image": x[:1]}], [IMAGE]).digest != a.digest
    assert Dataset.of([{"image": x[1:]}, {"image": x[:1]}], [IMAGE]).digest != a.digest
    assert Dataset.of([{"image": -x[:1]}, {"image": x[1:]}], [IMAGE]).digest != a.digest


def test_a_source_that_changes_is_told(tmp_path):
    (tmp_path / "moody.py").write_text(
        "import numpy as np\nr = np.random.default_rng(0)\n"
        "def feeds():\n    yield {'x': r.standard_normal((1, 3)).astype(np.float32)}\n"
    )
    data = load_calibration(f"{tmp_path}/moody.py:feeds", [InputSpec("x", np.dtype(np.float32), (1, 3))])
    list(data)
    with pytest.raises(BadInputError, match="other samples each time") as caught:
        list(data)
    assert caught.value.code == "E933"


def test_select_is_lazy_and_counted():
    x = np.ones((1, 3, 4), np.float32)
    data = Dataset.of([{"image": x * i} for i in range(10)], [IMAGE])
    part = data.select(1, None, 4)
    assert len(part) == 3
    assert [f["image"][0, 0, 0] for f in part] == [1, 5, 9]


def test_streaming_holds_one_sample_of_a_large_npz(tmp_path):
    n, size = 64, 1 << 20  # 64 MiB of samples
    with zipfile.ZipFile(tmp_path / "big.npz", "w", zipfile.ZIP_DEFLATED) as z, z.open("x.npy", "w") as f:
        np.lib.format.write_array_header_1_0(f, {"descr": "<f4", "fortran_order": False, "shape": (n, size // 4)})
        for i in range(n):
            f.write(np.full(size // 4, i, "<f4").tobytes())
    code = (
        "import resource, numpy as np\nfrom edgec.data import load_calibration, InputSpec\n"
        "spec = InputSpec('x', np.dtype('float32'), (1, None))\n"
        f"data = load_calibration({str(tmp_path / 'big.npz')!r}, [spec])\n"
        "next(iter(data)); a = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "n = sum(1 for _ in data); b = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(n, b - a)\n"
    )
    n_seen, grown = map(int, subprocess.check_output([sys.executable, "-c", code]).split())
    assert n_seen == n
    assert grown < 16 * 1024  # KiB: far from the 64 MiB


def test_header_that_promises_too_much(tmp_path):
    for shape, code in (((1, 1 << 40), "E928"), ((4, 12), "E927")):
        with zipfile.ZipFile(tmp_path / "bomb.npz", "w") as z, z.open("x.npy", "w") as f:
            np.lib.format.write_array_header_1_0(f, {"descr": "<f4", "fortran_order": False, "shape": shape})
            f.write(b"\0" * 100)
        with pytest.raises(BadInputError) as e:
            list(load_calibration(str(tmp_path / "bomb.npz"), [InputSpec("x", F32, (1, None))]))
        assert e.value.code == code


@given(st.integers(0, 2**32), st.integers(1, 8))
@settings(max_examples=300)
def test_damaged_npz_gives_only_our_errors(tmp_path_factory, seed, flips):
    rng = np.random.default_rng(seed)
    path = tmp_path_factory.getbasetemp() / "fuzz.npz"
    np.savez_compressed(path, image=np.linspace(0, 1, 24, dtype=np.float32).reshape(2, 3, 4))
    content = bytearray(path.read_bytes())
    for _ in range(flips):
        content[rng.integers(len(content))] = rng.integers(256)
    path.write_bytes(content[: rng.integers(1, len(content) + 1)] if seed % 3 == 0 else content)
    with contextlib.suppress(Error):
        list(load_calibration(str(path), [IMAGE]))
