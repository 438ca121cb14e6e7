"""The layout pass: no transposition that a graph doesn't need, and the least sum there is on small graphs."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec_targets.emitters.litert.expansion import Site, Term, minimise
from edgec_targets.emitters.litert.mincut import INFINITE, Cut
from edgec_targets.emitters.litert.regions import Regions, compose, invert

pytest.importorskip("ai_edge_litert")
import onnxruntime as ort

from edgec_targets.emitters.litert import prove
from edgec_targets.emitters.litert.conversion import convert

Parse = Callable[..., ir.Model]
STEPS = ("conv", "relu", "add", "swap", "shift", "mul", "reshape", "softmax")
WEIGHTS = {"w": (4, 4, 3, 3), "v": (4, 4, 1, 1), "m": (10, 144)}


def filled(model: ir.Model) -> ir.Model:
    """Inputs named like WEIGHTS become constants."""
    for value in [v for v in model.graph.inputs if v.name in WEIGHTS]:
        data = np.random.default_rng(len(str(value.name))).standard_normal(WEIGHTS[str(value.name)]).astype(np.float32)
        model.graph.inputs.remove(value)
        value.const_value = ir.Tensor(data, name=value.name)
        model.graph.register_initializer(value)
    return model


def transposes(model: ir.Model) -> int:
    """Convert, compare with ONNX Runtime, count."""
    filled(model)
    proto = ir.to_proto(model)
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(5)
    feeds = {i.name: rng.standard_normal(i.shape).astype(np.float32) for i in session.get_inputs()}
    written = convert(model)
    assert written.data is not None, written.problems
    got = prove.run(written.data, feeds)
    for output, want in zip(session.get_outputs(), session.run(None, feeds), strict=True):
        np.testing.assert_allclose(got[output.name], want, rtol=1e-4, atol=1e-4)
    return written.transposes


CASES = {
    "an image in, an image out: one each": (
        "g (float[1,4,8,8] x, float[4,4,3,3] w) => (float[1,4,6,6] y) { a = Conv(x, w) b = Relu(a) y = Sigmoid(b) }",
        2,
    ),
    "a mean over the image moves nothing back": (
        "g (float[1,4,8,8] x, float[4,4,3,3] w) => (float[1,4,1,1] y) { a = Conv(x, w) y = GlobalAveragePool(a) }",
        1,
    ),
    "the model's own Transposes fall away": (
        """g (float[1,8,8,4] x, float[4,4,3,3] w) => (float[1,6,6,4] y) {
           a = Transpose<perm = [0,3,1,2]>(x) b = Conv(a, w) y = Transpose<perm = [0,2,3,1]>(b) }""",
        0,
    ),
    "a residual stays in one layout": (
        """g (float[1,4,8,8] x, float[4,4,1,1] v) => (float[1,4,8,8] y) {
           a = Conv(x, v) b = Add(a, x) c = Conv(b, v) d = Mul(c, b) y = Add(d, a) }""",
        2,
    ),
    "elementwise operators before any convolution stay where they are": (
        "g (float[1,4,8,8] x) => (float[1,4,8,8] y) { a = Relu(x) b = Mul(a, x) y = Exp(b) }",
        0,
    ),
    "concatenation and slices follow the layout": (
        """g (float[1,4,8,8] x, float[4,4,1,1] v) => (float[1,8,1,1] y)
           <int64[1] s = {0}, int64[1] e = {2}, int64[1] a = {1}> {
           c = Conv(x, v) d = Slice(c, s, e, a) f = Concat<axis = 1>(c, d, d) y = GlobalMaxPool(f) }""",
        1,
    ),
    "a value that is added to its own transpose has to move": (
        "g (float[3,3] x) => (float[3,3] y) { t = Transpose<perm = [1,0]>(x) y = Add(x, t) }",
        1,
    ),
    "one axis of channels is a reshape": (
        "g (float[1,1,8,8] x) => (float[1,1,8,8] y) <float[1,1,1,1] k = {2.0}> { y = Conv(x, k) }",
        0,
    ),
    "a transposed operand of a product is a flag": (
        "g (float[2,3,4] x, float[2,5,4] z) => (float[2,3,5] y) { t = Transpose<perm = [0,2,1]>(z) y = MatMul(x, t) }",
        0,
    ),
    "softmax over channels is along the last axis already": (
        """g (float[1,4,8,8] x, float[4,4,1,1] v) => (float[1,4,1,1] y) {
           c = Conv(x, v) s = Softmax<axis = 1>(c) y = GlobalAveragePool(s) }""",
        1,
    ),
    "an image flattened for a matrix is not moved, its matrix is": (
        """g (float[1,4,8,8] x, float[4,4,3,3] w, float[10,144] m) => (float[1,10] y) {
           c = Conv(x, w) r = Relu(c) f = Flatten(r) y = Gemm<transB = 1>(f, m) }""",
        1,
    ),
    "many small pieces of a last axis are cut with that axis first": (
        """g (float[1,900,4] x) => (float[1,900,4] y)
           <int64[1] o = {0}, int64[1] m = {2}, int64[1] e = {4}, int64[1] k = {2}> {
           a = Slice(x, o, m, k) b = Slice(x, m, e, k) c = Exp(b) d = Mul(a, c) y = Concat<axis = 2>(d, c) }""",
        2,
    ),
    "a few are cut where they lie": (
        """g (float[1,9,4] x) => (float[1,9,4] y)
           <int64[1] o = {0}, int64[1] m = {2}, int64[1] e = {4}, int64[1] k = {2}> {
           a = Slice(x, o, m, k) b = Slice(x, m, e, k) c = Exp(b) d = Mul(a, c) y = Concat<axis = 2>(d, c) }""",
        0,
    ),
    "both readers of one value share its transposition": (
        """g (float[1,4,8,8] x, float[4,4,1,1] v) => (float[1,4,8,8] y, float[1,4,8,8] z) {
           y = Conv(x, v) z = MaxPool<kernel_shape = [1,1]>(x) }""",
        3,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_transposes_left(parse: Parse, name: str) -> None:
    text, wanted = CASES[name]
    assert transposes(parse(text)) == wanted


@settings(max_examples=40)
@given(st.data())
def test_any_chain_of_layers_and_transposes_computes_the_same(data: st.DataObject) -> None:
    """Random graphs over [1,4,6,6]-like values: the answers stay, whatever the layouts."""
    from onnx import parser

    steps = data.draw(
        st.lists(
            st.sampled_from(["conv", "relu", "add", "swap", "shift", "mul", "reshape", "softmax"]),
            min_size=1,
            max_size=7,
        )
    )
    lines, values = [], ["x"]
    for n, step in enumerate(steps):
        a = data.draw(st.sampled_from(values))
        b = data.draw(st.sampled_from(values))
        out = f"v{n}"
        lines.append(
            {
                "conv": f"{out} = Conv({a}, v)",
                "relu": f"{out} = Relu({a})",
                "add": f"{out} = Add({a}, {b})",
                "mul": f"{out} = Mul({a}, {b})",
                "swap": f"{out} = Transpose<perm = [0,1,3,2]>({a})",
                "shift": f"{out} = Transpose<perm = [0,2,3,1]>({a})",
                "reshape": f"{out} = Reshape({a}, k)",
                "softmax": f"{out} = Softmax<axis = {n % 3 + 1}>({a})",
            }[step]
        )
        values.append(out)
    text = "g (float[1,4,4,4] x, float[4,4,1,1] v) => (float[1,4,4,4] %s) <int64[4] k = {1,4,4,4}> { %s }"
    proto = parser.parse_model('<ir_version: 10, opset_import: ["" : 21]>\n' + text % (values[-1], " ".join(lines)))
    transposes(ir.from_proto(proto))


@settings(max_examples=80)
@given(st.data())
def test_two_layouts_reach_the_least_sum(data: st.DataObject) -> None:
    labels = ((0, 1), (1, 0))
    root = ir.Value(name="r", shape=ir.Shape([2, 3]))
    count = data.draw(st.integers(1, 6))
    end = st.one_of(st.integers(0, count - 1), st.sampled_from(labels))
    sites = []
    for _ in range(count):
        only = data.draw(st.sampled_from([labels, labels, labels[:1], labels[1:]]))
        sites.append(Site(root, list(labels), lambda label, only=only: label in only))
    terms = []
    for _ in range(data.draw(st.integers(1, 8))):
        weight = data.draw(st.integers(1, 50))
        readers = data.draw(st.lists(end, min_size=1, max_size=4))
        terms.append(Term(root, data.draw(end), readers, lambda a, b, weight=weight: weight * (a != b)))

    def energy(choice: tuple[tuple[int, int], ...]) -> int:
        return sum(t.energy(choice) for t in terms)

    allowed = [[label for label in labels if site.allowed(label)] for site in sites]
    best = min(energy(choice) for choice in itertools.product(*allowed))
    found = minimise(sites, terms)
    assert all(site.allowed(label) for site, label in zip(sites, found, strict=True))
    assert energy(tuple(found)) == best


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 20)), max_size=20))
def test_minimum_cut_against_all_cuts(edges: list[tuple[int, int, int]]) -> None:
    cut = Cut()
    for _ in range(5):
        cut.node()
    for a, b, capacity in edges:
        cut.edge(a, b, capacity)

    def cost(sink: set[int]) -> int:
        return sum(c for a, b, c in edges if a not in sink and b in sink)

    found = cut.sink_side()
    assert Cut.sink in found and Cut.source not in found
    least = min(cost({Cut.sink, *some}) for n in range(6) for some in itertools.combinations(range(2, 7), n))
    assert cost(found) == least < INFINITE


@settings(max_examples=50)
@given(st.data())
def test_regions_keep_axes_together(data: st.DataObject) -> None:
    values = [ir.Value(name=f"v{n}", shape=ir.Shape([2, 3, 4])) for n in range(5)]
    truth = [tuple(data.draw(st.permutations(range(3)))) for _ in values]  # common axis → the value's own
    regions = Regions()
    for a, b in itertools.pairwise(data.draw(st.permutations(range(5)))):
        assert regions.unite(values[a], values[b], compose(truth[b], invert(truth[a])))
    label = regions.label(values[0], (2, 0, 1))
    common = compose(invert(truth[0]), (2, 0, 1))
    for value, own in zip(values, truth, strict=True):
        assert regions.local(value, label) == compose(own, common)
    twisted = compose(truth[1], invert(truth[0]))
    assert not regions.unite(values[0], values[1], (twisted[1], twisted[0], twisted[2]))
