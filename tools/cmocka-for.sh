#!/bin/bash
# SPDX-License-Identifier: MIT
#
# cmocka-for.sh COMPILER AR DIR: build a static cmocka for another libc or another architecture, from the source of Debian's
# package, into DIR, with a cmocka.pc there for pkg-config.  Debian has cmocka for its own libc only, and for another CPU only where
# dpkg was told of it; a check should not change the machine's dpkg.
set -eu
compiler=$1
ar=$2
mkdir -p "$3"
dir=$(cd "$3" && pwd)
[ ! -e "$dir/cmocka.pc" ] || exit 0

# The machine's sources of packages may lack those of sources, so ask with a list and with state of our own.
apt=$dir/apt
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/parts"
: >"$apt/status"
list=/etc/apt/sources.list.d/debian.sources
[ ! -e $list ] || sed 's/^Types:.*/Types: deb-src/' $list >"$apt/parts/source.sources"
: >"$apt/source.list"
[ ! -e /etc/apt/sources.list ] || sed -n 's/^deb /deb-src /p' /etc/apt/sources.list >"$apt/source.list"
apt_get() {
        apt-get -q -o Dir::State="$apt" -o Dir::State::Lists="$apt/lists" -o Dir::State::status="$apt/status" \
                -o Dir::Cache="$apt/cache" -o Dir::Etc::SourceList="$apt/source.list" \
                -o Dir::Etc::SourceParts="$apt/parts" -o APT::Sandbox::User=root -o Acquire::Retries=3 "$@" </dev/null
}
apt_get update
(cd "$dir" && apt_get source --download-only cmocka)
rm -rf "$dir/source"
# dpkg-source checks the sums that the signed list has already vouched for.
dpkg-source --no-check -x "$dir"/cmocka_*.dsc "$dir/source"

# What cmocka's own build would find out, for any Linux.
cat >"$dir/config.h" <<'EOF'
#define HAVE_ASSERT_H 1
#define HAVE_INTTYPES_H 1
#define HAVE_MALLOC_H 1
#define HAVE_MEMORY_H 1
#define HAVE_SETJMP_H 1
#define HAVE_SIGNAL_H 1
#define HAVE_STDARG_H 1
#define HAVE_STDDEF_H 1
#define HAVE_STDINT_H 1
#define HAVE_STDIO_H 1
#define HAVE_STDLIB_H 1
#define HAVE_STRINGS_H 1
#define HAVE_STRING_H 1
#define HAVE_STRUCT_TIMESPEC 1
#define HAVE_TIME_H 1
#define HAVE_UNISTD_H 1
#define HAVE_CALLOC 1
#define HAVE_EXIT 1
#define HAVE_FPRINTF 1
#define HAVE_FREE 1
#define HAVE_LONGJMP 1
#define HAVE_SIGLONGJMP 1
#define HAVE_MALLOC 1
#define HAVE_MEMCPY 1
#define HAVE_MEMSET 1
#define HAVE_PRINTF 1
#define HAVE_SETJMP 1
#define HAVE_SIGNAL 1
#define HAVE_SNPRINTF 1
#define HAVE_STRCMP 1
#define HAVE_STRCPY 1
#define HAVE_STRNCPY 1
#define HAVE_STRSIGNAL 1
#define HAVE_VSNPRINTF 1
#define HAVE_CLOCK_REALTIME 1
#define HAVE_CLOCK_GETTIME 1
#define HAVE_GCC_THREAD_LOCAL_STORAGE 1
EOF
$compiler -O2 -g -fPIC -D_GNU_SOURCE -DHAVE_CONFIG_H -I "$dir" -I "$dir/source/include" -c -o "$dir/cmocka.o" \
        "$dir/source/src/cmocka.c"
rm -f "$dir/libcmocka.a"
"$ar" rcs "$dir/libcmocka.a" "$dir/cmocka.o"
version=$(basename "$dir"/cmocka_*.dsc .dsc)
version=${version#cmocka_}
cat >"$dir/cmocka.pc" <<EOF
Name: cmocka
Description: cmocka, built for brood's checks
Version: ${version%-*}
Libs: -L$dir -lcmocka
Cflags: -I$dir/source/include
EOF
