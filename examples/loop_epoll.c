/* SPDX-License-Identifier: MIT
 *
 * loop_epoll: one process waits for a queue, a connection, an event and a child's end at once, with nothing but epoll(7).
 */
#include "loop.h"

#include <sys/epoll.h>

int main(int argc, char **argv)
{
        struct loop loop;

        example_begin(argc, argv);
        loop_begin(&loop);
        int epoll = epoll_create1(EPOLL_CLOEXEC);
        for (uint32_t i = 0; i < LOOP_SOURCES; i++) {
                struct epoll_event event = { .events = EPOLLIN, .data.u32 = i };
                if (epoll_ctl(epoll, EPOLL_CTL_ADD, loop_descriptor(&loop, i), &event) < 0) {
                        perror("epoll_ctl");
                        return 1;
                }
        }
        while (!loop_is_over(&loop)) {
                struct epoll_event events[LOOP_SOURCES];
                int n = epoll_wait(epoll, events, LOOP_SOURCES, LOOP_LOOK_MS);

                /* With nothing told for a while, all are worth a look. */
                for (int i = 0; i < (n > 0 ? n : LOOP_SOURCES); i++) {
                        enum loop_source source = n > 0 ? events[i].data.u32 : (uint32_t)i;
                        if (!loop_take(&loop, source))
                                epoll_ctl(epoll, EPOLL_CTL_DEL, loop_descriptor(&loop, source), NULL);
                }
        }
        close(epoll);
        return loop_end(&loop);
}
