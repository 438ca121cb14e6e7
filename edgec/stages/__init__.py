"""The stages of a compile, one file each; only `edgec.compiler` knows their order."""
