#!/usr/bin/env python3
"""Prints quire(3), made from the comments of include/quire/quire.h.

    quire3.py [HEADER] >docs/man/quire.3
"""

import os
import re
import sys

BLOCK = re.compile(r"/\*\*\n(.*?)\*/\n(.*?;)", re.S)
TITLE = re.compile(r"(\w+) - (.*)")


def roff(text):
    """Plain text as roff: backslashes, and lines that would be requests."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    text = re.sub(r"\b(quire_\w+)\(\)", r"\\fB\1\\fP()", text)
    return "\n".join("\\&" + line if line.startswith((".", "'")) else line
                     for line in text.split("\n"))


def lines_of(comment):
    return [re.sub(r"^ \* ?", "", line) for line in comment.split("\n")]


def paragraphs(lines):
    text, out = [], []
    for line in lines + [""]:
        if line.strip():
            text.append(line.strip())
        elif text:
            out.append(" ".join(text))
            text = []
    return out


def function(comment, prototype):
    lines = lines_of(comment)
    title = TITLE.match(lines[0])
    args, rest, current = [], [], None
    for line in lines[1:]:
        match = re.match(r"@(\w+): (.*)", line)
        if match:
            current = [match.group(1), match.group(2)]
            args.append(current)
        elif current and line.startswith(" ") and line.strip():
            current[1] += " " + line.strip()
        else:
            current = None
            rest.append(line)
    # The title may go on over several lines.
    head = title.group(2)
    while rest and rest[0].strip() and not args:
        head += " " + rest.pop(0).strip()
    out = [".SS \"%s\"" % title.group(1), ".nf", "\\fB%s\\fP" % roff(" ".join(prototype.split())),
           ".fi", ".PP", roff(head[:1].upper() + head[1:])]
    for name, text in args:
        out += [".TP", ".I " + name, roff(text)]
    for text in paragraphs(rest):
        out += [".PP", roff(text)]
    return out


def definitions(text):
    """The enums and structs, as they stand."""
    out = []
    for match in re.finditer(r"^(?:enum|struct) \w+ \{.*?\};", text, re.S | re.M):
        body = match.group(0).expandtabs(8)
        out += [".PP", ".nf", roff(body), ".fi"]
    return out


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    path = sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "../../include/quire/quire.h")
    with open(path) as file:
        text = file.read()
    version = ".".join(re.findall(r"QUIRE_VERSION_\w+ (\d+)", text))
    intro = lines_of(text[text.index("/*\n") + 3:text.index("*/")])
    out = [".\\\" Made by docs/man/quire3.py from include/quire/quire.h: edit that.",
           '.TH QUIRE 3 "" "Quire %s" "Library functions"' % version,
           ".SH NAME", "libquire \\- virtual memory to link", ".SH SYNOPSIS", ".nf",
           "#include <quire/quire.h>", "", "cc ... $(pkg\\-config \\-\\-cflags \\-\\-libs quire)", ".fi",
           ".SH DESCRIPTION"]
    for line in intro[1:]:
        if line.startswith(" - "):
            out += [".IP \\(bu 2", roff(line[3:])]
        elif line.strip():
            if re.match(r"[A-Z]\w+[:,]", line):
                out.append(".PP")
            out.append(roff(line.strip()))
    out.append(".SH FUNCTIONS")
    for match in BLOCK.finditer(text):
        out += function(match.group(1), match.group(2))
    out.append(".SH TYPES")
    out += definitions(text)
    out += [".SH SEE ALSO", ".BR quire (1)"]
    print("\n".join(out))


main()
