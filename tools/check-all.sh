#!/bin/bash
# SPDX-License-Identifier: MIT
#
# check-all.sh: the long checks, for a quiet machine and three hours: both compilers with the sanitizers, valgrind, a fuzzer,
# another libc, another architecture, the models of the queue, and the tests that kill and those under load, again and again
# with a new seed each time.
#
#   tools/check-all.sh [PART...]   only some of them, in the order given; the parts are the functions part_... below
#
#   BROOD_REPEAT=N         how often (20)
#   BROOD_FUZZ_SECONDS=N   how long each fuzz target runs (120)
#
# Each test counts.  What cannot be checked here is told as skipped, with the reason; the last line is "N passed, N failed".
set -u
cd "$(dirname "$0")/.." || exit 1
exec </dev/null
export LC_ALL=C.UTF-8
repeat=${BROOD_REPEAT:-20}
fuzz_seconds=${BROOD_FUZZ_SECONDS:-120}
. tools/gates.sh

# A build directory, its tests counted one by one.
tests_of() { # NAME LIMIT DIR SETUP_ARGUMENTS... -- TEST_ARGUMENTS...
        rm -f "$3"/meson-logs/testlog*.json
        as_gate "$@"
        count_tests "$1" "$3"
}

export ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
# The tests' own time limits know of the sanitizers; of valgrind and of an emulator they do not.
sanitize=(-Db_sanitize=address,undefined -Db_lundef=false)
quick=(--suite unit --suite proc --suite settings --suite examples)

part_gcc() {
        tests_of "gcc" 1200 build -- "${quick[@]}" --suite gates
        tests_of "gcc, release" 1200 build-release --buildtype=release -Dwerror=true -- "${quick[@]}" --suite kill --suite stress
}

part_sanitizers() {
        tests_of "gcc, sanitizers" 1800 build-asan "${sanitize[@]}" -- "${quick[@]}"
        tests_of "clang, sanitizers" 1800 build-asan-clang --native-file tools/native-clang.ini "${sanitize[@]}" -- \
                "${quick[@]}"
        tests_of "thread sanitizer" 900 "${thread_sanitizer[@]}" --repeat 5
}

part_valgrind() {
        tests_of "valgrind" 1800 build -- --suite unit --timeout-multiplier 10 --num-processes 2 --wrapper "$PWD/tools/valgrind.sh"
}

# A fuzz target starts from nothing each time; its corpus would age with the layout of the shared memory that it damages.
# An input that it finds stays in build-fuzz, to be replayed with build/tests/fuzz/test_fuzz_queue and its like.
part_fuzz() {
        fuzz() { # only these three programs: the rest is a hundred more
                [ -e build-fuzz/build.ninja ] || $meson setup build-fuzz "$@" || return
                $meson compile -C build-fuzz fuzz_queue fuzz_sync fuzz_connection
        }
        export -f fuzz
        if gate "fuzz targets" 600 bash -c 'fuzz "$@"' fuzz --native-file tools/native-clang.ini "${sanitize[@]}" -Dfuzz=enabled \
                -Dexamples=disabled -Dbenches=disabled -Dman=disabled; then
                local target
                for target in queue sync connection; do
                        gate "fuzz: $target, $fuzz_seconds s" $((fuzz_seconds + 120)) "build-fuzz/tests/fuzz/fuzz_$target" \
                                -max_total_time="$fuzz_seconds" -timeout=10 -rss_limit_mb=2048 -max_len=640 \
                                -artifact_prefix=build-fuzz/
                done
        fi
}

# Another libc.  musl has no kernel headers of its own, and must not see glibc's beside them.
part_musl() {
        musl() {
                local kernel=$PWD/build-musl-tools/kernel
                tools/cmocka-for.sh musl-gcc ar build-musl-tools/cmocka || return
                mkdir -p "$kernel"
                ln -sfn /usr/include/linux "$kernel/linux"
                ln -sfn /usr/include/asm-generic "$kernel/asm-generic"
                ln -sfn "/usr/include/$(gcc -print-multiarch)/asm" "$kernel/asm"
                cat >build-musl-tools/native.ini <<EOF
[binaries]
c = 'musl-gcc'
[built-in options]
c_args = ['-isystem', '$kernel']
EOF
        }
        export -f musl
        if gate "musl: cmocka" 300 bash -c musl; then
                export PKG_CONFIG_LIBDIR=$PWD/build-musl-tools/cmocka
                tests_of "musl" 1200 build-musl --native-file build-musl-tools/native.ini -Dbenches=disabled -- \
                        "${quick[@]}" --timeout-multiplier 2
                unset PKG_CONFIG_LIBDIR
                # A program without any shared library is what many want musl for.
                musl_static() {
                        local lesson
                        mkdir -p build-musl/static
                        for lesson in fork zombies process process_class pool queue separate_queues; do
                                musl-gcc -std=gnu17 -D_GNU_SOURCE -O2 -static -I include -isystem build-musl-tools/kernel \
                                        -o "build-musl/static/$lesson" "examples/$lesson.c" build-musl/src/libbrood.a -pthread ||
                                        return
                                timeout 60 "build-musl/static/$lesson" || return
                        done
                }
                export -f musl_static
                gate "musl: static lessons" 300 bash -c musl_static
        fi
}

