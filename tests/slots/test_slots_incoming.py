"""What comes in: pieces, links that are lost, damaged parts, patches, hostile files in the stage, no room."""

from __future__ import annotations

import hashlib
import io
import os
import random
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec_runtime.errors import BadInputError, TrustError, UnsupportedError, UsageError
from edgec_runtime.slots import files, health, incoming, locks, part, store
from edgec_runtime.slots.rollback import rollback
from edgec_runtime.slots.trial import trial
from edgec_runtime.trust.store import Trusted, key_id, to_pem
from tests.runtime.conftest import private_key, public_raw
from tests.slots.conftest import MODEL, Device, release


def digest(data):
    return hashlib.sha256(data).hexdigest()


def begin(device, kit, **how):
    return incoming.begin(kit.envelope(), root=device.root, **how)


def test_members_are_asked_for_once_in_the_manifests_order(device, well):
    kit = release(1)
    kit.files["payloads/onnxruntime/same.onnx"] = kit.files[MODEL]
    other = {**kit.manifest["payloads"][0], "id": "same", "precision": "int8"}
    other["files"] = {"model": "payloads/onnxruntime/same.onnx"}
    kit.manifest["payloads"].append(other)
    with begin(device, kit) as come:
        assert [member.name for member in come.members] == ["golden/inputs.bin", "golden/out.bin", MODEL]
        assert [member.have for member in come.members] == [0, 0, 0] and not come.unchanged
        assert [entry["id"] for entry in come.entries] == ["onnxruntime-float32-host", "same"]
    assert device.install(kit).result == "committed" and device.runs() == "1.0 Add"
    with begin(device, kit) as come:
        assert come.unchanged and all(member.have == member.size for member in come.members)


def test_a_lost_link_goes_on_where_it_was(device, well):
    kit = release(1)
    data = kit.files[MODEL]
    with begin(device, kit) as come:
        assert come.append(digest(data), 0, data[:50]) == 50
    with begin(device, kit) as come:
        assert [member.have for member in come.members if member.name == MODEL] == [50]
        assert come.append(digest(data), 50, data[50:]) == len(data)
    with begin(device, kit) as come:  # lost before `finish`: it was complete, so it is in the store now
        assert [member.have for member in come.members if member.name == MODEL] == [len(data)]
        assert store.holds(device.where, digest(data), len(data)) and come.append(digest(data), len(data), b"") == len(
            data
        )
        come.finish(digest(data))
    assert device.install(kit).result == "committed"


def refused(call, code):
    with pytest.raises(BadInputError) as caught:
        call()
    assert caught.value.code == code, caught.value


def test_offsets_lengths_and_names_that_are_wrong(device):
    kit = release(1)
    data = kit.files[MODEL]
    with begin(device, kit) as come:
        refused(lambda: come.append(digest(data), 1, b"x"), "E942")
        refused(lambda: come.append(digest(data), 0, data + b"x"), "E943")
        refused(lambda: come.append("0" * 64, 0, b"x"), "E941")
        refused(lambda: come.finish("../../etc/passwd"), "E941")
        refused(lambda: come.patch("0" * 64, digest(data), io.BytesIO()), "E941")
        come.append(digest(data), 0, data[:10])
        refused(lambda: come.append(digest(data), 0, data[:10]), "E942")
        refused(lambda: come.finish(digest(data)), "E942")
        refused(come.commit, "E942")
    assert not (device.root / "apps").exists()


def test_damage_on_the_way(device, well):
    kit = release(1)
    data = bytearray(kit.files[MODEL])
    name = digest(data)
    data[7] ^= 1
    with begin(device, kit) as come:
        come.append(name, 0, bytes(data))
        with pytest.raises(TrustError) as caught:
            come.finish(name)
        assert caught.value.code == "E508" and not os.path.exists(part.path(device.where + "/stage", name))
        assert come.append(name, 0, kit.files[MODEL]) == len(data)
        come.finish(name)


