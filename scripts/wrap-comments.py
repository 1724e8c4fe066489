#!/usr/bin/env python3
"""Wraps the lines of block comments that are wider than 100 columns.

    wrap-comments.py FILE...

clang-format would join the lines of a paragraph that it wraps with those that follow, among them
`Locking:` and items of a list. Here what is too much moves to the next line only when that line
goes on with the sentence; else it gets a line of its own.
"""

import re
import sys

COLUMNS = 100
LINE = re.compile(r"^(\s*\*)(\s+)(\S.*)$")
ITEM = re.compile(r"^(?:[-*+]\s+|[@\\]|\(?\w\)\s+|\d+\.\s+)")
HEADING = re.compile(r"^[\w ,]{1,24}:(?:\s|$)")


def goes_on(moved, following):
    """Whether `following` continues the sentence that the words `moved` belong to."""
    if ITEM.match(following) or HEADING.match(following):
        return False
    return not moved.endswith((".", ":", ";", "!")) or following[0].islower()


def width(text):
    return len(text.expandtabs(8))


def wrap(lines):
    out = []
    inside = False
    lines = list(lines)
    index = 0
    while index < len(lines):
        line = lines[index]
        index += 1
        begins = re.match(r"^\s*/\*", line)
        if begins and "*/" not in line:
            inside = True
            out.append(line)
            continue
        if not inside:
            out.append(line)
            continue
        closed = "*/" in line
        match = LINE.match(line)
        if closed or not match or width(line) <= COLUMNS:
            out.append(line)
            inside = not closed
            continue
        star, indent, text = match.groups()
        words = text.split(" ")
        rest = []
        while len(words) > 1 and width(star + indent + " ".join(words)) > COLUMNS:
            rest.insert(0, words.pop())
        out.append(star + indent + " ".join(words))
        if not rest:
            continue
        item = ITEM.match(text)
        hanging = indent + " " * len(item.group(0)) if item else indent
        following = LINE.match(lines[index]) if index < len(lines) else None
        if (following and "*/" not in lines[index] and following.group(2) == hanging
                and goes_on(rest[-1], following.group(3))):
            lines[index] = star + hanging + " ".join(rest) + " " + following.group(3)
        else:
            lines.insert(index, star + hanging + " ".join(rest))
    return out


def main():
    for path in sys.argv[1:]:
        with open(path) as file:
            text = file.read()
        wrapped = "\n".join(wrap(text.split("\n")))
        if wrapped != text:
            with open(path, "w") as file:
                file.write(wrapped)


main()
