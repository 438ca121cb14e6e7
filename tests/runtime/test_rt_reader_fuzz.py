"""Whatever a file says: our own errors only, in bounded memory and time. More than 5,000 cases together."""

from __future__ import annotations

import random
import resource

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import edgec_runtime.bundle as rtb
from edgec_runtime.bundle import reader
from edgec_runtime.errors import BadInputError, TrustError

MUTATIONS = 4000
GENEROUS = settings(max_examples=600, suppress_health_check=[HealthCheck.function_scoped_fixture])


def attempt(path, data, trust, original=None):
    """Open and verify; an error of another class than ours fails the test. Returns whether it was accepted."""
    path.write_bytes(data)
    for allow in (False, True):
        try:
            with rtb.open(path, trust=trust, allow_unsigned=allow) as bundle:
                bundle.verify_all()
                if bundle.trusted:
                    assert original is None or bundle.identity == original
        except (BadInputError, TrustError) as error:
            assert error.what and error.why and error.fix
        else:
            return True
    return False


def mutated(data, rng):
    """Flip, overwrite, cut, repeat, or splice in what a ZIP is made of."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        at, kind = rng.randrange(len(out)), rng.randrange(7)
        if kind == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
        elif kind == 2:
            value = rng.choice((0, 1, 63, 65, 2**16 - 1, 2**31, 2**32 - 1, len(data)))
            out[at : at + 4] = value.to_bytes(4, "little")
        elif kind == 3:
            del out[at : at + rng.choice((1, 2, 16, 64, 1000))]
        elif kind == 4:
            out[at:at] = out[at : at + rng.choice((1, 4, 64))]
        elif kind == 5:
            out[at:at] = rng.choice((b"PK\3\4", b"PK\1\2", b"PK\5\6", b"PK\6\6", bytes(64), b'"', b"}"))
        else:
            out = out[:at]
        if not out:
            break
    return bytes(out)


def test_mutations_of_a_real_bundle(model_kit, tmp_path):
    data, trust = model_kit.build(), model_kit.trust
    path = tmp_path / "fuzz.edge"
    path.write_bytes(data)
    with rtb.open(path, trust=trust) as bundle:
        identity = bundle.identity
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rng = random.Random(20250607)
    accepted = 0
    for _ in range(MUTATIONS):
        changed = mutated(data, rng)
        if changed != data:
            accepted += attempt(path, changed, trust, identity)
    # A flipped bit in a key id makes the signer a stranger: allow_unsigned may take that, nothing else.
    assert accepted < MUTATIONS // 20
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 64 * 1024, f"memory grew by {grown} KiB"


def test_every_single_byte_of_a_bundle_counts(kit, tmp_path):
    """No byte of a file can be changed without the reader noticing (trusted: nothing is left out of the check)."""
    data, trust, path = kit.build(), kit.trust, tmp_path / "bit.edge"
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1 << at % 8
        path.write_bytes(changed)
        with pytest.raises((BadInputError, TrustError)), rtb.open(path, trust=trust) as bundle:
            bundle.verify_all()


@GENEROUS
@given(st.binary(max_size=300))
def test_a_signed_manifest_of_any_bytes(kit, tmp_path_factory, payload):
    path = tmp_path_factory.getbasetemp() / "signed.edge"
    attempt(path, kit.build(kit.envelope(payload=payload)), kit.trust)


@GENEROUS
@given(st.binary(max_size=300) | st.text(alphabet='{}[]",:payloadTypesignatures0=', max_size=300).map(str.encode))
def test_an_envelope_of_any_bytes(kit, tmp_path_factory, envelope):
    path = tmp_path_factory.getbasetemp() / "envelope.edge"
    assert not attempt(path, kit.build(envelope), kit.trust)


NAMES = ["a", "b", "payloads/onnxruntime/model.onnx", "../x", "a/b"]


@GENEROUS
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "name": st.sampled_from(NAMES) | st.text(max_size=4),
                "size": st.integers(0, 2**53 - 1) | st.integers(0, 300),
                "offset": st.integers(0, 2**46).map(lambda n: n * 64) | st.integers(0, 8).map(lambda n: n * 64),
                "sha256": st.just("0" * 64),
            }
        ),
        max_size=4,
    )
)
def test_signed_members_that_lie(kit, tmp_path_factory, members):
    kit.manifest["members"] = members
    kit.manifest["payloads"][0]["files"] = {str(n): m["name"] for n, m in enumerate(members)} or {"model": "a"}
    path = tmp_path_factory.getbasetemp() / "members.edge"
    assert not attempt(path, kit.build(), kit.trust)


def test_members_are_read_in_pieces(kit, tmp_path, monkeypatch):
    """`copy` holds a piece of a member at a time, so that a large model needs no large memory."""
    monkeypatch.setattr(reader, "CHUNK", 1000)
    kit.files["payloads/onnxruntime/model.onnx"] = bytes(range(256)) * 50
    with rtb.open(kit.write(tmp_path), trust=kit.trust) as bundle, open(tmp_path / "out", "w+b") as file:
        bundle.copy("payloads/onnxruntime/model.onnx", file.fileno())
        file.seek(0)
        assert file.read() == kit.files["payloads/onnxruntime/model.onnx"]
