/* SPDX-License-Identifier: MIT
 *
 * example.h: the little that the example programs share: the option --seed-times, a sleep that takes fractions of a
 * second, and a check that ends the program with a message when brood reports an error.
 *
 * The examples are short by default, so that all of them run in a few seconds.  With --seed-times they wait as long as
 * the Python programs that they follow.
 */
#ifndef EXAMPLE_H
#define EXAMPLE_H

#include <brood/brood.h>

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static bool example_seed_times;

/* Reads the options.  Several processes print: line by line, so that their lines stay whole and in order. */
static inline void example_begin(int argc, char **argv)
{
        setvbuf(stdout, NULL, _IOLBF, 0);
        if (argc == 2 && strcmp(argv[1], "--seed-times") == 0) {
                example_seed_times = true;
        } else if (argc != 1) {
                fprintf(stderr, "usage: %s [--seed-times]\n", argv[0]);
                exit(2);
        }
}

/* Which of two times, in seconds, was asked for. */
static inline double example_time(double usual, double seeds)
{
        return example_seed_times ? seeds : usual;
}

static inline void example_sleep(double seconds)
{
        struct timespec rest = { (time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9) };
        while (nanosleep(&rest, &rest) < 0 && errno == EINTR)
                ;
}

/* Hands on what a call of brood returned, unless it is an error. */
static inline ssize_t example_check(ssize_t value, const char *what)
{
        if (value < 0) {
                fprintf(stderr, "%s: %s\n", what, brood_strerror((int)value));
                exit(1);
        }
        return value;
}

#endif
