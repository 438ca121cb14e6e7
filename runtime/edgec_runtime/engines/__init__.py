"""Engines that run payloads: one adapter a file, mirrored by `edgec_targets/emitters/<engine>/`."""
