"""One measured program in a process of its own: `python -m edgec.measure.worker SPEC` (internal to `edgec bench`).

SPEC is JSON: {"kind": "edgec" | "onnxruntime", "path": file, "payload": id or null, "threads": n or null,
"input": npz, "allow_unsigned": bool}. The process prints one JSON line once the first output is there; then, for each
line `N` on standard input, it runs N times and answers {"wall": [seconds], "cpu": seconds, "peak": bytes}.

It imports nothing that the measured way does not import itself, so that the cold start and the memory are its own.
"""

import sys
import time


def peak() -> int:
    """Peak resident memory of this process in bytes (VmHWM: unlike ru_maxrss it does not inherit the parent's)."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def main() -> None:
    """Load, run once, then as often as standard input asks."""
    import json

    spec = json.loads(sys.argv[1])
    if spec["kind"] == "edgec":
        import edgec_runtime

        model = edgec_runtime.load(
            spec["path"], payload=spec["payload"], threads=spec["threads"], allow_unsigned=spec["allow_unsigned"]
        )

        def run(feed: dict) -> object:  # type: ignore[type-arg]
            return model.run(feed)
    else:
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 4  # what goes wrong comes as an exception
        if spec["threads"]:
            settings.intra_op_num_threads = spec["threads"]
        session = onnxruntime.InferenceSession(spec["path"], settings, providers=["CPUExecutionProvider"])

        def run(feed: dict) -> object:  # type: ignore[type-arg]
            return session.run(None, feed)

    import numpy

    with numpy.load(spec["input"], allow_pickle=False) as data:
        feed = {name: data[name] for name in data.files}
    run(feed)
    print(json.dumps({"first": True, "peak": peak()}), flush=True)
    for line in sys.stdin:
        wall = []
        cpu = time.process_time()
        for _ in range(int(line)):
            start = time.perf_counter()
            run(feed)
            wall.append(time.perf_counter() - start)
        print(json.dumps({"wall": wall, "cpu": time.process_time() - cpu, "peak": peak()}), flush=True)


if __name__ == "__main__":
    main()
