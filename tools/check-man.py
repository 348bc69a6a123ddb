#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""check-man.py PAGES INCLUDE [CC...]: the manual pages (doc/man) and the public headers say the same.

- Every function that a header marks with BROOD_API, or defines inline or as a macro, is in the NAME of exactly one page and in
  its SYNOPSIS, has a link of its own name in the list of meson.build, and nothing else is in either.  (A name that ends in an
  underscore is a header's own.)
- Every errno that a header names for a function is in the RETURN VALUE or ERRORS of that function's page; and a page names no errno
  that neither the headers of its functions nor common.h name.
- Every constant of the headers is in some page.
- Every page has the sections of the house, in their order, and an EXAMPLE.  Each block of code under EXAMPLE compiles alone, with
  warnings as errors.  What the SYNOPSIS declares, and each struct shown under DESCRIPTION, is what the headers say; for the
  former the compiler is asked, since a second declaration of a function must agree with the first.

`check-man.py --self-test` breaks a small house of its own in each of these ways, and expects each to be found.
"""

import pathlib
import re
import subprocess
import sys
import tempfile

COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)
DIRECTIVE = re.compile(r"^[ \t]*#(?![ \t]*define[ \t]+brood_\w+\()(?:\\\n|[^\n])*", re.M)  # but for those of macros
# A declaration with the comment before it, if there is one; a function without one is described by the comment before.
DECLARED = re.compile(
    r"(?P<text>/\*(?:(?!\*/).)*\*/)"
    r"|(?:\bBROOD_API\b[^;{}()]*?|^static inline\b[^;{}()]*?|^#define[ \t]+)\b(?P<name>brood_\w*[^\W_])\s*\(",
    re.S | re.M,
)
ERRNO = re.compile(r"-(E[A-Z0-9]+)\b")
CONSTANT = re.compile(r"^[ \t]*#[ \t]*define[ \t]+(BROOD_\w+)(?![\w(])[ \t]+\S|^[ \t]+(BROOD_\w+)(?:[ \t]*=[^,\n]*)?,", re.M)
STRUCT = re.compile(r"\btypedef struct \w+ \{[^}]*\} \w+;")
SECTIONS_3 = ["NAME", "SYNOPSIS", "DESCRIPTION", "RETURN VALUE", "ERRORS", "NOTES", "EXAMPLE", "SEE ALSO"]
SECTIONS_7 = ["NAME", "SYNOPSIS", "DESCRIPTION", "EXAMPLE", "SEE ALSO"]
BLOCK = re.compile(r"^```\n(.*?)^```$", re.S | re.M)


def squeeze(code):
    """Code without comments and with the least of white space, so that two ways of breaking lines are the same."""
    return re.sub(r"\s*(\W)\s*", r"\1", " ".join(COMMENT.sub(" ", code).split()))


class Header:
    def __init__(self, path):
        text = path.read_text(encoding="utf-8")
        self.name = path.name
        self.errnos = set(ERRNO.findall(text))  # those of the essay too
        self.functions = {}  # name: the errnos of its comment
        comment = ""
        for match in DECLARED.finditer(DIRECTIVE.sub("", text)):
            if match["text"]:
                comment = match["text"]
            else:
                self.functions[match["name"]] = set(ERRNO.findall(comment))
        self.constants = {a or b for a, b in CONSTANT.findall(text)} - {"BROOD_API"}
        self.structs = {squeeze(s) for s in STRUCT.findall(COMMENT.sub(" ", text))}


class Page:
    def __init__(self, path):
        self.name = path.name.removesuffix(".scd")
        self.text = path.read_text(encoding="utf-8")
        pieces = re.split(r"^# (.+)$", self.text, flags=re.M)
        self.title = pieces[0].split("(")[0].strip()
        self.order = pieces[1::2]
        self.sections = dict(zip(self.order, pieces[2::2]))
        self.names = re.findall(r"\bbrood_\w+", self.sections.get("NAME", "").split(" - ")[0])
        told = self.sections.get("RETURN VALUE", "") + self.sections.get("ERRORS", "")
        self.told = set(ERRNO.findall(told))
        self.errnos = set(ERRNO.findall(self.text.replace("*", "")))

    def blocks(self, section):
        return BLOCK.findall(self.sections.get(section, ""))

    def is_functions(self):
        return self.name.endswith(".3")


def links_of(text):
    """The pages of meson.build's list, and the links to each."""
    links = {}
    table = re.search(r"man_pages = \{(.*?)^\}", text, re.S | re.M)
    for page, names in re.findall(r"'([\w.]+)': \[(.*?)\]", table.group(1) if table else "", re.S):
        links[page] = re.findall(r"'(\w+)'", names)
    return links


def compiler_says(cc, include, code):
    """What the compiler has against this code: its first line, or nothing."""
    command = [*cc, "-std=gnu17", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-I", str(include), "-x", "c", "-"]
    done = subprocess.run(command, input=code, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    errors = [line for line in done.stderr.splitlines() if "error" in line]
    return (errors or done.stderr.splitlines() or ["it failed without a word"])[0]


def check_code(page, cc, include, structs):
    for block in page.blocks("SYNOPSIS"):
        complaint = compiler_says(cc, include, block)
        if complaint:
            yield f"the SYNOPSIS is not what the headers say: {complaint}"
    for block in page.blocks("DESCRIPTION"):
        for struct in STRUCT.findall(COMMENT.sub(" ", block)):
            if squeeze(struct) not in structs:
                yield f"a struct is not what the headers say: {struct.splitlines()[0]}"
    examples = page.blocks("EXAMPLE")
    if not examples:
        yield "no code under EXAMPLE"
    for number, block in enumerate(examples, 1):
        complaint = compiler_says(cc, include, block)
        if complaint:
            yield f"EXAMPLE, block {number}: {complaint}"


def check_page(page, headers, links):
    wanted = SECTIONS_3 if page.is_functions() else SECTIONS_7
    if page.order != wanted:
        yield f"the sections are {page.order}, not {wanted}"
    if page.title != page.name.rsplit(".", 1)[0]:
        yield f"the title says {page.title}"
    if page.name not in links:
        yield "is not in the list of meson.build"
    if not page.is_functions():
        return
    # A page's own name needs no link to itself.
    wanted = {n for n in page.names if n + ".3" != page.name}
    for name in sorted(wanted ^ set(links.get(page.name, []))):
        yield f"{name}: in {'NAME' if name in wanted else 'meson.build'} alone"
    synopsis = set(re.findall(r"\b(brood_\w+)\s*\(", "".join(page.blocks("SYNOPSIS"))))
    for name in sorted(synopsis ^ set(page.names)):
        yield f"{name}: in {'SYNOPSIS' if name in synopsis else 'NAME'} alone"

    mine = [h for h in headers if set(page.names) & set(h.functions)]
    known = {e for h in headers if h in mine or h.name == "common.h" for e in h.errnos}
    for header in mine:
        for name in sorted(set(page.names) & set(header.functions)):
            for errno in sorted(header.functions[name] - page.told):
                yield f"-{errno}, which {header.name} names for {name}, is in neither RETURN VALUE nor ERRORS"
    for errno in sorted(page.errnos - known):
        yield f"-{errno} is in no header of its functions"


def check(pages_dir, include, cc):
    pages_dir, include = pathlib.Path(pages_dir), pathlib.Path(include)
    headers = [Header(path) for path in sorted((include / "brood").glob("*.h"))]
    pages = [Page(path) for path in sorted(pages_dir.glob("*.scd"))]
    links = links_of((pages_dir / "meson.build").read_text(encoding="utf-8"))
    structs = set().union(*(h.structs for h in headers))
    functions = {name: header for header in headers for name in header.functions}
    faults = []

    for page in pages:
        for fault in check_page(page, headers, links):
            faults.append(f"{page.name}: {fault}")
        for fault in check_code(page, cc, include, structs):
            faults.append(f"{page.name}: {fault}")
        for name in page.names:
            if page.is_functions() and name not in functions:
                faults.append(f"{page.name}: {name} is in no header")
    for name in sorted(functions):
        where = [p.name for p in pages if p.is_functions() and name in p.names]
        if len(where) != 1:
            faults.append(f"{name}: in the NAME of {len(where)} pages")
    for name in sorted(set(links) - {p.name for p in pages}):
        faults.append(f"meson.build: {name} has no source")
    for header in headers:
        for name in sorted(header.constants):
            if not any(re.search(rf"\b{name}\b", p.text) for p in pages):
                faults.append(f"{name}: a constant of {header.name} that no page names")
    return len(pages), len(functions), faults


# ---- the self-test: a house in order, and each way of breaking it ----

HEADER = """#ifndef BROOD_THING_H
#define BROOD_THING_H
#define BROOD_API __attribute__((visibility("default")))
#define BROOD_THING_MOST 7
typedef enum brood_end {
        BROOD_END_GOOD = 0, /* well */
} brood_end;
typedef struct brood_thing {
        int size; /* of it */
} brood_thing;
/* Make it.
 * Returns 0; -EINVAL (no); -ENOMEM. */
BROOD_API int brood_thing_new(brood_thing *thing,
                              int size);
BROOD_API int brood_thing_again(brood_thing *thing);
/* Inline. */
static inline int brood_thing_easy(brood_thing *thing)
{
        return brood_thing_new(thing, 1);
}
#endif
"""
PAGE = """brood_thing(3) "brood" "brood manual"

# NAME

brood_thing_new, brood_thing_again, brood_thing_easy - a thing

# SYNOPSIS

```
#include <brood/thing.h>

int brood_thing_new(brood_thing *thing, int size);
int brood_thing_again(brood_thing *thing);
int brood_thing_easy(brood_thing *thing);
```

# DESCRIPTION

At most *BROOD_THING_MOST*; *BROOD_END_GOOD*.

```
typedef struct brood_thing {
        int size;
} brood_thing;
```

# RETURN VALUE

0.

# ERRORS

*-EINVAL*, *-ENOMEM*

# NOTES

None.

# EXAMPLE

```
#include <brood/thing.h>

int main(void)
{
        brood_thing thing;

        return brood_thing_easy(&thing);
}
```

# SEE ALSO

*brood*(7)
"""
MESON = """man_pages = {
        'brood_thing.3': [
                'brood_thing_new',
                'brood_thing_again',
                'brood_thing_easy',
        ],
}
"""
BREAKS = [
    # what is broken, the file, what is replaced, by what, and what must be said of it
    ("a new function", "h", "/* Inline. */", "/* New. */\nBROOD_API int brood_thing_more(void);", "in the NAME of 0"),
    ("a new macro", "h", "/* Inline. */", "#define brood_thing_m(t) brood_thing_new((t), 2)\n/* Inline. */", "in the NAME of 0"),
    ("an errno more in the header", "h", "-ENOMEM.", "-ENOMEM, -ENFILE.", "-ENFILE, which thing.h names for brood_thing_new"),
    ("one in the comment that serves two", "h", "-ENOMEM.", "-ENOMEM, -EIO.", "-EIO, which thing.h names for brood_thing_again"),
    ("an errno only outside of ERRORS", "p", "*-EINVAL*, *-ENOMEM*", "*-EINVAL*", "-ENOMEM, which"),
    ("an errno that is invented", "p", "None.", "Perhaps *-EFAULT*.", "-EFAULT is in no header"),
    ("a new constant", "h", "#define BROOD_THING_MOST 7", "#define BROOD_THING_MOST 7\n#define BROOD_NEW (-1)", "BROOD_NEW"),
    ("a new member of an enum", "h", "BROOD_END_GOOD = 0,", "BROOD_END_GOOD = 0,\n        BROOD_END_BAD,", "BROOD_END_BAD"),
    ("a name too many", "p", "brood_thing_easy - ", "brood_thing_easy, brood_thing_no - ", "brood_thing_no is in no header"),
    ("a name too few", "p", "brood_thing_again, ", "", "brood_thing_again: in the NAME of 0"),
    ("not in the synopsis", "p", "int brood_thing_again(brood_thing *thing);\n", "", "in NAME alone"),
    ("another type in the synopsis", "p", "*thing, int size);", "*thing, long size);", "the SYNOPSIS is not"),
    ("no link", "m", "                'brood_thing_again',\n", "", "in NAME alone"),
    ("a link too many", "m", "'brood_thing_new',", "'brood_thing_new', 'brood_thing_old',", "in meson.build alone"),
    ("not in the list", "m", "'brood_thing.3'", "'brood_other.3'", "is not in the list"),
    ("another struct", "p", "        int size;\n", "        long size;\n", "a struct is not"),
    ("an example with an error", "p", "brood_thing_easy(&thing);\n}", "brood_thing_hard(&thing);\n}", "EXAMPLE, block 1"),
    ("an example with a warning", "p", "        brood_thing thing;", "\tint x;\n\tbrood_thing thing;", "EXAMPLE, block 1"),
    ("no example", "p", "```\n\n# SEE ALSO", "\n# SEE ALSO", "no code under EXAMPLE"),
    ("a section is missing", "p", "# NOTES\n\nNone.\n\n", "", "the sections are"),
    ("another title", "p", "brood_thing(3)", "brood_things(3)", "the title says"),
]


def self_test(cc):
    failures = 0
    with tempfile.TemporaryDirectory() as root:
        root = pathlib.Path(root)
        paths = {"h": root / "include/brood/thing.h", "p": root / "man/brood_thing.3.scd", "m": root / "man/meson.build"}
        good = {"h": HEADER, "p": PAGE, "m": MESON}
        for which, path in paths.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(good[which], encoding="utf-8")
        for fault in check(root / "man", root / "include", cc)[2]:
            print(f"self-test: refused, but in order: {fault}")
            failures += 1
        for title, which, old, new, expected in BREAKS:
            broken = good[which].replace(old, new)
            paths[which].write_text(broken, encoding="utf-8")
            faults = check(root / "man", root / "include", cc)[2]
            if broken == good[which] or not any(expected in fault for fault in faults):
                print(f"self-test: not found: {title}; found: {faults}")
                failures += 1
            paths[which].write_text(good[which], encoding="utf-8")
    print(f"self-test: {len(BREAKS)} faults tried, {failures} failures")
    return 1 if failures else 0


def main(arguments):
    if arguments[:1] == ["--self-test"]:
        return self_test(arguments[1:] or ["cc"])
    if len(arguments) < 2:
        print(__doc__.splitlines()[0], file=sys.stderr)
        return 2
    pages, functions, faults = check(arguments[0], arguments[1], arguments[2:] or ["cc"])
    for fault in faults:
        print(fault)
    if pages == 0 or functions == 0:
        print("check-man: there is nothing to check here")
        return 2
    print(f"check-man: {pages} pages, {functions} functions, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
