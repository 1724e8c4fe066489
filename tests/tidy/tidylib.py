"""What the tidy checks share: which files there are, C text without comments, and the report.

Every check is a script of its own that takes --root DIR (default: the project that it stands in),
prints one line `path:line: what is wrong; what to do instead` for each finding, and exits with 0
(clean), 1 (findings) or 77 (cannot be checked here; the last line says why).
"""

import argparse
import os
import re
import subprocess
import sys

# The core: no system calls, no allocator but its own, no state outside struct quire.
CORE_FOLDERS = ["base", "phys", "pagetable", "notifier", "vma", "object", "tlb", "rmap", "gather",
                "swap", "migrate", "fault", "reclaim", "space", "device", "api"]
# The two implementations of what base stands on: here the rules of the core do not hold.
BACKENDS = ["src/base/native/", "src/base/explored/"]


def parser(text):
    here = os.path.dirname(os.path.abspath(__file__))
    args = argparse.ArgumentParser(description=text.strip().splitlines()[0])
    args.add_argument("--root", default=os.path.dirname(os.path.dirname(here)))
    return args


def files(root, folders=("",), suffixes=("",)):
    """Paths relative to root, sorted: what git tracks or would track; without git, all."""
    if os.path.exists(os.path.join(root, ".git")):
        out = subprocess.run(["git", "-C", root, "ls-files", "-co", "--exclude-standard", "-z"],
                             stdout=subprocess.PIPE, check=True).stdout
        names = [n for n in out.decode(errors="replace").split("\0") if n]
    else:
        names = []
        for folder, below, found in os.walk(root):
            below[:] = [d for d in below if not d.startswith(("build", ".git", "__pycache__"))]
            names += [os.path.relpath(os.path.join(folder, f), root) for f in found]
    return sorted({n for n in names
                   if n.startswith(tuple(folders)) and n.endswith(tuple(suffixes))
                   and os.path.isfile(os.path.join(root, n))})


def read(root, name):
    with open(os.path.join(root, name), errors="replace") as file:
        return file.read()


def is_core(name):
    """Whether a path belongs to the core proper (its backends do not)."""
    if any(name.startswith(backend) for backend in BACKENDS):
        return False
    parts = name.split("/")
    return len(parts) > 2 and parts[0] == "src" and parts[1] in CORE_FOLDERS


TOKEN = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def strip(text, strings=True):
    """C text with comments (and the inside of strings) blanked; lines and columns stay."""
    def blank(match):
        token = match.group(0)
        if token[0] in "\"'":
            return token[0] + " " * (len(token) - 2) + token[0] if strings else token
        return re.sub(r"[^\n]", " ", token)
    return TOKEN.sub(blank, text)


def without_directives(text):
    """Blanks preprocessor lines and what they continue on: a macro's braces are no function's."""
    lines = text.split("\n")
    index = 0
    while index < len(lines):
        if lines[index].lstrip().startswith("#"):
            while lines[index].rstrip().endswith("\\") and index + 1 < len(lines):
                lines[index] = ""
                index += 1
            lines[index] = ""
        index += 1
    return "\n".join(lines)


def table(root, name):
    """The lines of a table file, without comments: [(line number, [words])]."""
    path = os.path.join(root, name)
    if not os.path.exists(path):
        return []
    rows = []
    with open(path) as file:
        for number, line in enumerate(file, 1):
            words = line.split("#", 1)[0].split()
            if words:
                rows.append((number, words))
    return rows


class Report:
    def __init__(self, what):
        self.what = what
        self.findings = []

    def add(self, name, line, message):
        self.findings.append("%s:%d: %s" % (name, line, message))

    def end(self):
        for finding in self.findings:
            print(finding)
        print("%s: %s" % (self.what, "%d findings" % len(self.findings)
                          if self.findings else "clean"))
        sys.exit(1 if self.findings else 0)


def skip(why):
    print(why)
    sys.exit(77)
