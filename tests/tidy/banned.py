#!/usr/bin/env python3
"""What the core may not use: the C library's allocator, stdio, clocks, threads, #ifdef, globals.

The text of the core folders is searched; the built core objects are searched too (undefined
symbols, and symbols in .data and .bss). globals_allowed.txt lists the globals that may be.
"""

import os
import re
import subprocess

import tidylib

GLOBALS = "tests/tidy/globals_allowed.txt"

ARENA = "use base/arena.h"
MACHINE = "use the operations of machine/machine.h"
LOCK = "use base/lock.h"
TRACE = "use base/trace.h, or give the text to the caller"
CALLS = {}
for names, instead in [
        ("malloc calloc realloc free reallocarray aligned_alloc posix_memalign memalign valloc"
         " strdup strndup", ARENA),
        ("printf fprintf dprintf vprintf vfprintf puts fputs putchar fopen fwrite fread fclose"
         " perror asprintf vasprintf", TRACE),
        ("snprintf sprintf vsnprintf vsprintf", TRACE),
        ("time clock_gettime clock gettimeofday clock_nanosleep usleep sleep nanosleep", MACHINE),
        ("rand srand random srandom rand_r drand48 getrandom", MACHINE),
        ("getenv secure_getenv setenv system exit _exit abort atexit", "take it as an argument, or"
         " use base/assert.h"),
        ("mmap munmap mprotect madvise mremap open close read write pread pwrite ioctl fork syscall"
         " sched_yield sysconf getpid gettid futex poll", MACHINE),
]:
    for name in names.split():
        CALLS[name] = instead
# Functions of the core may have one of these names in a struct; as plain calls they are refused.
CALL = re.compile(r"(?<![\w>.])(%s|pthread_\w+|thrd_\w+|mtx_\w+|cnd_\w+)\s*\(" % "|".join(CALLS))
MEMBER = re.compile(r"(->|\.)\s*$")
TLS = re.compile(r"\b(__thread|_Thread_local|thread_local)\b")
ATOMIC = re.compile(r"\b(__atomic_\w+|__sync_\w+|_Atomic|atomic_(?:load|store|exchange|"
                    r"compare|fetch|thread|signal|flag)\w*)\b")
VOLATILE = re.compile(r"\bvolatile\b(?!\s*[(\"])")
ASM = re.compile(r"\b(?:asm|__asm__)\b")
ERRNO = re.compile(r"(?<![\w<>./])errno\b(?!\.h)")
HEADERS = {"stdio.h": TRACE, "stdlib.h": ARENA, "malloc.h": ARENA, "pthread.h": LOCK,
           "threads.h": LOCK, "semaphore.h": LOCK, "time.h": MACHINE, "unistd.h": MACHINE,
           "fcntl.h": MACHINE, "poll.h": MACHINE, "signal.h": MACHINE, "sched.h": MACHINE,
           "stdatomic.h": "use base/atomic.h"}
INCLUDE = re.compile(r"^\s*#\s*include\s*<([^>]+)>")
CONDITIONAL = re.compile(r"^\s*#\s*(if|ifdef|ifndef|elif|elifdef)\b\s*(.*)$")
# The kinds of a build, told apart in base only.
BUILD_KINDS = {"QUIRE_DEBUG", "QUIRE_LOCKCHECK"}


def instead_of(name):
    if name.startswith(("pthread_", "thrd_", "mtx_", "cnd_")):
        return LOCK + " and base/thread.h"
    return CALLS[name]


def guard_line(lines):
    """The index of the #ifndef of a header guard, or -1."""
    for index, line in enumerate(lines):
        if not line.strip():
            continue
        match = re.match(r"\s*#\s*ifndef\s+(\w+)", line)
        following = lines[index + 1] if index + 1 < len(lines) else ""
        if match and re.match(r"\s*#\s*define\s+%s\s*$" % match.group(1), following):
            return index
        return -1
    return -1


def check_conditional(report, name, number, line):
    match = CONDITIONAL.match(line)
    if not match:
        return
    word, rest = match.groups()
    if name.endswith(".def"):
        return  # lists of X-macros
    if (name.startswith("src/base/") and word in ("ifdef", "ifndef")
            and rest.strip() in BUILD_KINDS):
        return
    report.add(name, number, "#%s in the core: put the two versions into base/native and "
               "base/explored, or behind machine/machine.h" % word)


