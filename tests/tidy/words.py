#!/usr/bin/env python3
"""No paths of one machine, and no notes of work left to do, in any file of the project."""

import re

import tidylib

# Put together here, so that this file does not find itself.
PATHS = re.compile(r"(?<![\w.~$})-])/(?:%s)/" % "|".join(["wo" + "rk", "fa" + "rm"]))
NOTES = re.compile(r"\b(?:%s)\b" % "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X"]))
BINARY = (".png", ".jpg", ".gz", ".xz", ".zst", ".bin", ".pdf")


def main():
    root = tidylib.parser(__doc__).parse_args().root
    report = tidylib.Report("words")
    for name in tidylib.files(root):
        if name.endswith(BINARY):
            continue
        for number, line in enumerate(tidylib.read(root, name).split("\n"), 1):
            path = PATHS.search(line)
            if path:
                report.add(name, number, "the path %s exists on one machine only: write it "
                           "relative to the project" % path.group(0))
            note = NOTES.search(line)
            if note:
                report.add(name, number, "%s: do it, or open an issue" % note.group(0))
    report.end()


main()
