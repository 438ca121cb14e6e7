"""A laboratory for power cuts: every state in which one can leave a disk, mounted by the kernel and looked at.

`record` runs a program on a file system whose disk logs writes and flushes (`disk`); `check` makes each crash state of
that log (`states`), mounts it and asks whether all is well. `protocols` has programs that a laboratory must find bad.
`python -m edgec_toolchains.crashlab` prints what it finds of those. It needs root, /dev/fuse, loop devices and
e2fsprogs: `obstacle()` says what is missing. Call `isolate()` first: mounts are then this process's own.
"""

from edgec_toolchains.crashlab.lab import FILE_SYSTEMS, FileSystem, Recording, Verdict, check, record
from edgec_toolchains.crashlab.mounts import isolate, obstacle

__all__ = ["FILE_SYSTEMS", "FileSystem", "Recording", "Verdict", "check", "isolate", "obstacle", "record"]
