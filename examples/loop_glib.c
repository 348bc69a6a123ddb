/* SPDX-License-Identifier: MIT
 *
 * loop_glib: one process waits for a queue, a connection, an event and a child's end at once, in the main loop of GLib.
 */
#include "loop.h"

#include <glib-unix.h>

static struct loop loop;
static GMainLoop *main_loop;

/* Called by GLib, which takes the source out of its loop for G_SOURCE_REMOVE. */
static gboolean on_readable(gint fd, GIOCondition condition, gpointer source)
{
        (void)fd;
        (void)condition;
        bool more = loop_take(&loop, (enum loop_source)GPOINTER_TO_INT(source));
        if (loop_is_over(&loop))
                g_main_loop_quit(main_loop);
        return more ? G_SOURCE_CONTINUE : G_SOURCE_REMOVE;
}

/* What comes to its end here is still readable, and taken out of the loop by on_readable(). */
static gboolean on_time(gpointer ignored)
{
        (void)ignored;
        for (int i = 0; i < LOOP_SOURCES; i++)
                loop_take(&loop, (enum loop_source)i);
        if (loop_is_over(&loop))
                g_main_loop_quit(main_loop);
        return G_SOURCE_CONTINUE;
}

int main(int argc, char **argv)
{
        example_begin(argc, argv);
        loop_begin(&loop);
        main_loop = g_main_loop_new(NULL, FALSE);
        for (int i = 0; i < LOOP_SOURCES; i++)
                g_unix_fd_add(loop_descriptor(&loop, (enum loop_source)i), G_IO_IN, on_readable, GINT_TO_POINTER(i));
        g_timeout_add(LOOP_LOOK_MS, on_time, NULL);
        g_main_loop_run(main_loop);
        g_main_loop_unref(main_loop);
        return loop_end(&loop);
}
