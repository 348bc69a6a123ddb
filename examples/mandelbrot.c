/* SPDX-License-Identifier: MIT
 *
 * mandelbrot: several processes draw one picture in shared memory, and one of them dies over it.
 *
 * The picture is a shared array of pixels. Beside it lies a shared array with a word for each row: nobody's, the pid of
 * the one who draws it, or DONE. A worker claims a row by compare-and-exchange, draws it in place, and says that it is
 * done. There is no queue and no lock, and nothing is sent.
 *
 * Whoever gets to row 7 first is killed in the middle of it. Nothing of the others is lost with it: the parent finds the
 * row that still bears the dead one's pid, makes it nobody's again, and starts another worker.
 */
#include "example.h"

#define ROWS 24
#define COLUMNS 72
#define WORKERS 4
#define FATAL_ROW 7

enum { NOBODY = 0, DONE = 1 /* no worker's pid */ };

struct drawing {
        brood_array *pixels; /* char[ROWS * COLUMNS] */
        brood_array *rows;   /* uint32_t[ROWS] */
        brood_value *drawn;  /* uint32_t: how often a row was drawn to its end */
        brood_value *deaths; /* uint32_t */
};

/* How soon the point runs away, as a character.  In whole numbers, so that every machine draws the same picture. */
static char shade(int row, int column)
{
        const int64_t one = 1 << 24;
        int64_t cx = 3 * one * column / COLUMNS - 22 * one / 10, cy = 24 * one * row / (10 * ROWS) - 12 * one / 10;
        int64_t x = 0, y = 0;
        int i = 0;

        while (i < 90 && x * x + y * y < 4 * one * one) {
                int64_t next = (x * x - y * y) / one + cx;
                y = 2 * x * y / one + cy;
                x = next;
                i++;
        }
        return " .:-=+*#%@"[i / 10];
}

static int draw(void *arg)
{
        const struct drawing *d = arg;
        uint32_t *rows = brood_array_of(d->rows, uint32_t);

        for (int row = 0; row < ROWS; row++) {
                uint32_t whose = NOBODY;
                if (!brood_atomic_compare_exchange(&rows[row], &whose, (uint32_t)getpid()))
                        continue; /* another's, or done */
                char *pixels = brood_array_at(d->pixels, (size_t)row * COLUMNS);
                for (int column = 0; column < COLUMNS; column++) {
                        pixels[column] = shade(row, column);
                        bool in_the_middle = row == FATAL_ROW && column == COLUMNS / 2;
                        if (in_the_middle && brood_atomic_fetch_add(brood_value_of(d->deaths, uint32_t), 1) == 0)
                                kill(getpid(), SIGKILL);
                }
                brood_atomic_store(&rows[row], DONE);
                brood_atomic_fetch_add(brood_value_of(d->drawn, uint32_t), 1);
                example_sleep(example_time(0.005, 0.3)); /* so that all of them draw, and one can watch */
        }
        return 0;
}

static void start(brood_process **ret_worker, struct drawing *d)
{
        example_check(brood_process_new(ret_worker, &(brood_process_options){ .target = draw, .arg = d }), "new");
        example_check(brood_process_start(*ret_worker), "start");
}

/* What a dead worker had begun is nobody's again. */
static void give_up(const struct drawing *d, pid_t pid)
{
        uint32_t *rows = brood_array_of(d->rows, uint32_t);

        for (int row = 0; row < ROWS; row++) {
                uint32_t whose = (uint32_t)pid;
                if (brood_atomic_compare_exchange(&rows[row], &whose, NOBODY))
                        printf("A worker was killed in row %d\n", row);
        }
}

int main(int argc, char **argv)
{
        example_begin(argc, argv);

        struct drawing d;
        example_check(brood_array_new(&d.pixels, ROWS * COLUMNS, sizeof(char), NULL, NULL), "pixels");
        example_check(brood_array_new(&d.rows, ROWS, sizeof(uint32_t), NULL, NULL), "rows");
        example_check(brood_value_new(&d.drawn, sizeof(uint32_t), NULL, NULL), "drawn");
        example_check(brood_value_new(&d.deaths, sizeof(uint32_t), NULL, NULL), "deaths");

        brood_process *workers[WORKERS];
        for (int i = 0; i < WORKERS; i++)
                start(&workers[i], &d);
        for (int running = WORKERS; running > 0;) {
                int exitcode, i = 0;
                pid_t pid = (pid_t)example_check(brood_wait(&exitcode, BROOD_FOREVER), "wait");

                while (brood_process_pid(workers[i]) != pid)
                        i++;
                if (exitcode == -SIGKILL) {
                        give_up(&d, pid);
                        brood_process_free(workers[i]);
                        start(&workers[i], &d);
                } else {
                        running--;
                }
        }
        for (int i = 0; i < WORKERS; i++)
                brood_process_free(workers[i]);

        for (int row = 0; row < ROWS; row++)
                printf("|%.*s|\n", COLUMNS, (const char *)brood_array_at(d.pixels, (size_t)row * COLUMNS));
        printf("%u rows of %d are drawn\n", *brood_value_of(d.drawn, uint32_t), ROWS);
        brood_array_free(d.pixels);
        brood_array_free(d.rows);
        brood_value_free(d.drawn);
        brood_value_free(d.deaths);
        return 0;
}
