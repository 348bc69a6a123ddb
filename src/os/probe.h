/* SPDX-License-Identifier: MIT
 *
 * os/probe.h: static probes (USDT), for perf(1), bpftrace(8), stap(1) and gdb(1).
 *
 * A probe is a no-op in the code and a note in the file that says where it is and where its arguments are found.  So an argument
 * should be at hand anyway: it is computed whether somebody looks or not.  Without <sys/sdt.h> there are none, and nothing is
 * computed.
 *
 * The probes, and what they tell, are a part of the interface: doc/man/brood.7 has the list, and tools/check-probes.py holds the
 * library to it.
 */
#ifndef BROOD_OS_PROBE_H
#define BROOD_OS_PROBE_H

#ifdef BROOD_WITH_PROBES

#include <sys/sdt.h>

#define PROBE2(name, a, b) DTRACE_PROBE2(brood, name, a, b)
#define PROBE3(name, a, b, c) DTRACE_PROBE3(brood, name, a, b, c)

#else

#define PROBE2(name, a, b)                                                                                             \
        do {                                                                                                           \
                if (0) {                                                                                               \
                        (void)(a);                                                                                     \
                        (void)(b);                                                                                     \
                }                                                                                                      \
        } while (0)
#define PROBE3(name, a, b, c)                                                                                          \
        do {                                                                                                           \
                PROBE2(name, a, b);                                                                                    \
                if (0)                                                                                                 \
                        (void)(c);                                                                                     \
        } while (0)

#endif

#endif
