"""Graphs that people bring, small, in ONNX's own text form with seeded noise for weights, and what holds them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir
import onnxruntime

import edgec_runtime as rt
import edgec_runtime.bundle
from edgec import data
from edgec_runtime import selftest

Feed = dict[str, np.ndarray]


@dataclass(frozen=True)
class Foreign:
    """`text` is the graph; `weights` are name -> shape (noise) or an array; `int8` the least dB, None: stays float."""

    text: str
    weights: Mapping[str, Any] = field(default_factory=dict)
    int8: float | None = 20.0
    opset: int = 17
    ml: bool = False
    high: int = 2  # whole numbers are drawn below it

    def proto(self) -> onnx.ModelProto:
        domains = f'"" : {self.opset}' + (', "ai.onnx.ml" : 3' if self.ml else "")
        ir_version = 13 if self.opset > 21 else 10 if self.opset > 17 else 8
        model = onnx.parser.parse_model(f"<ir_version: {ir_version}, opset_import: [{domains}]> {self.text}")
        rng = np.random.default_rng(0)
        for name, value in self.weights.items():
            noise = isinstance(value, tuple)
            array = (rng.standard_normal(value) * 0.3).astype(np.float32) if noise else np.asarray(value)
            model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        return model


PAD = "pads = [1, 1, 1, 1]"
X = "float[1,3,8,8] x"
RNN = {"W": (2, 12, 3), "R": (2, 12, 4), "s": [5, 8], "g": (8, 6), "b": (6,), "g2": (6, 2)}
MODELS = {
    "mobile block": Foreign(
        f"""g ({X}) => (float[1,4] y) {{
            a = Conv <{PAD}> (x, w0)  h = HardSigmoid <alpha = 0.16666667> (a)  a2 = Mul(a, h)
            d = Conv <{PAD}, group = 16> (a2, w1)  r = Relu(d)
            p = GlobalAveragePool(r)  s1 = Conv(p, w2)  s2 = Relu(s1)  s3 = Conv(s2, w3)  s4 = HardSigmoid(s3)
            e = Mul(r, s4)  q = Conv(e, w4)  z = Add(q, a2)  m = ReduceMean <axes = [2, 3], keepdims = 0> (z)
            y = Gemm(m, w5, b5) }}""",
        {"w0": (16, 3, 3, 3), "w1": (16, 1, 3, 3), "w2": (4, 16, 1, 1), "w3": (16, 4, 1, 1), "w4": (16, 16, 1, 1),
         "w5": (16, 4), "b5": (4,)},
    ),
    "residual with batch norm": Foreign(
        f"""g ({X}) => (float[1,8,4,4] y) {{
            a = Conv <{PAD}> (x, w0)  n = BatchNormalization(a, s, o, m, v)  r = Relu(n)
            c = Conv <{PAD}> (r, w1)  t = Add(c, r)  u = Relu(t)
            y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (u) }}""",
        {"w0": (8, 3, 3, 3), "w1": (8, 8, 3, 3), "s": np.full(8, 1.2, np.float32), "o": (8,), "m": (8,),
         "v": np.full(8, 0.7, np.float32)},
    ),
    "u-net of any size": Foreign(  # made-up inputs of 1 × 1 can't be halved: it had no golden answers
        f"""g (float[n,3,H,W] x) => (float[n,2,H,W] y) {{
            a = Conv <{PAD}> (x, w0)  r = Relu(a)  d = Conv <{PAD}, strides = [2, 2]> (r, w1)  e = Relu(d)
            u = ConvTranspose <strides = [2, 2]> (e, w2)  c = Concat <axis = 1> (u, r)  f = Conv <{PAD}> (c, w3)
            i = Resize <mode = "linear"> (f, , sc)  p = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (i)
            y = Sigmoid(p) }}""",
        {"w0": (8, 3, 3, 3), "w1": (8, 8, 3, 3), "w2": (8, 4, 2, 2), "w3": (2, 12, 3, 3),
         "sc": np.array([1, 1, 2, 2], np.float32)},
    ),
    "detector's decoding": Foreign(
        """g (float[1,8,6,6] x) => (float[1,36,7] y) {
            p = Conv(x, w)  r = Reshape(p, s)  t = Transpose <perm = [0, 2, 1]> (r)
            xy = Slice(t, n0, n2, n2)  wh = Slice(t, n2, n4, n2)  c = Slice(t, n4, n7, n2)
            xs = Sigmoid(xy)  g0 = Add(xs, grid)  e = Exp(wh)  f = Mul(e, an)  cs = Sigmoid(c)
            y = Concat <axis = -1> (g0, f, cs) }""",
        {"w": (7, 8, 1, 1), "s": [1, 7, 36], "n0": [0], "n2": [2], "n4": [4], "n7": [7], "grid": (36, 2), "an": (1, 2)},
        int8=None,  # the only layer feeds Exp, for whose range eight bits are not enough
    ),
    "audio in one dimension": Foreign(
        """g (float[1,1,200] x) => (float[1,6] y) {
            a = Conv <strides = [4], pads = [4, 3]> (x, w0)  r = Relu(a)  m = MaxPool <kernel_shape = [2]> (r)
            d = Conv <group = 16, dilations = [2], pads = [2, 2]> (m, w1)  u = LeakyRelu(d)
            p = GlobalAveragePool(u)  f = Flatten(p)  y = Gemm <transB = 1> (f, w2, b2) }""",
        {"w0": (16, 1, 9), "w1": (16, 1, 3), "w2": (6, 16), "b2": (6,)},
    ),
    "three dimensions": Foreign(
        """g (float[1,1,4,6,6] x) => (float[1,4] y) {
            a = Conv <pads = [1, 1, 1, 1, 1, 1]> (x, w0)  r = Relu(a)
            m = MaxPool <kernel_shape = [2, 2, 2], strides = [2, 2, 2]> (r)  c = Conv(m, w1)
            p = GlobalAveragePool(c)  y = Flatten(p) }""",
        {"w0": (8, 1, 3, 3, 3), "w1": (4, 8, 1, 1, 1)},
    ),
    "activations": Foreign(
        f"""g ({X}) => (float[1,4,8,8] y) {{
            a = Conv <{PAD}> (x, w0)  b = PRelu(a, sl)  c = Conv(b, w1)  d = Sigmoid(c)  e = Mul(c, d)
            f = Conv(e, w1)  g0 = Softplus(f)  h = Tanh(g0)  i = Mul(f, h)  j = Conv(i, w1)  k = Elu(j)
            l = Conv(k, w1)  m = Div(l, q2)  n = Erf(m)  o = Add(n, one)  p = Mul(l, o)  y = Mul(p, half) }}""",
        {"w0": (4, 3, 3, 3), "w1": (4, 4, 1, 1), "sl": (4, 1, 1), "q2": np.float32(2**0.5), "one": np.float32(1),
         "half": np.float32(0.5)},
    ),
    "norms": Foreign(
        f"""g ({X}) => (float[1,5] y) {{
            a = Conv <{PAD}> (x, w0)  n = GroupNormalization <num_groups = 2> (a, s, o)  r = Relu(n)
            i = InstanceNormalization(r, s, o)  c = Conv <{PAD}> (i, w1)  f = Reshape(c, sh)
            t = Transpose <perm = [0, 2, 1]> (f)  l = LayerNormalization(t, s, o)  m = ReduceMean <keepdims = 0> (l, ax)
            y = Gemm(m, w2) }}""",
        {"w0": (8, 3, 3, 3), "w1": (8, 8, 3, 3), "s": (8,), "o": (8,), "sh": [1, 8, 64], "ax": [1], "w2": (8, 5)},
        opset=21,
    ),
    "attention": Foreign(  # layers of stacked matrices: their twins in the float model have more axes
        """g (int64[1,6] ids) => (float[1,6,8] y) {
            x = Gather(E, ids)
            q0 = MatMul(x, wq)  q1 = Add(q0, b)  q2 = Reshape(q1, s)  q = Transpose <perm = [0, 2, 1, 3]> (q2)
            k0 = MatMul(x, wk)  k1 = Add(k0, b)  k2 = Reshape(k1, s)  k = Transpose <perm = [0, 2, 3, 1]> (k2)
            v0 = MatMul(x, wv)  v1 = Add(b, v0)  v2 = Reshape(v1, s)  v = Transpose <perm = [0, 2, 1, 3]> (v2)
            a0 = MatMul(q, k)  a1 = Softmax(a0)  a2 = MatMul(a1, v)  a3 = Transpose <perm = [0, 2, 1, 3]> (a2)
            a4 = Reshape(a3, s2)  o0 = MatMul(a4, wo)  o1 = Add(o0, b)  o2 = Add(o1, x)
            y = LayerNormalization(o2, ln, b) }""",
        {"E": (20, 8), "wq": (8, 8), "wk": (8, 8), "wv": (8, 8), "wo": (8, 8), "b": (8,), "s": [1, 6, 2, 4],
         "s2": [1, 6, 8], "ln": np.ones(8, np.float32)},
        high=20,
    ),
    "channels last in the middle": Foreign(  # bias correction took means over the wrong axes of a product's result
        f"""g ({X}) => (float[1,8,8,8] y) {{
            c = Conv <{PAD}> (x, w0)  t = Transpose <perm = [0, 2, 3, 1]> (c)  l = LayerNormalization(t, s, b)
            m0 = MatMul(l, w1)  m1 = Add(m0, b1)  r = Relu(m1)  m2 = MatMul(r, w2)  m3 = Add(m2, b)
            u = Transpose <perm = [0, 3, 1, 2]> (m3)  y = Add(u, c) }}""",
        {"w0": (8, 3, 3, 3), "s": np.ones(8, np.float32), "b": (8,), "w1": (8, 16), "b1": (16,), "w2": (16, 8)},
    ),
    "recurrent": Foreign(
        """g (float[5,1,3] x) => (float[5,2] y, float[2,1,4] h) {
            o, h = GRU <hidden_size = 4, direction = "bidirectional"> (x, W, R)
            t = Transpose <perm = [0, 2, 1, 3]> (o)  r = Reshape(t, s)
            m = MatMul(r, g)  a = Add(m, b)  u = Relu(a)  y = MatMul(u, g2) }""",
        RNN,
    ),
    "one layer that reads the input": Foreign(  # nothing but an input to observe: "at least one output"
        "g (float[n,8] x) => (float[n,4] y) { y = Gemm <alpha = 0.5, beta = 2.0> (x, w, b) }", {"w": (8, 4), "b": (4,)}
    ),
    "weights all zero": Foreign(  # an infinite SQNR is no JSON
        f"g ({X}) => (float[1,4,8,8] y) {{ y = Conv <{PAD}> (x, w) }}", {"w": np.zeros((4, 3, 3, 3), np.float32)}
    ),
    "bytes in, labels out": Foreign(
        """g (uint8[1,8,8,3] x) => (int64[1] label, float[1,3] top, int64[1,3] which, bool[1,5] sure) {
            t = Transpose <perm = [0, 3, 1, 2]> (x)  f = Cast <to = 1> (t)  n = Div(f, d)  c = Conv(n, w0)  r = Relu(c)
            p = GlobalAveragePool(r)  q = Flatten(p)  l = Gemm(q, w1)  label = ArgMax <axis = 1, keepdims = 0> (l)
            top, which = TopK(l, k)  sure = Greater(l, z) }""",
        {"d": np.float32(255), "w0": (8, 3, 3, 3), "w1": (8, 5), "k": [3], "z": np.float32(0)},
        high=200,
    ),
    "mask": Foreign(
        """g (float[1,5,8] x, bool[1,5,8] mask) => (float[1,8] y) {
            m = MatMul(x, w)  z = Where(mask, m, zero)  y = ReduceMax <axes = [1], keepdims = 0> (z) }""",
        {"w": (8, 8), "zero": np.float32(0)},
    ),
    "bounds whose inner result is read elsewhere too": Foreign(  # the merged Clip took the name of one
        # that stayed, and its bound the name that calibration wanted
        f"""g ({X}) => (float[1,4,8,8] y, float[1,4,8,8] z) {{
            a = Conv <{PAD}> (x, w0)  c = Clip(a, , hi)  r = Relu(c)  y = Conv <{PAD}> (r, w1)  s = Relu(a)
            d = Clip(s, , hi)  e = Conv <{PAD}> (d, w1)  z = Add(e, c) }}""",
        {"w0": (4, 3, 3, 3), "w1": (4, 4, 3, 3), "hi": np.float32(0.5)},
    ),
    "products in a row": Foreign(  # one's result and the next one's rows had the same name
        """g (float[1,5,8] x) => (float[1,5,4] y) {
            a0 = MatMul(x, w0)  a = Add(a0, b0)  c0 = MatMul(a, w1)  c = Add(b1, c0)  y = MatMul(c, w2) }""",
        {"w0": (8, 16), "b0": (16,), "w1": (16, 8), "b1": (8,), "w2": (8, 4)},
    ),
    "control flow": Foreign(
        f"""g ({X}) => (float[1,4,8,8] y) {{
            a = Conv <{PAD}> (x, w0)  m = ReduceMean <keepdims = 0> (x)  c = Greater(m, zero)
            b = If(c) <then_branch = t () => (float[1,4,8,8] to) {{ to = Relu(a) }},
                       else_branch = e () => (float[1,4,8,8] eo) {{ eo = Conv <{PAD}> (a, w1) }}>
            y = Conv <{PAD}> (b, w1) }}""",
        {"w0": (4, 3, 3, 3), "w1": (4, 4, 3, 3), "zero": np.float32(0)},
    ),
    "odd operators": Foreign(
        """g (float[1,8,9,9] x) => (float[1,4,4,3] y, float[1,8] c, float[1,3] g0) {
            p = MaxPool <kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1, pads = [1, 0, 0, 1]> (x)
            a = Conv <group = 4, dilations = [2, 2], pads = [2, 1, 2, 3]> (p, w0)
            r = Relu(a)  q = Pad <mode = "reflect"> (r, pad)  s = Conv <kernel_shape = [1, 3]> (q, w1)
            t = Slice(s, st, en)  y0 = Einsum <equation = "bchw,cd->bdhw"> (t, e)
            y = Slice(y0, st, end)  m = ReduceMax <axes = [2, 3], keepdims = 0> (r)  c = CumSum(m, ax)
            g0 = GatherElements <axis = 1> (m, idx) }""",
        {"w0": (8, 2, 3, 3), "w1": (8, 8, 1, 3), "pad": [0, 0, 0, 1, 0, 0, 1, 0], "st": [0, 0, 0, 0],
         "en": [1, 8, 4, 9], "end": [1, 4, 4, 3], "e": (8, 4), "ax": 1, "idx": [[0, 3, 5]]},
    ),
    "outputs that nothing computes": Foreign(
        f"""g ({X}, float[2] unused) => (float[1,4,8,8] y, float[1,3,8,8] x, float[4,3,3,3] w) {{
            y = Conv <{PAD}> (x, w) }}""",
        {"w": (4, 3, 3, 3)},
    ),
    "identity": Foreign(
        "g (float[2,3] x) => (float[2,3] y, float[2,3] z) { y = Identity(x)  z = Identity(x) }", int8=None
    ),
    "scalar input": Foreign(  # a rank-0 sample became rank 1, which the runtime then refused
        "g (float[2,8] x, float k) => (float[2,4] y) { a = MatMul(x, w)  y = Mul(a, k) }", {"w": (8, 4)}
    ),
    "no inputs": Foreign("g () => (float[2] y) { y = Relu(k) }", {"k": (2,)}, int8=None),
    "half precision inside": Foreign(
        f"""g ({X}) => (float[1,4,8,8] y) {{
            h = Cast <to = 10> (x)  c = Conv <{PAD}> (h, w)  r = Relu(c)  y = Cast <to = 1> (r) }}""",
        {"w": np.random.default_rng(1).standard_normal((4, 3, 3, 3)).astype(np.float16)},
        int8=None,
    ),
    "dynamically quantized already": Foreign(
        """g (float[2,8] x) => (float[2,4] y) {
            q, s, z = DynamicQuantizeLinear(x)  m = MatMulInteger(q, w, z)  f = Cast <to = 1> (m)  y = Mul(f, s) }""",
        {"w": np.random.default_rng(1).integers(-120, 120, (8, 4)).astype(np.int8)},
        int8=None,
    ),
    "quantized already": Foreign(
        f"""g ({X}) => (float[1,4,8,8] y) {{
            q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)  wd = DequantizeLinear <axis = 0> (w, ws, wz)
            y = Conv <{PAD}> (d, wd) }}""",
        {"w": np.random.default_rng(1).integers(-120, 120, (4, 3, 3, 3)).astype(np.int8), "s": np.float32(0.03),
         "z": np.uint8(128), "ws": np.full(4, 0.003, np.float32), "wz": np.zeros(4, np.int8)},
        int8=None,
    ),
    "very new": Foreign(  # ONNX Runtime has no QuantizeLinear of opset 28
        f"g ({X}) => (float[1,4,8,8] y) {{ c = Conv <{PAD}> (x, w)  y = Relu(c) }}", {"w": (4, 3, 3, 3)}, opset=28
    ),
    "very old": Foreign(
        f"""g ({X}) => (float[1,5] y) {{
            c = Conv <{PAD}> (x, w)  n = BatchNormalization <spatial = 1> (c, s, s, s, v)  r = Relu(n)
            d = Dropout(r)  f = Flatten(d)  y = Gemm(f, g, b) }}""",
        {"w": (4, 3, 3, 3), "s": (4,), "v": np.ones(4, np.float32), "g": (256, 5), "b": (5,)},
        opset=7,
    ),
    "labels as text": Foreign(
        """g (float[1,4] x) => (string[1] label, float[1,3] p) {
            label, p = ai.onnx.ml.LinearClassifier <classlabels_strings = ["cat", "dog", "eel"],
                coefficients = [0.1, 0.2, -0.3, 0.4, 0.5, -0.6, 0.7, 0.8, 0.9, -1.0, 1.1, 1.2],
                intercepts = [0.1, 0.2, 0.3], post_transform = "SOFTMAX"> (x) }""",
        int8=None,
        ml=True,
    ),
}  # fmt: skip


def session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def feeds(proto: onnx.ModelProto, seed: int, count: int, high: int = 2, free: int = 8) -> Iterator[Feed]:
    """Inputs drawn anew, the free sizes all `free` but the first axis, which is 2."""
    rng = np.random.default_rng(seed)
    weights = {w.name for w in proto.graph.initializer}
    for _ in range(count):
        feed = {}
        for info in proto.graph.input:
            if info.name in weights:
                continue
            kind = info.type.tensor_type
            dims = kind.shape.dim
            shape = [d.dim_value if d.HasField("dim_value") else free if i else 2 for i, d in enumerate(dims)]
            dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
            if dtype.kind == "f":
                feed[info.name] = np.asarray(rng.standard_normal(shape), dtype)
            else:
                feed[info.name] = np.asarray(rng.integers(0, 2 if dtype.kind == "b" else high, shape), dtype)
        yield feed


def calibration(proto: onnx.ModelProto, high: int = 2) -> data.Dataset:
    weights = {w.name for w in proto.graph.initializer}
    inputs = [v for v in onnx_ir.from_proto(proto).graph.inputs if v.name not in weights]
    return data.Dataset.of(list(feeds(proto, 1, 8, high)), inputs)


def decibels(expected: list[np.ndarray], got: list[np.ndarray]) -> float:
    numbers = [(a.astype(np.float64), b) for a, b in zip(expected, got, strict=True) if a.dtype.kind == "f"]
    return data.sqnr_db([a for a, _ in numbers], [b.astype(np.float64) for _, b in numbers])


def same_interface(bundle: Path, proto: onnx.ModelProto) -> None:
    """Names, types and ranks are the original's, in its order, and golden answers pass."""
    original = session(proto.SerializeToString())
    with rt.load(bundle) as model:
        for ours, theirs in ((model.inputs, original.get_inputs()), (model.outputs, original.get_outputs())):
            assert [t["name"] for t in ours] == [t.name for t in theirs]
            for a, b in zip(ours, theirs, strict=True):
                assert a["dtype"] == {"float": "float32"}.get(b.type[7:-1], b.type[7:-1])
                assert len(a["shape"]) == len(b.shape)
                assert all(x == y for x, y in zip(a["shape"], b.shape, strict=True) if isinstance(y, int))
    assert {p["result"] for p in selftest.bundle(bundle)["payloads"]} <= {"passed", "loaded"}
