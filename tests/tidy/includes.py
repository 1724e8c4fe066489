#!/usr/bin/env python3
"""The direction of includes in src/: only towards lower ranks (ranks.txt)."""

import os
import re

import tidylib

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+(?:"([^"]+)"|<(quire/[^>]+|[^>]*\.\.[^>]*)>)',
                     re.M)
# Who may include what base's atomics and locks stand on: base, the machines, the explorer.
BACKEND_USERS = ("base", "machine/native", "machine/sim", "machine/host", "explore")
RANKS = "tests/tidy/ranks.txt"


class Ranks:
    def __init__(self, root):
        self.rank = {}
        self.leaf = {}
        self.top = set()
        for number, words in tidylib.table(root, RANKS):
            if words[0] == "leaf":
                self.leaf[words[1]] = words[2:]
            elif words[0] == "top":
                self.top.add(words[1])
            else:
                self.rank[words[1]] = int(words[0])

    def folder(self, name):
        """The ranked folder of a path below src/, or None."""
        parts = name.split("/")
        for depth in (2, 1):
            folder = "/".join(parts[:depth])
            if len(parts) > depth and (folder in self.rank or folder in self.leaf
                                       or folder in self.top):
                return folder
        return None

    def refusal(self, user, used):
        """Why folder `user` may not include folder `used`; None when it may."""
        if user == used or user in self.top:
            return None
        if user in self.leaf:
            if used in self.leaf[user]:
                return None
            return "%s is a leaf and includes only %s" % (user, ", ".join(self.leaf[user]))
        if used in self.leaf or used in self.top:
            return "%s includes nothing of %s: go through an operations table" % (user, used)
        if self.rank[used] < self.rank[user]:
            return None
        return ("%s (rank %d) includes %s (rank %d): only lower ranks; declare an operations table "
                "in %s that %s registers" %
                (user, self.rank[user], used, self.rank[used], user, used))


def main():
    root = tidylib.parser(__doc__).parse_args().root
    report = tidylib.Report("includes")
    ranks = Ranks(root)
    if not ranks.rank:
        report.add(RANKS, 1, "no ranks there")
    for name in tidylib.files(root, ["src/"], [".c", ".h", ".S", ".def"]):
        user = ranks.folder(name[len("src/"):])
        if user is None:
            report.add(name, 1, "its folder has no rank: add it to " + RANKS)
            continue
        text = tidylib.strip(tidylib.read(root, name), strings=False)
        for match in INCLUDE.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            target = match.group(1) or match.group(2)
            if ".." in target.split("/"):
                report.add(name, line, '"%s": write the path from src/' % target)
            elif target.startswith("quire/"):
                continue  # the public headers lie below everything
            elif "/" not in target:
                if target == "base_backend.h":
                    if user not in BACKEND_USERS:
                        report.add(name, line, "base_backend.h is base's own: include "
                                   "base/atomic.h")
                elif not os.path.exists(os.path.join(root, os.path.dirname(name), target)):
                    report.add(name, line, '"%s": write the path from src/' % target)
            else:
                used = ranks.folder(target)
                if used is None:
                    report.add(name, line, '"%s": no ranked folder of src/ (%s)' % (target, RANKS))
                    continue
                why = ranks.refusal(user, used)
                if why:
                    report.add(name, line, why)
    report.end()


main()
