#!/usr/bin/env python3
"""Reads meson's test log and says what passed, failed and was skipped.

    test-summary.py TESTLOG.json [--status N]

Prints one line for each test, the log of each test that failed and the reason of each skip; the
last line is `N passed, N failed, N skipped`. A cmocka program counts with each of its cases, any
other test as one. Exits with 1 when something failed (or meson's own status N says so).
"""

import argparse
import json
import os
import re
import sys

LOG_LINES = 200

OK = re.compile(r"^\[ +OK \] ", re.M)
CASE = re.compile(r"^\[  (FAILED|SKIPPED) +\] (?!\d+ test\(s\))(\S.*)$", re.M)


def counts(result, text):
    """(passed, failed, names of skipped cases) of one test program."""
    if "[==========] Running" not in text:
        return (1, 0, []) if result == "OK" else (0, 1, [])
    passed = len(OK.findall(text))
    failed = {name for kind, name in CASE.findall(text) if kind == "FAILED"}
    skipped = {name for kind, name in CASE.findall(text) if kind == "SKIPPED"}
    if result != "OK" and not failed:
        return passed, 1, sorted(skipped)  # it died, or ran out of time
    if result == "OK" and not passed and not skipped:
        passed = 1
    return passed, len(failed), sorted(skipped)


def reason(text):
    """Why a whole program was skipped: the last line that it wrote."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"


def case_reason(text, name):
    """Why one case was skipped: what it wrote after it began."""
    begin = text.find("[ RUN      ] %s\n" % name)
    if begin < 0:
        return "no reason given"
    body = text[begin:].splitlines()[1:]
    said = []
    for line in body:
        if line.startswith("["):
            break
        if line.strip():
            said.append(line.strip())
    return said[-1] if said else "no reason given"


def suite_and_name(full):
    """meson writes `project:suite / name`."""
    before, slash, name = full.rpartition(" / ")
    return (before.rpartition(":")[2], name) if slash else ("", name)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("log")
    parser.add_argument("--status", type=int, default=0)
    args = parser.parse_args()

    tests = []
    if os.path.exists(args.log):
        with open(args.log, errors="replace") as log:
            tests = [json.loads(line) for line in log if line.strip()]

    passed = failed = skipped = 0
    failures = []
    skips = []
    for test in tests:
        suite, name = suite_and_name(test["name"])
        text = (test.get("stdout") or "") + (test.get("stderr") or "")
        result = test["result"]
        if result == "SKIP":
            skipped += 1
            skips.append("%s: %s" % (name, reason(text)))
        else:
            good, bad, left = counts(result, text)
            passed += good
            failed += bad
            skipped += len(left)
            skips += ["%s: %s: %s" % (name, case, case_reason(text, case)) for case in left]
            if bad:
                failures.append((name, test, text))
        print("%-8s %7.2f s  %-12s %s" % (result, test["duration"], suite, name))

    for name, test, text in failures:
        print("\n--- FAILED: %s (%s, exit status %s) ---" %
              (name, test["result"], test.get("returncode")))
        lines = text.rstrip().splitlines()
        if len(lines) > LOG_LINES:
            print("[%d lines left out; all of them: meson-logs/testlog.txt]" %
                  (len(lines) - LOG_LINES))
        print("\n".join(lines[-LOG_LINES:]))
    if failures:
        print()
    for line in skips:
        print("skipped: " + line)
    if args.status and not failed:
        failed += 1
        print("meson's own exit status was %d" % args.status)
    if not tests:
        print("no tests were run")
    print("%d passed, %d failed, %d skipped" % (passed, failed, skipped))
    return 1 if failed or not tests else 0


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="replace")
    sys.exit(main())
