#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""check-symbols.py LIBRARY MAP HEADER...: the headers, the version script and the library say the same.

The functions that the public headers mark with BROOD_API, the names that the version script exports, and the symbols that the
library (shared, or an archive) defines must be three times the same set.  And no function may be declared in a public header
without BROOD_API.
`check-symbols.py --self-test` tries the comparison on sets that differ.
"""

import pathlib
import re
import subprocess
import sys

COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)
DIRECTIVE = re.compile(r"^[ \t]*#(?:\\\n|[^\n])*", re.M)
DECLARED = re.compile(r"\bBROOD_API\b[^;{]*?\b(\w+)\s*\(")
# At the beginning of a line, something that ends like a function's declaration; typedefs and inline functions are none.
FUNCTION = re.compile(r"^(?!\s|#|typedef\b|static\b|extern\b|\})([^;{}=]*?)\b(\w+)\s*\([^;{}]*\)\s*;", re.M)


def of_headers(texts):
    exported, bare = set(), set()
    for text in texts:
        text = DIRECTIVE.sub("", COMMENT.sub(" ", text))
        exported |= set(DECLARED.findall(text))
        bare |= {name for before, name in FUNCTION.findall(text) if "BROOD_API" not in before}
    return exported, bare


def of_map(text):
    text = COMMENT.sub(" ", text)
    names = set()
    for block in re.findall(r"global:(.*?)(?:local:|\})", text, re.S):
        names |= set(re.findall(r"[\w*?]+", block))
    return names


def of_library(path):
    which = "--extern-only" if str(path).endswith(".a") else "--dynamic"
    lines = subprocess.run(
        ["nm", which, "--defined-only", "--format=posix", path], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    symbols = set()
    for line in lines:
        if line.endswith(":"):  # the name of a member of an archive
            continue
        name, kind = line.split()[:2]
        if kind != "A":  # the version's own name
            symbols.add(name.split("@")[0])
    return symbols


def compare(headers, bare, script, library):
    faults = [f"{name}: declared in a header without BROOD_API" for name in sorted(bare)]
    faults += [f"{name}: exported, but not of the prefix brood_" for name in sorted(library) if not name.startswith("brood_")]
    for left, left_name, right, right_name in (
        (headers, "the headers", script, "the version script"),
        (headers, "the headers", library, "the library"),
    ):
        faults += [f"{name}: in {left_name}, not in {right_name}" for name in sorted(left - right)]
        faults += [f"{name}: in {right_name}, not in {left_name}" for name in sorted(right - left)]
    return faults


def self_test():
    header = """#define BROOD_API __attribute__((x("default")))
/* BROOD_API int brood_no(void); */
BROOD_API int
brood_a(int (*f)(void),
        int b);
int brood_b(void);
"""
    headers, bare = of_headers([header])
    script = of_map("X { global: brood_a; local: *; };")
    good = headers == {"brood_a"} and bare == {"brood_b"} and script == {"brood_a"}
    good = good and not compare({"brood_a"}, set(), {"brood_a"}, {"brood_a"})
    for case in (
        ({"brood_a"}, {"brood_b"}, {"brood_a"}, {"brood_a"}),
        ({"brood_a"}, set(), {"brood_a"}, {"brood_a", "x"}),
        ({"brood_a"}, set(), set(), {"brood_a"}),
        ({"brood_a"}, set(), {"brood_a"}, set()),
        (set(), set(), {"brood_a"}, {"brood_a"}),
        ({"brood_a"}, set(), {"brood_*"}, {"brood_a"}),
    ):
        good = good and bool(compare(*case))
    print("check-symbols self-test:", "passed" if good else "FAILED")
    return 0 if good else 1


def main(arguments):
    if arguments == ["--self-test"]:
        return self_test()
    if len(arguments) < 3:
        print(__doc__.splitlines()[0], file=sys.stderr)
        return 2
    library, script, *headers = arguments
    declared, bare = of_headers(pathlib.Path(h).read_text(encoding="utf-8") for h in headers)
    faults = compare(declared, bare, of_map(pathlib.Path(script).read_text(encoding="utf-8")), of_library(library))
    for fault in faults:
        print(fault)
    print(f"check-symbols: {len(declared)} functions, {len(faults)} faults")
    return 1 if faults or not declared else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