@pytest.mark.parametrize("garbage", ["longer", "same size", "link", "hard link", "folder", "pipe"])
def test_what_lies_in_the_stage_under_a_parts_name(device, well, tmp_path, garbage):
    kit = release(1)
    data = kit.files[MODEL]
    stage = device.root / "stage"
    stage.mkdir()
    path, outside = stage / f"{digest(data)}.part", tmp_path / "outside"
    outside.write_bytes(b"precious")
    if garbage == "folder":
        path.mkdir()
        (path / "file").write_bytes(b"x")
    elif garbage == "pipe":
        os.mkfifo(path)
    elif garbage == "link":
        path.symlink_to(outside)
    elif garbage == "hard link":
        path.hardlink_to(outside)
    else:
        path.write_bytes(b"x" * (len(data) + (garbage == "longer")))
    with begin(device, kit) as come:
        assert [member.have for member in come.members if member.name == MODEL] == [0]
    assert device.install(kit).result == "committed"
    assert outside.read_bytes() == b"precious" and sorted(p.name for p in stage.iterdir()) == ["lock"]


def test_a_damaged_member_of_the_store_is_sent_again(device, well):
    kit = release(1)
    device.install(kit)
    path = device.root / "store" / "sha256" / digest(kit.files[MODEL])
    path.chmod(0o644)
    path.write_bytes(bytes(path.stat().st_size))
    with begin(device, kit) as come:
        assert [member.name for member in come.members if member.have < member.size] == [MODEL] and come.unchanged
    state = device.state()
    assert device.install(kit).result == "committed"
    assert path.read_bytes() == kit.files[MODEL] and device.state() == state


def patched(base, new):
    from edgec.flash.delta import encode

    return encode(base, new)


def test_a_patch(device, well):
    random.seed(5)
    first, second = release(1), release(2, "Mul")
    body = random.randbytes(40_000)
    first.files[MODEL] = body
    device.send(first)  # no trial: what matters is the store
    second.files[MODEL] = body[:20_000] + b"changed" + body[20_000:]
    base, name, patch = digest(body), digest(second.files[MODEL]), patched(body, second.files[MODEL])
    assert len(patch) < 1000
    with begin(device, second) as come:
        refused(lambda: come.patch(name, "0" * 64, io.BytesIO(patch)), "E940")
        refused(lambda: come.patch(name, "../../../trust", io.BytesIO(patch)), "E940")
        refused(lambda: come.patch(name, base, io.BytesIO(b"nonsense")), "E940")
        refused(lambda: come.patch(name, base, io.BytesIO(patch[:-9])), "E940")
        refused(lambda: come.patch(name, base, io.BytesIO(patched(body, body[:-1]))), "E940")
        refused(lambda: come.patch(name, base, io.BytesIO(patched(body, bytes(len(second.files[MODEL]))))), "E940")
        come.append(name, 0, second.files[MODEL][:5])  # begun in full, then patched after all
        come.patch(name, base, io.BytesIO(patch))
        come.finish(name)
        come.patch(name, base, io.BytesIO(b"there already"))
    assert (device.root / "store" / "sha256" / name).read_bytes() == second.files[MODEL]


def test_one_transfer_at_a_time_and_locks_that_are_given_back(device, monkeypatch):
    monkeypatch.setattr(locks, "WAIT", 0.05)
    kit = release(1)
    with begin(device, kit), pytest.raises(UsageError) as caught:
        begin(device, release(1, name="another"))
    assert caught.value.code == "E202"
    with pytest.raises(UsageError, match="deadline"), begin(device, kit) as come:
        come.commit(deadline=0)
    begin(device, kit).close()


def test_another_app_on_trial_is_no_obstacle(device, well):
    device.send(release(1, name="other"))
    assert device.install(release(1)).result == "committed"
    assert trial("other", root=device.root).result == "committed"
    assert device.runs() == "1.0 Add" and device.runs("other") == "1.0 Add"


def test_a_version_whose_trial_was_never_run_gives_way_to_another(device, well):
    device.install(release(1))
    device.send(release(2, "Mul"))
    assert device.install(release(3, "Max")).version == "3.0"
    assert device.state().other == hashlib.sha256(release(1).manifest_bytes()).hexdigest()
    assert len(device.members()) == 5  # of two versions: their inputs are the same


