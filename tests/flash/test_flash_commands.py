"""The commands as a user meets them: what they print, their exit codes, their JSON; an image; Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgec.cli import main
from edgec.errors import BadInputError, Error, UnsupportedError
from edgec.flash import errors, image, plan
from edgec_runtime.slots import state
from edgec_runtime.slots.recover import recover
from edgec_runtime.trust import store
from tests.flash import boards
from tests.runtime import elf_files
from tests.runtime.conftest import private_key, public_raw


@pytest.fixture
def edgec(capsys):
    """edgec("status", "--json") -> (exit code, what it printed, what it said on standard error)."""

    def run(*arguments):
        try:
            main([str(argument) for argument in arguments])
            code = 0
        except SystemExit as error:
            code = error.code or 0
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_from_a_first_flash_to_a_rollback(pi, tmp_path, edgec):
    one = boards.bundle(tmp_path / "one.edge", weights=boards.np_bytes(5000, 1))
    two = boards.bundle(tmp_path / "two.edge", version=2, op="Mul", weights=boards.np_bytes(5000, 2))
    code, out, err = edgec("flash", one, "--on", "pi")
    assert code == 0 and err == ""
    lines = out.splitlines()
    assert lines[0] == "tiny 1.0 → pi" and lines[1].split()[:5] == ["sent", "5.1", "kB", "of", "5.1"]
    assert lines[2].startswith("  health    onnxruntime-float32-host, ") and "passed its trial and runs" in lines[3]
    assert lines[-1] == f"next: edgec run {one} --on pi --input x.npz"
    code, out, _ = edgec("flash", one, "--on", "pi")
    assert code == 0 and "runs already: nothing was sent" in out
    code, out, _ = edgec("flash", two, "--on", "pi", "--confirm", "manual", "--json")
    assert code == 0 and json.loads(out)["result"] == "probation"
    code, out, _ = edgec("status", "--on", "pi")
    assert (
        code == 0
        and "waits to be confirmed" in out
        and out.splitlines()[-1] == "next: edgec confirm --on pi --app tiny"
    )
    code, out, _ = edgec("confirm", "--on", "pi")
    assert code == 0 and out.startswith("pi keeps tiny 2.0")
    code, out, _ = edgec("rollback", "--on", "pi")
    assert code == 0 and out.startswith("pi went back to tiny 1.0")
    code, out, _ = edgec("status", "--on", "pi", "--json")
    (told,) = json.loads(out)["devices"]
    assert told["apps"][0]["version"] == "1.0" and told["apps"][0]["other"]["version"] == "2.0"
    code, out, _ = edgec("logs", "--on", "pi", "-n", 3)
    assert code == 0 and out.startswith("tiny on pi") and "rolled-back" in out and len(out.splitlines()) == 6
    code, out, _ = edgec("logs", "--on", "pi", "--json")
    assert [e["event"] for e in json.loads(out)["entries"]][:3] == ["installed", "trial", "committed"]


def test_what_rolls_back_is_exit_7(pi, tmp_path, edgec):
    edgec("flash", boards.bundle(tmp_path / "one.edge"), "--on", "pi")
    bad = boards.bundle(tmp_path / "bad.edge", version=2, model=b"no model")
    code, out, err = edgec("flash", bad, "--on", "pi")
    assert code == 7 and "rolled back" in out and err.startswith("error[E700]: pi rolled tiny 2.0 back")
    assert "edgec logs --on pi" in err
    code, out, _ = edgec("flash", bad, "--on", "pi", "--json")
    told = json.loads(out)
    assert code == 7 and told["result"] == "rolled-back" and told["error"]["exit_code"] == 7 and told["health"]


def test_all_devices_in_one_table(pi, tmp_path, edgec):
    assert edgec("status")[1].splitlines()[-1] == "next: edgec devices add USER@HOST"
    edgec("devices", "add", "pi", "--name", "kitchen")
    edgec("devices", "add", "nobody.invalid", "--name", "attic")
    code, out, _ = edgec("status")
    assert code == 0 and "nothing flashed yet" in out and "E1100" in out
    assert out.splitlines()[-1] == "next: edgec flash model.edge --on kitchen"  # there are no logs yet
    assert edgec("devices", "list")[1].splitlines()[-1].startswith("next: edgec devices setup ")
    code, out, _ = edgec("status", "--json")
    found = {each["device"]: each for each in json.loads(out)["devices"]}
    assert found["kitchen"]["apps"] == [] and found["attic"]["error"]["exit_code"] == 11
    assert edgec("status", "--on", "attic")[0] == 11
    code, _, err = edgec("rollback", "--on", "kitchen")
    assert code == 10 and "no app is installed on kitchen" in err


def test_which_app(pi, tmp_path, edgec):
    for name in ("left", "right"):
        edgec("flash", boards.bundle(tmp_path / "one.edge"), "--on", "pi", "--app", name)
    code, _, err = edgec("rollback", "--on", "pi")
    assert code == 10 and "which app on pi?" in err and "left, right" in err and "--app" in err
    code, out, _ = edgec("status", "--on", "pi", "--app", "left")
    assert code == 0 and "left" in out and "right" not in out
    code, _, err = edgec("rollback", "--on", "pi", "--app", "left")
    assert code != 0 and err.startswith("error[")
    assert edgec("status", "--on", "pi")[1].splitlines()[-1] == "next: edgec logs --on pi --app left"
    code, out, _ = edgec("flash", tmp_path / "one.edge", "--on", "pi", "--app", "left")
    assert out.splitlines()[-1] == "next: edgec run --app left --on pi --input x.npz"  # FILE alone would mean "tiny"
    code, out, err = edgec("logs", "--on", "pi", "--app", "middle")
    assert code == 10 and out == "" and "'middle' is not installed" in err and "fix: install it: edgec flash" in err


def test_of_several_devices_each_failure_is_told_even_with_quiet(pi, tmp_path, edgec):
    edgec("flash", boards.bundle(tmp_path / "one.edge"), "--on", "pi")
    code, out, err = edgec("rollback", "--on", "pi,nobody.invalid", "--quiet")
    assert code == 10 and out == "" and len(err.splitlines()) == 2
    assert err.startswith("error[E1006]: pi: ") and "error[E1100]: can't reach nobody.invalid" in err


def test_what_went_back_by_hand_has_failed_nothing(pi, tmp_path, edgec):
    edgec("flash", boards.bundle(tmp_path / "one.edge"), "--on", "pi")
    edgec("flash", boards.bundle(tmp_path / "two.edge", version=2), "--on", "pi")
    assert edgec("rollback", "--on", "pi")[0] == 0
    assert "went back: it was asked for" in edgec("status", "--on", "pi")[1]


@pytest.mark.parametrize("flags", [("--deadline", "nan"), ("--app", ""), ("--app", " ")])
def test_values_that_are_none_are_refused_here(tmp_path, edgec, flags):
    code, out, err = edgec("flash", boards.bundle(tmp_path / "one.edge"), "--on", "pi", *flags)
    assert code == 2 and out == "" and flags[0] in err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "Where to?"), (["--on", ","], "Where to?"), (["--on", "pi", "--canary", "10%"], "several"),
        (["--on", "pi", "--trust-root", "x"], "--image"), (["--image", "x", "--on", "pi"], "--on"),
        (["--image", "x", "--limit", "1MB/s"], "--limit"), (["--on", "pi", "--limit", "fast"], "no rate"),
        (["--on", "pi", "--deadline", "0"], "range"), (["--on", "a,b", "--continue"], "--canary"),
    ],
)  # fmt: skip
def test_flags_that_make_no_sense(edgec, arguments, word):
    code, _, err = edgec("flash", "x.edge", *arguments)
    assert code == 2 and word in err


def test_a_file_that_is_no_bundle_is_told_before_anybody_is_asked(edgec, user, tmp_path):
    (tmp_path / "x.edge").write_bytes(b"no bundle")
    assert edgec("flash", tmp_path / "x.edge", "--on", "nobody.invalid")[0] == 9
    good = boards.bundle(tmp_path / "y.edge").read_bytes()
    (tmp_path / "y.edge").write_bytes(good[:-1])
    assert edgec("flash", tmp_path / "y.edge", "--on", "nobody.invalid")[0] == 5


def test_ctrl_c_keeps_what_arrived(pi, tmp_path, edgec):
    data = boards.np_bytes(2_000_000, 3)
    path = boards.bundle(tmp_path / "one.edge", weights=data)
    command = [sys.executable, "-m", "edgec", "flash", str(path), "--on", "pi", "--limit", "500kB/s"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and sum(p.stat().st_size for p in pi.root.glob("stage/*.part")) < 300_000:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130 and "run it again to go on" in err and "Traceback" not in err
    code, out, _ = edgec("flash", path, "--on", "pi", "--json")
    told = json.loads(out)
    assert code == 0 and told["result"] == "committed" and told["sent"] <= told["needed"] - 300_000


# --- images


@pytest.fixture
def card(tmp_path):
    """A root file system whose shell is of a machine: card("aarch64")."""

    def make(machine=183, bits=64):
        folder = tmp_path / "card"
        (folder / "usr" / "bin").mkdir(parents=True)
        (folder / "bin").symlink_to("usr/bin")
        (folder / "usr" / "bin" / "dash").write_bytes(elf_files.library(machine, bits=bits))
        (folder / "bin" / "sh").symlink_to("/usr/bin/dash")  # absolute, as an image's links are
        return folder

    return make


def pem(path: Path) -> Path:
    raw = public_raw(private_key(1))
    path.write_bytes(store.to_pem(raw))
    return path


def two_boards(path: Path, **changes) -> Path:
    """A bundle for two ARM boards and this machine."""
    from tests.runtime.conftest import Kit, tiny_model

    kit = Kit(
        files={"payloads/onnxruntime/model.onnx": tiny_model(), "payloads/onnxruntime/dot.onnx": tiny_model(op="Mul")}
    )
    base = kit.manifest["payloads"][0]
    dot = {"files": {"model": "payloads/onnxruntime/dot.onnx"}, "isa": ["asimddp"]}
    kit.manifest["payloads"] = [
        {**base, "id": "rpi5", "arch": "aarch64", **dot}, {**base, "id": "rpi3", "arch": "aarch64"},
        {**base, "id": "host"},
    ]  # fmt: skip
    path.write_bytes(kit.build())
    return path


def test_an_image_gets_what_its_architecture_can_use(card, tmp_path, edgec):
    folder = card()
    path = two_boards(tmp_path / "both.edge")
    code, _, err = edgec("flash", path, "--image", folder)
    assert code == 10 and "trusts nobody" in err and "--trust-root" in err
    code, out, err = edgec("flash", path, "--image", folder, "--trust-root", pem(tmp_path / "key.pem"))
    assert code == 0, err
    assert "rpi5, rpi3" in out and "on trial" in out and "edgec devices setup" in out
    root = folder / "var" / "lib" / "edgec"
    found = state.read(str(root / "apps" / "tiny"), "tiny")
    assert (found.phase, found.pending, found.tries, found.active) == ("trial", "a", 3, "-")
    assert len(list((root / "store" / "sha256").iterdir())) == 2
    code, out, _ = edgec("flash", path, "--image", folder, "--json")
    assert code == 0 and json.loads(out)["arch"] == "aarch64"


def test_the_first_boot_makes_the_trial(card, tmp_path):
    """On an image of this machine's architecture: what `edgec-rt recover` does there at boot, done here."""
    folder = card({"x86_64": 62, "aarch64": 183}[os.uname().machine])
    with plan.open(boards.bundle(tmp_path / "one.edge")) as package:
        done = image.write(package, folder, trust=pem(tmp_path / "key.pem"))
    assert done.payloads == ["onnxruntime-float32-host"] and done.written == done.needed
    (outcome,) = recover(root=done.root)
    assert outcome.result == "committed" and outcome.version == "1.0"
    with plan.open(boards.bundle(tmp_path / "one.edge")) as package:
        assert image.write(package, folder).unchanged