# Another architecture, with a weaker memory order than the one that most of us have.  An emulator shows that it compiles and
# computes; it does not show the order in which another CPU makes its stores visible.
part_aarch64() {
        aarch64() {
                local emulator
                emulator=$(command -v qemu-aarch64-static || command -v qemu-aarch64) || return
                tools/cmocka-for.sh aarch64-linux-gnu-gcc aarch64-linux-gnu-ar build-aarch64-tools/cmocka || return
                cat >build-aarch64-tools/cross.ini <<EOF
[binaries]
c = 'aarch64-linux-gnu-gcc'
ar = 'aarch64-linux-gnu-ar'
strip = 'aarch64-linux-gnu-strip'
objcopy = 'aarch64-linux-gnu-objcopy'
pkgconfig = 'pkg-config'
exe_wrapper = ['$emulator', '-L', '/usr/aarch64-linux-gnu']
[properties]
pkg_config_libdir = '$PWD/build-aarch64-tools/cmocka'
[host_machine]
system = 'linux'
cpu_family = 'aarch64'
cpu = 'aarch64'
endian = 'little'
EOF
        }
        export -f aarch64
        if [ "$(uname -m)" = aarch64 ]; then
                skip "aarch64" "this machine is one, so all of the above was"
        elif gate "aarch64: cmocka" 300 bash -c aarch64; then
                export BROOD_TEST_NO_FORK=1 # the emulator knows no subreapers, which the watcher needs
                tests_of "aarch64" 1800 build-aarch64 --cross-file build-aarch64-tools/cross.ini -Dbenches=disabled -- \
                        common waitword arena --timeout-multiplier 10
                unset BROOD_TEST_NO_FORK
                skip "aarch64: os, shm and ring" "the emulator wipes no page at a fork (MADV_WIPEONFORK), and knows no subreapers"
                skip "aarch64: proc, kill and stress" \
                        "the emulator has no ptrace, and its processes are not what /proc says of them"
        fi
}

# Every test of processes in every host: by each start method, with each thing that a host does about SIGCHLD, with busy threads, as
# PID 1, with both.
part_matrix() {
        tests_of "processes, every host" 3600 build -- --suite matrix

        BROOD_TEST_ROUNDS=100000 tests_of "processes, 100,000 in a row" 1200 build -- "scale fork" "scale spawn" "scale forkserver"
}

part_models() {
        gate "models of the queue" 3600 tools/check-model.sh
}

# A minute of kills in the queue and in the pool, and the kill after every instruction rather than after some of them.
part_steps() {
        BROOD_TEST_ROUNDS=60 tests_of "storm, a minute" 300 build -- storm
        BROOD_TEST_ROUNDS=60 tests_of "storm of sync, a minute" 300 build -- "storm of sync"
        BROOD_TEST_ROUNDS=60 tests_of "chaos in the pool, a minute" 300 build -- "pool chaos"
        BROOD_TEST_ROUNDS=100000 tests_of "step, every instruction" 2000 build -- step
        BROOD_TEST_ROUNDS=100000 tests_of "step of sync, every instruction" 4000 build -- "step of sync"
        BROOD_TEST_ROUNDS=100000 tests_of "step of births, every instruction" 4000 build -- "step of births"
        BROOD_TEST_ROUNDS=100000 tests_of "step of the pool, every instruction" 4000 build -- "step of the pool"
        BROOD_TEST_ROUNDS=100000 tests_of "keepers and workers, every system call" 2000 build -- "kills in pools"
}

# Each round of these draws its own seed and prints it.
part_again() {
        tests_of "kill and stress, $repeat times" $((repeat * 300)) build -- --suite kill --suite stress --repeat "$repeat"
}

[ $# -gt 0 ] || set -- gcc sanitizers valgrind fuzz musl aarch64 matrix models steps again
for part; do
        if ! declare -F "part_$part" >/dev/null; then
                echo "no such part: $part" >&2
                exit 2
        fi
done
for part; do
        "part_$part"
done
gates_end
