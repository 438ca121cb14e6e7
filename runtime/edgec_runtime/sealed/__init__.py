"""Payloads that are encrypted on the wire and at rest, and decrypted into memory where they are loaded.

A bundle has a content key. Each sealed member is encrypted with a key that is derived from it (`chunks`); the content
key is wrapped for each device with HPKE (`wrapped`), outside the bundle, whose signature and identity are the same for
all devices. What that protects, and what not: docs/flash_encryption.md.
"""
