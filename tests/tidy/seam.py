#!/usr/bin/env python3
"""The explorer's seam costs nothing: hot files compile to the same instructions without it.

The sources are copied twice. In one copy every scheduling point (base_point) is deleted from
base/atomic.h, and every mechanism switch is written as the constant that it is in a native build;
then the hot files of both copies are compiled as the product is, and disassembled.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

import tidylib

# What runs in a fault, in reclaim, in an unmap, and below them.
HOT = ["base/lock.c", "base/rwsem.c", "base/vmalock.c", "base/rangemap_find.c",
       "pagetable/pagetable.c", "phys/free.c", "phys/lru.c", "rmap/count.c", "rmap/unmap.c",
       "gather/gather.c", "swap/swap_io.c", "swap/swap_cache.c", "fault/fault.c", "fault/anon.c",
       "fault/swapin.c", "reclaim/evict.c", "space/unmap.c", "space/protect.c"]
POINT = re.compile(r"base_point\(BASE_\w+, &a->raw, sizeof\(a->raw\)\);")
SWITCH = re.compile(r"\bmech_on\([^()]*\)")


def remove_seam(tree):
    """Deletes the points and switches under tree/src; returns how many of each."""
    path = os.path.join(tree, "src/base/atomic.h")
    with open(path) as file:
        text, points = POINT.subn("", file.read())
    with open(path, "w") as file:
        file.write(text)
    switches = 0
    for folder, _, names in os.walk(os.path.join(tree, "src")):
        for name in names:
            if not name.endswith(".c"):
                continue
            path = os.path.join(folder, name)
            with open(path) as file:
                text, n = SWITCH.subn("true", file.read())
            if n:
                with open(path, "w") as file:
                    file.write(text)
                switches += n
    return points, switches


def command_of(build, name):
    """The product's own compile command of a core file, as a list."""
    with open(os.path.join(build, "compile_commands.json")) as file:
        for entry in json.load(file):
            if entry["file"].endswith("/src/" + name) and "libquire_core.a.p/" in entry["output"]:
                return entry["command"].split()
    sys.exit("tidy_seam: no compile command for src/" + name)


def disassembly(build, tree, name):
    args, skip = [], False
    for word in command_of(build, name):
        if skip or word in ("-o", "-MF", "-MQ"):
            skip = not skip
        elif word.startswith("-I/"):
            args.append(word)
        elif word not in ("-c", "-MD", "-g") and not word.startswith("-I") \
                and not word.endswith("/src/" + name):
            args.append(word)
    out = os.path.join(tree, "out.o")
    subprocess.run(args + ["-Isrc/base/native", "-Isrc", "-Iinclude", "-c", "src/" + name,
                           "-o", out], cwd=tree, check=True)
    text = subprocess.run(["objdump", "-dr", out], stdout=subprocess.PIPE, check=True,
                          universal_newlines=True).stdout
    return text.split("\n", 3)[3]


def main():
    root = tidylib.parser(__doc__).parse_args().root
    build = os.environ.get("QUIRE_BUILD", os.path.join(root, "build"))
    if os.environ.get("QUIRE_SANITIZE"):
        print("skipped: instrumented code is not the product's")
        sys.exit(77)
    findings = same = 0
    with tempfile.TemporaryDirectory() as tmp:
        trees = [os.path.join(tmp, name) for name in ("with", "less")]
        for tree in trees:
            for part in ("src", "include"):
                shutil.copytree(os.path.join(root, part), os.path.join(tree, part))
        points, switches = remove_seam(trees[1])
        if points < 10 or switches < 10:
            sys.exit("tidy_seam: found %d points and %d switches to remove; look at the patterns"
                     % (points, switches))
        for name in HOT:
            with_it, without = (disassembly(build, tree, name) for tree in trees)
            if with_it == without:
                same += with_it.count("\n")
                continue
            findings += 1
            print("src/%s: the seam changes the native code; it must vanish" % name)
    print("seam: %d findings; %d lines of disassembly of %d files are the same without %d points "
          "and %d switches" % (findings, same, len(HOT), points, switches))
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
