#!/usr/bin/env python3
"""Every tidy check can fail: each is run on tiny trees that break its rule, and must complain.

A case is (check, {path: text}, what the complaint must contain); None for no complaint at all.
"""

import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))

CONTRACT = "/*\n * x.h - a thing.\n * Invariants: none.\n * Locking: none.\n */\n"
RANKS = "".join(open(os.path.join(HERE, "ranks.txt")))
LOCKS = 'LOCK(10, SPACE, rwsem, "areas")\nLOCK(20, PTE, spin, "entries "\n     "of a table")\n'
DOC = "/* Opens. */\n"


def ranked(files):
    return dict(files, **{"tests/tidy/ranks.txt": RANKS})


def source(text, path="src/phys/x.c"):
    return {path: text}


def lines(count):
    return "int f(void)\n{\n" + "\tg();\n" * (count - 2) + "}\n"


CASES = [
    # includes
    ("includes", ranked(source('#include "fault/fault.h"\n')), "only lower ranks"),
    ("includes", ranked(source('#include "vma/vma.h"\n', "src/object/x.c")), "only lower ranks"),
    ("includes", ranked(source('#include "machine/host/h.h"\n')),
     "includes nothing of machine/host"),
    ("includes", ranked(source('#include "run/r.h"\n')), "includes nothing of run"),
    ("includes", ranked(source('#include "phys/p.h"\n', "src/machine/sim/x.c")), "is a leaf"),
    ("includes", ranked(source('#include "machine/sim/s.h"\n', "src/machine/host/x.c")),
     "is a leaf"),
    ("includes", ranked(source('#include "../base/b.h"\n')), "write the path from src/"),
    ("includes", ranked(source('#include "missing.h"\n')), "write the path from src/"),
    ("includes", ranked(source('#include "other/o.h"\n')), "no ranked folder"),
    ("includes", ranked(source("\n", "src/other/x.c")), "its folder has no rank"),
    ("includes", ranked(source('#include "base_backend.h"\n')), "base's own"),
    ("includes", source("\n"), "no ranks there"),
    ("includes", ranked(source('#include "base/b.h"\n#include "phys/p.h"\n#include <lz4.h>\n'
                               '#include "machine/machine.h"\n#include <quire/quire.h>\n'
                               '/* #include "fault/fault.h" */\n')), None),
    ("includes", ranked(source('#include "space/s.h"\n', "src/run/x.c")), None),
    # banned
    ("banned", source("void *f(void) { return malloc(1); }\n"), "base/arena.h"),
    ("banned", source("void f(void) { printf(\"x\"); }\n"), "base/trace.h"),
    ("banned", source("void f(void) { pthread_create(0, 0, 0, 0); }\n"), "base/lock.h"),
    ("banned", source("void f(void) { nanosleep(0, 0); }\n"), "machine/machine.h"),
    ("banned", source("void f(void) { syscall(1); }\n"), "machine/machine.h"),
    ("banned", source("static __thread int x;\n"), "base/thread.h"),
    ("banned", source("int f(int *p) { return __atomic_load_n(p, 0); }\n"), "base/atomic.h"),
    ("banned", source("#include <stdio.h>\n"), "<stdio.h> in the core"),
    ("banned", source("#include <sys/mman.h>\n"), "<sys/mman.h> in the core"),
    ("banned", source("#include <stdatomic.h>\n"), "base/atomic.h"),
    ("banned", source("#ifdef QUIRE_EXPLORED\n#endif\n"), "#ifdef in the core"),
    ("banned", source("#ifdef QUIRE_DEBUG\n#endif\n"), "#ifdef in the core"),
    ("banned", source("#if defined(__x86_64__)\n#endif\n"), "#if in the core"),
    ("banned", source("int f(void) { return -errno; }\n"), "negative errno"),
    ("banned", source("int x;\n#include <errno.h>\n"
                      "void f(struct m *m) { m->ops->free(m); m->clock(m); /* malloc() */ }\n"
                      "int tree_time(void); const char *s = \"printf()\";\n"), None),
    ("banned", source(CONTRACT + "#ifndef X_H\n#define X_H\nint f(void);\n#endif\n",
                      "src/phys/x.h"), None),
    ("banned", source("#ifdef X\n#endif\nstatic __thread int x;\n", "src/base/native/x.c"), None),
    ("banned", source("#include <stdio.h>\n", "src/tool/x.c"), None),
    # contract
    ("contract", source("int f(void);\n", "src/phys/x.h"), "begins without a comment"),
    ("contract", source("/* x.h: locks nothing. */\n", "src/phys/x.h"), "less than 4 lines"),
    ("contract", source("/*\n * a block\n * of no\n * use\n */\n", "src/phys/x.h"),
     "does not say who locks it"),
    ("contract", source(CONTRACT, "src/phys/x.h"), None),
    ("contract", source("/* SPDX-License-Identifier: MIT */\n" + CONTRACT, "src/phys/x.h"), None),
    # size
    ("size", source("int x;\n" * 801), "the file has 801 lines"),
    ("size", source(lines(71)), "f() has 71 lines"),
    ("size", source("struct a b = { .c = 1 };\n" + lines(90).replace(")\n{", ") {")), "f() has 90"),
    ("size", source("\t" * 12 + "int abcde;\n"), "106 columns"),
    ("size", dict(source(lines(80)), **{"tests/tidy/size_ratchet.txt": "src/phys/x.c f 79\n"}),
     "at most 79"),
    ("size", dict(source(lines(80)), **{"tests/tidy/size_ratchet.txt": "src/phys/x.c f 81\n"}),
     "is shorter now"),
    ("size", dict(source(lines(80)), **{"tests/tidy/size_ratchet.txt": "src/phys/x.c f 80\n"}),
     None),
    ("size", source("int x;\n" * 799 + "#define M { \\\n\t{\n"), "the file has 801 lines"),
    ("size", source(lines(70) + "#define M(x) { \\\n\tx\n" + lines(70)), None),
    # words
    ("words", {"README.md": "see /" + "work/notes\n"}, "exists on one machine only"),
    ("words", {"scripts/x.sh": "cd /" + "farm/x\n"}, "exists on one machine only"),
    ("words", {"src/phys/x.c": "/* TO" + "DO: all of it */\n"}, "do it, or open an issue"),
    ("words", {"docs/x.md": "FIX" + "ME\n"}, "do it, or open an issue"),
    ("words", {"a.c": 'char t[] = "/tmp/quire-XXXXXX"; /* home/' + 'work/x */\n'}, None),
    # locking_doc
    ("locking_doc", {"src/base/locks.def": LOCKS}, "is not there: run make docs"),
    ("locking_doc", {"src/base/locks.def": LOCKS, "docs/LOCKING.md": "# Locking\n"}, "differs"),
    ("locking_doc", {"src/base/locks.def": "/* none */\n"}, "no LOCK(order"),
    ("locking_doc", {"src/base/locks.def": 'LOCK(2, A, spin, "a")\nLOCK(1, B, spin, "b")\n'},
     "do not rise"),
    # public_docs
    ("public_docs", {"include/quire/q.h": DOC + "\nint quire_f(int n);\n"},
     "has no comment before it"),
    ("public_docs", {"include/quire/q.h": DOC + "\n/* It returns 0. */\nint quire_f(int n);\n"},
     "does not name the parameter n"),
    ("public_docs", {"include/quire/q.h": DOC + "\n/* Takes n. */\nint quire_f(int n);\n"},
     "does not say what it returns"),
    ("public_docs", {"include/quire/q.h": DOC + "\n/* It returns 0. */\nint quire_f(int);\n"},
     "a parameter without a name"),
    ("public_docs", {"include/quire/q.h": DOC + "\n/* Calls done; returns 0. */\n"
                     "int quire_f(void (*done)(int n),\n\t    void *ctx);\n"},
     "does not name the parameter ctx"),
    ("public_docs", {"include/quire/q.h": "int x;\n"}, "begins without a comment"),
    ("public_docs", {"include/quire/q.h": DOC + '#ifdef __cplusplus\nextern "C" {\n#endif\n'
                     "struct quire_s {\n\tint (*f)(int n);\n};\n"
                     "/* Sets n of q. */\nvoid quire_f(struct quire *q, size_t n)\n"
                     "\t__attribute__((nonnull(1)));\n/* Returns a number. */\n"
                     "int quire_g(void);\ntypedef int (*quire_cb)(void *);\n"}, None),
]

