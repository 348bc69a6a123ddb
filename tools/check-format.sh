#!/bin/bash
# SPDX-License-Identifier: MIT
#
# check-format.sh [--fix]: every C file is laid out as .clang-format says.  Also, in every file that is ours: no blank at the end
# of a line, no line longer than 132 columns (a comment may pass the 120 of the code by a word), and the licence's name.
set -u
cd "$(dirname "$0")/.." || exit 1

if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
        mapfile -t all < <(git ls-files --cached --others --exclude-standard)
else
        mapfile -t all < <(find . -name 'build*' -prune -o -type f -print | sed 's#^\./##')
fi
files=()
texts=()
for file in "${all[@]}"; do
        [ -f "$file" ] || continue
        case $file in
        *.c | *.h | *.cc | *.cpp) files+=("$file") texts+=("$file") ;;
        *.py | *.sh | *.map | *meson.build | meson_options.txt | Makefile | .ci/run) texts+=("$file") ;;
        esac
done

if ! command -v clang-format >/dev/null; then
        echo "check-format: skipped, there is no clang-format"
        exit 77
fi
if [ "${1-}" = --fix ]; then
        exec clang-format -i "${files[@]}"
fi

failed=0
clang-format --dry-run --Werror "${files[@]}" 2>&1 | head -60
[ "${PIPESTATUS[0]}" -eq 0 ] || failed=1
if grep -nE '[[:blank:]]+$' "${texts[@]}"; then
        echo "FAILED: blanks at the end of a line"
        failed=1
fi
if grep -nE '^.{133}' "${texts[@]}"; then
        echo "FAILED: lines longer than 132 columns"
        failed=1
fi
if grep -L 'SPDX-License-Identifier: MIT' "${texts[@]}" | grep .; then
        echo "FAILED: files that do not name their licence"
        failed=1
fi
echo "check-format: ${#files[@]} C files, ${#texts[@]} in all"
exit $failed
