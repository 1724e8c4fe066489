#!/usr/bin/env python3
"""docs/LOCKING.md is what scripts/gen-locking.py makes of src/base/locks.def."""

import os
import subprocess
import sys

import tidylib


def main():
    root = tidylib.parser(__doc__).parse_args().root
    report = tidylib.Report("locking_doc")
    locks = os.path.join(root, "src/base/locks.def")
    if not os.path.exists(locks):
        tidylib.skip("src/base/locks.def is not there yet")
    here = os.path.dirname(os.path.abspath(__file__))
    generator = os.path.join(os.path.dirname(os.path.dirname(here)), "scripts/gen-locking.py")
    made = subprocess.run([sys.executable, generator, locks], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    text = made.stdout.decode()
    document = "docs/LOCKING.md"
    if made.returncode:
        report.add("src/base/locks.def", 1, text.strip())
    elif not os.path.exists(os.path.join(root, document)):
        report.add(document, 1, "is not there: run make docs")
    elif tidylib.read(root, document) != text:
        report.add(document, 1, "differs from src/base/locks.def: run make docs")
    report.end()


main()
