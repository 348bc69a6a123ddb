#!/bin/bash
# SPDX-License-Identifier: MIT
#
# check-install.sh BUILD_DIR: install brood into a directory of its own, and be its first user there: one program, compiled with
# nothing but what pkg-config says, as C and as C++, against the shared library and as a static program, and run.
set -u
build=$1
# What a user has: no flags of the build that this runs in.
unset CFLAGS CXXFLAGS LDFLAGS CPPFLAGS LD_LIBRARY_PATH PKG_CONFIG_PATH DESTDIR
meson=/usr/bin/meson
[ -x $meson ] || meson=meson
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
failed=0
checked=0

fail() {
        echo "FAILED: $*"
        failed=$((failed + 1))
}

if ! $meson install -C "$build" --no-rebuild --destdir "$tmp/root" >"$tmp/log" 2>&1; then
        tail -20 "$tmp/log"
        fail "meson install"
        exit 1
fi

pc=$(find "$tmp/root" -name brood.pc)
if [ -z "$pc" ]; then
        fail "brood.pc was not installed"
        exit 1
fi
prefix=$tmp/root$(sed -n 's/^prefix=//p' "$pc")
export PKG_CONFIG_PATH=${pc%/*}

brood_pc() {
        pkg-config --define-variable=prefix="$prefix" "$@" brood
}
libdir=$(brood_pc --variable=libdir)

for file in "$libdir/libbrood.so" "$libdir/libbrood.so.0" "$libdir/libbrood.a" "$prefix/include/brood/brood.h"; do
        checked=$((checked + 1))
        [ -e "$file" ] || fail "${file#"$tmp/root"} was not installed"
done
checked=$((checked + 1))
soname=$(readelf -d "$libdir/libbrood.so" | sed -n 's/.*SONAME.*\[\(.*\)\]/\1/p')
[ "$soname" = libbrood.so.0 ] || fail "the soname is \"$soname\""
checked=$((checked + 1))
grep -rlF -e "$PWD" -e "$tmp" "$prefix" --include='*.pc' --include='*.h' && fail "an installed text names the build's directories"

# Small, but each concept once: a message, a process, a task.  It reads as C and as C++.
cat >"$tmp/user.c" <<'EOF'
#include <brood/brood.h>
#include <stdio.h>
#include <string.h>

static brood_queue *queue;

static int child(void *arg)
{
        return brood_queue_put(queue, arg, strlen((const char *)arg) + 1, 10000) == 0 ? 7 : 1;
}

static ssize_t task(const void *arg, size_t size, void *out, size_t room)
{
        int value;
        if (size != sizeof value || room < sizeof value)
                return -1;
        memcpy(&value, arg, sizeof value);
        value *= 2;
        memcpy(out, &value, sizeof value);
        return (ssize_t)sizeof value;
}

#define CHECK(condition)                                                                                               \
        do {                                                                                                           \
                if (!(condition)) {                                                                                    \
                        printf("line %d: %s\n", __LINE__, #condition);                                                 \
                        return 1;                                                                                      \
                }                                                                                                      \
        } while (0)

int main(void)
{
        char word[] = "brood", buf[16];
        brood_process_options options;
        brood_process *process;
        brood_pool_options pool_options;
        brood_pool *pool;
        int exitcode = 0, value = 4444;

        CHECK(strcmp(brood_version(), BROOD_TEST_VERSION) == 0);
        CHECK(brood_queue_new(&queue, NULL) == 0);
        memset(&options, 0, sizeof options);
        options.target = child;
        options.arg = word;
        CHECK(brood_process_new(&process, &options) == 0);
        CHECK(brood_process_start(process) == 0);
        CHECK(brood_queue_get(queue, buf, sizeof buf, 10000) == 6 && strcmp(buf, "brood") == 0);
        CHECK(brood_process_join(process, 10000) == 0);
        CHECK(brood_process_exitcode(process, &exitcode) == 0 && exitcode == 7);
        brood_process_free(process);
        brood_queue_free(queue);

        memset(&pool_options, 0, sizeof pool_options);
        pool_options.processes = 1;
        CHECK(brood_pool_new(&pool, &pool_options) == 0);
        CHECK(brood_pool_apply(pool, task, &value, sizeof value, &value, sizeof value, 10000) == (ssize_t)sizeof value);
        CHECK(value == 8888);
        CHECK(brood_pool_close(pool) == 0);
        CHECK(brood_pool_join(pool, 10000) == 0);
        brood_pool_free(pool);
        return 0;
}
EOF
cp "$tmp/user.c" "$tmp/user.cc"

use() { # NAME COMPILER SOURCE LINK_FLAGS...
        local name=$1 compiler=$2 source=$3
        shift 3
        checked=$((checked + 1))
        # shellcheck disable=SC2046 # pkg-config's answer is a list of words
        if ! $compiler -Wall -Wextra -Werror -DBROOD_TEST_VERSION="\"$(brood_pc --modversion)\"" -o "$tmp/user" \
                "$source" $(brood_pc --cflags) "$@" >"$tmp/log" 2>&1; then
                head -30 "$tmp/log"
                fail "$name: does not compile"
        elif ! LD_LIBRARY_PATH=$libdir timeout -k 5 60 "$tmp/user" >"$tmp/log" 2>&1; then
                tail -30 "$tmp/log"
                fail "$name: does not run"
        else
                echo "passed: $name"
        fi
}

# shellcheck disable=SC2046
{
        use "C, shared" gcc "$tmp/user.c" $(brood_pc --libs)
        use "C, static" gcc "$tmp/user.c" -static $(brood_pc --static --libs)
        use "C++, shared" g++ "$tmp/user.cc" $(brood_pc --libs)
        use "C++, static" g++ "$tmp/user.cc" -static $(brood_pc --static --libs)
}

echo "check-install: $checked checks, $failed failed"
[ $failed -eq 0 ]
