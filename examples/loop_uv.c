/* SPDX-License-Identifier: MIT
 *
 * loop_uv: one process waits for a queue, a connection, an event and a child's end at once, in the event loop of libuv.
 */
#include "loop.h"

#include <uv.h>

static struct loop loop;
static uv_poll_t polls[LOOP_SOURCES];
static uv_timer_t timer;

static void check(int r, const char *what)
{
        if (r < 0) {
                fprintf(stderr, "%s: %s\n", what, uv_strerror(r));
                exit(1);
        }
}

static void take(enum loop_source source)
{
        /* A handle that is closed keeps the loop alive no longer, and must not be touched again. */
        if (!loop_take(&loop, source) && !uv_is_closing((uv_handle_t *)&polls[source]))
                uv_close((uv_handle_t *)&polls[source], NULL);
        if (loop_is_over(&loop))
                uv_stop(uv_default_loop());
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
        (void)events;
        check(status, "poll");
        take((enum loop_source)(poll - polls));
}

static void on_time(uv_timer_t *ignored)
{
        (void)ignored;
        for (int i = 0; i < LOOP_SOURCES; i++)
                take((enum loop_source)i);
}

static void close_it(uv_handle_t *handle, void *arg)
{
        (void)arg;
        if (!uv_is_closing(handle))
                uv_close(handle, NULL);
}

int main(int argc, char **argv)
{
        uv_loop_t *uv = uv_default_loop();

        example_begin(argc, argv);
        loop_begin(&loop);
        for (int i = 0; i < LOOP_SOURCES; i++) {
                check(uv_poll_init(uv, &polls[i], loop_descriptor(&loop, (enum loop_source)i)), "uv_poll_init");
                check(uv_poll_start(&polls[i], UV_READABLE, on_readable), "uv_poll_start");
        }
        check(uv_timer_init(uv, &timer), "uv_timer_init");
        check(uv_timer_start(&timer, on_time, LOOP_LOOK_MS, LOOP_LOOK_MS), "uv_timer_start");
        uv_run(uv, UV_RUN_DEFAULT);
        uv_walk(uv, close_it, NULL);
        uv_run(uv, UV_RUN_DEFAULT);
        check(uv_loop_close(uv), "uv_loop_close");
        return loop_end(&loop);
}
