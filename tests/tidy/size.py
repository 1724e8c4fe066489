#!/usr/bin/env python3
"""Files of at most 800 lines, functions of at most 70, lines of at most 100 columns.

size_ratchet.txt lists what is longer, with its present length: it may not grow, and when it has
shrunk the entry is lowered (size.py --tighten does that; it never adds or raises one).
"""

import os
import re

import tidylib

FILE_LINES = 800
FUNCTION_LINES = 70
COLUMNS = 100
TAB = 8
RATCHET = "tests/tidy/size_ratchet.txt"
FOLDERS = ["src/", "include/", "bench/", "tests/", "examples/", "scenarios/", "scripts/"]
C = (".c", ".h")
NAME = re.compile(r"(\w+)\s*\(")


def functions(text):
    """[(name, first line, lines)] of the functions; lines are counted from { to }."""
    text = tidylib.without_directives(tidylib.strip(text))
    depth = 0
    head = 0
    line = 1
    found = []
    name = None
    first = 0
    for index, char in enumerate(text):
        if char == "\n":
            line += 1
        elif char == "{":
            if depth == 0:
                before = text[head:index].strip()
                if before.startswith("extern") and "(" not in before:
                    head = index + 1
                    continue  # extern "C"
                name = None
                if "(" in before and "=" not in before and not before.startswith("typedef"):
                    names = [n for n in NAME.findall(before) if not n.startswith("__")]
                    # attribute macros stand before the name, whose parentheses are the last ones
                    plain = re.sub(r"__attribute__\s*\(\(.*?\)\)", "", before, flags=re.S)
                    names = NAME.findall(plain) or names
                    name = names[0] if names else "?"
                first = line
            depth += 1
        elif char == "}":
            depth = max(0, depth - 1)
            if depth == 0:
                head = index + 1
                if name:
                    found.append((name, first, line - first + 1))
                name = None
        elif char == ";" and depth == 0:
            head = index + 1
    return found


def measure(root):
    """What is too long: {(path, function or '-'): (line, length, limit)}, and lines too wide."""
    long, wide = {}, []
    for path in tidylib.files(root, FOLDERS, [".c", ".h", ".S", ".py", ".sh"]):
        text = tidylib.read(root, path)
        lines = text.splitlines()
        if len(lines) > FILE_LINES:
            long[path, "-"] = (1, len(lines), FILE_LINES)
        for number, line in enumerate(lines, 1):
            columns = len(line.expandtabs(TAB))
            if columns > COLUMNS:
                wide.append((path, number, columns))
        if path.endswith(C):
            for name, first, length in functions(text):
                if length > FUNCTION_LINES:
                    long[path, name] = (first, length, FUNCTION_LINES)
    return long, wide


def tighten(root, long):
    path = os.path.join(root, RATCHET)
    kept = []
    with open(path) as file:
        for line in file:
            words = line.split("#", 1)[0].split()
            if len(words) == 3:
                now = long.get((words[0], words[1]))
                if not now:
                    continue
                line = "%s %s %d\n" % (words[0], words[1], min(now[1], int(words[2])))
            kept.append(line)
    with open(path, "w") as file:
        file.writelines(kept)


def main():
    args = tidylib.parser(__doc__)
    args.add_argument("--tighten", action="store_true", help="lower the entries of the ratchet")
    args = args.parse_args()
    report = tidylib.Report("size")
    long, wide = measure(args.root)
    if args.tighten:
        tighten(args.root, long)
    allowed = {}
    for number, words in tidylib.table(args.root, RATCHET):
        if len(words) == 3:
            allowed[words[0], words[1]] = (number, int(words[2]))
    for (path, name), (line, length, limit) in sorted(long.items()):
        what = "the file" if name == "-" else name + "()"
        most = allowed.get((path, name), (0, limit))[1]
        if length > most:
            report.add(path, line, "%s has %d lines, at most %d: split it by subject" %
                       (what, length, most))
    for (path, name), (number, length) in sorted(allowed.items()):
        now = long.get((path, name), (0, 0, 0))[1]
        if now < length:
            report.add(RATCHET, number, "%s %s is shorter now: run tests/tidy/size.py --tighten" %
                       (path, name))
    for path, number, columns in wide:
        report.add(path, number, "%d columns, at most %d" % (columns, COLUMNS))
    report.end()


main()
