"""AES-256-GCM and X25519 by OpenSSL's libcrypto, 1.1.1 or 3: it is there wherever Python's `ssl` is."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_void_p

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NAMES = ("libcrypto.so.3", "libcrypto.so.1.1", "libcrypto.so")
X25519 = 1034  # NID_X25519
GET_TAG, SET_TAG = 0x10, 0x11  # EVP_CTRL_AEAD_GET_TAG, _SET_TAG
TAG = 16  # bytes
_P, _PP = c_void_p, POINTER(c_int)
_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "EVP_CIPHER_CTX_new": (_P, ()),
    "EVP_CIPHER_CTX_free": (None, (_P,)),
    "EVP_CIPHER_CTX_ctrl": (c_int, (_P, c_int, c_int, _P)),
    "EVP_aes_256_gcm": (_P, ()),
    "EVP_EncryptInit_ex": (c_int, (_P, _P, _P, c_char_p, c_char_p)),
    "EVP_EncryptUpdate": (c_int, (_P, _P, _PP, c_char_p, c_int)),
    "EVP_EncryptFinal_ex": (c_int, (_P, _P, _PP)),
    "EVP_DecryptInit_ex": (c_int, (_P, _P, _P, c_char_p, c_char_p)),
    "EVP_DecryptUpdate": (c_int, (_P, _P, _PP, c_char_p, c_int)),
    "EVP_DecryptFinal_ex": (c_int, (_P, _P, _PP)),
    "EVP_PKEY_new_raw_private_key": (_P, (c_int, _P, c_char_p, c_size_t)),
    "EVP_PKEY_new_raw_public_key": (_P, (c_int, _P, c_char_p, c_size_t)),
    "EVP_PKEY_get_raw_public_key": (c_int, (_P, _P, POINTER(c_size_t))),
    "EVP_PKEY_free": (None, (_P,)),
    "EVP_PKEY_CTX_new": (_P, (_P, _P)),
    "EVP_PKEY_CTX_free": (None, (_P,)),
    "EVP_PKEY_derive_init": (c_int, (_P,)),
    "EVP_PKEY_derive_set_peer": (c_int, (_P, _P)),
    "EVP_PKEY_derive": (c_int, (_P, _P, POINTER(c_size_t))),
    "ERR_clear_error": (None, ()),
}


class Libcrypto:
    """The functions, from the first library that has them all. Raises OSError where none does."""

    name = "libcrypto"

    def __init__(self) -> None:
        why = "no library"
        for name in NAMES:
            try:
                library = ctypes.CDLL(name)
                self._calls: dict[str, Any] = {}
                for function, (returns, takes) in _SIGNATURES.items():
                    call = getattr(library, function)
                    call.restype, call.argtypes = returns, takes
                    self._calls[function] = call
                return
            except (OSError, AttributeError) as error:
                why = str(error)
        raise OSError(why)

    def call(self, name: str, *arguments: Any) -> Any:
        """A function that says 1 or a pointer where all is well. Raises ValueError where not."""
        result = self._calls[name](*arguments)
        if not result or result == -1:
            self._calls["ERR_clear_error"]()  # of this thread: Python's own ssl would find it there
            raise ValueError(f"{name} failed")
        return result

    def free(self, name: str, pointer: Any) -> None:
        """Give something back."""
        self._calls[name](pointer)

    def gcm(self, key: bytes) -> Gcm:
        """AES-256-GCM with a key of 32 bytes."""
        return Gcm(self, key)

    def public(self, private: bytes) -> bytes:
        """The X25519 public key (32 bytes) of a private key (RFC 7748)."""
        key = self.call("EVP_PKEY_new_raw_private_key", X25519, None, private, 32)
        try:
            out, size = ctypes.create_string_buffer(32), c_size_t(32)
            self.call("EVP_PKEY_get_raw_public_key", key, out, byref(size))
            return out.raw
        finally:
            self.free("EVP_PKEY_free", key)

    def exchange(self, private: bytes, public: bytes) -> bytes:
        """X25519 of both (RFC 7748). Raises ValueError for a public key of small order: the result would be zero."""
        key = peer = context = None
        try:
            key = self.call("EVP_PKEY_new_raw_private_key", X25519, None, private, 32)
            peer = self.call("EVP_PKEY_new_raw_public_key", X25519, None, public, 32)
            context = self.call("EVP_PKEY_CTX_new", key, None)
            self.call("EVP_PKEY_derive_init", context)
            self.call("EVP_PKEY_derive_set_peer", context, peer)
            out, size = ctypes.create_string_buffer(32), c_size_t(32)
            self.call("EVP_PKEY_derive", context, out, byref(size))
            return out.raw
        finally:
            self.free("EVP_PKEY_CTX_free", context)  # NULL is fine for all of these
            self.free("EVP_PKEY_free", peer)
            self.free("EVP_PKEY_free", key)


class Gcm:
    """AES-256-GCM (NIST SP 800-38D) with nonces of 12 bytes and tags of 16, after the ciphertext."""

    def __init__(self, library: Libcrypto, key: bytes) -> None:
        if len(key) != 32:
            raise ValueError("a key has 32 bytes")
        self._library, self._key = library, key

    def encrypt(self, nonce: bytes, data: bytes, aad: bytes = b"") -> bytes:
        """The ciphertext and its tag."""
        sealed, context = self._run("Encrypt", nonce, data, aad, None)
        try:
            tag = ctypes.create_string_buffer(TAG)
            self._library.call("EVP_CIPHER_CTX_ctrl", context, GET_TAG, TAG, tag)
            return sealed + tag.raw
        finally:
            self._library.free("EVP_CIPHER_CTX_free", context)

    def decrypt(self, nonce: bytes, data: bytes, aad: bytes = b"") -> bytes:
        """The plaintext. Raises ValueError where the tag is wrong; nothing is given out then."""
        if len(data) < TAG:
            raise ValueError("it is shorter than a tag")
        opened, context = self._run("Decrypt", nonce, data[:-TAG], aad, data[-TAG:])
        self._library.free("EVP_CIPHER_CTX_free", context)
        return opened

    def _run(self, way: str, nonce: bytes, data: bytes, aad: bytes, tag: bytes | None) -> tuple[bytes, Any]:
        if len(nonce) != 12:
            raise ValueError("a nonce has 12 bytes")
        call, context = self._library.call, self._library.call("EVP_CIPHER_CTX_new")
        try:
            out, size, more = ctypes.create_string_buffer(max(1, len(data))), c_int(0), c_int(0)
            call(f"EVP_{way}Init_ex", context, call("EVP_aes_256_gcm"), None, self._key, nonce)
            if aad:
                call(f"EVP_{way}Update", context, None, byref(size), aad, len(aad))
                size.value = 0
            if data:
                call(f"EVP_{way}Update", context, out, byref(size), data, len(data))
            if tag is not None:
                call("EVP_CIPHER_CTX_ctrl", context, SET_TAG, TAG, ctypes.create_string_buffer(tag, TAG))
            call(f"EVP_{way}Final_ex", context, ctypes.create_string_buffer(TAG), byref(more))
            return out.raw[: size.value + more.value], context
        except BaseException:
            self._library.free("EVP_CIPHER_CTX_free", context)
            raise
