# SPDX-License-Identifier: MIT
#
# A thin face for the impatient; Meson does the work.
#
#   make run        build all, run the seven lessons and then a real job
#   make test       build all, pass every test (tests/, examples/, and the gates in tools/)
#   make bench      a release build, measured beside its peers
#   make check-all  the long checks: sanitizers, valgrind, another libc, another architecture, many more rounds
#   make format     lay out the C files
#   make clean      remove the build directories
#
# Missing Debian packages are installed on the way (tools/install-packages.sh holds the list).

# Debian's Meson, which brings its own Python along, rather than one that somebody put first in PATH.
MESON ?= $(firstword $(wildcard /usr/bin/meson) meson)
BUILD ?= build
PYTHON ?= $(firstword $(wildcard /usr/bin/python3) python3)

SUITES := unit proc settings kill stress examples gates
LESSONS := fork zombies process process_class pool queue separate_queues
# Where the examples were built.
EXAMPLES = $(BUILD)/examples

all: build

packages:
	@tools/install-packages.sh build

$(BUILD)/build.ninja: | packages
	$(MESON) setup $(BUILD)

build: packages $(BUILD)/build.ninja
	@$(MESON) compile -C $(BUILD)

run: build
	@set -e; for lesson in $(LESSONS); do \
	        printf '\n==== %s ====\n' "$$lesson"; \
	        $(EXAMPLES)/$$lesson; \
	done
	@printf '\n==== wordcount ====\n'
	@$(EXAMPLES)/wordcount

# One run for all suites, so that one log has every result.
test: build
	@$(MESON) test -C $(BUILD) --no-rebuild --print-errorlogs $(addprefix --suite ,$(SUITES))

# What a build directory was set up without, it stays without; so it is set up anew when peers have come.  Without them, the rest
# is measured.
bench: packages
	@if [ -n "$$(tools/install-packages.sh --missing bench)" ]; then \
	        if tools/install-packages.sh bench; then rm -rf build-bench; else echo "these peers are skipped"; fi; \
	fi
	@[ -e build-bench/build.ninja ] || $(MESON) setup build-bench --buildtype=release
	@$(MESON) compile -C build-bench
	@$(PYTHON) bench/run.py --builddir build-bench

check-all: packages
	@tools/install-packages.sh check long
	@tools/check-all.sh

format:
	@tools/install-packages.sh build check
	@tools/check-format.sh --fix

clean:
	rm -rf build build-*

.PHONY: all packages build run test bench check-all format clean