GLOBALS = """
static const char *const names[] = { "a", "b" };
int (*const table[])(void) = { 0 };
const char *f(int n);
const char *f(int n) { return table[n] ? names[n] : 0; }
"""


def run(check, root, *more):
    env = dict(os.environ, QUIRE_BUILD="", QUIRE_SANITIZE="")
    done = subprocess.run([sys.executable, "-B", os.path.join(HERE, check + ".py"), "--root", root,
                           *more], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env)
    return done.returncode, done.stdout.decode()


def write(root, files):
    for path, text in files.items():
        os.makedirs(os.path.dirname(os.path.join(root, path)) or root, exist_ok=True)
        with open(os.path.join(root, path), "w") as file:
            file.write(text)


def objects(text, allowed=""):
    """What banned.py says of an object built from `text`."""
    with tempfile.TemporaryDirectory() as root:
        folder = os.path.join(root, "out", "libquire_core.a.p")
        write(root, {"tests/tidy/globals_allowed.txt": allowed, "out/x.c": text})
        os.makedirs(folder)
        subprocess.run([os.environ.get("CC", "cc"), "-fPIC", "-O1", "-c", "-o",
                        os.path.join(folder, "src_phys_x.c.o"), os.path.join(root, "out/x.c")],
                       check=True)
        return run("banned", root, "--build", os.path.join(root, "out"))


