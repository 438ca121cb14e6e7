"""The device's own programs: when they run, what they are told, what is refused, what hostile ones can do."""

from __future__ import annotations

import os

import pytest

from edgec_runtime.errors import MissingError, RolledBackError
from edgec_runtime.slots import hooks, journal
from edgec_runtime.slots.confirm import confirm
from tests.slots.conftest import release


@pytest.fixture
def hook(tmp_path, monkeypatch):
    """Write a hook: `hook("name", "shell lines")`; its calls are in the returned file."""
    folder = tmp_path / "hooks"
    folder.mkdir(mode=0o755)
    monkeypatch.setenv(hooks.VARIABLE, str(folder))

    def write(name, body="exit 0", mode=0o755):
        path = folder / name
        path.write_text(f'#!/bin/sh\necho "$EDGEC_POINT {name}" >> {tmp_path}/calls\n{body}\n')
        path.chmod(mode)
        return path

    write.calls = tmp_path / "calls"
    write.folder = folder
    return write


def hooked(number=1, **points):
    kit = release(number)
    kit.manifest["hooks"] = {point.replace("_", "-"): names for point, names in points.items()}
    return kit


def test_the_points_in_order(device, hook, well):
    for name in ("one", "two"):
        hook(name)
    every = {point.replace("-", "_"): ["one", "two"] for point in hooks.POINTS}
    assert device.install(hooked(**every)).result == "committed"
    order = ["pre-install", "post-verify", "health", "pre-activate", "post-confirm"]
    assert hook.calls.read_text().split("\n")[:-1] == [f"{point} {name}" for point in order for name in ("one", "two")]


def test_on_probation_the_last_one_waits_for_the_confirmation(device, hook, well):
    hook("one")
    device.install(hooked(pre_activate=["one"], post_confirm=["one"]), confirm="manual")
    assert hook.calls.read_text() == "pre-activate one\n"
    confirm("tiny")
    assert hook.calls.read_text() == "pre-activate one\npost-confirm one\n"


@pytest.mark.parametrize("point", ["health", "pre-activate"])
@pytest.mark.parametrize("body", ["echo camera is dark; exit 3", "kill -9 $$"])
def test_a_no_at_the_trial_is_a_rollback(device, hook, well, point, body):
    device.install(release(1, "Mul"))
    hook("check-camera", body)
    outcome = device.install(hooked(2, **{point: ["check-camera"]}))
    assert (outcome.result, outcome.code) == ("rolled-back", "E707") and device.runs() == "1.0 Mul"
    assert "check-camera" in outcome.why and ("camera is dark" in outcome.why or "SIGKILL" in outcome.why)


@pytest.mark.parametrize("point", ["pre-install", "post-verify"])
def test_a_no_before_the_trial_changes_nothing(device, hook, well, point):
    device.install(release(1, "Mul"))
    hook("ask", "echo busy; exit 1")
    state = device.state()
    with pytest.raises(RolledBackError, match="ask"):
        device.install(hooked(2, **{point: ["ask"]}))
    assert device.state() == state and device.runs() == "1.0 Mul"
    hook("ask")
    assert device.install(hooked(2, **{point: ["ask"]})).result == "committed"  # no lock was left behind


def test_what_is_said_after_the_commit_changes_nothing(device, hook, well):
    hook("late", "exit 9")
    assert device.install(hooked(post_confirm=["late"])).result == "committed"
    assert "late" in journal.read(device.where, "tiny", 1)[0]["why"]


def test_a_hook_that_hangs_is_killed_with_its_children(device, hook, well, monkeypatch):
    monkeypatch.setattr(hooks, "TIMEOUT", 0.4)
    hook("hang", "sleep 600 & sleep 600")
    outcome = device.install(hooked(health=["hang"]))
    assert outcome.code == "E707" and "did not end" in outcome.why


def test_a_hook_that_floods_is_cut(device, hook, well):
    hook("flood", "yes a-long-line | head -c 3000000; echo; echo the end")
    ran = device.install(hooked(health=["flood"])).health["hooks"][0]
    assert len(ran["output"]) <= 4096 and ran["output"].endswith("the end\n")


def test_the_environment_is_clean(device, hook, well, monkeypatch):
    monkeypatch.setenv("LD_PRELOAD_SECRET", "of the agent")
    hook("tell", "env; pwd; read line && echo got $line; true")
    said = device.install(hooked(health=["tell"])).health["hooks"][0]["output"]
    names = {line.partition("=")[0] for line in said.splitlines() if "=" in line}
    ours = {"EDGEC_ROOT", "EDGEC_APP", "EDGEC_SLOT", "EDGEC_POINT", "EDGEC_VERSION"}
    assert names - {"PWD", "OLDPWD", "SHLVL", "_"} == ours | {"PATH", "LANG", "HOME"}
    assert "EDGEC_APP=tiny" in said and "EDGEC_VERSION=1.0" in said and "got" not in said and "\n/\n" in said


def test_a_version_that_no_environment_can_hold(device, hook, well):
    """JSON can say NUL; a variable can't."""
    hook("one", f'echo "$EDGEC_VERSION" > {hook.folder}/told')
    kit = hooked(health=["one"])
    kit.manifest["app"]["version"] = "1.0\0beta"
    assert device.install(kit).result == "committed"
    assert (hook.folder / "told").read_text() == "1.0?beta\n"


def test_names_are_names_of_files_there(device, hook, well):
    hook("there")
    for name in ("", ".hidden", "-x", "../there", "a/b", "/bin/true", "there\n", "é", "absent", "there "):
        with pytest.raises(MissingError) as caught:
            hooks.path(name)
        assert caught.value.code == "E1005" and caught.value.exit_code == 10
    with pytest.raises(MissingError, match="absent"):
        device.send(hooked(health=["absent"]))
    assert not (device.root / "apps").exists()


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777, 0o644])
def test_a_hook_that_others_could_have_written_is_none(hook, mode):
    hook("open", mode=mode)
    with pytest.raises(MissingError):
        hooks.path("open")


def test_links_folders_and_open_folders_are_refused(hook, tmp_path):
    real = hook("real")
    (hook.folder / "link").symlink_to(real)
    (hook.folder / "folder").mkdir()
    os.mkfifo(hook.folder / "pipe")
    for name in ("link", "folder", "pipe"):
        with pytest.raises(MissingError, match=name):
            hooks.path(name)
    assert hooks.path("real") == str(real)
    hook.folder.chmod(0o777)
    with pytest.raises(MissingError, match="real"):
        hooks.path("real")


def test_a_hook_of_another_owner_is_refused(hook):
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    os.chown(hook("given"), 12345, 0)
    with pytest.raises(MissingError):
        hooks.path("given")


def test_the_folder_is_the_systems_where_nothing_is_said(monkeypatch):
    monkeypatch.delenv(hooks.VARIABLE, raising=False)
    assert hooks.folder() == "/etc/edgec/hooks"
    with pytest.raises(MissingError):
        hooks.path("edgec-test-no-such-hook")


def test_a_hook_that_goes_away_between_the_check_and_the_run(device, hook, well):
    path = hook("gone")
    device.send(hooked(health=["gone"]))
    path.unlink()
    from edgec_runtime.slots.trial import trial

    outcome = trial("tiny")
    assert outcome.code == "E707" and "can't be run" in outcome.why


def test_points_that_this_runtime_does_not_know(device, well):
    with pytest.raises(MissingError, match="on-fire"):
        hooks.check({"hooks": {"on-fire": ["x"]}})
