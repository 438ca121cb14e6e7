"""Ed25519 signature verification (RFC 8032, section 5.1.7), in Python alone, with `cryptography` where it is loaded.

Strict: the cofactorless equation, `s` below the group's order, canonical encodings only, no public key of small
order (with such a key one signature fits many messages). Verification handles public data only, so nothing here
needs to run in constant time. One verification takes about two milliseconds; importing `cryptography` takes longer
than that, so it is used when the process has loaded it already.

The method is Straus's: both scalars in windowed non-adjacent form, one shared run of doublings in extended twisted
Edwards coordinates (Hisil, Wong, Carter, Dawson: "Twisted Edwards curves revisited", 2008, sections 3.1 and 3.3).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import lru_cache

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493  # the order of the base point
D = -121665 * pow(121666, P - 2, P) % P
D2 = 2 * D % P
SQRT_M1 = pow(2, (P - 1) // 4, P)
BASE_Y = 4 * pow(5, P - 2, P) % P
WINDOW_KEY, WINDOW_BASE = 5, 7  # the key's table is made for one verification, the base point's is kept

# The canonical encodings of the eight points of small order.
_ORDER_8 = (
    0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
    0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
)
SMALL_ORDER = frozenset(
    (y | sign << 255).to_bytes(32, "little")
    for y, signs in ((1, (0,)), (P - 1, (0,)), (0, (0, 1)), (_ORDER_8[0], (0, 1)), (_ORDER_8[1], (0, 1)))
    for sign in signs
)


def valid_key(public_key: bytes) -> bool:
    """True if these 32 bytes encode a point canonically and it is not of small order."""
    return len(public_key) == 32 and public_key not in SMALL_ORDER and _decode(public_key) is not None


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """True if `signature` (64 bytes) is one of `message` by the holder of `public_key` (32 bytes). Never raises."""
    if len(public_key) != 32 or len(signature) != 64:
        return False
    if public_key in SMALL_ORDER or int.from_bytes(public_key, "little") & (2**255 - 1) >= P:
        return False
    if int.from_bytes(signature[32:], "little") >= L:
        return False
    if "cryptography.hazmat.primitives.asymmetric.ed25519" in sys.modules:
        return _verify_with_cryptography(public_key, message, signature)
    return verify_pure(public_key, message, signature)


def verify_pure(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """The same as `verify`, never using `cryptography`."""
    from hashlib import sha512

    if len(public_key) != 32 or len(signature) != 64 or public_key in SMALL_ORDER:
        return False
    s = int.from_bytes(signature[32:], "little")
    key = _decode(public_key)
    if s >= L or key is None:
        return False
    x, y = key
    h = int.from_bytes(sha512(signature[:32] + public_key + message).digest(), "little") % L
    # s·B - h·A must encode to exactly the R that was sent, which refuses a non-canonical R too.
    minus_key = _odd_multiples((P - x if x else 0, y), WINDOW_KEY)
    return _encode(_double_multiply(s, _base_table(), h, minus_key)) == signature[:32]


def _verify_with_cryptography(public_key: bytes, message: bytes, signature: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


@lru_cache(maxsize=64)  # a key is looked at when it is read, and again for each of its signatures
def _decode(data: bytes) -> tuple[int, int] | None:
    """The affine point of a 32-byte encoding, or None (RFC 8032, section 5.1.3; non-canonical y refused)."""
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (2**255 - 1)
    if y >= P:
        return None
    u, v = (y * y - 1) % P, (D * y * y + 1) % P
    v3 = v * v % P * v % P
    x = u * v3 % P * pow(u * v3 % P * v3 % P * v % P, (P - 5) // 8, P) % P
    square = v * x * x % P
    if square == P - u and u:
        x = x * SQRT_M1 % P
    elif square != u:
        return None
    if x == 0 and sign:
        return None
    return (P - x if x & 1 != sign else x), y


def _encode(point: tuple[int, int, int]) -> bytes:
    x, y, z = point
    inverse = pow(z, P - 2, P)
    return (y * inverse % P | (x * inverse % P & 1) << 255).to_bytes(32, "little")


def _odd_multiples(point: tuple[int, int], window: int) -> list[tuple[int, int, int, int]]:
    """1, 3, 5 … times the point, each as (Y+X, Y-X, 2dT, 2Z): the form that an addition uses."""
    x, y = point
    t = x * y % P
    current = (x, y, 1, t)
    twice = _cached(_full_double(x, y, 1))
    table = [_cached(current)]
    for _ in range(2 ** (window - 2) - 1):
        current = _add(current, twice)
        table.append(_cached(current))
    return table


def _cached(point: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    x, y, z, t = point
    return (y + x) % P, (y - x) % P, t * D2 % P, 2 * z % P


def _full_double(x: int, y: int, z: int) -> tuple[int, int, int, int]:
    a, b = x * x % P, y * y % P
    h = a + b
    e = h - (x + y) * (x + y)
    g = a - b
    f = 2 * z * z + g
    return e * f % P, g * h % P, f * g % P, e * h % P


def _add(point: tuple[int, int, int, int], cached: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    x1, y1, z1, t1 = point
    plus, minus, t2d, z2 = cached
    a, b, c, d = (y1 - x1) * minus % P, (y1 + x1) * plus % P, t1 * t2d % P, z1 * z2 % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


@lru_cache(maxsize=1)
def _base_table() -> list[tuple[int, int, int, int]]:
    x, y = _decode(BASE_Y.to_bytes(32, "little")) or (0, 1)
    return _odd_multiples((x, y), WINDOW_BASE)


def _naf(scalar: int, window: int) -> dict[int, int]:
    """Windowed non-adjacent form: bit position -> odd digit with |digit| < 2**(window-1)."""
    digits = {}
    position, full = 0, 1 << window
    while scalar:
        zeros = (scalar & -scalar).bit_length() - 1
        scalar >>= zeros
        position += zeros
        digit = scalar & (full - 1)
        if digit >= full >> 1:
            digit -= full
        digits[position] = digit
        scalar -= digit
    return digits


def _double_multiply(
    a: int, table_a: list[tuple[int, int, int, int]], b: int, table_b: list[tuple[int, int, int, int]]
) -> tuple[int, int, int]:
    """a·A + b·B in projective coordinates, with the points as tables of odd multiples."""
    steps: dict[int, list[tuple[int, int, int, int]]] = {}
    for position, entry in _steps(a, table_a):
        steps.setdefault(position, []).append(entry)
    for position, entry in _steps(b, table_b):
        steps.setdefault(position, []).append(entry)
    x, y, z = 0, 1, 1
    for position in range(max(steps, default=-1), -1, -1):
        # The doubling of `_full_double` inline, without T where no addition follows.
        aa, bb = x * x % P, y * y % P
        h, g = aa + bb, aa - bb
        e = h - (x + y) * (x + y)
        f = 2 * z * z + g
        x, y, z = e * f % P, g * h % P, f * g % P
        if position in steps:
            t = e * h % P
            for entry in steps[position]:
                x, y, z, t = _add((x, y, z, t), entry)
    return x, y, z


def _steps(scalar: int, table: list[tuple[int, int, int, int]]) -> Iterable[tuple[int, tuple[int, int, int, int]]]:
    """(bit position, point to add there); a negative digit swaps Y+X with Y-X and negates 2dT."""
    window = len(table).bit_length() + 1
    for position, digit in _naf(scalar, window).items():
        if digit > 0:
            yield position, table[digit >> 1]
        else:
            plus, minus, t2d, z2 = table[-digit >> 1]
            yield position, (minus, plus, P - t2d, z2)
