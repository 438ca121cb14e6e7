"""The health check on real processes: right answers, wrong ones, crashes, hangs, too slow, too large."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from edgec_runtime.errors import RolledBackError
from edgec_runtime.slots import contained, health
from edgec_runtime.slots.install import install
from tests.slots.conftest import X, release

NAME = "onnxruntime-float32-host"


@pytest.fixture
def bad_engine(tmp_path, monkeypatch):
    """An engine "bad" that child processes find by its entry point; `does` is what its load does."""
    folder = tmp_path / "site"
    (folder / "bad_engine-1.dist-info").mkdir(parents=True)
    (folder / "bad_engine-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: bad-engine\nVersion: 1\n")
    (folder / "bad_engine-1.dist-info" / "entry_points.txt").write_text(
        "[edgec_runtime.engines]\nbad = bad_engine:Engine\n"
    )

    def does(load: str) -> None:
        (folder / "bad_engine.py").write_text(
            "import os, signal, time\n"
            "from edgec_runtime.engines import base\n"
            "class Engine(base.Engine):\n"
            "    name, uses_numpy = 'bad', True\n"
            "    def version(self):\n"
            "        return '1.0'\n"
            "    def load(self, payload, options):\n"
            f"        {load}\n"
        )

    monkeypatch.syspath_prepend(str(folder))
    return does


def bad(number=2):
    kit = release(number)
    good = dict(kit.manifest["payloads"][0])
    kit.manifest["payloads"] = [{**good, "id": "bad", "engine": "bad", "engine_version": ">=1"}, good]
    return kit


@pytest.mark.parametrize(
    "load, code, why",
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "E705", "bad: its engine died: it died of SIGSEGV"),
        ("os.kill(os.getpid(), signal.SIGILL)", "E705", "lacks"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "E705", "memory runs out"),
        ("os._exit(3)", "E705", "without a word"),
        ("os.write(1, b'{no json'); raise SystemExit(4)", "E705", "without a word"),
        ("time.sleep(600)", "E706", "its health check was not done in 2 s"),
        ("os.fork(); time.sleep(600)", "E706", "its health check was not done in 2 s"),
        ("os.killpg(os.getpgrp(), signal.SIGKILL)", "E705", "died while trying bad"),
    ],
)
def test_an_engine_that_crashes_or_hangs_is_a_reason_and_nothing_more(device, bad_engine, load, code, why):
    bad_engine(load)
    device.believe(release(1, "Mul"))
    outcome = device.install(bad(), deadline=2.0 if "sleep" in load else 60.0)
    assert (outcome.result, outcome.code, outcome.version) == ("rolled-back", code, "1.0")
    assert why in outcome.why and device.runs() == "1.0 Mul"
    assert not checks_of(device)


def checks_of(device):
    """The processes of health checks that are left: they have the root in their command line."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    line = file.read()
            except OSError:
                continue
            if device.where.encode() in line and b"health_child" in line:
                found.append(line)
    return found


def test_an_engine_that_refuses_gives_way_where_another_payload_works(device, bad_engine):
    bad_engine("raise base.RefusedError('not today')")
    outcome = device.install(bad())
    assert outcome.result == "committed"
    assert [payload["result"] for payload in outcome.health["payloads"]] == ["skipped", "passed"]


def test_an_engine_that_prints_does_not_disturb(device, bad_engine):
    bad_engine("os.write(1, b'hello without an end {'); raise base.RefusedError('no')")
    assert device.install(bad()).result == "committed"


def test_wrong_answers_are_a_rollback(device, tmp_path):
    device.believe(release(1, "Mul"))
    wrong = release(2, golden=X + 1)
    with pytest.raises(RolledBackError) as caught:
        install(wrong.write(tmp_path))
    assert caught.value.code == "E702" and caught.value.exit_code == 7
    assert "1.0 runs on" in caught.value.what and "SQNR" in caught.value.why and device.runs() == "1.0 Mul"


def test_nothing_that_loads_is_a_rollback(device):
    kit = release(1)
    kit.files["payloads/onnxruntime/model.onnx"] = b"not a model"
    outcome = device.install(kit)
    assert outcome.code == "E701" and NAME in outcome.why


@pytest.mark.parametrize("what", ["member", "gone", "ready.json", "manifest.dsse"])
def test_damage_between_the_acknowledgement_and_the_trial(device, what):
    from edgec_runtime.slots.trial import trial

    device.believe(release(1, "Mul"))
    device.send(release(2))
    slot = device.root / "apps" / "tiny" / "slots" / "b"
    new = json.loads((slot / "ready.json").read_bytes())["store"]["payloads/onnxruntime/model.onnx"][0]
    path = device.root / "store" / "sha256" / new if what in ("member", "gone") else slot / what
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.unlink() if what == "gone" else path.write_bytes(data)
    outcome = trial("tiny")
    assert (outcome.result, outcome.code) == ("rolled-back", "E708") and device.runs() == "1.0 Mul"


def test_without_golden_answers_it_must_load(device):
    kit = release(1)
    kit.manifest["golden"].update(kind="none", samples=0, inputs=None)
    kit.manifest["payloads"][0]["golden"] = None
    del kit.files["golden/inputs.bin"], kit.files["golden/out.bin"]
    (payload,) = device.install(kit).health["payloads"]
    assert payload["result"] == "loaded" and payload["latency_us"] > 0


