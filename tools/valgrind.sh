#!/bin/bash
# SPDX-License-Identifier: MIT
#
# valgrind.sh PROGRAM...: run a test program under valgrind, as `meson test --wrapper tools/valgrind.sh` does.
#
# Not following exec, but following fork: a child that reads what was never written fails too, by its exit status.  A child that is
# ended by _exit(2) or by a signal has not freed its copy of its parent's memory, which is no leak; so only definite leaks count.
exec valgrind --quiet --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite --show-leak-kinds=definite \
        --child-silent-after-fork=no --trace-children=no --num-callers=20 --fair-sched=try "$@"