def check_text(report, root, name):
    text = tidylib.strip(tidylib.read(root, name))
    lines = text.split("\n")
    in_base = name.startswith("src/base/")
    guard = guard_line(lines) if name.endswith(".h") else -1
    for number, line in enumerate(lines, 1):
        if number - 1 != guard:
            check_conditional(report, name, number, line)
        include = INCLUDE.match(line)
        if include:
            header = include.group(1)
            if header in HEADERS:
                report.add(name, number, "<%s> in the core: %s" % (header, HEADERS[header]))
            elif header.startswith("sys/"):
                report.add(name, number, "<%s> in the core: %s" % (header, MACHINE))
            elif header.startswith("urcu"):
                report.add(name, number, "<%s>: use base/rcu.h" % header)
            continue
        if line.lstrip().startswith("#include"):
            continue
        for match in CALL.finditer(line):
            if not MEMBER.search(line[:match.start()]):
                report.add(name, number, "%s() in the core: %s" %
                           (match.group(1), instead_of(match.group(1))))
        if TLS.search(line):
            report.add(name, number, "a thread-local variable in the core: use base/thread.h")
        if not in_base:
            for match in ATOMIC.finditer(line):
                report.add(name, number, "%s outside base: use base/atomic.h" % match.group(1))
            if VOLATILE.search(line):
                report.add(name, number, "volatile outside base: use base/atomic.h")
            if ASM.search(line):
                report.add(name, number, "assembler outside base: use base/ or the machine")
        if ERRNO.search(line):
            report.add(name, number, "errno is thread-local: return negative errno values")


def objects(build):
    """The built core objects: those of the backends are left out."""
    found = []
    for lib in ("libquire_core.a.p", "libquire_api.a.p"):
        folder = os.path.join(build, lib)
        if os.path.isdir(folder):
            found += [os.path.join(folder, f) for f in sorted(os.listdir(folder))
                      if f.endswith(".o") and not f.startswith(("src_base_native_",
                                                                "src_base_explored_"))]
    return found


SYMBOL = re.compile(r"^[0-9a-f]+ (.{7}) (\S+)\s+[0-9a-f]+\s+(?:\.hidden )?(.+)$")


def check_objects(report, root, build):
    """objdump tells .data.rel.ro (constant after loading) from .data, which nm does not."""
    allowed = {words[0] for _, words in tidylib.table(root, GLOBALS)}
    paths = objects(build)
    current = ""
    for start in range(0, len(paths), 100):
        out = subprocess.run(["objdump", "-t"] + paths[start:start + 100], check=True,
                             stdout=subprocess.PIPE).stdout.decode(errors="replace")
        for line in out.splitlines():
            if ":     file format" in line:
                current = os.path.basename(line.split(":", 1)[0])
                continue
            match = SYMBOL.match(line)
            if not match:
                continue
            flags, section, symbol = match.groups()
            if "d" in flags or "f" in flags:
                continue
            if section == "*UND*":
                if symbol in CALLS or symbol.startswith("pthread_"):
                    report.add(current, 1, "the object calls %s: %s" % (symbol, instead_of(symbol)))
            elif (section == "*COM*" or section.startswith((".bss", ".tbss", ".tdata"))
                  or (section.startswith(".data") and not section.startswith(".data.rel.ro"))):
                if symbol.split(".")[0] not in allowed:
                    report.add(current, 1, "the global %s (%s) can change: state hangs off struct "
                               "quire; make it const, or list it in %s with the reason" %
                               (symbol, section, GLOBALS))
    return len(paths)


def main():
    args = tidylib.parser(__doc__)
    args.add_argument("--build", default=os.environ.get("QUIRE_BUILD"))
    args = args.parse_args()
    report = tidylib.Report("banned")
    names = [n for n in tidylib.files(args.root, ["src/"], [".c", ".h", ".def"])
             if tidylib.is_core(n)]
    for name in names:
        check_text(report, args.root, name)
    if os.environ.get("QUIRE_SANITIZE"):
        print("the objects are not looked at: sanitizers add globals of their own")
    elif args.build:
        count = check_objects(report, args.root, args.build)
        print("%d files and %d objects" % (len(names), count))
    report.end()


main()
