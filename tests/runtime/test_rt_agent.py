"""The agent: its frames, what it answers, transfers cut anywhere, and thousands of streams that are not well meant."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec_runtime.agent import asked, frames
from edgec_runtime.agent.server import Server
from edgec_runtime.bundle import tensors
from edgec_runtime.errors import BadInputError
from edgec_runtime.slots import state
from tests.runtime import agent_streams
from tests.runtime.agent_streams import answered

STREAMS = 3000
RNG_BYTES = bytes((n * 7 + n // 13) % 256 for n in range(3000))


def request(name, data=None, **fields):
    """A request's bytes, its data in small frames."""
    made = frames.message({"request": name, **fields})
    if data is not None:
        pieces = [data[n : n + 700] for n in range(0, len(data), 700)]
        made += b"".join(frames.frame(b"D", piece) for piece in [*pieces, b""])
    return made


HELLO = request("hello", protocol=1, edgec="0")


def version(kit, number, data):
    """A bundle with a member of these bytes: its envelope, and the members."""
    kit.manifest["app"] = {"name": "tiny", "version": f"{number}.0", "sequence": number}
    kit.files["payloads/onnxruntime/more.bin"] = data
    kit.manifest["payloads"][0]["files"]["more"] = "payloads/onnxruntime/more.bin"
    return kit.envelope(), {hashlib.sha256(each).hexdigest(): each for each in kit.files.values()}


def transfer(envelope, members, *, patches=None):
    """All requests of a flash but the trial, which needs no host."""
    made = HELLO + request("begin", envelope, app=None, size=len(envelope))
    for digest, data in members.items():
        if patches and digest in patches:
            base, patch = patches[digest]
            made += request("patch", patch, sha256=digest, base=base, size=len(patch))
        else:
            made += request("data", data, sha256=digest, offset=0, size=len(data))
    return made + request("commit", confirm="auto", deadline=60, tries=3)


@pytest.fixture
def first(model_kit):
    return version(model_kit, 1, RNG_BYTES)


@pytest.fixture
def sessions(model_kit, root, tmp_path):
    """A folder with recorded sessions: whole members, patches, questions; with the trusted key and what is signed."""
    from edgec.flash import delta

    folder = tmp_path / "sessions"
    folder.mkdir()
    identities = []
    envelope, members = version(model_kit, 1, RNG_BYTES)
    identities.append(hashlib.sha256(model_kit.manifest_bytes()).hexdigest())
    (folder / "0.in").write_bytes(transfer(envelope, members))
    changed = RNG_BYTES[:1500] + b"changed" + RNG_BYTES[1507:]
    again, newer = version(model_kit, 2, changed)
    identities.append(hashlib.sha256(model_kit.manifest_bytes()).hexdigest())
    old = hashlib.sha256(RNG_BYTES).hexdigest()
    newer = {digest: data for digest, data in newer.items() if digest not in members}
    patches = {digest: (old, delta.encode(RNG_BYTES, changed)) for digest in newer}
    (folder / "1.in").write_bytes(transfer(envelope, members) + transfer(again, newer, patches=patches))
    (folder / "patch").write_bytes(transfer(again, newer, patches=patches))
    questions = request("status", app=None) + request("ping") + request("logs", app="tiny", lines=5)
    questions += request("confirm", app="tiny") + request("rollback", app="tiny") + request("remove", app="tiny")
    (folder / "2.in").write_bytes(transfer(envelope, members) + questions)
    stranger = base64.b64encode(b"{}").decode()
    roots = json.dumps({"payload": stranger, "payloadType": "application/vnd.edgec.root.v1+json", "signatures": []})
    (folder / "3.in").write_bytes(HELLO + request("root", roots.encode(), sizes=[len(roots)]) + questions)
    (folder / "allowed").write_text("\n".join(identities))
    (folder / "trust").mkdir()
    for pem in (root / "trust").iterdir():
        (folder / "trust" / pem.name).write_bytes(pem.read_bytes())
    return folder


def oks(messages):
    return [message["ok"] for message in messages if "ok" in message]


def errors(messages):
    return [message["error"]["code"] for message in messages if "error" in message]


