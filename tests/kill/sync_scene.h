/* SPDX-License-Identifier: MIT
 *
 * tests/kill/sync_scene.h: a lock, semaphore, condition, event, barrier or reader/writer lock in a given state, up to two victims
 * that use it, and what must be so after their deaths.
 *
 * An act is one call (or a few in turn) of a victim, and all around it, in this order:
 *
 *     open       the test process makes the object, and what was there before: somebody who has died with it, for example
 *     prepare    the victim, at full speed.  By then it is known to the object, unless the act says otherwise
 *     fill       the test process again: somebody falls asleep behind what the victim has
 *     call       the victim, step by step; it writes down in `progress` how far it has come
 *     wake       when the victim sleeps for what the test process has: gives it
 *     beside     the test process, between the victim's instructions; it must not wait
 *     settle     after the death: everybody goes on, and complains of what is not as it should be
 *
 * The stages of a call are numbers that only rise.  settle() says in `level` how far the call had come by what it has found: the
 * kills of one call, each an instruction later, must find a level that never falls.
 */
#ifndef BROOD_TESTS_SYNC_SCENE_H
#define BROOD_TESTS_SYNC_SCENE_H

#include "kills.h"

#include <brood/barrier.h>
#include <brood/condition.h>
#include <brood/event.h>
#include <brood/lock.h>
#include <brood/rwlock.h>
#include <brood/semaphore.h>

enum {
        SYNC_SEATS = 2,
        SYNC_HELPERS = 8,
        SYNC_WAIT_MS = 1000,  /* nobody may wait longer */
        SYNC_LIMIT_MS = 2000, /* of a call that must not come near it */
        SYNC_LONG_MS = 20000, /* of one that is to be woken, however slowly it is stepped */
        SYNC_SHORT_MS = 3     /* of one that is to wait in vain */
};

struct sync_scene;
struct sync_seat;

struct sync_act {
        const char *name;
        int value;   /* what it means is the object's affair */
        bool marked; /* a process has died with the object in its hands before */
        bool recursive, bounded, events, polled;
        bool frees;    /* the victim frees its handle, or one of its own */
        bool crowd;    /* somebody else sleeps beside the victim, and comes after it */
        bool cold;     /* the victim has never used the object before */
        bool wavering; /* its path is not the same each time */
        bool watched;  /* survivors sleep until they look for the dead */
        int (*prepare)(struct sync_scene *scene, struct sync_seat *seat);
        void (*fill)(struct sync_scene *scene);
        void (*call)(struct sync_scene *scene, struct sync_seat *seat);
        void (*wake)(struct sync_scene *scene);
        void (*beside)(struct sync_scene *scene);
        void (*settle)(struct sync_scene *scene);
};

/* What the acts on one kind of object have in common. */
struct sync_object {
        const char *name;
        void (*open)(struct sync_scene *scene);
        int (*warm)(struct sync_scene *scene); /* a victim gets to know it */
        void (*close)(struct sync_scene *scene);
        const struct sync_act *acts;
        int acts_count;
        const struct sync_act *pair; /* for two victims; NULL: none */

        /* Of what has one holder: taking it and giving it back, and saying that it is consistent (may be NULL). */
        int (*acquire)(struct sync_scene *scene, int timeout_ms);
        int (*release)(struct sync_scene *scene);
        int (*consistent)(struct sync_scene *scene);
};

/* A victim's place, in shared memory. */
struct sync_seat {
        struct step_mark mark;
        bool vacant;
        int number;
        uint64_t chance;
        atomic_int progress;
        atomic_int result;
};

/* A process of the test's own, which waits in a call. */
struct sync_helper {
        pid_t pid;
        atomic_int begun, ended;
        atomic_int result;
        brood_death death;
};

struct sync_books {
        struct verdict verdict;
        struct sync_seat seats[SYNC_SEATS];
        struct sync_helper helpers[SYNC_HELPERS];
        atomic_int readers, writers; /* who is inside, of the living */
        atomic_int told, untold;     /* how many were told of a death, and how many were not */
        atomic_int flag, count;      /* of the act */
};

struct sync_scene {
        const struct sync_object *object;
        const struct sync_act *act;
        struct sync_books *books;
        uint64_t chance;
        pid_t victims[SYNC_SEATS];
        pid_t dead; /* who has died before; 0: nobody */
        bool unreaped;
        bool woken, holds;
        int helpers;
        int level;

        brood_lock *lock;
        brood_semaphore *semaphore;
        brood_condition *condition;
        brood_event *event;
        brood_barrier *barrier;
        brood_rwlock *rwlock;
};

extern const struct sync_object sync_lock, sync_semaphore, sync_condition, sync_event, sync_barrier, sync_rwlock;

struct sync_books *sync_books_new(void);
void sync_books_free(struct sync_books *books);

void sync_complain(struct sync_scene *scene, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Complain if the result of what is called `what` is not `wanted`. */
void sync_expect(struct sync_scene *scene, const char *what, int result, int wanted);
void sync_note_wait(struct sync_scene *scene, int64_t start);

void sync_open(struct sync_scene *scene, const struct sync_object *object, const struct sync_act *act,
               struct sync_books *books, uint64_t chance);
/* A victim that takes the seat, and has run up to the marker; -1 (and a complaint) if it did not get there. */
pid_t sync_seat(struct sync_scene *scene, int number);
/* Kill the victim where it stands.  Sometimes it stays a zombie until the end of the scene. */
void sync_kill(struct sync_scene *scene, int number);
void sync_settle(struct sync_scene *scene);
void sync_end(struct sync_scene *scene);

/* ---- for the objects ---- */

bool sync_has_ended(const struct sync_seat *seat);
void sync_progress(struct sync_seat *seat, int progress);
int sync_progress_of(struct sync_scene *scene);

/* A process that calls the function, and dies of it. */
void sync_die(struct sync_scene *scene, int (*function)(void *scene));

/* A process that calls the function; or that waits in it, asleep by now.  Its number. */
int sync_send(struct sync_scene *scene, void (*function)(struct sync_scene *scene, struct sync_helper *helper));
int sync_help(struct sync_scene *scene, void (*function)(struct sync_scene *scene, struct sync_helper *helper));
/* It returns in time: its result. */
int sync_await(struct sync_scene *scene, int helper);
/* It is killed, and has nothing to say any more. */
void sync_dismiss(struct sync_scene *scene, int helper);
bool sync_is_waiting(struct sync_scene *scene, int helper);

/* Fresh processes that all call the function, which returns 0. */
void sync_run(struct sync_scene *scene, int count, int (*function)(void *scene));

/* Once in a while: what takes long is not looked at each time. */
bool sync_seldom(void);

/* Who is inside what only one, or any number of readers, may be in. */
void sync_enter(struct sync_scene *scene, bool writes);
void sync_leave(struct sync_scene *scene, bool writes);

/* What is told of a death must be the victim's or that of the one who has died before. */
void sync_judge_death(struct sync_scene *scene, const brood_death *death, bool may_be_victim, bool may_be_before);

#endif
