#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Measures brood beside its peers, and prints one table.

    bench/run.py --builddir build-bench [--rounds N] [--only PATTERN] [--json FILE] [--smoke]

Every figure is measured in rounds, and in each round brood and its peers run one after the other (A B C, A B C, ...), so
that whatever else the machine does falls on all of them alike.  A cell is the median [least-most] over the rounds; a
ratio is the median [least-most] of the rounds' own brood/peer, so it compares numbers that were taken seconds apart.

--only PATTERN takes the figures whose name contains the pattern or matches it as a glob ("pool.*").
--smoke runs each program once with tiny counts: it proves that all of them work and that their books balance, and
  says nothing about time.

A bar is what brood is meant to reach: a value of its own, or a ratio to one peer, "at least" where more is better and "at
most" where less is.  The median is held against it, and the last column says whether it is met; a second table has those
that are missed.

Exits with 1 if a program failed or printed no figure; how fast anything was never makes it fail, and no missed bar does.
What is measured is said in figures.py, and how in programs.py.
"""

import argparse
import datetime
import fnmatch
import json
import os
import re
import signal
import statistics
import sys
import time
from pathlib import Path

from figures import SYSTEM_PYTHON, all_figures
from programs import WORDCOUNT_BYTES, Corpus, Failed, Skipped, run_program


# ---- the machine ----


def machine(builddir):
    def read(path):
        try:
            return Path(path).read_text()
        except OSError:
            return ""

    model = re.search(r"^model name\s*: (.*)$", read("/proc/cpuinfo"), re.M)
    facts = {
        "cpu": model[1] if model else os.uname().machine,
        "cpus": os.cpu_count(),
        "cpus_usable": len(os.sched_getaffinity(0)),
        "kernel": os.uname().release,
        "load_before": os.getloadavg()[0],
        "python": "none",
        "build": "unknown",
        "began": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }
    if os.path.exists(SYSTEM_PYTHON):
        facts["python"] = run_program([SYSTEM_PYTHON, "--version"]).split()[-1]
    try:
        options = json.loads(read(builddir / "meson-info" / "intro-buildoptions.json"))
        chosen = {o["name"]: o["value"] for o in options}
        facts["build"] = f"{chosen['buildtype']}, -O{chosen['optimization']}, sanitizers: {chosen['b_sanitize']}"
        facts["slow_build"] = chosen["optimization"] not in ("2", "3") or chosen["b_sanitize"] != "none"
    except (ValueError, KeyError, TypeError):
        pass
    return facts


def print_machine(facts):
    print(f"cpu     {facts['cpu']}, {facts['cpus']} cores, {facts['cpus_usable']} usable")
    print(f"system  Linux {facts['kernel']}, Python {facts['python']}, load {facts['load_before']:.2f}")
    print(f"build   {facts['build']}")
    if facts.get("slow_build"):
        print("        not an optimised build: its figures are not to be quoted")
    if facts["load_before"] > 0.5:
        print("        other programs are running: look at the ratios and at how far the figures spread")


# ---- measuring and telling ----


def measure(figures, rounds, smoke, usable):
    progress = sys.stderr.isatty()
    for figure in figures:
        for p in figure.peers:
            if not smoke and usable < figure.cpus:
                figure.state[p.peer] = f"skipped: {figure.cpus} CPUs are needed"
            elif reason := p.missing():
                figure.state[p.peer] = f"skipped: {reason}"
        for n in range(rounds):
            for p in figure.peers:
                if figure.state[p.peer]:
                    continue
                if progress:
                    print(f"\r\033[K{figure.name} {p.peer} {n + 1}/{rounds}", end="", file=sys.stderr, flush=True)
                try:
                    figure.values[p.peer].append(p.measure(figure, smoke))
                except Skipped as e:
                    figure.state[p.peer] = f"skipped: {e}"
                except Failed as e:
                    figure.state[p.peer] = f"FAILED: {e}"
    if progress:
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def ratios(figure, peer):
    """brood/peer of each round that has both."""
    if peer == "brood":
        return []
    return [b / p for b, p in zip(figure.values["brood"], figure.values[peer]) if p]


def short(value):
    for scale, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= scale:
            return f"{value / scale:.3g}{letter}"
    return f"{value:.3g}"


def spread(values):
    return f"{short(statistics.median(values))} [{short(min(values))}-{short(max(values))}]"


class Bar:
    """The bar of one row beside what was measured: brood's own value, or the ratio to a peer."""

    def __init__(self, value, unit, median, higher):
        self.value, self.text, self.median = value, f"{value:,}{unit}", median
        self.met = self.share = None  # where nothing was measured
        if median is not None:
            self.met = median >= value if higher else median <= value
            self.share = 1.0 if median == value else median / value if higher else value / median


def bar_of(figure, peer):
    value = figure.bar if peer == "brood" else figure.bars.get(peer)
    if value is None:
        return None
    measured = figure.values[peer] if peer == "brood" else ratios(figure, peer)
    median = statistics.median(measured) if measured and not figure.state[peer] else None
    return Bar(value, f" {figure.unit}" if peer == "brood" else "x", median, figure.higher)


