"""The manifest's rules: each field refused when it is missing, unknown or out of range."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec_runtime.bundle import layout, manifest
from edgec_runtime.errors import BadInputError


def whole(kit):
    value = copy.deepcopy(kit.manifest)
    value["members"] = kit.members()
    return value


def paths(value, at=()):
    """Every place in a manifest, as a tuple of keys."""
    if at:
        yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from paths(item, (*at, key))


def put(value, at, item):
    for key in at[:-1]:
        value = value[key]
    value[at[-1]] = item


def refused(canonical, value, why=""):
    with pytest.raises(BadInputError) as caught:
        manifest.parse(canonical(value))
    assert caught.value.code == "E903" and caught.value.why and caught.value.fix
    assert why in caught.value.why
    return caught.value


def test_the_good_one_passes(kit, canonical):
    assert manifest.parse(canonical(whole(kit))) == whole(kit)


def test_every_key_is_needed_and_no_other_is_known(kit, canonical):
    good = whole(kit)
    good["checked_by"] = [{"tool": "t", "version": "1", "what": "w"}]
    good["run_on"] = [{"machine": "m", "cpu": "", "isa": [], "engine": "e", "version": "1"}]
    good["payloads"][0]["accuracy"] = {"metric": "top1", "value": 1, "float_value": 0.5, "n": 3}
    good["payloads"][0]["golden"] = {"expected": "run", "file": good["members"][0]["name"], "min_sqnr_db": 20.0}
    manifest.parse(canonical(good))
    dicts = [at for at in ((), *paths(good)) if isinstance(_get(good, at), dict) and at[-2:] and at[-1] != "options"]
    assert len(dicts) >= 10
    for at in [(), *dicts]:
        if at[-1:] == ("files",):
            continue
        for key in list(_get(good, at)):
            less = copy.deepcopy(good)
            del _get(less, at)[key]
            refused(canonical, less, "lacks" if at or key != "members" else "")
        more = copy.deepcopy(good)
        _get(more, at)["surprise"] = 1
        refused(canonical, more, "surprise")


def _get(value, at):
    for key in at:
        value = value[key]
    return value


WRONG = [
    (("app", "sequence"), -1),
    (("app", "sequence"), True),
    (("app", "sequence"), 1.0),
    (("app", "floor"), -1),
    (("app", "floor"), 10**6),
    (("app", "floor"), None),
    (("app", "expires"), None),
    (("app", "expires"), 1800000000),
    (("app", "expires"), "2027-02-29T00:00:00Z"),
    (("app", "expires"), "2027-02-28T24:00:00Z"),
    (("app", "expires"), "2027-02-28T00:00:00+00:00"),
    (("app", "expires"), "2027-02-28T00:00:00Z\n"),
    (("app", "expires"), "٢٠٢٧-02-28T00:00:00Z"),
    (("hooks",), None),
    (("hooks",), {"before": ["x"]}),
    (("hooks",), {"health": []}),
    (("hooks",), {"health": "x"}),
    (("hooks",), {"health": ["/bin/sh"]}),
    (("hooks",), {"health": ["../x"]}),
    (("hooks",), {"health": [".x"]}),
    (("hooks",), {"health": ["-x"]}),
    (("hooks",), {"health": ["x y"]}),
    (("hooks",), {"health": ["x"] * 17}),
    (("hooks",), {"health": ["x" * 65]}),
    (("app", "name"), ""),
    (("app", "name"), "n" * 1025),
    (("inputs", 0, "dtype"), "float31"),
    (("inputs", 0, "dtype"), ["float32"]),
    (("inputs", 0, "shape"), None),
    (("inputs", 0, "shape"), [-1]),
    (("inputs", 0, "shape"), [""]),
    (("inputs", 0, "shape"), [None]),
    (("inputs", 0, "shape"), [1] * 65),
    (("outputs",), []),
    (("preprocessing",), [{}]),
    (("preprocessing",), ["resize"]),
    (("payloads",), []),
    (("payloads", 0, "engine_version"), "1.18 or so"),
    (("payloads", 0, "isa"), "avx2"),
    (("payloads", 0, "portable"), 1),
    (("payloads", 0, "native_code"), None),
    (("payloads", 0, "memory"), -5),
    (("payloads", 0, "options"), {"x": [1]}),
    (("payloads", 0, "options"), {"x" * 2000: 1}),
    (("payloads", 0, "files"), {}),
    (("payloads", 0, "files"), {"model": "not/there"}),
    (("payloads", 0, "golden"), {"expected": "magic", "file": "payloads/onnxruntime/model.onnx", "min_sqnr_db": 1}),
    (("golden", "kind"), "real"),
    (("recipe",), "not/there"),
    (("recipe",), 5),
    (("members", 0, "sha256"), "A" * 64),
    (("members", 0, "sha256"), "a" * 63),
    (("members", 0, "size"), -1),
    (("members", 0, "size"), 2**60),
    (("members", 0, "offset"), 65),
    (("compiled_for",), [1]),
]


def test_what_may_be_there_too(kit, canonical):
    good = whole(kit)
    good["app"] |= {"floor": good["app"]["sequence"], "expires": "2028-02-29T23:59:59Z"}
    good["hooks"] = {"health": ["check-camera", "Check_2.sh"], "pre-install": ["x"]}
    assert manifest.parse(canonical(good)) == good
    good["app"]["floor"] += 1
    refused(canonical, good, "would forbid itself")


@pytest.mark.parametrize("at, item", WRONG, ids=[".".join(map(str, at)) + f"={str(item)[:20]}" for at, item in WRONG])
def test_out_of_range(kit, canonical, at, item):
    value = whole(kit)
    put(value, at, item)
    refused(canonical, value)


UNSAFE = [
    "/etc/passwd", "../up", "a/../b", "a//b", "./a", "a/", "", "a\\b", "C:x", "a\0b", "a\nb", "con?", "x" * 256,
    "ä" * 128, "a.", "a ", "\u202eevil", "manifest.dsse", "Manifest.DSSE",
]  # fmt: skip


@pytest.mark.parametrize("name", UNSAFE)
def test_unsafe_member_names(kit, canonical, name):
    kit.manifest["payloads"][0]["files"]["model"] = name
    value = whole(kit)
    value["members"][0]["name"] = name
    refused(canonical, value)


def test_members_must_be_sorted_unique_used_and_apart(kit, canonical):
    model = "payloads/onnxruntime/model.onnx"

    def manifest_with(*names, use=None):
        kit.manifest["payloads"][0]["files"] = {str(n): name for n, name in enumerate(use or names)}
        value = whole(kit)
        template = value["members"][0]
        value["members"] = [{**template, "name": name} for name in names]
        return value

    manifest.parse(canonical(manifest_with("a", "b", model)))
    refused(canonical, manifest_with("b", "a"), "sorted")
    refused(canonical, manifest_with("a", "a"), "unique")
    refused(canonical, manifest_with("A", "a"), "case")
    refused(canonical, manifest_with("a", "a/b"), "inside another")
    refused(canonical, manifest_with("a", "b", use=["a"]), "named nowhere")
    refused(canonical, manifest_with("a", use=["a", "b"]), "not a member")


def test_too_many_members(kit, canonical):
    value = whole(kit)
    value["members"] = [{**value["members"][0], "name": f"m{n:05}"} for n in range(layout.MAX_MEMBERS + 1)]
    refused(canonical, value, "members")


@pytest.mark.parametrize("version", [0, 2, 17])
def test_another_format_is_one_clear_error(kit, canonical, version):
    with pytest.raises(BadInputError) as caught:
        manifest.parse(canonical({"format": version, "anything": ["else"]}))
    assert caught.value.code == "E902" and f"format {version}" in caught.value.what and "update" in caught.value.fix


@pytest.mark.parametrize("version", [True, 1.0, "1", None, [1]])
def test_a_format_that_is_no_number_is_malformed(kit, canonical, version):
    value = whole(kit)
    value["format"] = version
    refused(canonical, value, "format")


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"1", b"null", b'"x"', b"\xff"])
def test_what_is_no_manifest(data):
    with pytest.raises(BadInputError):
        manifest.parse(data)


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=500)
@given(data=st.data())
def test_anything_anywhere_is_accepted_or_our_error(data, good_manifest, canonical):
    value = copy.deepcopy(good_manifest)
    for _ in range(data.draw(st.integers(1, 2))):
        put(value, data.draw(st.sampled_from(list(paths(value)))), data.draw(anything))
    try:
        raw = canonical(value)
    except UnicodeEncodeError:
        return
    try:
        parsed = manifest.parse(raw)
    except BadInputError as error:
        assert error.why and error.fix
    else:
        assert parsed == value
