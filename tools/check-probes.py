#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""check-probes.py LIBRARY...: each of these has the probes that the manual (doc/man/brood.7.scd) lists, with as many arguments."""

import pathlib
import re
import subprocess
import sys

MANUAL = pathlib.Path(__file__).resolve().parent.parent / "doc" / "man" / "brood.7.scd"
# In the manual: "*brood:task_begin*(_ticket_, _function_, _worker_)".  Of readelf: three lines for each note.
LISTED = re.compile(r"^\*brood:(\w+)\*\(([^)]*)\)", re.M)
NOTE = re.compile(r"Provider: (\w+)\s+Name: (\w+)\s+Location:[^\n]*\n\s+Arguments:([^\n]*)")


def main():
    listed = {name: len(arguments.split(",")) for name, arguments in LISTED.findall(MANUAL.read_text(encoding="utf-8"))}
    faults = 0
    for library in sys.argv[1:]:
        notes = subprocess.run(["readelf", "-n", library], capture_output=True, text=True, check=True).stdout
        there = {name: len(arguments.split()) for provider, name, arguments in NOTE.findall(notes) if provider == "brood"}
        if there != listed:
            print(f"{library} has {there}; the manual has {listed}", file=sys.stderr)
            faults += 1
    print(f"check-probes: {len(listed)} probes, {faults} faults")
    return faults != 0 or not listed


sys.exit(main())
