#!/bin/bash
# SPDX-License-Identifier: MIT
#
# check-static.sh BUILD_DIR: clang-tidy, with the checks of .clang-tidy, over the sources of the library and of the examples as that
# directory compiles them.
set -u
cd "$(dirname "$0")/.." || exit 1
if ! command -v clang-tidy >/dev/null; then
        echo "check-static: skipped, there is no clang-tidy"
        exit 77
fi
mapfile -t files < <(find src -name '*.c' | sort)
[ ! -e examples/meson.build ] || mapfile -t -O ${#files[@]} files < <(find examples -name '*.c' | sort)

# What is in no build has no command line either: a file that was forgotten in a meson.build is a fault too.
failed=0
for file in "${files[@]}"; do
        if ! grep -qF "/$file\"" "$1/compile_commands.json"; then
                echo "FAILED: $file is compiled by no meson.build"
                failed=1
        fi
done
[ $failed -eq 0 ] || exit 1

# A process per core, a file each; grep drops the counts of what was suppressed in the system's headers.
printf '%s\0' "${files[@]}" | xargs -0 -n 1 -P "$(nproc)" clang-tidy -p "$1" --quiet 2>&1 |
        grep -vE '^[0-9]+ warnings? (generated|treated)|^Suppressed |^Use -header-filter'
failed=${PIPESTATUS[1]}
echo "check-static: ${#files[@]} files"
[ "$failed" -eq 0 ]