def test_an_app_that_was_changed_during_the_transfer(device, well):
    device.install(release(1))
    device.install(release(2, "Mul"))
    from edgec_runtime.slots.rollback import rollback

    kit = release(3, "Max")
    with begin(device, kit) as come:
        for data in kit.files.values():
            come.append(digest(data), 0, data) if not store.holds(device.where, digest(data), len(data)) else None
        rollback("tiny")
        with pytest.raises(UsageError, match="at work"):
            come.commit()
    assert device.runs() == "1.0 Add" and device.install(kit).version == "3.0"


def test_two_of_three_must_sign_and_nothing_expired(device, tmp_path):
    kit = release(1)
    keys = {key_id(public_raw(private_key(n))): public_raw(private_key(n)) for n in (1, 2, 3)}
    trusted = Trusted(keys, threshold=2)
    with pytest.raises(TrustError) as caught:
        begin(device, kit, trust=trusted)
    assert caught.value.code == "E514"
    kit.keys = [private_key(1), private_key(3)]
    begin(device, kit, trust=trusted).close()
    with pytest.raises(TrustError) as caught:
        begin(device, kit, trust=Trusted(keys, threshold=2, expires="2001-01-01T00:00:00Z"))
    assert caught.value.code == "E513"
    late = release(1, expires="2001-01-01T00:00:00Z")
    with pytest.raises(TrustError) as caught:
        begin(device, late)
    assert caught.value.code == "E513"
    for signers, code in (([], "E501"), ([private_key(9)], "E502")):
        kit.keys = signers
        with pytest.raises(TrustError) as caught:
            begin(device, kit)
        assert caught.value.code == code


def test_nothing_for_this_machine(device):
    kit = release(1)
    kit.manifest["payloads"][0].update(arch="riscv64", portable=False)
    with pytest.raises(UnsupportedError):
        begin(device, kit)
    assert not (device.root / "stage").exists()


def padded(number, op, size):
    """A version with a model of its own of about `size` bytes."""
    import onnx

    kit = release(number, op)
    model = onnx.load_model_from_string(kit.files[MODEL])
    model.doc_string = random.Random(number).randbytes(size // 2).hex()
    kit.files[MODEL] = model.SerializeToString()
    return kit


@pytest.fixture
def disk(device, monkeypatch):
    """A disk of so many bytes for the root, to be set."""

    class Disk:
        size = 1 << 30

    def free(path):
        used = sum(p.lstat().st_size for p in device.root.rglob("*") if p.is_file())
        return max(0, Disk.size - used)

    monkeypatch.setattr(files, "free_bytes", free)
    return Disk


def test_room_is_made_by_giving_up_the_other_version_and_never_the_active_one(device, well, disk):
    device.install(padded(1, "Add", 100_000))
    device.install(padded(2, "Mul", 100_000))
    disk.size = 320_000
    assert device.state().other != "-"
    with begin(device, padded(3, "Max", 100_000)) as come:
        assert device.state().other == "-" and device.runs() == "2.0 Mul"
        assert sum(member.size - member.have for member in come.members) > 100_000
    state = device.state()
    with pytest.raises(BadInputError) as caught:
        begin(device, padded(3, "Max", 300_000))
    assert caught.value.code == "E906" and device.state() == state and device.runs() == "2.0 Mul"
    assert device.install(padded(3, "Max", 100_000)).version == "3.0" and device.runs() == "3.0 Max"


def test_nothing_is_given_up_where_that_would_not_be_enough(device, well, disk):
    device.install(padded(1, "Add", 100_000))
    device.install(padded(2, "Mul", 100_000))
    disk.size = 320_000
    state = device.state()
    with pytest.raises(BadInputError):
        begin(device, padded(3, "Max", 400_000))
    assert device.state() == state and device.runs() == "2.0 Mul"


def test_parts_that_nobody_goes_on_with_make_room(device, well, disk):
    kit = padded(1, "Add", 100_000)
    with begin(device, kit, app="abandoned") as come:
        come.append(digest(kit.files[MODEL]), 0, kit.files[MODEL][:90_000])
    disk.size = 250_000
    assert device.install(padded(2, "Mul", 120_000)).result == "committed"
    assert sorted(p.name for p in (device.root / "stage").iterdir()) == ["lock"]


def test_stale_parts_are_collected(device, well):
    stage = device.root / "stage"
    stage.mkdir()
    old, new = stage / ("a" * 64 + ".part"), stage / ("b" * 64 + ".part")
    for path, when in ((old, 1e9), (new, None)):
        path.write_bytes(b"half")
        os.utime(path, (when, when)) if when else None
    device.install(release(1))
    assert sorted(path.name for path in stage.iterdir()) == [new.name, "lock"]


def test_a_root_of_somebody_else(device, well, monkeypatch):
    device.install(release(1))
    real = open

    def closed(path, *rest, **more):
        if str(path).endswith("/state"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *rest, **more)

    monkeypatch.setattr("builtins.open", closed)
    import edgec_runtime as rt
    from edgec_runtime.slots import status

    for call in (lambda: rt.load(app="tiny"), lambda: trial("tiny"), status.status, lambda: begin(device, release(2))):
        with pytest.raises(UsageError) as caught:
            call()
        assert caught.value.code == "E201"


pieces = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 400), st.booleans()), max_size=12)


