"""The commands, as a person and as a script see them."""

from __future__ import annotations

import json

import pytest

from edgec_runtime.cli.main import main
from edgec_runtime.slots import unit
from tests.slots.conftest import X, release


@pytest.fixture
def call(capsys):
    """Run a command: (exit code, what it printed, what it said on stderr)."""

    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def failed(result, exit_code, code):
    assert result[0] == exit_code and result[1] == ""
    lines = result[2].splitlines()
    assert len(lines) == 3 and lines[0].startswith(f"error[{code}]: ")
    assert lines[1].startswith("  why: ") and lines[2].startswith("  fix: ")


def test_a_devices_life(call, device, tmp_path, well):
    assert call("status")[1] == f"no app is installed in {device.root}\n"
    assert "installed tiny 1.0 in slot a" in call("install", release(1).write(tmp_path, "1.edge"))[1]
    assert "installed already" in call("install", tmp_path / "1.edge")[1]
    code, out, _ = call("install", release(2, "Mul").write(tmp_path, "2.edge"), "--confirm", "manual", "--deadline", 90)
    assert code == 0 and "tiny 2.0 is on probation" in out and "next: edgec-rt confirm tiny" in out
    code, out, _ = call("status", "tiny")
    assert "tiny 2.0   slot b" in out and "on probation: 2.0 (2 more tries, 90 s left)" in out
    assert call("confirm", "tiny")[1] == "tiny 2.0 is installed\n"
    assert "to go back to: 1.0" in call("status")[1]
    assert call("rollback", "tiny")[1] == "tiny was rolled back, 1.0 is what a load gets\n  why: it was asked for\n"
    assert call("recover")[1] == "nothing was under way\n"
    code, out, _ = call("logs", "tiny", "--lines", 2)
    assert [line.split()[1] for line in out.splitlines()] == ["committed", "rolled-back"]
    assert call("remove", "tiny")[1] == "tiny was removed\n" and call("status", "--json")[1]
    for command in ("status", "rollback", "confirm", "remove", "logs"):
        failed(call(command, "tiny"), 10, "E1002")


def test_a_removed_app_whose_floor_stays_is_not_listed(call, device, tmp_path, well):
    call("install", release(5, floor=3).write(tmp_path, "5.edge"))
    assert "tiny" in call("doctor")[1]
    call("remove", "tiny")
    assert not json.loads(call("doctor", "--json")[1])["apps"]
    failed(call("install", release(2).write(tmp_path, "2.edge")), 5, "E509")


def test_a_rollback_is_exit_7(call, device, tmp_path):
    device.believe(release(1, "Mul"))
    path = release(2, golden=X + 1).write(tmp_path)
    result = call("install", path)
    failed(result, 7, "E702")
    assert "tiny 2.0 was rolled back: 1.0 runs on" in result[2]
    code, out, _ = call("install", path, "--json")
    assert code == 7 and json.loads(out)["error"]["exit_code"] == 7
    assert "last rollback: onnxruntime-float32-host: the model does not give" in call("status")[1]


def test_a_recovery_tells_what_it_did(call, device, well):
    device.send(release(1))
    assert call("recover")[1] == "tiny 1.0 is installed\n"
    device.send(release(2, "Mul"))
    well.update(ok=False, why="ill", code="E702")
    code, out, _ = call("recover", "--json")
    (app,) = json.loads(out)["apps"]
    assert code == 0
    assert (app["result"], app["why"], app["code"], app["version"]) == (
        "rolled-back",
        "ill",
        "E702",
        "1.0",
    )
    path = device.root / "apps" / "tiny" / "state"
    path.write_bytes(path.read_bytes()[:-4])
    assert call("recover")[1].startswith("tiny is damaged")
    (told,) = json.loads(call("status", "--json")[1])["apps"]
    assert told["phase"] == "damaged" and "damaged" in told["problem"]


@pytest.mark.parametrize("deadline", ["0", "-1", "nan", "1e9"])
def test_terms_that_make_no_sense(call, device, tmp_path, deadline):
    failed(call("install", release(1).write(tmp_path), "--deadline", deadline), 2, "E205")
    failed(call("logs", "tiny", "--lines", "-1"), 2, "E205")
    assert not (device.root / "apps").exists()


def test_the_unit(call, device):
    out = call("recover", "--unit", "system")[1]
    assert f'Environment="EDGEC_ROOT={device.root}"' in out and '" recover\n' in out
    assert "WantedBy=multi-user.target" in out and "RequiresMountsFor=" in out
    user = unit.text("user", "/home/a b/50%/bin/$x/edgec-rt", '/home/a b/50%/"r')
    assert 'ExecStart="/home/a b/50%%/bin/$$x/edgec-rt" recover' in user
    assert 'Environment="EDGEC_ROOT=/home/a b/50%%/\\"r"' in user
    assert "WantedBy=default.target" in user and "RequiresMountsFor" not in user
