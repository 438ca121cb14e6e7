"""`edgec sign --encrypt`, then `edgec flash`: the device gets the key, wrapped for it, over a real OpenSSH server."""

from __future__ import annotations

import numpy as np
import pytest

import edgec_runtime as rt
from edgec.bundle import keys, seal
from edgec.errors import Error
from edgec_runtime.bundle import reader
from edgec_runtime.sealed import device_key, wrapped
from edgec_runtime.trust import store
from tests.command import edgec
from tests.flash import boards
from tests.flash.test_flash_device import flash

X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def sealed(pi, tmp_path, monkeypatch):
    """An encrypted bundle, signed by a key that the board trusts; the board's root is this process's, to look into."""
    raw = bytes.fromhex(keys.development_key().public_key.keyval["public"])
    (pi.root / "trust" / f"{store.key_id(raw)}.pem").write_bytes(store.to_pem(raw))
    plain = boards.bundle(tmp_path / "plain.edge", weights=b"the model is a secret " * 5000)
    done = edgec("sign", plain, "--encrypt", "-o", tmp_path / "sealed.edge", "--json")
    assert done.code == 0, done.err
    said = done.json
    assert seal.kept(said["content_key_id"]) is not None and said["file"].endswith("sealed.edge")
    assert edgec("verify", tmp_path / "sealed.edge").code == 0  # this machine opens it too
    monkeypatch.setenv("EDGEC_ROOT", str(pi.root))
    assert not (pi.root / "sealed").exists() and not (pi.root / "trust" / "device.key").exists()
    return tmp_path / "sealed.edge"


def test_a_device_gets_the_bundle_and_its_key(sealed, pi):
    done = flash(sealed)
    assert done.result == "committed" and done.health["ok"] is True
    with rt.load(app="tiny") as model:
        assert np.array_equal(model.run({"x": X})["y"], 2 * X) and model.info["identity"] == done.identity
    for path in pi.root.rglob("*"):
        assert not path.is_file() or b"is a secret" not in path.read_bytes(), path
    assert flash(sealed).result == "unchanged"


def test_from_a_machine_without_the_key(sealed, pi, own_folders):
    with reader.open(sealed, allow_unsigned=True) as bundle:
        name = bundle.manifest["encryption"]["key"]
    key = seal.kept(name)
    seal.keep(key).unlink()
    file = sealed.with_name("sealed.edge.keys")
    public = device_key.create(str(pi.root))
    other = device_key.create(str(own_folders / "other"))
    for content, words in (
        (None, "is here"),
        (b"nothing", "E961|no file of wrapped keys"),
        (seal.wrap(key, [other]), "other devices"),
        (seal.wrap(bytes(32), [public]), "another bundle"),
    ):
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(Error) as caught:
            flash(sealed)
        assert caught.value.code == "E965" and any(word in caught.value.why for word in words.split("|"))
        assert public.hex() in caught.value.fix and not (pi.root / "apps").exists()
    file.write_bytes(seal.wrap(key, [other, public]))
    assert flash(sealed).result == "committed"
    assert wrapped.content_key(str(pi.root), name) == key


def test_what_sign_refuses(sealed, tmp_path):
    plain = str(tmp_path / "plain.edge")
    for arguments, words in (
        (["sign", plain, "--encrypt"], "go together"),
        (["sign", plain, "-o", "x.edge"], "go together"),
        (["sign", plain, "--encrypt", "-o", plain], "another file"),
        (["sign", str(sealed), "--encrypt", "-o", str(tmp_path / "twice.edge")], "sealed already"),
    ):
        done = edgec(*arguments)
        assert done.code in (2, 9) and words in done.err
    assert edgec("sign", sealed).code == 0  # a second signer signs it as any bundle
    assert edgec("verify", sealed).code == 0
