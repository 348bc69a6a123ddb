/* SPDX-License-Identifier: MIT
 *
 * tests/kill/scene.h: a queue in a given state, up to two victims in it, and the books that must balance after their deaths.
 *
 * Every message says who it is, and its bytes follow from that.  Who puts which:
 *
 *     0 ...       the test process: what lies in the queue beforehand, and what it puts between the victim's instructions
 *     2000 ...    the victims, 100 for each
 *     3000 ...    the first of the two fresh processes that use the queue after the deaths
 *
 * A victim takes messages into shared memory.  So it can be told where a message is that nobody else has got: one that has come
 * out to a victim as a whole, by a call that may have done its work, is gone with it; any other is lost.
 */
#ifndef BROOD_TESTS_SCENE_H
#define BROOD_TESTS_SCENE_H

#include "kills.h"

#include <brood/queue.h>

enum {
        SCENE_SEATS = 2,
        SCENE_BATCH = 9,     /* messages in one victim's hands */
        SCENE_ROOM = 5008,   /* bytes of the largest message */
        SCENE_IDS = 4096,    /* for all who put */
        SCENE_GIVEN = 2000,  /* that the test process may put */
        SCENE_CHECKS = 4,    /* that a fresh process puts */
        SCENE_WAIT_MS = 1000 /* nobody may wait longer */
};

struct message {
        uint32_t id, size;
        unsigned char body[SCENE_ROOM - 8];
};

/* What a victim does with messages. */
enum act_kind {
        ACT_PUTS,
        ACT_TAKES, /* they are gone when the call returns */
        ACT_LOOKS, /* they are not */
        ACT_CLOSES
};

struct scene;
struct seat;

struct act {
        const char *name;
        enum act_kind kind;
        int count;          /* messages */
        bool joinable;      /* in a queue with task_done */
        bool puts_back;     /* what was looked at is the oldest message again */
        bool keeps_nothing; /* after its success no message is there */
        bool registers;     /* and reads /proc for it, which is not the same way each time */
        bool long_one;      /* takes a path of which only some states are worth the time */
        void (*call)(struct scene *scene, struct seat *seat);
};

struct stage {
        const char *name;
        size_t maxsize;
        uint32_t size; /* bytes of the largest message */
        int laps;      /* messages that have passed through before */
        int given;     /* messages that are in it */
        int taken;     /* of them, how many were taken again */
        int timeout_ms;
        bool acting; /* the test process puts and gets between the victim's instructions */
        bool held;   /* it holds a reservation, or looks at a message, meanwhile */
        bool cold;   /* the victim has never used the queue before */
        bool woken;  /* the victim falls asleep, and is woken by what it waits for */
        bool batch;  /* for calls with SCENE_BATCH messages only */
        bool beside; /* and another sleeps beside it, which was not woken */
        bool pairs;  /* only for two victims together */
};

/* A victim's place, in shared memory. */
struct seat {
        struct step_mark mark;
        const struct act *act;
        int number;
        bool vacant;
        atomic_int begun;  /* how many messages the call may have put, or may have let go of, by now */
        atomic_int result; /* of the call: how many it has put or taken, or a negative errno */
        struct message hands[SCENE_BATCH];
};

struct books {
        struct seat seats[SCENE_SEATS];
        _Atomic uint8_t delivered[SCENE_IDS];
        atomic_int checks_got; /* of what a fresh process has put */
        atomic_int received;   /* by the fresh process that gets */
        atomic_int first_id;   /* what it got first; -1 */
        atomic_int inversions;
        atomic_int checks_put, checks_refused;
        struct verdict verdict;
};

struct scene {
        const struct stage *stage;
        bool joinable;
        brood_queue *queue;
        struct books *books;
        uint64_t chance; /* of what the test process does between instructions */
        uint32_t given;  /* messages that the test process has put: 0 ... given-1 */
        uint32_t got;    /* and got again */
        bool holds_place, holds_message;
        pid_t sleeper; /* who sleeps beside the victim; 0: nobody */
        brood_reservation place;
        brood_view view;
};

/* What a kill has left, for a comparison with the kill one instruction earlier. */
struct outcome {
        long steps;
        enum step_end end;
        int present, gone,
            closed; /* messages of the victims that are there; taken by them; whether the queue was closed */
};

struct books *scene_books_new(void);
void scene_books_free(struct books *books);

/* The first complaint stays.  Any process may complain. */
void scene_complain(struct books *books, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The queue, empty. */
void scene_open(struct scene *scene, const struct stage *stage, bool joinable, struct books *books, uint64_t chance);
/* Put it into the state, after the victims have warmed up. */
void scene_fill(struct scene *scene);
/* The test process, which lives, puts or gets. */
void scene_act(struct scene *scene);
/* It gives a sleeper what it waits for. */
void scene_wake(struct scene *scene);
/* A victim that takes the seat, and has run up to the marker; -1 (and a complaint) if it did not get there. */
pid_t scene_seat(struct scene *scene, int number, const struct act *act);
/* After the deaths: two fresh processes use the queue, it is closed and drained, and the books are audited. */
bool scene_settle(struct scene *scene, struct outcome *ret_outcome);
void scene_end(struct scene *scene);

/* What the victim's call returns if nothing disturbs it. */
int scene_expected(const struct stage *stage, const struct act *act);

/* For the acts: a message that was looked at or leased, copied into the victim's hands. */
void scene_take_in_hand(struct seat *seat, int i, const void *data, size_t size);

#endif