def rows(figure, smoke):
    first = True
    for p in figure.peers:
        values, pairs, remarks = figure.values[p.peer], ratios(figure, p.peer), []
        bar = None if smoke else bar_of(figure, p.peer)
        if figure.state[p.peer]:
            remarks.append(figure.state[p.peer])
        if bar and bar.met is not None:
            remarks.append(f"bar {bar.text}: {'met' if bar.met else 'MISSED'}")
        # Said only of what every round agrees on.
        elif pairs and (min(pairs) > 1 or max(pairs) < 1):
            remarks.append("brood is ahead" if (min(pairs) > 1) == figure.higher else "brood is behind")
        remark = ", ".join(remarks)
        yield (
            figure.name if first else "",
            f"{figure.unit} {'up' if figure.higher else 'down'}" if first else "",
            p.peer,
            spread(values) if values else "-",
            spread(pairs) if pairs else "-",
            remark,
        )
        first = False


def print_table(figures, smoke):
    head = ("figure", "unit, better", "who", "median [least-most]", "brood/peer", "")
    table = [head] + [row for figure in figures for row in rows(figure, smoke)]
    # A failure's text may be long; it ends its line and widens no column.
    widths = [max(len(row[i]) for row in table) for i in range(len(head) - 1)]
    for i, row in enumerate(table):
        if i == 1 or (i > 1 and row[0]):
            print("-" * (sum(widths) + 2 * len(widths)))
        print(("  ".join(cell.ljust(w) for cell, w in zip(row, widths)) + "  " + row[-1]).rstrip())
    print()
    for figure in figures:
        print(f"{figure.name.ljust(widths[0])}  {figure.what}")


def print_missed(missed):
    """The bars that were not reached, the one that is furthest away first."""
    head = ("missed", "bar", "measured", "reached")
    table = [head] + [(name, bar.text, short(bar.median), f"{bar.share:.0%}") for name, bar in missed]
    widths = [max(len(row[i]) for row in table) for i in range(len(head))]
    print()
    for row in table:
        print("  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip())


def print_bars(figures):
    bars = [(f"{f.name}.{p.peer}", bar) for f in figures for p in f.peers if (bar := bar_of(f, p.peer))]
    missed = [(name, bar) for name, bar in bars if bar.met is False]
    open_ones = [name for name, bar in bars if bar.met is None]
    if not bars:
        return
    print(f"\n{sum(bar.met is True for _, bar in bars)} of {len(bars)} bars met")
    if missed:
        print_missed(sorted(missed, key=lambda each: each[1].share))
    if open_ones:
        print(f"\nnot measured: {', '.join(open_ones)}")


def write_json(path, facts, figures):
    told = {
        "machine": facts,
        "figures": [
            {
                "name": f.name, "what": f.what, "unit": f.unit, "higher_is_better": f.higher,
                "peers": {
                    p.peer: {
                        "values": f.values[p.peer],
                        "median": statistics.median(f.values[p.peer]) if f.values[p.peer] else None,
                        "brood_over_peer": statistics.median(ratios(f, p.peer)) if ratios(f, p.peer) else None,
                        "bar": bar.value if (bar := bar_of(f, p.peer)) else None,
                        "bar_met": bar.met if bar else None,
                        "state": f.state[p.peer],
                    }
                    for p in f.peers
                },
            }
            for f in figures
        ],
    }
    Path(path).write_text(json.dumps(told, indent=2) + "\n")


def chosen(figures, pattern):
    if not pattern:
        return figures
    return [f for f in figures if pattern in f.name or fnmatch.fnmatchcase(f.name, pattern)]


def end_by_signal(number, _frame):
    sys.exit(128 + number)  # runs the finally clauses, which end the programs and remove the input


def main():
    parser = argparse.ArgumentParser(description="Measures brood beside its peers.")
    parser.add_argument("--builddir", required=True, type=Path)
    parser.add_argument("--rounds", type=int, default=5, help="at least 5 for figures worth quoting")
    parser.add_argument("--only", metavar="PATTERN", help="only the figures whose name contains or matches it")
    parser.add_argument("--json", metavar="FILE", help="write all values there too")
    parser.add_argument("--smoke", action="store_true", help="tiny counts, one round: do all programs work?")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error("--rounds: want at least 1")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end_by_signal)

    builddir = args.builddir.resolve()
    corpus = Corpus(200_000 if args.smoke else WORDCOUNT_BYTES)
    figures = chosen(all_figures(builddir, corpus), args.only)
    if not figures:
        parser.error(f"--only: no figure is called {args.only!r}")
    rounds = 1 if args.smoke else args.rounds

    facts = machine(builddir)
    facts["rounds"] = rounds
    print_machine(facts)
    began = time.monotonic()
    try:
        measure(figures, rounds, args.smoke, facts["cpus_usable"])
    finally:
        corpus.remove()
    facts["load_after"] = os.getloadavg()[0]
    facts["seconds"] = round(time.monotonic() - began, 1)
    print(f"took    {facts['seconds']} s, {rounds} round{'s' if rounds > 1 else ''}, "
          f"load {facts['load_after']:.2f} at the end\n")
    print_table(figures, args.smoke)
    if not args.smoke:
        print_bars(figures)
    if args.json:
        write_json(args.json, facts, figures)

    states = [(f"{f.name}.{peer}", state) for f in figures for peer, state in f.state.items() if state]
    skipped = [name for name, state in states if state.startswith("skipped")]
    failed = [name for name, state in states if state.startswith("FAILED")]
    if skipped:
        print(f"\n{len(skipped)} skipped (the reasons are in the table): {', '.join(skipped)}")
    if failed:
        print(f"\n{len(failed)} FAILED: {', '.join(failed)}")
    # Without its own programs there is nothing to compare: that is a failure too.
    return 1 if failed or not any(f.values["brood"] for f in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
