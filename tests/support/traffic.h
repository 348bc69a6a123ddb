/* SPDX-License-Identifier: MIT
 *
 * tests/support/traffic.h: a queue under load while its users are killed, and the books that must balance.
 *
 * Each message says who sent it and which of his it is, and its bytes follow from that, so that a torn one is seen.
 * The books live in shared memory, because those who keep them are killed.  In them stands for each message: that its put
 * was begun, that its put returned 0, how often a get returned it.
 *
 *     put returned 0     taken once; or not at all, once for each consumer that was killed (it had just taken it)
 *     put was cut short  taken once or not at all
 *
 * Each consumer sees the messages of one producer in order, but for one that a killed consumer had claimed and that was
 * delivered again: at most one for each of those.
 */
#ifndef BROOD_TESTS_TRAFFIC_H
#define BROOD_TESTS_TRAFFIC_H

#include "check.h"

#include <brood/queue.h>

#define TRAFFIC_PRODUCERS 256 /* incarnations in one storm */
#define TRAFFIC_MESSAGES (1u << 17)
#define TRAFFIC_SIZE_MAX 2048

struct traffic_books {
        atomic_int stop;
        atomic_int taken_count;
        atomic_int torn, twice, foreign, out_of_order, failed;
        _Atomic uint32_t begun[TRAFFIC_PRODUCERS], done[TRAFFIC_PRODUCERS];
        _Atomic uint8_t taken[TRAFFIC_PRODUCERS][TRAFFIC_MESSAGES];
};

/* One producer or consumer, to be run as a process or a thread. */
struct traffic_user {
        brood_queue *queue;
        struct traffic_books *books;
        uint32_t id;       /* a producer's number */
        uint32_t messages; /* how many it sends; 0: until told to stop */
};

int traffic_produce(void *user);
int traffic_consume(void *user);

/* After the last user has ended: nothing lost, twice, torn; `lost` may be missing, and as many out of order. */
void traffic_balance(struct traffic_books *books, int lost, const char *what);

enum traffic_aim { TRAFFIC_KILL = 0, TRAFFIC_FREEZE };

struct traffic_plan {
        int producers, consumers; /* at most 8 of each */
        bool hit_producers, hit_consumers;
        enum traffic_aim aim; /* SIGKILL, or SIGSTOP and SIGCONT a little later */
        int hits;             /* how many; at most 200 */
        int within_us;        /* a hit comes after up to this many microseconds */
        size_t maxsize;
};

struct traffic_tally {
        int producers_hit, consumers_hit, lost;
        long messages;
        int worst_ms; /* the longest time after a hit until a message was taken again */
};

void traffic_storm(const struct traffic_plan *plan, struct traffic_tally *tally);

#endif
