"""What benchmarks/arm.py runs inside the emulated core: `arm_guest.py WHAT ARGUMENT…`, with marks around each step.

Imports nothing before the first mark that Python itself has not imported.
"""

import sys

from marks import mark

START, READY, CALLS, BETWEEN, EMPTY = 1, 2, 3, 6, 7
N = 100


def resident():
    """Bytes in memory now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def said(before):
    print(resident() - before)


def installed(app):
    before = resident()
    mark(START)
    import edgec_runtime as rt

    model = rt.load(app=app)
    mark(READY)
    said(before)
    return model


def bundle(path, keys):
    """The first, verifying load."""
    before = resident()
    mark(START)
    import edgec_runtime as rt

    rt.load(path, trust=keys)
    mark(READY)
    said(before)


def signature(key, path):
    """What of a verifying load is the signature: the module, its tables, one verification in Python alone."""
    mark(START)
    from edgec_runtime.trust import ed25519

    with open(path, "rb") as file:
        message = file.read(3000)
    # A signature that is none costs what a good one does: only the last comparison differs.
    ed25519.verify(bytes.fromhex(key), message, bytes(32) + (3**158).to_bytes(32, "little"))
    mark(READY)
    said(resident())


def hashing(path):
    """What of it is hashing: the module, and the file's bytes once."""
    mark(START)
    from hashlib import sha256

    with open(path, "rb") as file:
        sha256(file.read()).digest()
    mark(READY)
    said(resident())


def floor(library, model):
    """LiteRT's C interface by ctypes and nothing else: what can't be gone below in Python."""
    before = resident()
    mark(START)
    import ctypes
    from ctypes import byref, c_size_t, c_void_p

    lib = ctypes.CDLL(library)
    environment, loaded, options, compiled = c_void_p(), c_void_p(), c_void_p(), c_void_p()
    lib.LiteRtCreateEnvironment(0, None, byref(environment))
    lib.LiteRtCreateModelFromFile(environment, model.encode(), byref(loaded))
    lib.LiteRtCreateOptions(byref(options))
    lib.LiteRtSetOptionsHardwareAccelerators(options, 1)
    lib.LiteRtCreateCompiledModel(environment, loaded, options, byref(compiled))
    lib.LiteRtGetCompiledModelInputTensorLayout(compiled, c_size_t(0), c_size_t(0), (ctypes.c_int32 * 18)())
    mark(READY)
    said(before)


def litert(model):
    before = resident()
    mark(START)
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model, num_threads=1)
    interpreter.allocate_tensors()
    mark(READY)
    said(before)
    return interpreter


def onnxruntime(model):
    before = resident()
    mark(START)
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    mark(READY)
    said(before)
    return session


def calls(kind, argument):
    """N calls of a tiny model, y = relu(x) of four floats, through everything a user's call goes through."""
    from array import array

    if kind == "litert":
        import numpy

        interpreter = litert(argument)
        x = numpy.array([[1, -2, 3, -4]], numpy.float32)
        given, gives = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

        def call():
            interpreter.set_tensor(given, x)
            interpreter.invoke()
            return interpreter.get_tensor(gives)
    elif kind == "onnxruntime":
        import numpy

        session, feed = onnxruntime(argument), {"x": numpy.array([[1, -2, 3, -4]], numpy.float32)}
        call = lambda: session.run(None, feed)  # noqa: E731
    else:
        model = installed(argument)
        view = memoryview(array("f", [1, -2, 3, -4])).cast("B").cast("f", (1, 4))
        if kind == "numpy":
            import numpy

            view = numpy.asarray(view)
        feed = {"x": view}
        call = lambda: model.run(feed)  # noqa: E731
        if kind == "into":
            into = {"y": memoryview(array("f", [0] * 4)).cast("B").cast("f", (1, 4))}
            call = lambda: model.run(feed, out=into)  # noqa: E731
        if kind == "raw":
            executable = model._executable
            function, arguments = executable.call, executable.arguments
            call = lambda: function(*arguments)  # noqa: E731
    for _ in range(30):
        call()
    nothing = lambda: None  # noqa: E731
    for _ in range(30):
        nothing()
    mark(BETWEEN)
    for _ in range(N):
        call()
    mark(CALLS)
    for _ in range(N):
        nothing()
    mark(EMPTY)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
