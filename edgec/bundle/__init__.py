"""The bundle's room on the host: writing, signing, comparing and exporting `.edge` files.

The format is in ARCHITECTURE.md ("Bundle format 1") and docs/bundle.md. What a device does with a bundle is in
`edgec_runtime.bundle`; the host reads with that too.
"""
