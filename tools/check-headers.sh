#!/bin/bash
# SPDX-License-Identifier: MIT
#
# check-headers.sh INCLUDE_DIR: each public header, alone, compiles as C and as C++, without a warning, with each compiler that is
# there; so it includes what it needs, asks for no feature macro, and is no trouble to a program with stricter flags than ours.
# Also: including all of them twice, and a file in brood/ that meson.build does not install.
set -u
include=$1
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
strict=(-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror -fsyntax-only -I "$include")
tried=0
failed=0

try() {
        tried=$((tried + 1))
        if ! "$@" >"$tmp/log" 2>&1; then
                failed=$((failed + 1))
                echo "FAILED: $*"
                head -20 "$tmp/log"
        fi
}

try_file() {
        local compiler standard
        for compiler in gcc clang; do
                command -v $compiler >/dev/null || continue
                for standard in c11 c17; do
                        try $compiler -std=$standard "${strict[@]}" -Wstrict-prototypes -x c "$1"
                done
        done
        for compiler in g++ clang++; do
                command -v $compiler >/dev/null || continue
                for standard in c++11 c++20; do
                        try $compiler -std=$standard "${strict[@]}" -x c++ "$1"
                done
        done
}

for path in "$include"/brood/*.h; do
        header=brood/$(basename "$path")
        printf '#include <%s>\n#include <%s>\n' "$header" "$header" >"$tmp/$(basename "$path" .h).c"
        try_file "$tmp/$(basename "$path" .h).c"
        if ! grep -qF "'$(basename "$path")'" "$include/brood/meson.build"; then
                echo "FAILED: $header is not in include/brood/meson.build, so it is not installed"
                failed=$((failed + 1))
        fi
done

# The compilers must not be so lenient that nothing could fail: a header that leans on another's includes is refused.
printf 'static inline size_t f(void) { return 0; }\n' >"$tmp/bad.c"
if gcc -std=c17 "${strict[@]}" -x c "$tmp/bad.c" 2>/dev/null; then
        echo "FAILED: a file without its includes was accepted"
        failed=$((failed + 1))
fi

for compiler in gcc clang g++ clang++; do
        command -v $compiler >/dev/null || echo "not checked with $compiler: it is not there"
done
echo "check-headers: $tried compilations, $failed failed"
[ $failed -eq 0 ] && [ $tried -gt 0 ]
