#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""check_trace.py FILE [NAME=COUNT...]: whether a trace is what brood/trace.h says, and how many tries it has.

A NAME is an outcome, `tries` (all that have ended), `lost`, `workers` (pids), or `functions` (the names of all tries).
Exit code 0; otherwise it is said what is wrong.
"""

import collections
import json
import sys

EVENT = {"ph", "name", "cat", "pid", "tid", "ts", "dur", "args"}
ARGS = {"task", "worker", "try", "outcome", "error", "queued", "waited"}
NANOSECOND = 0.0011


def check(trace):
    counts = collections.Counter()
    rows, seen, workers, functions, end_of = set(), set(), set(), set(), {}
    for event in trace["traceEvents"]:
        if event["ph"] == "M":
            if event["name"] == "thread_name":
                assert event["args"]["name"] == f"worker {event['tid'] - 1}", event
                rows.add(event["tid"])
            else:
                assert event["name"] == "process_name", event
            continue
        assert event["ph"] == "X" and set(event) == EVENT and set(event["args"]) == ARGS, event
        args = event["args"]
        assert event["tid"] in rows, event
        assert args["queued"] > 0 and event["ts"] >= args["queued"] and event["dur"] >= 0, event
        assert abs(event["ts"] - args["queued"] - args["waited"]) < NANOSECOND, event
        assert (args["error"] == 0) == (args["outcome"] in ("ok", "running")), event
        # What one worker does, it does one after the other.
        assert event["ts"] >= end_of.get(event["tid"], 0) - NANOSECOND, event
        end_of[event["tid"]] = event["ts"] + event["dur"]
        key = (args["task"], args["try"])
        assert key not in seen, event
        seen.add(key)
        workers.add(args["worker"])
        functions.add(event["name"])
        counts[args["outcome"]] += 1
        counts["tries"] += args["outcome"] != "running"
        assert "+0x" in event["name"], event
    counts["lost"] = trace["otherData"]["lost"]
    counts["workers"] = len(workers)
    counts["functions"] = len(functions)
    return counts


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        counts = check(json.load(file))
    wrong = 0
    for argument in sys.argv[2:]:
        name, wanted = argument.split("=")
        if counts[name] != int(wanted):
            print(f"{name}: {counts[name]} instead of {wanted}; {dict(counts)}", file=sys.stderr)
            wrong = 1
    return wrong


sys.exit(main())
