#!/bin/bash
# SPDX-License-Identifier: MIT
#
# gates.sh: sourced by the scripts that run many checks and count them (.ci/run, tools/check-all.sh).
#
#   gate NAME LIMIT COMMAND...   run a command for at most LIMIT seconds; counted once.  Exit status 77 is a skip, which is told
#                                but counted as neither passed nor failed.
#   count_tests NAME BUILD_DIR   count each test of the last `meson test` of a build directory
#   skip NAME REASON             tell what was not checked, and why
#   gates_end                    the last line, "N passed, N failed"; returns 1 if anything failed

passed=0
failed=0
skips=()
failures=()
python=/usr/bin/python3
meson=/usr/bin/meson
[ -x $meson ] || meson=meson
logs=$(mktemp -d) || exit 1
trap 'rm -rf "$logs"' EXIT

note_failure() {
        failed=$((failed + 1))
        failures+=("$1")
}

skip() {
        skips+=("$1: $2")
        echo "skipped  $1: $2"
}

gate() {
        local name=$1 limit=$2 status=0 start=$SECONDS
        shift 2
        timeout -k 20 "$limit" "$@" >"$logs/gate" 2>&1 </dev/null || status=$?
        case $status in
        0)
                passed=$((passed + 1))
                echo "passed   $name ($((SECONDS - start)) s)"
                ;;
        77)
                skip "$name" "$(tail -1 "$logs/gate")"
                ;;
        *)
                note_failure "$name"
                echo "FAILED   $name (exit status $status after $((SECONDS - start)) s)"
                [ $status -ne 124 ] || echo "    it ran into its limit of $limit s"
                # What ninja and meson say about each step that went well is of no use here.
                grep -vE '^\[[0-9]+/[0-9]+\] (Compiling|Linking|Generating)|^ *[0-9]+/[0-9]+ .* OK ' "$logs/gate" |
                        tail -60 | sed 's/^/    /'
                ;;
        esac
        [ $status -eq 0 ]
}

count_tests() {
        local name=$1 log result test
        # Meson puts the name of a wrapper into the name of the log.
        for log in "$2"/meson-logs/testlog*.json; do :; done
        if [ ! -s "$log" ]; then
                note_failure "$name: no test has run"
                echo "FAILED   $name: no test has run"
                return 1
        fi
        while IFS=$'\t' read -r result test; do
                case $result in
                OK | EXPECTEDFAIL) passed=$((passed + 1)) ;;
                SKIP) skip "$name: $test" "the test says so" ;;
                *)
                        note_failure "$name: $test ($result)"
                        echo "FAILED   $name: $test ($result)"
                        ;;
                esac
        done < <($python -c '
import json, sys
for line in open(sys.argv[1], encoding="utf-8"):
    test = json.loads(line)
    print(test["result"], test["name"], sep="\t")
' "$log")
}

gates_end() {
        local line
        echo
        for line in ${skips[@]+"${skips[@]}"}; do
                echo "skipped: $line"
        done
        for line in ${failures[@]+"${failures[@]}"}; do
                echo "failed: $line"
        done
        echo "$passed passed, $failed failed"
        [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
}

# build_and_test DIR SETUP_ARGUMENTS... -- TEST_ARGUMENTS...: one gate's command.  The directory is kept between runs.
build_and_test() {
        local dir=$1 setup=()
        shift
        while [ $# -gt 0 ] && [ "$1" != -- ]; do
                setup+=("$1")
                shift
        done
        shift
        [ -e "$dir/build.ninja" ] || $meson setup "$dir" "${setup[@]}" || return
        $meson compile -C "$dir" || return
        [ $# -gt 0 ] || return 0
        rm -f "$dir"/meson-logs/testlog*.json
        $meson test -C "$dir" --no-rebuild --print-errorlogs "$@" || return
        # Meson is content when the suites hold no test at all; a gate must not be.
        if ! cat "$dir"/meson-logs/testlog*.json 2>/dev/null | grep -q .; then
                echo "no test has run"
                return 1
        fi
}
export -f build_and_test
export meson

# The same as a gate.
as_gate() { # NAME LIMIT DIR SETUP_ARGUMENTS... -- TEST_ARGUMENTS...
        local name=$1 limit=$2
        shift 2
        gate "$name" "$limit" bash -c 'build_and_test "$@"' build_and_test "$@"
}

# What ThreadSanitizer can follow: threads.  It knows nothing of what another process does with shared memory, and a program that
# it watches has a thread and signal handlers of its own, which the tests of processes take for a leak or a crash.
thread_sanitizer=(build-tsan -Db_sanitize=thread -Db_lundef=false -Dexamples=disabled -Dbenches=disabled -Dman=disabled --
        common os os-processes shm waitword ledger hold ring arena "queue threads" "sync threads")
export TSAN_OPTIONS=halt_on_error=1
