"""Opening bundles: what is good opens, every kind of bad file gives its class, code and three lines."""

from __future__ import annotations

import base64
import io
import json
import os
import zipfile
import zlib

import pytest

import edgec_runtime.bundle as rtb
from edgec_runtime.bundle import layout
from edgec_runtime.errors import BadInputError, Error, TrustError

MODEL = "payloads/onnxruntime/model.onnx"


def opened(kit, tmp_path, data=None, **options):
    path = tmp_path / "x.edge"
    path.write_bytes(kit.build() if data is None else data)
    options.setdefault("trust", kit.trust)
    return rtb.open(path, **options)


def refused(kit, tmp_path, data, error=TrustError, code=None, **options):
    with pytest.raises(Error) as caught:
        opened(kit, tmp_path, data, **options).verify_all()
    assert type(caught.value) is error, str(caught.value)
    assert caught.value.exit_code == (5 if error is TrustError else 9)
    assert code is None or caught.value.code == code, str(caught.value)
    assert len(str(caught.value).splitlines()) == 3
    return caught.value


def zipped(entries, compression=zipfile.ZIP_STORED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return out.getvalue()


def test_a_good_bundle(kit, tmp_path, keys):
    kit.files["golden/empty.bin"] = b""
    kit.manifest["recipe"] = "golden/empty.bin"
    with opened(kit, tmp_path) as bundle:
        assert bundle.manifest["app"]["name"] == "tiny"
        assert bundle.signers == (keys(1).id,) and bundle.trusted
        assert len(bundle.identity) == 64 and bundle.path == str(tmp_path / "x.edge")
        view = bundle.member(MODEL)
        assert bytes(view) == b"not a model" and view.readonly
        assert bundle.read(MODEL) == b"not a model" and bundle.read("golden/empty.bin") == b""
        bundle.verify_all()
        with pytest.raises(KeyError):
            bundle.member("nothing")
    with zipfile.ZipFile(tmp_path / "x.edge") as archive:
        assert archive.testzip() is None
        assert archive.read(MODEL) == b"not a model"


def test_members_are_aligned(kit, tmp_path):
    kit.files = {f"m/{'n' * n}": b"x" * n for n in range(1, 130, 7)}
    kit.manifest["payloads"][0]["files"] = {name: name for name in kit.files}
    data = kit.build()
    with opened(kit, tmp_path, data) as bundle:
        for member in bundle.manifest["members"]:
            position = layout.base(len(bundle.envelope)) + member["offset"]
            assert position % 64 == 0
            assert data[position : position + member["size"]] == kit.files[member["name"]]


def test_closing_with_a_view_in_use_keeps_the_view_valid(kit, tmp_path):
    bundle = opened(kit, tmp_path)
    view = bundle.member(MODEL)
    bundle.close()
    assert bytes(view) == b"not a model"


def test_signing_again_keeps_the_identity_and_the_members(kit, tmp_path, keys):
    with opened(kit, tmp_path) as bundle:
        before = bundle.identity
    kit.keys.append(keys(2).private)
    with opened(kit, tmp_path) as bundle:
        assert bundle.identity == before and bundle.signers == (keys(1).id,)
        bundle.verify_all()


def test_unsigned(kit, tmp_path):
    kit.keys = []
    assert "sign" in refused(kit, tmp_path, None, code="E501").fix
    with opened(kit, tmp_path, allow_unsigned=True) as bundle:
        assert not bundle.trusted and bundle.signers == ()
        bundle.verify_all()


def test_signed_by_a_stranger(kit, tmp_path, keys):
    kit.keys = [keys(3).private]
    assert keys(3).id[:16] in refused(kit, tmp_path, None, code="E502").why
    with opened(kit, tmp_path, allow_unsigned=True) as bundle:
        assert not bundle.trusted


def test_a_stranger_beside_a_trusted_key_does_no_harm(kit, tmp_path, keys):
    kit.keys = [keys(3).private, keys(1).private]
    with opened(kit, tmp_path) as bundle:
        assert bundle.trusted and bundle.signers == (keys(1).id,)


def test_a_signature_moved_to_another_manifest(kit, tmp_path):
    value = json.loads(kit.envelope())
    kit.manifest["app"]["version"] = "6.6.6"
    value["payload"] = base64.b64encode(kit.manifest_bytes()).decode()
    data = kit.build(envelope=json.dumps(value).encode())
    for allow in (False, True):  # a wrong signature of a trusted key is never "unsigned"
        refused(kit, tmp_path, data, code="E503", allow_unsigned=allow)


def test_nothing_of_an_unsigned_manifest_is_parsed(kit, tmp_path):
    kit.keys = []
    envelope = kit.envelope(payload=b"[" * 100)
    refused(kit, tmp_path, kit.build(envelope), code="E501")
    refused(kit, tmp_path, kit.build(envelope), BadInputError, "E903", allow_unsigned=True)


def test_unknown_format_version(kit, tmp_path):
    kit.manifest["format"] = 2
    refused(kit, tmp_path, None, BadInputError, "E902")


@pytest.mark.parametrize(
    "data",
    [b"", b"P", b"PK\3\4", b"x" * 1000, bytes(100), zipped([("a", b"b" * 100)]), b"PK\5\6" + bytes(60),
     zipped([("a" * 100, b"b" * 100), ("manifest.dsse", b"{}")])],
    ids=["empty", "one byte", "magic", "text", "zeros", "a zip", "an empty zip", "manifest second"],
)  # fmt: skip
def test_not_a_bundle(kit, tmp_path, data):
    refused(kit, tmp_path, data, BadInputError, "E901")


def test_no_such_file_and_a_folder(kit, tmp_path):
    for path in (tmp_path / "absent.edge", tmp_path):
        with pytest.raises(BadInputError) as caught:
            rtb.open(path, trust=kit.trust)
        assert caught.value.code == "E901"


def test_truncated_anywhere(kit, tmp_path):
    data = kit.build()
    for size in range(64, len(data), 13):
        refused(kit, tmp_path, data[:size])
    for size in (len(data) - 1, len(data) - 22):
        refused(kit, tmp_path, data[:size])


def test_trailing_bytes(kit, tmp_path):
    for more in (b"\0", b"PK\5\6" + bytes(18), b"x" * 5000):
        refused(kit, tmp_path, kit.build() + more, code="E504")


def test_a_gap_before_the_directory(kit, tmp_path):
    data = kit.build()
    at = data.rindex(b"PK\1\2", 0, data.rindex(b"PK\1\2"))
    refused(kit, tmp_path, data[:at] + bytes(64) + data[at:])


def test_bytes_hidden_in_the_padding(kit, tmp_path):
    data = bytearray(kit.build())
    assert data[63] == 0  # the padding of the first header
    data[63] = 1
    refused(kit, tmp_path, bytes(data), code="E504")


def test_a_changed_member(kit, tmp_path):
    data = kit.build()
    at = data.index(b"not a model")
    changed = data[:at] + b"bad" + data[at + 3 :]
    refused(kit, tmp_path, changed, code="E504")
    bundle = opened(kit, tmp_path, changed)  # opens: hashes are checked when a member is asked for
    for use in (bundle.member, bundle.read, lambda name: bundle.copy(name, os.open(os.devnull, os.O_WRONLY))):
        with pytest.raises(TrustError):
            use(MODEL)


def test_a_changed_checksum_in_the_headers(kit, tmp_path):
    crc = zlib.crc32(b"not a model").to_bytes(4, "little")
    data = kit.build()
    assert data.count(crc) == 2
    refused(kit, tmp_path, data.replace(crc, b"\1\2\3\4"), code="E504")  # local header and directory agree
    at = data.rindex(crc)
    refused(kit, tmp_path, data[:at] + b"\1\2\3\4" + data[at + 4 :], code="E504")


def test_a_central_directory_that_disagrees(kit, tmp_path):
    data = kit.build()
    start = data.index(b"PK\1\2")
    for at in range(start, len(data)):
        changed = bytearray(data)
        changed[at] ^= 0xFF
        refused(kit, tmp_path, bytes(changed), code="E504")


def test_duplicate_members(kit, tmp_path):
    """The same name twice in the directory: what zipfile would give depends on the reader."""
    entries = [("manifest.dsse", kit.envelope()), (MODEL, b"not a model"), (MODEL, b"other one!!")]
    with pytest.warns(UserWarning, match="Duplicate"):
        data = zipped(entries)
    with pytest.raises(Error):
        opened(kit, tmp_path, data)


def test_a_zip_with_the_right_content_but_another_layout(kit, tmp_path):
    envelope = kit.envelope()
    info = zipfile.ZipInfo("manifest.dsse")
    info.extra = b"\xfe\xca\x11\0" + bytes(17)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(info, envelope)
        archive.writestr(MODEL, b"not a model")
    data = out.getvalue()
    assert data.startswith(b"PK\3\4") and data[64 : 64 + len(envelope)] == envelope
    refused(kit, tmp_path, data, code="E504")


def test_a_deflated_member_is_no_bomb(kit, tmp_path):
    """A member that would inflate to 200 MB: nothing is inflated, since nothing but stored members is laid out."""
    bomb = zipped([(MODEL, bytes(200_000_000))], zipfile.ZIP_DEFLATED)
    assert len(bomb) < 300_000
    good = kit.build()
    end = layout.ALIGN + len(kit.envelope())
    refused(kit, tmp_path, good[:end] + bomb)


def test_huge_sizes_are_refused_before_anything_is_read(kit, tmp_path):
    members = kit.members()
    for size in (2**32 - 1, 2**32, 2**40, 2**52):
        kit.manifest["members"] = [{**members[0], "size": size}]
        refused(kit, tmp_path, None)


def test_an_envelope_that_says_it_is_huge(kit, tmp_path):
    data = bytearray(kit.build())
    for size in (layout.MAX_ENVELOPE + 1, 2**32 - 1, len(data)):
        data[18:26] = size.to_bytes(4, "little") * 2
        refused(kit, tmp_path, bytes(data), code="E504")


@pytest.mark.parametrize("offset", [0, 64, 192, 2**40 // 64 * 64])
def test_offsets_elsewhere_than_the_format_gives(kit, tmp_path, offset):
    members = kit.members()
    assert members[0]["offset"] == 128
    kit.manifest["members"] = [{**members[0], "offset": offset}]
    refused(kit, tmp_path, None, code="E504")


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/../../b", "a\\b"])
def test_path_escapes(kit, tmp_path, name):
    kit.files = {name: b"not a model"}
    kit.manifest["payloads"][0]["files"] = {"model": name}
    refused(kit, tmp_path, None, BadInputError, "E903")


def test_many_members(kit, tmp_path):
    kit.files = {f"m{n:04}": b"%d" % n for n in range(layout.MAX_MEMBERS)}
    kit.manifest["payloads"] = [
        kit.payload(id=f"p{p}", files={f"{n}": f"m{n:04}" for n in range(256 * p, 256 * (p + 1))}) for p in range(16)
    ]
    with opened(kit, tmp_path) as bundle:
        bundle.verify_all()
        assert bytes(bundle.member("m4095")) == b"4095"
