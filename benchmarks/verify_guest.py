"""What benchmarks/verify_cost.py runs, here and inside the emulated core: `verify_guest.py WHAT FILE TRUST`.

WHAT is `hash` (the file's bytes once), `verify` (the signatures, the manifest, every byte of the file), `signature`
(one signature of a manifest in Python alone). TRUST is a root folder, or a key in hex. Standard output: seconds for
importing, and for the work, as wall and CPU time; nothing native beside Python's own modules is used.
"""

import os
import sys
import time

try:
    from marks import mark  # the emulated core counts between marks
except ImportError:

    def mark(tag):
        pass


START, READY, DONE = 1, 2, 3


def hashing(path, trust):
    from hashlib import sha256

    def work():
        import mmap

        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            sha256(data).digest()

    return work


def verify(path, trust):
    os.environ["EDGEC_ROOT"] = trust
    from hashlib import sha256  # noqa: F401  what hashing has imported too

    import edgec_runtime.trust.metadata  # noqa: F401
    from edgec_runtime.bundle import reader

    def work():
        with reader.open(path) as bundle:
            bundle.verify_all()
            assert bundle.trusted

    return work


def signature(path, trust):
    from hashlib import sha512  # noqa: F401

    from edgec_runtime.trust import ed25519

    with open(path, "rb") as file:
        message = file.read(3000)
    # A signature that is none costs what a good one does: only the last comparison differs.
    sig = bytes(32) + (3**158).to_bytes(32, "little")
    key = bytes.fromhex(trust)

    def work():
        assert not ed25519.verify(key, message, sig)

    return work


def now():
    return time.perf_counter(), time.process_time()


if __name__ == "__main__":
    what, path, trust = sys.argv[1:]
    begin = now()
    mark(START)
    work = {"hash": hashing, "verify": verify, "signature": signature}[what](path, trust)
    mark(READY)
    ready = now()
    work()
    mark(DONE)
    done = now()
    assert "cryptography" not in sys.modules
    print(
        *(round(b - a, 6) for begin_, end in ((begin, ready), (ready, done)) for a, b in zip(begin_, end, strict=True))
    )