def test_images_that_are_none(card, tmp_path):
    path = boards.bundle(tmp_path / "one.edge")
    with plan.open(path) as package:
        (tmp_path / "empty").mkdir()
        with pytest.raises(BadInputError, match="no root file system"):
            image.write(package, tmp_path / "empty")
        for folder in (tmp_path / "nothing", tmp_path / "one.edge", "/"):
            with pytest.raises(BadInputError):
                image.write(package, folder)
        with pytest.raises(UnsupportedError, match="32 bits"):
            image.write(package, card(bits=32))


def test_an_image_that_trusts_others(card, tmp_path):
    folder = card(62)
    stranger = tmp_path / "stranger.pem"
    stranger.write_bytes(store.to_pem(public_raw(private_key(9))))
    with plan.open(boards.bundle(tmp_path / "one.edge")) as package:
        with pytest.raises(Error) as caught:
            image.write(package, folder, trust=stranger)
        assert caught.value.exit_code == 5
        (tmp_path / "junk.pem").write_bytes(b"junk")
        with pytest.raises(Error):
            image.write(package, folder, trust=tmp_path / "junk.pem")
        with pytest.raises(BadInputError):
            image.write(package, folder, trust=tmp_path / "missing.pem")
    assert not (folder / "var" / "lib" / "edgec" / "apps").exists()


@pytest.mark.parametrize(
    ("links", "name", "target"),
    [
        ({}, "a/b", "a/b"), ({"bin": "usr/bin"}, "bin/sh", "usr/bin/sh"), ({"a": "/b"}, "a/c", "b/c"),
        ({"a": "../../../etc"}, "a/x", "etc/x"), ({"a": "/../../b"}, "a", "b"), ({"a": "b", "b": "a"}, "a", None),
    ],
)  # fmt: skip
def test_links_are_followed_inside_the_image(tmp_path, links, name, target):
    for link, to in links.items():
        (tmp_path / link).symlink_to(to)
    assert image.inside(tmp_path, name) == (None if target is None else tmp_path / target)


def test_a_missing_engine_comes_by_setup_and_not_by_pip():
    told = errors.told("pi", {
        "code": "E1001", "exit_code": 10, "what": "no payload can be used: its engine is missing",
        "why": "a: the engine 'onnxruntime' is not installed", "fix": "install it: pip install 'onnxruntime>=1.18,<2'",
    })  # fmt: skip
    assert "edgec devices setup pi --engine onnxruntime" in told.fix and "pip" not in told.fix