def main():
    wrong = 0
    total = 0

    def expect(what, got, complaint):
        nonlocal wrong, total
        total += 1
        status, text = got
        good = status == 0 if complaint is None else status == 1 and complaint in text
        if not good:
            wrong += 1
            print("%s: expected %s, got status %d:\n%s" %
                  (what, repr(complaint) if complaint else "no complaint", status, text))

    for number, (check, files, complaint) in enumerate(CASES):
        with tempfile.TemporaryDirectory() as root:
            write(root, files)
            expect("case %d of %s" % (number, check), run(check, root), complaint)

    # The generated document, once as the generator makes it.
    with tempfile.TemporaryDirectory() as root:
        write(root, {"src/base/locks.def": LOCKS})
        generator = os.path.join(HERE, "..", "..", "scripts", "gen-locking.py")
        text = subprocess.run([sys.executable, generator, os.path.join(root, "src/base/locks.def")],
                              check=True, stdout=subprocess.PIPE).stdout.decode()
        write(root, {"docs/LOCKING.md": text})
        expect("the generated document", run("locking_doc", root), None)
        expect("its rows", (1, text), "| 20 | PTE | spin | entries of a table |")

    expect("constants", objects(GLOBALS), None)
    expect("a global", objects("int counter = 1;\n"), "the global counter (.data) can change")
    expect("a zero global", objects("static int n; int f(void); int f(void) { return n++; }\n"),
           "the global n (.bss) can change")
    expect("a static local", objects("int f(void); int f(void) { static int n; return n++; }\n"),
           "the global n.0 (.bss) can change")
    expect("a thread-local", objects("__thread int n;\n"), "the global n (.tbss) can change")
    expect("a call", objects("void *malloc(unsigned long); void *f(void); "
                             "void *f(void) { return malloc(9); }\n"), "the object calls malloc")
    expect("an allowed global", objects("int counter = 1;\n", "counter # a test\n"), None)

    print("%d cases, %d wrong" % (total, wrong))
    sys.exit(1 if wrong else 0)


main()
