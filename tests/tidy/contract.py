#!/usr/bin/env python3
"""Every header in src/ opens with its contract: what it is, its invariants, and who locks it."""

import re

import tidylib

LEAST_LINES = 4
SPDX = re.compile(r"\s*(?://[^\n]*SPDX[^\n]*\n|/\*[^\n]*SPDX[^\n]*\*/)")
COMMENT = re.compile(r"\s*/\*(.*?)\*/", re.S)


def main():
    root = tidylib.parser(__doc__).parse_args().root
    report = tidylib.Report("contract")
    for name in tidylib.files(root, ["src/"], [".h"]):
        text = tidylib.read(root, name)
        spdx = SPDX.match(text)
        if spdx:
            text = text[spdx.end():]
        comment = COMMENT.match(text)
        if not comment:
            report.add(name, 1, "begins without a comment: say what it is, its invariants, and who "
                       "locks it")
            continue
        if comment.group(0).strip().count("\n") + 1 < LEAST_LINES:
            report.add(name, 1, "the opening comment has less than %d lines: say what it is, its "
                       "invariants, and who locks it" % LEAST_LINES)
        if not re.search(r"\b(un)?lock", comment.group(1), re.I):
            report.add(name, 1, "the opening comment does not say who locks it (a line 'Locking: "
                       "...')")
    report.end()


main()
