#!/bin/bash
# SPDX-License-Identifier: MIT
#
# check-model.sh [NAME]: the models of doc/model (of that name only), each checked exhaustively by spin: as the algorithm is, it
# must hold; broken on purpose, in each of the ways that the model knows, the checker must find it.
#
# Takes a quarter of an hour of one core, and up to 3 GB.  Exit status 77 where there is no spin.
set -u
cd "$(dirname "$0")/.." || exit 1
export LC_ALL=C.UTF-8

if ! command -v spin >/dev/null; then
        echo "check-model: skipped, there is no spin"
        exit 77
fi
only=${1-}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
failed=0
count=0
TIMEFORMAT=%0U # seconds of CPU: others may be at work

# run MODEL -D...: what the checker says is in $work/out.
run() {
        local model=$PWD/doc/model/$1.pml
        shift
        (
                cd "$work" || exit 1
                rm -f -- pan* out time ./*.trail
                spin -a "$@" "$model" >out 2>&1 &&
                        ${CC:-gcc} -O2 -w -DSAFETY -DCOLLAPSE -DVECTORSZ=2048 -DMEMLIM=3000 -o pan pan.c >out 2>&1 &&
                        { time timeout 1800 ./pan -m1000000 -w24 >out 2>&1; } 2>time
        )
}

# Whether the search was complete and found nothing; or whether it found something.
errors() {
        if grep -q '^pan:1:' "$work/out"; then
                echo 1
        elif grep -qE 'Search not completed|max search depth too small|out of memory' "$work/out"; then
                echo incomplete
        else
                sed -n 's/.*errors: \([0-9]*\).*/\1/p' "$work/out"
        fi
}

report() { # VERDICT MODEL -D...
        local verdict=$1 states depth seconds
        shift
        states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' "$work/out")
        depth=$(sed -n 's/.*depth reached \([0-9]*\).*/\1/p' "$work/out")
        seconds=$(tail -n 1 "$work/time")
        printf '%-7s %10s states, depth %5s, %3s s  %s\n' "$verdict" "${states:-?}" "${depth:-?}" "${seconds:-?}" "$*"
        [ "$verdict" != FAILED ] || {
                failed=1
                grep -v '^$' "$work/out" | head -20
        }
}

holds() { # MODEL -D...
        [ -z "$only" ] || [ "$only" = "$1" ] || return 0
        count=$((count + 1))
        run "$@"
        if [ "$(errors)" = 0 ]; then report holds "$@"; else report FAILED "$@"; fi
}

found() { # MODEL -DBREAK_... -D...
        [ -z "$only" ] || [ "$only" = "$1" ] || return 0
        count=$((count + 1))
        run "$@"
        if [ "$(errors)" = 1 ] && grep -q '^pan:1: \(assertion violated\|invalid end state\)' "$work/out"; then
                report found "$@"
        else
                report FAILED "$@"
        fi
}

# Two consumers, one of them killed, two messages; a keeper that repairs against the survivor; three consumers, two of them killed,
# so that a repairer is killed beside another.
holds lease -DUSERS=2 -DCRASHES=1
holds lease -DUSERS=2 -DCRASHES=1 -DSLOTS=2 -DENTRIES=1
holds lease -DUSERS=2 -DCRASHES=1 -DKEEPERS=1 -DMESSAGES=1 -DENTRIES=1
holds lease -DUSERS=3 -DCRASHES=2 -DMESSAGES=1 -DENTRIES=1 -DGIVE_BACKS=0 -DONLY_LEASES -DMAX_DELIVERIES=1
holds lease -DUSERS=3 -DCRASHES=2 -DMESSAGES=2 -DENTRIES=1 -DGIVE_BACKS=0 -DONLY_LEASES
found lease -DBREAK_FREE_BEFORE_HELD -DUSERS=2 -DCRASHES=1
found lease -DBREAK_HELD_BEFORE_COPY -DUSERS=2 -DCRASHES=1
found lease -DBREAK_IGNORE_ENTRIES -DUSERS=2 -DCRASHES=1
found lease -DBREAK_READY_BEFORE_MOVE -DUSERS=2 -DCRASHES=1 -DKEEPERS=1 -DMESSAGES=1 -DENTRIES=1
found lease -DBREAK_NO_RECHECK -DUSERS=2 -DCRASHES=1 -DGIVE_BACKS=0 -DMAX_DELIVERIES=3
found lease -DBREAK_COUNT_LATE -DUSERS=3 -DCRASHES=2 -DMESSAGES=1 -DENTRIES=1 -DGIVE_BACKS=0 -DONLY_LEASES -DMAX_DELIVERIES=1
found lease -DBREAK_ENTRIES_FIRST -DUSERS=2 -DCRASHES=1

# Two consumers and a keeper, with one buffer more than there are slots; two putters that race for buffers.
holds buffer -DMESSAGES=2
holds buffer -DCRASHES=0
holds buffer -DSLOTS=2 -DPUTTERS=2 -DCONSUMERS=1 -DCRASHES=0 -DABANDONED=1
found buffer -DBREAK_NO_RESTAMP
found buffer -DBREAK_FREE_FIRST -DMESSAGES=2
found buffer -DBREAK_NO_RECHECK
found buffer -DBREAK_RECHECK_EARLY -DMESSAGES=2
found buffer -DBREAK_SAME_GENERATION
found buffer -DBREAK_STORE_BUFFER -DSLOTS=2 -DPUTTERS=2 -DCONSUMERS=1 -DCRASHES=0

# Two putters and two getters; three getters; two calls of each getter, and two messages with one wake.
holds wait
holds wait -DPUTTERS=1 -DPUTS=2 -DGETTERS=2 -DCRASHES=2
holds wait -DPUTTERS=1 -DPUTS=2 -DBATCH=2 -DGETS=2 -DCRASHES=1
holds wait -DPUTTERS=1 -DPUTS=1 -DBATCH=3 -DGETTERS=3
holds wait -DCRASHES=1
holds wait -DGETS=2 -DBATCH=2
# The kernel wakes any of the sleepers; a message comes back.
holds wait -DANY_ORDER -DGETS=2 -DBATCH=2
holds wait -DRETURNS=1 -DPUTTERS=1
found wait -DBREAK_WOKEN_REMEMBERS -DANY_ORDER -DGETS=2 -DBATCH=2
found wait -DBREAK_RETURN_WAKES_ONE -DRETURNS=1 -DPUTTERS=1
found wait -DBREAK_NO_BARRIER
found wait -DBREAK_BARRIER_BEFORE_BIT
found wait -DBREAK_BARRIER_ONCE
found wait -DBREAK_NO_SECOND_LOOK
found wait -DBREAK_NO_COUNT
found wait -DBREAK_NO_CHAIN
found wait -DBREAK_NO_MANY
found wait -DBREAK_BIT_NOT_AGAIN
found wait -DBREAK_MORE_BEFORE_BIT
found wait -DBREAK_MANY_CLEARED_ALWAYS
found wait -DBREAK_MANY_CLEARED_BLIND -DGETS=2 -DBATCH=2

# A semaphore of one unit and of two; three users, one of whom is a newcomer in a dead one's place.
holds ledger
holds ledger -DCRASHES=2
holds ledger -DUNITS=2 -DCRASHES=2
holds ledger -DOPS=3
holds ledger -DUSERS=3 -DOPS=1
found ledger -DBREAK_NO_HELP
found ledger -DBREAK_NO_TAG
found ledger -DBREAK_NO_RECHECK
found ledger -DBREAK_RECOVER_UNHELPED
found ledger -DBREAK_NO_GENERATION -DUSERS=3 -DOPS=1

holds queue -DCRASHES=0
holds queue -DPUTTERS=1 -DPUTS=3
holds queue -DGETTERS=1 -DPUTS=2
holds queue -DPUTTERS=1 -DPUTS=2 -DCRASHES=2
holds queue -DPUTTERS=1 -DPUTS=3 -DSLOTS=1
holds queue -DPUTTERS=1 -DPUTS=5 -DCRASHES=0
holds queue -DSLOTS=1
holds queue
found queue -DBREAK_PUBLISH_EARLY
found queue -DBREAK_PASS_WRITING -DGETTERS=1
found queue -DBREAK_NO_PROOF
found queue -DBREAK_NO_STRAYS
found queue -DBREAK_NO_SEAL

# One putter and two getters, or the other way round; three getters; a run that reaches round the ring; jumps over laps; repairers
# that race over what a dead one has left, and die.
holds runs
holds runs -DPUTS=3 -DPUTS_2=1 -DGETTERS=1 -DCRASHES=2
holds runs -DPUTS_2=2 -DGETTERS=1
holds runs -DPUTS=2 -DPUTS_2=1 -DCRASHES=0
holds runs -DRUN=3 -DPUTS=6 -DPUTS_2=1 -DGETTERS=1
holds runs -DRUN=3 -DSLOTS=4 -DPUTS=7 -DGETTERS=1 -DCRASHES=2
holds runs -DSLOTS=2 -DFILLED=2 -DPUTS=3 -DCRASHES=0
holds runs -DFILLED=3 -DPUTS=0 -DGETTERS=3
holds runs -DFILLED=3 -DPUTS=1 -DDIED=READING_RUN
holds runs -DFILLED=2 -DPUTS=2 -DPUTS_2=1 -DGETTERS=1 -DDIED=WRITING_RUN
found runs -DBREAK_NO_LOOK -DPUTS=5 -DGETTERS=1
found runs -DBREAK_PASS_ONE -DPUTS=3 -DPUTS_2=1 -DGETTERS=1
found runs -DBREAK_PUBLISH_FIRST
found runs -DBREAK_FREE_FIRST
found runs -DBREAK_NO_RECHECK
found runs -DBREAK_FIRST_REPAIRED_FIRST
found runs -DBREAK_REPAIR_UPWARDS -DRUN=3 -DPUTS=6 -DPUTS_2=1 -DGETTERS=1
found runs -DBREAK_NO_MARK
found runs -DBREAK_START_AT_CAME_BACK
found runs -DBREAK_MARK_FIRST_ONLY -DFILLED=3 -DPUTS=1 -DDIED=READING_RUN -DCRASHES=0

if [ $count -eq 0 ]; then
        echo "check-model: there is no model named $only" >&2
        exit 2
fi
[ $failed -eq 0 ] && echo "check-model: $count checks, all as they must be"
exit $failed