@settings(max_examples=40)
@given(pieces, st.integers(0, 3), st.binary(max_size=300))
def test_whatever_is_sent_what_is_acknowledged_is_what_was_signed(tmp_path_factory, sent, garbage, extra):
    """Pieces at any offset, lost links, garbage in the stage: errors of ours, and at the end the right version."""
    root = tmp_path_factory.mktemp("root")
    device, kit = Device(root), release(1)
    trusted = {key_id(public_raw(private_key(1))): public_raw(private_key(1))}
    data = kit.files[MODEL]
    (root / "stage").mkdir()
    if garbage:
        (root / "stage" / f"{digest(data)}.part").write_bytes((extra, data + extra, data[: len(extra)])[garbage - 1])
    come = incoming.begin(kit.envelope(), root=root, trust=trusted)
    for offset, length, lost in sent:
        try:
            assert come.append(digest(data), offset, data[offset : offset + length]) <= len(data)
        except BadInputError as error:
            assert error.code in ("E942", "E943")
        if lost:
            come.close()
            come = incoming.begin(kit.envelope(), root=root, trust=trusted)
    come.close()
    for _ in range(2):  # a damaged prefix is noticed once it is complete, then sent anew
        with incoming.begin(kit.envelope(), root=root, trust=trusted) as come:
            try:
                for member in come.members:
                    content = {digest(d): d for d in kit.files.values()}[member.sha256]
                    come.append(member.sha256, member.have, content[member.have :])
                    come.finish(member.sha256)
                come.commit()
                break
            except TrustError as error:
                assert error.code == "E508"
    assert device.state().phase == "trial"
    for name, content in ((digest(d), d) for d in kit.files.values()):
        assert (root / "store" / "sha256" / name).read_bytes() == content
    shutil.rmtree(root)


def test_health_is_not_asked_before_the_acknowledgement(device, monkeypatch):
    monkeypatch.setattr(health, "check", lambda *_, **__: pytest.fail("asked"))
    device.send(release(1))


def test_what_is_signed_anew_is_there_already(device, well):
    """Its identity is the manifest's: it must not take the slot of the version that one can go back to."""
    device.install(release(1))
    device.install(release(2, "Mul"))
    again, raw = release(2, "Mul"), public_raw(private_key(7))
    again.keys = [*again.keys, private_key(7)]
    (device.root / "trust" / f"{key_id(raw)}.pem").write_bytes(to_pem(raw))
    with begin(device, again) as come:
        assert come.unchanged and all(member.have == member.size for member in come.members)
        come.commit()
    assert device.state().phase == "none" and device.runs() == "2.0 Mul"
    assert rollback("tiny").version == "1.0"


@pytest.mark.parametrize("name", ["ready.json", "manifest.dsse"])
def test_a_damaged_slot_is_not_there_already(device, well, name):
    device.install(release(1))
    path = device.root / "apps" / "tiny" / "slots" / "a" / name
    path.write_bytes(path.read_bytes().replace(b"1", b"2", 1))
    with begin(device, release(1)) as come:
        assert not come.unchanged
    assert device.install(release(1)).result == "committed" and device.runs() == "1.0 Add"