def facts(**more):
    return {"ok": True, "code": "", "why": "", "payloads": [{"payload": "p", "result": "passed", **more}]}


def test_the_limits_for_time_and_memory():
    slow = health.SLOWER * 10_000 + health.SLACK
    assert health.judged(facts(latency_us=slow), {"p": 10_000}, {}).ok
    late = health.judged(facts(latency_us=slow + 1), {"p": 10_000}, {})
    assert (late.ok, late.code) == (False, "E703") and "the first accepted one took 10.0 ms" in late.why
    assert health.judged(facts(latency_us=slow * 9), {"another": 1}, {}).latency == {"p": slow * 9}
    large = health.ROOMY * 1000 + health.SPARE
    assert health.judged(facts(memory=large), {}, {"p": 1000}).ok
    assert health.judged(facts(memory=large + 1), {}, {"p": 1000}).code == "E704"
    assert health.judged(facts(memory=large * 99), {}, {"p": None}).ok


def test_a_slower_version_is_refused_and_the_first_time_is_kept(device):
    first = device.install(release(1))
    taken = first.health["payloads"][0]["latency_us"]
    assert device.state().latency == {NAME: taken}
    device.edit(latency={NAME: 0})
    assert device.install(release(2, "Mul")).result == "committed"  # within the slack
    assert device.state().latency == {NAME: 0}
    slack = health.SLACK
    try:
        health.SLACK = -1  # any time is too much now
        outcome = device.install(release(3, "Max"))
    finally:
        health.SLACK = slack
    assert (outcome.code, outcome.version) == ("E703", "2.0") and device.runs() == "2.0 Mul"


def test_times_of_another_cpu_count_for_nothing(device, monkeypatch):
    device.believe(release(1))
    device.edit(latency={NAME: 0}, latency_cpu="a much faster CPU")
    monkeypatch.setattr(health, "SLACK", 0)
    assert device.install(release(2, "Mul")).result == "committed"
    assert device.state().latency[NAME] > 0


def test_a_memory_cap(device, monkeypatch):
    kit = release(1)
    kit.manifest["payloads"][0]["memory"] = 1
    monkeypatch.setattr(health, "SPARE", 0)
    outcome = device.install(kit)
    assert outcome.code == "E704" and "its manifest says 0 MB" in outcome.why


def test_a_check_that_can_not_be_started(device, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    assert device.install(release(1)).code == "E712"


def test_the_child_as_a_program(device):
    device.believe(release(1))
    argv = [sys.executable, "-m", "edgec_runtime.slots.health_child", device.where, "tiny", "a", "30"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line]
    assert [line["step"].split()[0] for line in lines[:-1]] == ["hashing"] * 3 + ["trying"]
    assert lines[-1]["health"]["ok"] and np.isclose(lines[-1]["health"]["payloads"][0]["sqnr_db"], 200)


def state_of(process):
    """A process' state as /proc has it; X where it is gone."""
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "X"


def test_who_asks_may_have_more_than_a_thousand_files_open():
    """`select` takes no descriptor from 1024 on."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limits[1] != resource.RLIM_INFINITY and limits[1] < 1200:
        pytest.skip("this user can't have so many files open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(limits[0], 1200), limits[1]))
    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        assert contained.run(["/bin/echo", "well"], timeout=30).said() == "well"
    finally:
        for file in files:
            os.close(file)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_process_that_floods_hangs_or_forks_away_is_contained():
    flood = contained.run([sys.executable, "-c", "print('x' * 1_000_000 + 'end')"], timeout=30)
    assert flood.code == 0 and len(flood.output) == contained.KEEP and flood.output.endswith(b"end\n")
    endless = contained.run([sys.executable, "-c", "while True: print('y' * 1000)"], timeout=0.5)
    assert endless.timed_out and "did not end" in endless.why()
    silent = contained.run(
        [sys.executable, "-c", "import os, time; os.close(1); os.close(2); time.sleep(60)"], timeout=0.5
    )
    assert silent.timed_out
    away = "import os, time\nchild = os.fork()\nif child == 0:\n    time.sleep(600)\nprint(child)"
    left = contained.run([sys.executable, "-c", away], timeout=30).said()
    for _ in range(500):  # its group was killed with it; dying takes a moment
        if state_of(left) in "ZX":
            break
        time.sleep(0.02)
    assert state_of(left) in "ZX"
    assert (
        contained.run([sys.executable, "-c", "import sys; print(sys.stdin.read() == '')"], timeout=30).said() == "True"
    )
    with pytest.raises(OSError):
        contained.run(["/nonexistent"], timeout=1)


def test_processes_that_load_a_version_leave_no_core_file():
    code = (
        "import resource; from edgec_runtime.slots import contained\n"
        "hard = resource.getrlimit(resource.RLIMIT_CORE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (hard, hard)); contained.no_core()\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE))"
    )
    ended = contained.run([sys.executable, "-c", code], timeout=30)
    assert ended.output == b"(0, 0)\n", ended
