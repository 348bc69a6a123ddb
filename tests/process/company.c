/* SPDX-License-Identifier: MIT
 *
 * tests/process/company.c: busy threads beside the one that uses brood: see company.h.
 *
 * They work in short bursts with pauses of random length: on a machine with two CPUs, eight threads that never pause would test
 * little but the patience of whoever waits for the test.
 */
#include "company.h"
#include "support.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define PAUSE_NS 300000 /* at most */

static pthread_t threads[COMPANY_THREADS];
static int running;
static atomic_bool wanted;
static FILE *nowhere;

static void allocate(void)
{
        char *volatile blocks[32];
        for (int i = 0; i < 32; i++) {
                blocks[i] = malloc(16 + support_random(5000));
                if (blocks[i])
                        blocks[i][0] = 1;
        }
        for (int i = 0; i < 32; i++)
                free(blocks[i]);
}

/* A child that flushes a stream must find it unlocked, and only glibc sees to that for the streams that are not brood's to look
 * after; so elsewhere nobody prints. */
static void print(void)
{
#ifdef __GLIBC__
        for (int i = 0; i < 32; i++) {
                fprintf(nowhere, "%d\n", i);
                fputs("", stdout);
                fputs("", stderr);
        }
        fflush(nowhere);
#endif
}

static void sleep_only(void)
{
}

static void *keep_busy(void *function)
{
        void (*const burst)(void) = *(void (*const *)(void))function;
        while (atomic_load(&wanted)) {
                burst();
                nanosleep(&(struct timespec){ 0, (long)support_random(PAUSE_NS) }, NULL);
        }
        return NULL;
}

bool company_begin(void)
{
        static void (*const bursts[])(void) = { allocate, print, sleep_only };
        static char buffer[BUFSIZ];
        if (!nowhere && (!(nowhere = fopen("/dev/null", "we")) || setvbuf(nowhere, buffer, _IOFBF, sizeof buffer)))
                return false;
        atomic_store(&wanted, true);
        for (running = 0; running < COMPANY_THREADS; running++)
                if (pthread_create(&threads[running], NULL, keep_busy, (void *)(uintptr_t)&bursts[running % 3]) != 0)
                        return false;
        return true;
}

void company_end(void)
{
        atomic_store(&wanted, false);
        while (running > 0)
                pthread_join(threads[--running], NULL);
}
