#!/usr/bin/env python3
"""Puts page.css and page.js into page.html and writes it as two C arrays, around the data.

embed.py FOLDER >page.c
"""

import os
import sys


def array(name, text):
    data = text.encode() + b"\0"
    rows = []
    for at in range(0, len(data), 20):
        row = [str(byte - (byte & 128) * 2) for byte in data[at:at + 20]]
        rows.append("\t" + ",".join(row) + ",")
    return "const char %s[] = {\n%s\n};\n" % (name, "\n".join(rows))


def main():
    def read(name):
        with open(os.path.join(sys.argv[1], name), encoding="utf-8") as file:
            return file.read()

    page = read("page.html")
    page = page.replace("@CSS@", read("page.css").strip()).replace("@JS@", read("page.js").strip())
    before, after = page.split("@DATA@")
    print('#include "explore/page.h"\n')
    print(array("cli_page_before", before))
    print(array("cli_page_after", after))


main()
