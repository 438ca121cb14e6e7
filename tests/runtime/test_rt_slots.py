"""Installing: what is written, that a crash at any moment leaves a version that loads, what is refused."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgec_runtime as rt
from edgec_runtime.errors import BadInputError, Error, MissingError, TrustError, UnsupportedError, UsageError
from edgec_runtime.slots import active, files, state
from edgec_runtime.slots.install import install
from edgec_runtime.slots.recover import recover

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def version(kit, number, onnx_model, op="Add"):
    kit.manifest["app"] = {"name": "tiny", "version": f"{number}.0", "sequence": number}
    kit.files["payloads/onnxruntime/model.onnx"] = onnx_model(op=op)
    return kit


def answer(app="tiny"):
    with rt.load(app=app) as model:
        return model.info["app"]["version"], model.run({"x": X})["y"]


def test_install_and_load(model_kit, tmp_path, root):
    done = install(model_kit.write(tmp_path))
    assert (done.app, done.slot, done.payloads) == ("tiny", "a", ["onnxruntime-float32-host"])
    model = model_kit.files["payloads/onnxruntime/model.onnx"]
    assert done.written == len(model)
    number, y = answer()
    assert number == "1.0.0" and np.array_equal(y, 2 * X)
    stored = list((root / "store" / "sha256").iterdir())
    assert [p.read_bytes() for p in stored] == [model] and stored[0].stat().st_mode & 0o222 == 0
    assert [p.name for p in (root / "stage").iterdir()] == ["lock"]
    envelope = (root / "apps" / "tiny" / "slots" / "a" / "manifest.dsse").read_bytes()
    assert envelope == model_kit.envelope()
    with rt.load(app="tiny") as loaded:
        assert loaded.info["installed"] == "tiny" and loaded.info["slot"] == "a" and loaded.info["trusted"]
        assert loaded.info["identity"] == done.identity


def test_slots_alternate_and_share_the_store(model_kit, tmp_path, root, onnx_model):
    for number, slot in ((1, "a"), (2, "b"), (3, "a")):
        done = install(version(model_kit, number, onnx_model).write(tmp_path))
        assert done.slot == slot and (done.written == 0) == (number > 1)
        assert answer()[0] == f"{number}.0"
    assert len(list((root / "store" / "sha256").iterdir())) == 1
    kept = state.read(str(root / "apps" / "tiny"), "tiny")
    assert (kept.active, kept.pending, kept.phase, kept.tries) == ("a", "-", "none", 0)
    assert kept.other != kept.identity and kept.other != "-"


def test_the_same_bundle_again_changes_nothing_but_mends_the_store(model_kit, tmp_path, root):
    path = model_kit.write(tmp_path)
    install(path)
    before = (root / "apps" / "tiny" / "state").read_bytes()
    stored = next((root / "store" / "sha256").iterdir())
    whole = stored.read_bytes()
    stored.chmod(0o644)
    stored.write_bytes(whole[:-1])
    with pytest.raises(TrustError, match="install the bundle again"):
        raise_as_text(lambda: rt.load(app="tiny"))
    assert install(path).written == len(whole)
    assert (root / "apps" / "tiny" / "state").read_bytes() == before and stored.read_bytes() == whole
    assert np.array_equal(answer()[1], 2 * X)


def raise_as_text(call):
    try:
        call()
    except Error as error:
        raise type(error)(str(error)) from error


def test_another_name_on_this_device(model_kit, tmp_path, root):
    path = model_kit.write(tmp_path)
    install(path, app="left")
    install(path, app="right")
    assert np.array_equal(answer("left")[1], answer("right")[1])


@pytest.mark.parametrize("app", ["", "..", "../x", "a/b", "/etc", ".hidden", "-x", "a b", "ä", "x" * 65, "a\0b"])
def test_names_that_leave_the_root_are_refused(model_kit, tmp_path, root, app):
    with pytest.raises(MissingError):
        install(model_kit.write(tmp_path), app=app)
    with pytest.raises(MissingError):
        rt.load(app=app)


def test_only_what_this_machine_can_use_is_stored(model_kit, tmp_path, root):
    model_kit.files["payloads/npu/blob.bin"] = b"for another machine"
    npu = model_kit.payload(
        id="npu", engine="npu", arch="aarch64", portable=False, files={"model": "payloads/npu/blob.bin"}
    )
    model_kit.manifest["payloads"].insert(0, npu)
    assert install(model_kit.write(tmp_path)).payloads == ["onnxruntime-float32-host"]
    assert len(list((root / "store" / "sha256").iterdir())) == 1
    assert np.array_equal(answer()[1], 2 * X)
    model_kit.manifest["payloads"] = [npu]
    del model_kit.files["payloads/onnxruntime/model.onnx"]
    with pytest.raises(UnsupportedError) as caught:
        install(model_kit.write(tmp_path), app="other")
    assert "npu: it is for aarch64" in caught.value.why and not (root / "apps" / "other").exists()


def test_untrusted_and_damaged_bundles_change_nothing(model_kit, tmp_path, root, keys):
    path = model_kit.write(tmp_path)
    data = path.read_bytes()
    model = model_kit.files["payloads/onnxruntime/model.onnx"]
    for bad in (data[:-1], data.replace(model, model[:-1] + b"\0")):
        path.write_bytes(bad)
        with pytest.raises(TrustError):
            install(path)
    for signers in ([], [keys(2).private]):
        model_kit.keys = signers
        with pytest.raises(TrustError):
            install(model_kit.write(tmp_path))
    assert sorted(p.name for p in root.iterdir()) == ["trust"]
    with pytest.raises(MissingError):
        rt.load(app="tiny")


def test_trust_may_be_given(model_kit, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEC_ROOT", str(tmp_path / "new"))
    path = model_kit.write(tmp_path)
    with pytest.raises(TrustError):
        install(path)
    install(path, trust=model_kit.trust)
    assert np.array_equal(answer()[1], 2 * X)


def test_below_the_security_floor(model_kit, tmp_path, root, onnx_model):
    install(version(model_kit, 5, onnx_model).write(tmp_path))
    folder = root / "apps" / "tiny"
    found = state.read(str(folder), "tiny")
    found.floor, found.more = 4, (("later", "field"),)
    (folder / "state").write_bytes(state.encode(found))
    with pytest.raises(TrustError, match="floor 4"):
        install(version(model_kit, 3, onnx_model).write(tmp_path))
    assert answer()[0] == "5.0"
    with pytest.raises(TrustError, match="older than the active"):
        install(version(model_kit, 4, onnx_model, op="Mul").write(tmp_path))
    install(version(model_kit, 6, onnx_model, op="Mul").write(tmp_path))
    kept = state.read(str(folder), "tiny")
    assert kept.floor == 4 and kept.more == (("later", "field"),)


def test_no_room(model_kit, tmp_path, root, monkeypatch):
    monkeypatch.setattr(files, "free_bytes", lambda path: 10)
    with pytest.raises(BadInputError, match="not enough room") as caught:
        install(model_kit.write(tmp_path))
    assert caught.value.exit_code == 9 and not (root / "apps").exists()


def test_the_disk_fills_up_while_writing(model_kit, tmp_path, root, monkeypatch):
    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BadInputError, match="not enough room"):
        install(model_kit.write(tmp_path))
    monkeypatch.undo()
    assert not [p for p in root.rglob("*") if p.is_file() and p.name != "lock" and p.suffix != ".pem"]


def test_a_root_that_can_not_be_written(model_kit, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("EDGEC_ROOT", str(tmp_path / "file" / "root"))
    with pytest.raises(UsageError, match="can't write"):
        install(model_kit.write(tmp_path), trust=model_kit.trust)


def test_one_installation_at_a_time(model_kit, tmp_path, root, monkeypatch):
    import fcntl

    monkeypatch.setattr("edgec_runtime.slots.locks.WAIT", 0.1)
    with open(root / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="another edgec-rt"):
            install(model_kit.write(tmp_path))
    install(model_kit.write(tmp_path))


CRASH = """
import os, sys
from edgec_runtime.slots.install import install
left = int(sys.argv[2])
def counted(real):
    def call(*args, **kwargs):
        global left
        if left == 0:
            os._exit(42)
        left -= 1
        return real(*args, **kwargs)
    return call
