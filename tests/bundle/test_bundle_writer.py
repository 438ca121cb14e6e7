"""The writer: the same bytes for the same contents, readable by standard tools, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgec_runtime.bundle as reader
from edgec.bundle import envelope, keys, writer
from edgec.errors import BadInputError, Error, TrustError
from edgec_runtime.bundle import layout

MEMBER = "payloads/onnxruntime/model.onnx"


@pytest.fixture
def write(make: Any) -> Any:
    def written(path: Path, signer: Any, data: Any = b"model bytes", **changes: Any) -> writer.Written:
        return writer.write(path, make.manifest(**changes), {MEMBER: data}, [signer] if signer else [])

    return written


def test_same_contents_give_same_bytes(write: Any, tmp_path: Path, signer: Any) -> None:
    first = write(tmp_path / "a.edge", signer)
    second = write(tmp_path / "b.edge", signer)
    assert first == second
    assert (tmp_path / "a.edge").read_bytes() == (tmp_path / "b.edge").read_bytes()


def test_identity_is_the_canonical_manifest(write: Any, tmp_path: Path, signer: Any) -> None:
    identity, content = write(tmp_path / "a.edge", signer)
    assert identity == hashlib.sha256(envelope.canonical(content)).hexdigest()
    with reader.open(tmp_path / "a.edge") as bundle:
        assert bundle.identity == identity
        assert bundle.manifest == content
        assert bundle.signers == (signer.public_key.keyid,)


def test_a_path_and_its_bytes_give_the_same_bundle(write: Any, tmp_path: Path, signer: Any) -> None:
    data = os.urandom(3 * writer.CHUNK + 5)
    (tmp_path / "m.onnx").write_bytes(data)
    write(tmp_path / "a.edge", signer, tmp_path / "m.onnx")
    write(tmp_path / "b.edge", signer, data)
    assert (tmp_path / "a.edge").read_bytes() == (tmp_path / "b.edge").read_bytes()


def test_standard_tools_read_a_bundle(write: Any, tmp_path: Path, signer: Any) -> None:
    path = tmp_path / "a.edge"
    write(path, signer, b"x" * 1000)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [layout.MANIFEST, MEMBER]
        assert archive.read(MEMBER) == b"x" * 1000
    done = subprocess.run([sys.executable, "-m", "zipfile", "-t", str(path)], capture_output=True, text=True)
    assert "Done testing" in done.stdout
    if shutil.which("unzip"):
        subprocess.run(["unzip", "-t", str(path)], check=True, capture_output=True)


NAME = st.text(st.sampled_from("abcXYZ019._- é漢"), min_size=1, max_size=12).filter(
    lambda s: s not in (".", "..") and not s.endswith((" ", ".")) and s.isprintable()
)


@settings(max_examples=40)
@given(files=st.dictionaries(NAME, st.binary(max_size=300), min_size=1, max_size=6), signed=st.booleans())
def test_round_trip(make: Any, tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes], signed: bool) -> None:
    files = {f"p/{name}": data for name, data in files.items()}
    if len({name.casefold() for name in files}) < len(files):
        return
    path = tmp_path_factory.mktemp("round") / "a.edge"
    entry = {**make.payload(), "files": {f"role {n}": name for n, name in enumerate(files)}}
    made = writer.write(path, make.manifest([entry]), files, [keys.development_key()] if signed else [])
    with reader.open(path, allow_unsigned=not signed) as bundle:
        assert bundle.identity == made.identity
        assert bundle.trusted == signed
        assert {m["name"]: bytes(bundle.member(m["name"])) for m in bundle.manifest["members"]} == files
    members = [layout.Member(m["name"], m["size"], m["offset"]) for m in made.manifest["members"]]
    with zipfile.ZipFile(path) as archive:
        assert {i.filename: archive.read(i) for i in archive.infolist()[1:]} == files
        size = archive.infolist()[0].file_size
    assert path.stat().st_size == layout.file_size(size, members)


@given(
    sizes=st.lists(st.integers(0, 2**42), min_size=1, max_size=5),
    envelope_size=st.integers(1, layout.MAX_ENVELOPE),
)
def test_layout_past_four_gigabytes(sizes: list[int], envelope_size: int) -> None:
    """By arithmetic alone: every piece ends where data begins, aligned, and ZIP64 sizes stand where they must."""
    members = layout.place([(f"m{n}", size) for n, size in enumerate(sizes)])
    pieces = layout.skeleton(envelope_size, members, [0] * (len(members) + 1))
    start = layout.base(envelope_size)
    ends = [layout.ALIGN, *(start + m.offset for m in members)]
    data = [envelope_size, *(m.size for m in members)]
    for piece, end, size, after in zip(pieces[:-1], ends, data, pieces[1:], strict=True):
        assert piece.position + len(piece.data) == end
        assert end % layout.ALIGN == 0
        assert after.position == end + size
        short = layout.LOCAL.unpack_from(piece.data)[8]
        assert short == (layout.LIMIT32 if size >= layout.LIMIT32 else size)
    assert layout.file_size(envelope_size, members) == pieces[-1].position + len(pieces[-1].data)


def test_zipfile_reads_a_sparse_bundle_past_four_gigabytes(tmp_path: Path) -> None:
    """The directory of a layout with a 5 GB member and one behind it, in a sparse file (no data is written)."""
    members = layout.place([("big", 5 << 30), ("small", 3)])
    pieces = layout.skeleton(100, members, [0, 0, zlib.crc32(bytes(3))])
    path = tmp_path / "big.edge"
    with path.open("wb") as file:
        for piece in pieces:
            file.seek(piece.position)
            file.write(piece.data)
    with zipfile.ZipFile(path) as archive:
        assert [(i.filename, i.file_size) for i in archive.infolist()] == [
            (layout.MANIFEST, 100), ("big", 5 << 30), ("small", 3),
        ]  # fmt: skip
        assert archive.read("small") == bytes(3)


# Signing again


def test_signing_again_keeps_identity_and_is_idempotent(write: Any, tmp_path: Path, signer: Any) -> None:
    path = tmp_path / "a.edge"
    identity, content = write(path, signer, os.urandom(500))
    other = keys.load(keys.new("other").name)
    assert writer.sign(path, other) == (identity, content)
    once = path.read_bytes()
    assert writer.sign(path, other).identity == identity
    assert path.read_bytes() == once
    with reader.open(path, trust=[bytes.fromhex(other.public_key.keyval["public"])]) as bundle:
        bundle.verify_all()
        assert bundle.signers == (other.public_key.keyid,)
    with reader.open(path) as bundle:
        assert bundle.signers == (signer.public_key.keyid,)


def test_order_of_signing_does_not_matter(make: Any, write: Any, tmp_path: Path, signer: Any) -> None:
    other = keys.load(keys.new("other").name)
    for name, order in (("a", [signer, other]), ("b", [other, signer])):
        write(tmp_path / f"{name}.edge", order[0])
        writer.sign(tmp_path / f"{name}.edge", order[1])
    writer.write(tmp_path / "c.edge", make.manifest(), {MEMBER: b"model bytes"}, [signer, other])
    assert len({(tmp_path / f"{n}.edge").read_bytes() for n in "abc"}) == 1


def test_an_unsigned_bundle_can_be_signed(write: Any, tmp_path: Path, signer: Any) -> None:
    path = tmp_path / "a.edge"
    identity, _ = write(path, None)
    with pytest.raises(TrustError):
        reader.open(path)
    assert writer.sign(path, signer).identity == identity
    reader.open(path).close()


def test_a_damaged_bundle_is_not_signed(write: Any, tmp_path: Path, signer: Any) -> None:
    path = tmp_path / "a.edge"
    write(path, None, b"model bytes")
    data = path.read_bytes()
    broken = data.replace(b"model bytes", b"model bytez")
    assert broken != data
    path.write_bytes(broken)
    with pytest.raises(TrustError):
        writer.sign(path, signer)
    assert path.read_bytes() == broken


# Whole or not at all


@pytest.mark.parametrize(
    ("files", "changes", "word"),
    [
        ({}, {}, "member"),
        ({MEMBER: b"", "spare": b""}, {}, "spare"),
        ({MEMBER: b"", "../out": b""}, {"recipe": "../out"}, "path"),
        ({MEMBER: b"", "P/x": b"", "p/X": b""}, {"recipe": "P/x", "report": "p/X"}, "case"),
        ({MEMBER: b"", f"{MEMBER}/x": b""}, {"recipe": f"{MEMBER}/x"}, "inside"),
        ({MEMBER: b""}, {"format": 2}, "format 2"),
        ({MEMBER: b""}, {"surprise": 1}, "surprise"),
    ],
)
def test_what_the_reader_would_refuse_is_not_written(
    make: Any, tmp_path: Path, signer: Any, files: dict[str, bytes], changes: dict[str, Any], word: str
) -> None:
    with pytest.raises(BadInputError) as caught:
        writer.write(tmp_path / "a.edge", make.manifest(**changes), files, [signer])
    assert word in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_a_manifest_too_large_is_refused(write: Any, tmp_path: Path, signer: Any) -> None:
    with pytest.raises(BadInputError, match="manifest is"):
        write(tmp_path / "a.edge", signer, compiled_for=["b" * 1000 + str(n) for n in range(1100)])


def test_not_a_number_is_refused(make: Any, write: Any, tmp_path: Path, signer: Any) -> None:
    entry = {**make.payload(), "accuracy": {"metric": "top1", "value": float("nan"), "float_value": 1.0, "n": 1}}
    with pytest.raises(BadInputError, match="canonical JSON"):
        write(tmp_path / "a.edge", signer, payloads=[entry])


LIMITED = """
import json, resource, signal, sys
from edgec.bundle import keys, writer
signer = keys.development_key()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    writer.write(sys.argv[1], json.loads(sys.argv[2]), {"payloads/onnxruntime/model.onnx": bytes(10**6)}, [signer])
except Exception as e:
    print(type(e).__name__, e)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_FSIZE")