def test_a_transfer(first, root, tmp_path):
    envelope, members = first
    code, messages, _ = answered(root, transfer(envelope, members), tmp_path)
    assert code == 0 and not errors(messages)
    hello, begun, *sent, done = oks(messages)
    assert hello["protocol"] == 1 and hello["root"] == str(root) and hello["root_version"] == 0
    assert begun["app"] == "tiny" and begun["unchanged"] is False and begun["held"] == []
    assert {(row[1], row[2], row[3]) for row in begun["members"]} == {(d, len(b), 0) for d, b in members.items()}
    assert all(each["done"] for each in sent) and done == {"app": "tiny"}
    found = state.read(str(root / "apps" / "tiny"), "tiny")
    assert (found.pending, found.phase, found.tries) == ("a", "trial", 3)
    for digest, data in members.items():
        assert (root / "store" / "sha256" / digest).read_bytes() == data


def test_what_has_arrived_is_told_on_the_way(first, root, tmp_path, monkeypatch):
    monkeypatch.setattr("edgec_runtime.agent.line.NOTE", 1000)
    _, messages, _ = answered(root, transfer(*first), tmp_path)
    counts = [message["at"] for message in messages if "at" in message]
    assert 3000 in counts and max(counts) == 3000 and len(counts) >= 4


