"""What devices answer to the probe's script: texts of the form that /proc and the tools print there."""

from __future__ import annotations

import json

CORE = "processor\t: {n}\nBogoMIPS\t: 108.00\nFeatures\t: {isa}\nCPU implementer\t: 0x41\nCPU part\t: {part}\n"
A53 = "fp asimd evtstrm crc32 cpuid"
A76 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"


def python(version=(3, 11, 2), bits=64, **more):
    found = {"path": "/usr/bin/python3", "version": list(version), "bits": bits, "machine": "aarch64", "missing": []}
    return json.dumps({**found, "packages": {}, "libc": "glibc 2.36", "libstdcxx": "3.4.30", **more})


def text(cores=((A53, "0xd03"),) * 4, **sections):
    """A Raspberry Pi 3; `sections` replace, None removes."""
    cpuinfo = "\n".join(CORE.format(n=n, isa=isa, part=part) for n, (isa, part) in enumerate(cores))
    whole = {
        "uname": "Linux\naarch64\n6.12.25+rpt-rpi-v8",
        "bits": "64",
        "shell": " 127  69  76  70   2",
        "libc": "glibc 2.36\nldd (Debian GLIBC 2.36-9+rpt2) 2.36",
        "os": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian',
        "model": "Raspberry Pi 3 Model B Rev 1.2",
        "cpus": str(len(cores)),
        "cpuinfo": cpuinfo,
        "meminfo": "MemTotal:         930000 kB\nMemFree:  1 kB\nMemAvailable:     700000 kB",
        "clock": "1800000000",
        "user": "1000\n/home/pi",
        "root": "/home/pi/.local/share/edgec\n/home/pi\nwritable",
        "disk": "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/mmcblk0p2 29000000 1 20000000 1% /",
        "mounts": "/dev/root / ext4 rw,noatime 0 0\nproc /proc proc rw 0 0\nx /home/pi2 ext4 ro 0 0",
        "python": python(),
        "end": "",
        **sections,
    }
    body = "".join(f"\n@@{name}\n{value}\n" for name, value in whole.items() if value is not None)
    return f"Welcome to a board!\n@@edgec-probe 1\n{body}"
