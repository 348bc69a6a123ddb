#!/bin/bash
# SPDX-License-Identifier: MIT
#
# install-packages.sh GROUP...: the one list of Debian packages that brood is built and checked with.
#
#   build   what `make run`, `make test` and `make bench` need
#   bench   the peers that `make bench` measures brood against, where they are not the system's own
#   check   what `.ci/run` and the other quick gates need besides
#   long    what `make check-all` needs besides: a second libc, a second architecture, a model checker
#
# Installs what is missing, and only that: where all is there it asks no network and takes no time.  Works as root or through a
# sudo that asks no password; otherwise it prints the command to type and fails.
# `install-packages.sh --missing GROUP...` only prints what is missing.
set -euo pipefail

# "a|b": either will do; a is installed where neither is there.
build=(gcc libc6-dev make meson ninja-build "pkgconf|pkg-config" python3 libcmocka-dev nettle-dev scdoc g++ systemtap-sdt-dev)
bench=(libboost-dev libck-dev libzmq3-dev libglib2.0-dev python3-billiard python3-joblib)
check=(libuv1-dev libglib2.0-dev libpng-dev apache2-utils
        clang clang-format clang-tidy "libclang-rt-dev|libclang-rt-14-dev" valgrind gdb)
long=(musl-tools gcc-aarch64-linux-gnu libc6-dev-arm64-cross "qemu-user-static|qemu-user" dpkg-dev spin)

installed() {
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

only_print=
wanted=()
for argument in "$@"; do
        case $argument in
        --missing) only_print=yes ;;
        build) wanted+=("${build[@]}") ;;
        bench) wanted+=("${bench[@]}") ;;
        check) wanted+=("${check[@]}") ;;
        long) wanted+=("${long[@]}") ;;
        *)
                echo "usage: $0 [--missing] build|bench|check|long ..." >&2
                exit 2
                ;;
        esac
done

if ! command -v dpkg-query >/dev/null; then
        echo "$0: this is not a Debian; install what these Debian packages hold: ${wanted[*]}" >&2
        exit 0 # Who is not on Debian may have all of it: the build says what it misses.
fi

missing=()
for package in ${wanted[@]+"${wanted[@]}"}; do
        found=
        IFS='|' read -ra choices <<<"$package"
        for choice in "${choices[@]}"; do
                if installed "$choice"; then
                        found=yes
                        break
                fi
        done
        [ -n "$found" ] || missing+=("${choices[0]}")
done

if [ ${#missing[@]} -eq 0 ]; then
        exit 0
fi
if [ -n "$only_print" ]; then
        printf '%s\n' "${missing[@]}"
        exit 0
fi

echo "missing packages: ${missing[*]}"
if [ "$(id -u)" -eq 0 ]; then
        as_root=(env)
elif sudo -n true 2>/dev/null; then
        as_root=(sudo -n env)
else
        echo "Installing them takes root.  Please type:" >&2
        echo "    sudo apt-get update && sudo apt-get install --no-install-recommends ${missing[*]}" >&2
        exit 1
fi

apt_get() {
        "${as_root[@]}" DEBIAN_FRONTEND=noninteractive apt-get -q "$@" </dev/null
}
# A mirror may be away for a moment, and another apt may hold the lock.  If the lists stay old, they may still do.
apt_get -o Acquire::Retries=3 update || { sleep 10 && apt_get update; } ||
        echo "apt-get update failed; trying with the old lists" >&2
apt_get -o DPkg::Lock::Timeout=120 -o Acquire::Retries=3 install -y --no-install-recommends "${missing[@]}"