for name in ("open", "write", "fsync", "rename", "mkdir", "unlink", "close"):
    setattr(os, name, counted(getattr(os, name)))
install(sys.argv[1])
"""


def test_a_process_that_ends_before_a_system_call_leaves_a_version_that_loads(model_kit, tmp_path, root, onnx_model):
    """It ends before its n-th open, write, fsync, rename, …: the old version or the new one loads; then `recover`.

    Some of the calls; tests/slots has each of them, in one process.
    """
    install(version(model_kit, 1, onnx_model).write(tmp_path, "old.edge"))
    new = version(model_kit, 2, onnx_model, op="Mul").write(tmp_path, "new.edge")
    script, before = tmp_path / "crash.py", tmp_path / "before"
    script.write_text(CRASH)
    shutil.copytree(root, before)
    seen, results = set(), {"1.0": 2 * X, "2.0": X * X}
    for step in range(0, 400, 13):
        shutil.rmtree(root)
        shutil.copytree(before, root)
        done = subprocess.run([sys.executable, script, new, str(step)], capture_output=True)
        assert done.returncode in (0, 42), done.stderr
        number, y = answer()
        assert np.array_equal(y, results[number])
        seen.add((done.returncode, number))
        for outcome in recover():
            assert outcome.result == "committed"
        assert np.array_equal(answer()[1], results[answer()[0]])
        assert state.read(str(root / "apps" / "tiny"), "tiny").phase == "none"
        if done.returncode == 0:
            break
    assert done.returncode == 0 and number == "2.0" and step > 50
    assert {(42, "1.0"), (0, "2.0")} <= seen
    assert [p.name for p in (root / "stage").iterdir()] == ["lock"]


def test_leftovers_in_the_stage_are_cleared(model_kit, tmp_path, root):
    (root / "stage").mkdir()
    (root / "stage" / ".abc.123.tmp").write_bytes(b"half a file")
    (root / "stage" / "partial-transfer").write_bytes(b"kept")
    install(model_kit.write(tmp_path))
    assert sorted(p.name for p in (root / "stage").iterdir()) == ["lock", "partial-transfer"]


@pytest.mark.parametrize("change", ["empty", "cut", "flip", "version", "no file"])
def test_a_damaged_state(model_kit, tmp_path, root, change):
    path = model_kit.write(tmp_path)
    install(path)
    record = root / "apps" / "tiny" / "state"
    data = record.read_bytes()
    record.write_bytes(
        {"empty": b"", "cut": data[:-5], "flip": data.replace(b"tries 0", b"tries 1"), "no file": b"",
         "version": data.replace(b"edgec-state 1", b"edgec-state 9")}[change]
    )  # fmt: skip
    if change == "no file":
        record.unlink()
    with pytest.raises(MissingError if change == "no file" else TrustError):
        rt.load(app="tiny")
    install(path)  # mends it
    assert np.array_equal(answer()[1], 2 * X)


@pytest.mark.parametrize("change", ["gone", "cut", "flip", "other"])
def test_a_damaged_slot(model_kit, tmp_path, root, change, onnx_model):
    path = model_kit.write(tmp_path)
    install(path)
    ready = root / "apps" / "tiny" / "slots" / "a" / "ready.json"
    data = ready.read_bytes()
    other = json.loads(data)
    other["signers"] = []
    ready.write_bytes(
        {
            "gone": b"",
            "cut": data[:-5],
            "flip": data.replace(b"float32", b"float64"),
            "other": json.dumps(other).encode(),
        }[change]
    )
    if change == "gone":
        ready.unlink()
    with pytest.raises(TrustError, match="slot"):
        rt.load(app="tiny")
    install(path)
    assert np.array_equal(answer()[1], 2 * X)


def test_a_file_of_the_store_that_is_gone(model_kit, tmp_path, root):
    install(model_kit.write(tmp_path))
    next((root / "store" / "sha256").iterdir()).unlink()
    with pytest.raises(TrustError, match="gone"):
        rt.load(app="tiny")


def test_loading_an_app_hashes_nothing_and_imports_little(model_kit, tmp_path, root):
    install(model_kit.write(tmp_path))
    code = (
        "import sys\nimport onnxruntime\nbefore = set(sys.modules)\n"
        "import edgec_runtime as rt\nmodel = rt.load(app='tiny')\n"
        "import numpy\nmodel.run({'x': numpy.zeros((2, 3), 'float32')})\nprint(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    heavy = {
        "hashlib",
        "zlib",
        "mmap",
        "threading",
        "argparse",
        "importlib.metadata",
        "zipfile",
        "cryptography",
        "dataclasses",
    }
    assert not heavy & set(loaded)
    assert "edgec_runtime.model" in loaded and "edgec_runtime.bundle.reader" not in loaded
    assert len([name for name in loaded if not name.startswith("edgec_runtime")]) <= 6


digests = st.sampled_from(["-", "ab" * 32, "09" * 32])
ids = st.text(sorted(state.SAFE), min_size=1, max_size=40)
texts = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=400).map(state.printable)


@st.composite
def records(draw):
    """States as this runtime writes them."""
    active = draw(st.sampled_from("ab-"))
    phase = draw(st.sampled_from(state.PHASES))
    found = state.State(
        seq=draw(st.integers(0, 2**40)),
        active=active,
        tries=draw(st.integers(0, 9)),
        floor=draw(st.integers(0, 2**40)),
        identity=draw(digests),
        phase=phase,
        other=draw(digests),
        other_ready=draw(st.sampled_from(["-", "0123abcd"])),
        confirm=draw(st.sampled_from(["auto", "manual"])),
        deadline=draw(st.sampled_from([60.0, 0.5, 3600.0])),
        boot=draw(st.sampled_from(["-", "unknown", "d3b07384-d9a0-4c9b-8f3e-2f6a1b0c9d8e"])),
        until=draw(st.integers(0, 10**9)) / 8,
        latency=draw(st.dictionaries(ids, st.integers(0, 2**40), max_size=4)),
        latency_cpu=draw(texts),
        why=draw(texts),
        previous_error=draw(st.sampled_from(["", "E702"])),
        more=draw(st.sampled_from([(), (("new", "1"),), (("new", "some words"), ("zz", "x"))])),
    )
    found.pending = "-" if phase == "none" else found.inactive()
    return found


@settings(max_examples=150)
@given(records())
def test_state_round_trip(record):
    assert state.decode(state.encode(record)) == record


@settings(max_examples=300)
@given(records(), st.integers(0, 10_000), st.integers(0, 255), st.booleans())
def test_a_changed_state_is_seen(record, at, value, cut):
    data = bytearray(state.encode(record))
    if cut:
        del data[at % len(data) :]
    elif data[at % len(data)] == value:
        return
    else:
        data[at % len(data)] = value
    with pytest.raises(ValueError):
        state.decode(bytes(data))


def test_active_finds_the_root_that_is_given(model_kit, tmp_path, root):
    install(model_kit.write(tmp_path), root=tmp_path / "elsewhere", trust=model_kit.trust)
    assert active.active("tiny", root=tmp_path / "elsewhere").manifest["app"]["name"] == "tiny"
    with pytest.raises(MissingError):
        active.active("tiny")
