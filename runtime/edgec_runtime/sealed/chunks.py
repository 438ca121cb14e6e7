"""A sealed member: chunks of 64 KiB, each with its tag, by AES-256-GCM in the STREAM construction.

STREAM is of Hoang, Reyhanitabar, Rogaway and Vizár, "Online Authenticated-Encryption and its Nonce-Reuse
Misuse-Resistance" (CRYPTO 2015), as age uses it: the nonce of a chunk is its number (11 bytes, big-endian) and one byte
that is 1 in the last chunk and else 0. So a chunk that is changed, left out, put elsewhere, or after which the end is
missing, has a wrong tag, and memory holds one chunk whatever the member's size. An empty member is one empty chunk.

The key is the member's own, derived from the content key and the SHA-256 of the plaintext: members never share a key
and its nonces, not even where two bundles share a content key.
"""

from __future__ import annotations

from edgec_runtime.bundle.layout import SEALED_CHUNK, SEALED_TAG, sealed_size
from edgec_runtime.errors import TrustError
from edgec_runtime.sealed import crypto, hkdf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHUNK, TAG = SEALED_CHUNK, SEALED_TAG  # bytes of plaintext; bytes
MEMBER, IDENTITY = b"edgec sealed member v1\0", b"edgec sealed content key v1\0"


def member_key(content_key: bytes, digest: str) -> bytes:
    """The key of a member whose plaintext has this SHA-256 (hex)."""
    return hkdf.derive(content_key, MEMBER + bytes.fromhex(digest))


def key_id(content_key: bytes) -> str:
    """What a manifest says of its content key: 64 hex digits that tell a wrong one, and nothing of the right one."""
    return hkdf.derive(content_key, IDENTITY).hex()


def encrypt(key: bytes, read: Callable[[int], bytes], size: int) -> Iterator[bytes]:
    """The sealed chunks of what `read(n)` gives, `size` bytes in all. Raises ValueError where it gives fewer."""
    cipher = crypto.find().gcm(key)
    for number, length, last in _plan(size):
        chunk = read(length)
        if len(chunk) != length:
            raise ValueError("it ended early")
        yield cipher.encrypt(_nonce(number, last), chunk, b"")


def decrypt(key: bytes, sealed: memoryview, size: int) -> Iterator[bytes]:
    """The plaintext of a sealed member, chunk by chunk, `size` bytes in all.

    Raises TrustError (E533): truncated, extended, a chunk changed, left out or put elsewhere, or another key's. Chunks
    that were given out before were right, but are a part only: use them when the last one has come.
    """
    cipher = crypto.find().gcm(key)
    if len(sealed) != sealed_size(size):
        raise _damaged(f"it has {len(sealed):,} bytes; {sealed_size(size):,} were signed")
    at = 0
    for number, length, last in _plan(size):
        try:
            yield cipher.decrypt(_nonce(number, last), bytes(sealed[at : at + length + TAG]), b"")
        except ValueError:
            raise _damaged(f"chunk {number} has a wrong tag") from None
        at += length + TAG


def _plan(size: int) -> Iterator[tuple[int, int, bool]]:
    """(number, bytes of plaintext, whether it is the last) of each chunk."""
    count = max(1, -(-size // CHUNK))
    for number in range(count):
        yield number, min(CHUNK, size - number * CHUNK), number == count - 1


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + (b"\1" if last else b"\0")


def _damaged(why: str) -> TrustError:
    return TrustError("a sealed file can't be decrypted", why, "install the bundle again", code="E533")