def test_cut_after_any_byte_it_goes_on(first, root, tmp_path):
    """The stream ends after 0, 1, … bytes of every frame; the next one sends what is missing, and it ends right."""
    stream = transfer(*first)
    ends, at = {0, 1, 2, 3, 4, 5}, 0
    for _, body in agent_streams.split(stream):
        end = at + frames.HEAD + len(body)
        ends |= {at, at + 1, at + 4, at + 5, at + 6, (at + end) // 2, end - 1}
        at = end
    for cut in sorted(end for end in ends if end < len(stream)):
        agent_streams._fresh(root.parent / "saved", root) if cut else _save(root)
        code, messages, _ = answered(root, stream[:cut], tmp_path)
        assert code == 0 and not errors(messages), cut
        assert not (root / "apps" / "tiny" / "state").exists(), cut
        envelope, members = first
        _, messages, _ = answered(root, HELLO + request("begin", envelope, app=None, size=len(envelope)), tmp_path)
        rest = HELLO + request("begin", envelope, app=None, size=len(envelope))
        for _, digest, size, have in oks(messages)[1]["members"]:
            if have < size:
                rest += request("data", members[digest][have:], sha256=digest, offset=have, size=size - have)
        _, messages, _ = answered(root, rest + request("commit", confirm="auto", deadline=60, tries=3), tmp_path)
        assert not errors(messages) and oks(messages)[-1] == {"app": "tiny"}, (cut, messages)


def _save(root):
    saved = root.parent / "saved" / "trust"
    saved.mkdir(parents=True)
    for pem in (root / "trust").iterdir():
        (saved / pem.name).write_bytes(pem.read_bytes())


def test_patches_cut_anywhere_are_sent_again(sessions, root, tmp_path):
    """At their first byte, in the middle, at the last, and around the frames beside them; it ends right."""
    stream, again = (sessions / "1.in").read_bytes(), (sessions / "patch").read_bytes()
    at = stream.index(b'"request":"patch"') - frames.HEAD - 1
    data = stream.index(b"edgec\x00d1", at)
    end = stream.index(b"\0\0\0\0D", data)
    wanted = sorted(_allowed(sessions))
    for cut in (
        at,
        at + 1,
        data - 1,
        data,
        data + 1,
        (data + end) // 2,
        end - 1,
        end,
        end + 1,
        end + 5,
        len(stream) - 1,
    ):
        agent_streams._fresh(sessions, root)
        code, messages, _ = answered(root, stream[:cut], tmp_path)
        assert code == 0 and not errors(messages) and not agent_streams.honest(root, set(wanted)), cut
        _, messages, _ = answered(root, again, tmp_path)
        done = oks(messages)
        assert not errors(messages) and done[-1] == {"app": "tiny"}, (cut, messages)
        assert state.read(str(root / "apps" / "tiny"), "tiny").other == done[1]["identity"], cut
        assert not agent_streams.honest(root, set(wanted)), cut


def _allowed(sessions):
    return set((sessions / "allowed").read_text().split())


@pytest.mark.parametrize("seed", range(2))
def test_mutated_sessions(sessions, seed):
    """Thousands, in a process whose memory is limited: nothing is accepted that nobody signed, and nothing crashes."""
    if os.environ.get("HYPOTHESIS_PROFILE", "fixed") != "fixed":
        seed = int.from_bytes(os.urandom(4), "big")
    here = Path(__file__).parents[2]
    command = [sys.executable, "-m", "tests.runtime.agent_streams", str(sessions), str(STREAMS // 2), str(seed)]
    environment = {**os.environ, "PYTHONPATH": str(here)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=here, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["wrong"] == [] and told["streams"] == STREAMS // 2
    assert told["committed"] > 20 and len(told["codes"]) >= 8, told  # they get far, and fail in many ways


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        ({"request": "status", "app": None}, "E945"),  # before hello
        ({"request": "nothing"}, "E946"),
        ({"request": "hello", "protocol": 2, "edgec": "1"}, "E950"),
        ({"request": "hello", "protocol": 1}, "E945"),
        ({"request": "hello", "protocol": 1, "edgec": "0", "x": 1}, "E945"),
        ({"request": "hello", "protocol": True, "edgec": "0"}, "E945"),
        ({}, "E945"),
    ],
)
def test_requests_that_are_none(root, tmp_path, bad, code):
    _, messages, _ = answered(root, frames.message(bad) + HELLO, tmp_path)
    assert errors(messages) == [code] and len(oks(messages)) == 1  # and it goes on


@pytest.mark.parametrize(
    "stream",
    [
        b"\xff\xff\xff\xffJ{}", b"\x00\x10\x00\x01D", b"\0\0\0\2X{}", frames.frame(b"D", b"data"),
        request("begin", b"x" * 10, app=None, size=5),
    ],
)  # fmt: skip
def test_what_is_no_frame_ends_the_session(root, tmp_path, stream):
    code, messages, _ = answered(root, HELLO + stream + HELLO, tmp_path)
    assert code == 9 and errors(messages)[-1] == "E945" and len(oks(messages)) == 1


def test_data_of_a_refused_request_are_dropped(first, root, tmp_path):
    _, members = first
    digest, data = next(iter(members.items()))
    stream = HELLO + request("data", data, sha256=digest, offset=0, size=len(data))  # nothing was begun
    stream += request("commit", confirm="auto", deadline=60, tries=3) + request("unknown", data) + request("ping")
    code, messages, _ = answered(root, stream, tmp_path)
    assert code == 0 and errors(messages) == ["E948", "E948", "E946"] and oks(messages)[-1] == {}


def test_wrong_members_offsets_and_sizes(first, root, tmp_path):
    envelope, members = first
    digest, data = max(members.items(), key=lambda item: len(item[1]))
    stream = HELLO + request("begin", envelope, app=None, size=len(envelope))
    stream += request("data", b"x", sha256="0" * 64, offset=0, size=1)
    stream += request("data", data, sha256=digest, offset=7, size=len(data))
    stream += request("data", b"x", sha256=digest, offset=5, size=1)
    stream += request("data", data[::-1], sha256=digest, offset=0, size=len(data))
    stream += request("patch", b"x", sha256=digest, base="../../../etc/passwd".ljust(64, "x"), size=1)
    stream += request("patch", b"x", sha256=digest, base="0" * 64, size=1)
    stream += request("patch", b"x" * 9, sha256=digest, base="0" * 64, size=1 << 30)
    stream += request("commit", confirm="auto", deadline=60, tries=3)
    _, messages, _ = answered(root, stream, tmp_path)
    assert errors(messages) == ["E949", "E945", "E942", "E508", "E945", "E940", "E947", "E942"]
    assert not (root / "apps" / "tiny" / "state").exists()


def test_a_run(first, root, tmp_path):
    """In a process of its own; its answers come back as they are."""
    from edgec_runtime.slots.trial import trial

    np = pytest.importorskip("numpy")
    answered(root, transfer(*first), tmp_path)
    assert trial("tiny", root=root).result == "committed"
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    packed = tensors.encode([tensors.Item("0/x", "float32", (2, 3), x.tobytes())])
    stream = HELLO + request("run", packed, app="tiny", size=len(packed))
    wrong = tensors.encode([tensors.Item("0/x", "float32", (1, 3), x.tobytes()[:12])])
    stream += request("run", wrong, app="tiny", size=len(wrong)) + request("run", b"junk", app="tiny", size=4)
    code, messages, said = answered(root, stream, tmp_path)
    assert code == 0 and errors(messages) == ["E911", "E905"]
    data = b"".join(body for kind, body in agent_streams.split(said[len(frames.PREAMBLE) :]) if kind == b"D")
    found = tensors.decode(data)
    assert np.array_equal(np.frombuffer(found["0/y"].data, np.float32).reshape(2, 3), 2 * x)
    assert oks(messages)[-1]["version"] == "1.0" and oks(messages)[-1]["data"] == len(data)


def test_what_lies_in_the_home_folder_is_not_imported_by_a_run(root, tmp_path, monkeypatch):
    """A login starts in the user's home, and `python -m` would look there first."""
    (tmp_path / "json.py").write_text("raise SystemExit('of the home folder')\n")
    monkeypatch.chdir(tmp_path)
    _, messages, _ = answered(root, HELLO + request("run", b"junk", app="tiny", size=4), tmp_path)
    assert errors(messages) == ["E905"]


def test_a_run_that_floods_and_leaves_a_child_behind(root, tmp_path, monkeypatch):
    """Its last words are kept, in bounded memory, and nobody waits for what it left."""
    engine = tmp_path / "engine"
    engine.write_text(
        f"#!/bin/sh\nsleep 600 &\necho $! > {tmp_path}/left\nhead -c 3000000 /dev/zero >&2\necho end >&2\n"
    )
    engine.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(engine))
    _, messages, _ = answered(root, HELLO + request("run", b"x", app="tiny", size=1), tmp_path)
    assert errors(messages) == ["E954"]
    assert next(each["error"]["why"] for each in messages if "error" in each).endswith("end")
    left = int((tmp_path / "left").read_text())
    assert agent_streams.gone(left)


def test_a_bug_is_told_without_a_traceback(root, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Server, "_status", lambda self, app: 1 // 0)
    _, messages, _ = answered(root, HELLO + request("status", app=None) + request("ping"), tmp_path)
    assert errors(messages) == ["E953"] and "ZeroDivisionError" in messages[1]["error"]["why"]
    assert oks(messages)[-1] == {} and capsys.readouterr().err == ""


def test_an_answer_that_is_too_long_is_an_error_and_no_end(root, tmp_path, monkeypatch):
    monkeypatch.setattr(Server, "_status", lambda self, app: {"apps": ["x" * frames.MAX_BODY]})
    code, messages, _ = answered(root, HELLO + request("status", app=None) + request("ping"), tmp_path)
    assert code == 0 and errors(messages) == ["E951"] and oks(messages)[-1] == {}


def test_a_host_that_says_nothing_is_given_up(root, tmp_path):
    """The lock of its transfer is free again then."""
    from edgec_runtime.agent.line import Line

    theirs, ours = os.pipe()
    out = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
    assert Server(Line(theirs, out, idle=0.05), str(root)).serve() == 0
    for file in (theirs, ours, out):
        os.close(file)


@given(st.binary(max_size=200))
def test_requests_are_read_or_refused(body):
    try:
        found = asked.read(body)
    except BadInputError as error:
        assert error.code in ("E945", "E946")
    else:
        assert found.name in asked.REQUESTS


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["a" * 64, "tiny"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=6,
)  # fmt: skip


@given(st.sampled_from(sorted(asked.REQUESTS)), st.data())
def test_fields_are_of_their_type_or_refused(name, data):
    fields = {field: data.draw(json_values) for field in asked.REQUESTS[name]}
    body = json.dumps({"request": name, **fields}).encode()
    try:
        found = asked.read(body)
    except BadInputError as error:
        assert error.code == "E945"
    else:
        assert all(asked.REQUESTS[name][field](value) for field, value in found.fields.items())


@given(st.lists(st.tuples(st.sampled_from([b"J", b"D"]), st.binary(max_size=300)), max_size=5))
def test_frames_come_back(parts):
    stream = io.BytesIO(b"".join(frames.frame(kind, body) for kind, body in parts))

    def exactly(count):
        data = stream.read(count)
        if len(data) < count:
            raise EOFError
        return data

    assert [frames.read(exactly) for _ in parts] == parts
    with pytest.raises(EOFError):
        frames.read(exactly)


def test_the_command_speaks_frames(root):
    """`edgec-rt agent` itself: what is printed beside its answers goes to standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "edgec_runtime", "agent"], input=HELLO + request("status", app=None),
        capture_output=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout.startswith(frames.PREAMBLE) and done.stderr == b""
    (_, hello), (_, status) = agent_streams.split(done.stdout[len(frames.PREAMBLE) :])
    assert json.loads(hello)["ok"]["root"] == str(root) and json.loads(status) == {"ok": {"apps": []}}
