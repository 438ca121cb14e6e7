# What a device is, for `edgec devices probe`: POSIX sh and what is there. Prints sections, changes nothing.
# $1: the root folder that was asked for, or nothing.
section() { printf '\n@@%s\n' "$1"; }
printf '@@edgec-probe 1\n'
section uname; uname -s; uname -m; uname -r
section bits; getconf LONG_BIT 2>/dev/null
section shell; dd if=/bin/sh bs=5 count=1 2>/dev/null | od -An -tu1 2>/dev/null
section libc; getconf GNU_LIBC_VERSION 2>/dev/null; ldd --version 2>&1 </dev/null | head -n 1; ls /lib/ld-musl-* 2>/dev/null
section os; cat /etc/os-release 2>/dev/null || cat /usr/lib/os-release 2>/dev/null
section model; { tr -d '\000' </proc/device-tree/model || cat /sys/class/dmi/id/product_name; } 2>/dev/null
section cpus; nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null
section cpuinfo; cat /proc/cpuinfo 2>/dev/null
section meminfo; cat /proc/meminfo 2>/dev/null
section clock; date +%s
section user; id -u; printf '%s\n' "$HOME"
root=$1
[ -n "$root" ] || root=$EDGEC_ROOT
if [ -z "$root" ]; then
  if [ -d /var/lib/edgec ]; then
    root=/var/lib/edgec
    [ ! -d "$HOME/.local/share/edgec" ] || { section both; printf '%s\n' "$HOME/.local/share/edgec"; }
  else root=$HOME/.local/share/edgec; fi
fi
case $root in "~/"*) root=$HOME/${root#"~/"} ;; /*) ;; *) root=$HOME/$root ;; esac
there=$root
while [ ! -d "$there" ] && [ -n "$there" ]; do there=${there%/*}; done
[ -n "$there" ] || there=/
section root; printf '%s\n%s\n' "$root" "$there"
if [ -w "$there" ]; then echo writable; else echo forbidden; fi
section disk; df -Pk "$there" 2>/dev/null
section mounts; cat /proc/mounts 2>/dev/null
section python
for name in python3 python3.15 python3.14 python3.13 python3.12 python3.11 python3.10 python3.9; do
  path=$(command -v "$name" 2>/dev/null) || continue
  "$path" - "$path" <<'PYTHON' 2>/dev/null && continue
import json, os, struct, sys
path = sys.argv[1]
found = {"path": path, "version": list(sys.version_info[:3]), "bits": 8 * struct.calcsize("P")}
try:
    import re, site, sysconfig
    found["machine"] = os.uname()[4]
    found["platform"] = sysconfig.get_platform()
    try:
        found["libc"] = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        found["libc"] = ""
    missing = []
    for name in ("ctypes", "zlib", "zipfile", "hashlib", "json", "mmap", "fcntl"):
        try:
            __import__(name)
        except ImportError:
            missing.append(name)
    found["missing"] = missing
    packages = {}
    try:
        from importlib import metadata
        for name in ("onnxruntime", "ai-edge-litert", "tflite-runtime", "ncnn", "numpy", "edgec-runtime"):
            try:
                packages[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                pass
    except ImportError:
        pass
    found["packages"] = packages
    triplet = os.uname()[4] + "-linux-gnu"
    for folder in ("/usr/lib/" + triplet, "/lib/" + triplet, "/usr/lib64", "/lib64", "/usr/lib", "/lib"):
        library = folder + "/libstdc++.so.6"
        if os.path.exists(library):
            with open(library, "rb") as file:
                minors = [int(n) for n in re.findall(rb"GLIBCXX_3\.4\.(\d+)\0", file.read())]
            found["libstdcxx"] = "3.4.%d" % max(minors or [0])
            break
except Exception as error:
    found["error"] = str(error)
print(json.dumps(found))
PYTHON
done
section end
