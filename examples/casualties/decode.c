/* SPDX-License-Identifier: MIT
 *
 * decode.c: the task of the example casualties: one PNG file, from its bytes to its pixels.
 *
 * All of this runs in a worker process.  What it answers for itself are the errors that libpng finds; what it does not answer for
 * any more (a crash, a loop, a bomb of a file that wants all the memory there is) is the pool's business, and costs this one file.
 */
#include "casualties.h"

#include <errno.h>
#include <png.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct decoding {
        FILE *file;
        png_structp png;
        png_infop info;
        enum sabotage sabotage;
        bool no_memory, gave_up;
        char message[BROOD_TASK_MESSAGE_MAX];
};

/* ---- the worker ---- */

/* The soft time limit has passed.  After a task that heard of it the worker is replaced, so it need not be taken back. */
static volatile sig_atomic_t time_is_up;

static void hear_time(int signal)
{
        (void)signal;
        time_is_up = 1;
}

int decode_begin(void *arg)
{
        struct sigaction action = { .sa_handler = hear_time }; /* no SA_RESTART: a slow read is to end, too */
        sigemptyset(&action.sa_mask);
        if (sigaction(BROOD_SOFT_TIMEOUT_SIGNAL, &action, NULL) < 0)
                return -errno;
        /* The report tells of the crash; a core file for each would only fill the disk. */
        if (setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 }) < 0)
                return -errno;
        brood_worker_set_state(arg);
        return 0;
}

/* ---- sabotage ---- */

static const char *const names[SABOTAGES] = { "none", "crash", "exit", "hang", "spin", "hog", "slow", "flaky" };

const char *sabotage_name(enum sabotage sabotage)
{
        return names[sabotage];
}

_Noreturn static void crash(void)
{
        /* The member of a struct at NULL, which no compiler and no sanitizer is to see coming. */
        volatile uintptr_t nowhere = 16;
        signal(SIGSEGV, SIG_DFL);
        for (;;)
                *(volatile int *)nowhere = 1;
}

/* Takes memory, and uses it, until there is none. */
static void hog(struct decoding *d)
{
        const size_t size = 1 << 20;
        void **chunk, *last = NULL;
        while ((chunk = malloc(size)) != NULL) {
                memset(chunk, 1, size);
                *chunk = last;
                last = chunk;
        }
        while ((chunk = last) != NULL) {
                last = *chunk;
                free(chunk);
        }
        d->no_memory = true;
}

/* How often this file's decoder was sabotaged before, by all workers that there were. */
static uint32_t sabotaged_before(uint32_t number)
{
        uint32_t *counts = brood_array_of(brood_worker_state(), uint32_t);
        return brood_atomic_fetch_add(&counts[number], 1);
}

static void sabotage(struct decoding *d, const struct job *job)
{
        uint32_t before = sabotaged_before(job->number);
        switch (d->sabotage) {
        case SABOTAGE_FLAKY:
                if (before > 0)
                        break;
                crash();
        case SABOTAGE_CRASH:
                crash();
        case SABOTAGE_EXIT:
                exit(3);
        case SABOTAGE_HANG:
                for (;;)
                        pause();
        case SABOTAGE_SPIN:
                for (volatile unsigned long i = 0;; i++)
                        ;
        case SABOTAGE_HOG:
                hog(d);
                break;
        default:
                break;
        }
}

/* ---- libpng ---- */

_Noreturn static void on_error(png_structp png, png_const_charp text)
{
        struct decoding *d = png_get_error_ptr(png);
        snprintf(d->message, sizeof d->message, "%s", text);
        png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp text)
{
        (void)png;
        (void)text;
}

static png_voidp on_malloc(png_structp png, png_alloc_size_t size)
{
        struct decoding *d = png_get_mem_ptr(png);
        void *memory = malloc(size);
        d->no_memory = d->no_memory || memory == NULL;
        return memory;
}

static void on_free(png_structp png, png_voidp memory)
{
        (void)png;
        free(memory);
}

/* After each row: the moment to look at the clock, because here nothing is half done. */
static void on_row(png_structp png, png_uint_32 row, int pass)
{
        struct decoding *d = png_get_error_ptr(png);
        while (d->sabotage == SABOTAGE_SLOW && !time_is_up)
                nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
        if (!time_is_up)
                return;
        d->gave_up = true;
        snprintf(d->message, sizeof d->message, "the time was up after row %u of pass %d", (unsigned)row, pass);
        png_longjmp(png, 1);
}

/* What libpng does not get through it leaves by a jump to here; so nothing that it needs afterwards is in a local variable. */
static int decode(struct decoding *d, struct image *image)
{
        if (setjmp(png_jmpbuf(d->png)) != 0)
                return d->no_memory ? -ENOMEM : d->gave_up ? -ETIMEDOUT : -EBADMSG;
        png_init_io(d->png, d->file);
        png_set_read_status_fn(d->png, on_row);
        png_read_png(d->png, d->info, PNG_TRANSFORM_EXPAND | PNG_TRANSFORM_SCALE_16, NULL);
        image->width = png_get_image_width(d->png, d->info);
        image->height = png_get_image_height(d->png, d->info);
        return 0;
}

static int decode_file(struct decoding *d, struct image *image)
{
        struct stat status;
        if (fstat(fileno(d->file), &status) < 0)
                return -errno;
        image->bytes = (uint64_t)status.st_size;

        d->png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, d, on_error, on_warning, d, on_malloc, on_free);
        if (d->png == NULL)
                return -ENOMEM;
        d->info = png_create_info_struct(d->png);
        int r = d->info == NULL ? -ENOMEM : decode(d, image);
        png_destroy_read_struct(&d->png, &d->info, NULL);
        return r;
}

/* ---- the task ---- */

ssize_t decode_task(const void *arg, size_t size, void *out, size_t room)
{
        const struct job *job = arg;
        struct image image = { 0 };
        (void)size; /* the path ends with a NUL */
        if (room < sizeof image)
                return -EMSGSIZE;

        struct decoding d = { .sabotage = (enum sabotage)job->sabotage };
        if (d.sabotage != SABOTAGE_NONE)
                sabotage(&d, job);
        if (d.no_memory)
                return brood_task_fail(-ENOMEM, "all memory is gone");

        d.file = fopen(job->path, "rbe");
        if (d.file == NULL)
                return brood_task_fail(-errno, "open: %s", strerror(errno));
        int r = decode_file(&d, &image);
        fclose(d.file);
        if (r < 0)
                return brood_task_fail(r, "%s", d.message[0] != 0 ? d.message : brood_strerror(r));
        memcpy(out, &image, sizeof image);
        return sizeof image;
}
