#!/bin/sh
# SPDX-License-Identifier: MIT
#
# hide-internals.sh: make of the library's archive one whose only global names are the public ones.
#
#   hide-internals.sh OUTPUT INPUT AR OBJCOPY COMPILER...
#
# A shared library hides its internal names by itself.  An archive is a heap of objects that must find each other by name, and
# whoever links it would share those names: a program's own round_up() could become ours.  So all objects are linked into one,
# and what has hidden visibility is made local to it.
set -eu
output=$1 input=$2 ar=$3 objcopy=$4
shift 4
object=$output.o
"$@" -r -nostdlib -Wl,--whole-archive "$input" -Wl,--no-whole-archive -o "$object"
"$objcopy" --localize-hidden "$object"
rm -f "$output"
"$ar" crD "$output" "$object"
rm -f "$object"
