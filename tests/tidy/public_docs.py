#!/usr/bin/env python3
"""Every prototype in include/quire/*.h has a comment that names each parameter and the result.

The comment stands directly before the prototype. Each parameter's name occurs in it as a word, and
when the function returns something the comment has a form of `return`. The file itself opens with
a comment too.
"""

import re

import tidylib

COMMENT = re.compile(r"/\*.*?\*/", re.S)


def blocks(text):
    """Top-level declarations with the comment before each: [(line, comment, declaration)]."""
    comments = {m.end(): m.group(0) for m in COMMENT.finditer(text)}
    ends = sorted(comments)
    plain = tidylib.without_directives(tidylib.strip(text))
    found = []
    # Directives are blanked to empty lines: offsets are counted on the raw text.
    depth = 0
    start = None
    body = []
    offset = 0
    raw = text.split("\n")
    for number, line in enumerate(plain.split("\n"), 1):
        if start is None and line.strip() and not re.match(r'\s*(extern\s+"\s*"\s*\{|\})\s*;?\s*$',
                                                           line):
            start = (number, offset + len(line) - len(line.lstrip()))
        if start is not None:
            body.append(line)
            depth += line.count("{") - line.count("}")
            if depth <= 0 and (line.rstrip().endswith(";") or line.rstrip().endswith("}")):
                before = [e for e in ends if e <= start[1]]
                comment = ""
                if before and text[before[-1]:start[1]].strip(" \t") == "\n":
                    comment = comments[before[-1]]
                found.append((start[0], comment, " ".join(" ".join(body).split())))
                start, body, depth = None, [], 0
        offset += len(raw[number - 1]) + 1
    return found


def split_parameters(text):
    parts, depth, now = [], 0, ""
    for char in text:
        depth += (char == "(") - (char == ")")
        if char == "," and depth == 0:
            parts.append(now)
            now = ""
        else:
            now += char
    return [p.strip() for p in parts + [now] if p.strip()]


def parameter_name(text):
    pointer = re.search(r"\(\s*\*\s*(?:const\s+)?(\w+)", text)
    if pointer:
        return pointer.group(1)
    text = re.sub(r"\[[^\]]*\]", "", text)
    words = re.findall(r"\w+", text)
    return words[-1] if len(words) > 1 and not text.rstrip().endswith("*") else None


def prototype(declaration):
    """(name, parameters, returns something), or None when it is no function's prototype."""
    declaration = re.sub(r"__attribute__\s*\(\(.*?\)\)\s*(?=[;{\w*])", " ", declaration)
    match = re.match(r"(?!typedef\b|struct\s+\w+\s*\{|union\s+\w+\s*\{|enum\b[^(]*\{)"
                     r"([\w\s*]+?)\b(\w+)\s*\((.*)\)[^()]*(?:;|\{.*)$", declaration)
    if not match:
        return None
    result, name, parameters = match.groups()
    if "{" in declaration:
        parameters = declaration[declaration.index("(") + 1:declaration.index("{")]
        parameters = parameters.rsplit(")", 1)[0]
    if parameters.strip() in ("", "void"):
        parameters = ""
    returns = not re.fullmatch(r"(?:\s|extern|static|inline|[A-Z_]+)*void\s*", result)
    return name, split_parameters(parameters), returns


def main():
    root = tidylib.parser(__doc__).parse_args().root
    report = tidylib.Report("public_docs")
    names = tidylib.files(root, ["include/quire/"], [".h"])
    if not names:
        tidylib.skip("include/quire has no header yet")
    count = 0
    for name in names:
        text = tidylib.read(root, name)
        if not text.lstrip().startswith("/*"):
            report.add(name, 1, "begins without a comment: say what the header offers")
        for line, comment, declaration in blocks(text):
            function = prototype(declaration)
            if not function:
                continue
            called, parameters, returns = function
            count += 1
            if not comment:
                report.add(name, line, "%s() has no comment before it" % called)
                continue
            for parameter in parameters:
                if parameter == "...":
                    continue
                word = parameter_name(parameter)
                if word is None:
                    report.add(name, line, "%s(): a parameter without a name: %s" %
                               (called, parameter))
                elif not re.search(r"\b%s\b" % word, comment):
                    report.add(name, line, "%s(): its comment does not name the parameter %s" %
                               (called, word))
            if returns and not re.search(r"\breturn", comment, re.I):
                report.add(name, line, "%s(): its comment does not say what it returns" % called)
    print("%d prototypes" % count)
    report.end()


main()