def test_when_the_system_refuses_more_bytes_nothing_is_left(make: Any, write: Any, tmp_path: Path, signer: Any) -> None:
    path = tmp_path / "a.edge"
    write(path, signer, b"the old one")
    old = path.read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path), json.dumps(make.manifest())],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("BadInputError error[E910]"), done.stdout + done.stderr
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["a.edge"]


@pytest.mark.parametrize("call", ["write", "sign"])
def test_a_full_disk_leaves_nothing(
    write: Any, tmp_path: Path, signer: Any, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """The disk is full: the file that the writer opens is the system's own full device."""
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    path = tmp_path / "a.edge"
    write(path, signer)
    old = path.read_bytes()
    other = keys.load(keys.new("other").name)
    real = os.open

    def full(name: Any, flags: int, mode: int = 0o777, **more: Any) -> int:
        fd = real(name, flags, mode, **more)
        if str(name).endswith(".part"):
            device = real("/dev/full", os.O_WRONLY)
            os.dup2(device, fd)
            os.close(device)
        return fd

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(BadInputError) as caught:
        writer.sign(path, other) if call == "sign" else write(path, signer, os.urandom(9000))
    assert caught.value.code == "E910"
    assert "No space left" in caught.value.why
    assert caught.value.fix
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["a.edge"]


def test_a_disk_that_returns_other_bytes_is_noticed(
    write: Any, tmp_path: Path, signer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgec.bundle import atomic

    real = atomic.flush

    def rot(file: Any) -> None:
        real(file)
        os.pwrite(file.fileno(), b"\xff", os.fstat(file.fileno()).st_size - 2)

    monkeypatch.setattr(atomic, "flush", rot)
    with pytest.raises(Error):
        write(tmp_path / "a.edge", signer)
    assert os.listdir(tmp_path) == []


def test_a_file_that_changes_while_it_is_read_is_noticed(
    write: Any, tmp_path: Path, signer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "m.onnx"
    source.write_bytes(b"before")
    real = writer._measure

    def measure(name: str, given: Any) -> Any:
        done = real(name, given)
        source.write_bytes(b"after!")
        return done

    monkeypatch.setattr(writer, "_measure", measure)
    with pytest.raises(BadInputError, match="changed"):
        write(tmp_path / "a.edge", signer, source)
    assert os.listdir(tmp_path) == ["m.onnx"]


def test_a_missing_file_is_named(write: Any, tmp_path: Path, signer: Any) -> None:
    with pytest.raises(BadInputError, match=MEMBER):
        write(tmp_path / "a.edge", signer, tmp_path / "nowhere")


def test_a_folder_that_is_not_there_is_named(write: Any, tmp_path: Path, signer: Any) -> None:
    with pytest.raises(BadInputError, match="nowhere"):
        write(tmp_path / "nowhere" / "a.edge", signer)


def test_several_sign_at_once(write: Any, tmp_path: Path, signer: Any) -> None:
    """As one after the other; where one of them has signed before, nothing is lost."""
    others = [keys.load(keys.new(name).name) for name in ("one", "two")]
    paths = [tmp_path / "a.edge", tmp_path / "b.edge"]
    for path in paths:
        write(path, signer, b"x" * 500)
    writer.sign(paths[0], *others)
    for other in others:
        writer.sign(paths[1], other)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    trusted = [bytes.fromhex(key.public_key.keyval["public"]) for key in (signer, *others)]
    with reader.open(paths[0], trust=trusted) as bundle:
        assert len(bundle.signers) == 3
