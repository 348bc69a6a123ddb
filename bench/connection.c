/* SPDX-License-Identifier: MIT
 *
 * connection.c: messages over a connection, beside the bare socket pair below it, with the loops and the books of queue.h.
 *
 *     64KiB        64 KiB messages one way, from a process to another; GB/s
 *     round-trip   64 bytes there and back over one pair, hot, on two CPUs, in us
 *
 * Peers: brood (brood_pipe), socketpair (write and read of the same bytes, without any length before them).
 */
#include "bench_brood.h"
#include "queue.h"

#include <brood/connection.h>
#include <sys/socket.h>

/* One way through a pair: what is put into one end is got from the other. */
struct way {
        brood_connection *from, *to;
        int from_fd, to_fd;
};

EACH_PEER void brood_put(void *queue, const void *message, size_t size)
{
        brood_check("brood_connection_send",
                    brood_connection_send(((struct way *)queue)->from, message, size, BROOD_FOREVER));
}

EACH_PEER void brood_get(void *queue, void *message, size_t size)
{
        brood_check_size("brood_connection_recv",
                         brood_connection_recv(((struct way *)queue)->to, message, size, BROOD_FOREVER), size);
}

EACH_PEER void socket_put(void *queue, const void *message, size_t size)
{
        for (size_t done = 0; done < size;) {
                ssize_t n = write(((struct way *)queue)->from_fd, (const char *)message + done, size - done);

                if (n <= 0)
                        bench_die("write: %s", strerror(errno));
                done += (size_t)n;
        }
}

EACH_PEER void socket_get(void *queue, void *message, size_t size)
{
        for (size_t done = 0; done < size;) {
                ssize_t n = read(((struct way *)queue)->to_fd, (char *)message + done, size - done);

                if (n <= 0)
                        bench_die("read: %s", n < 0 ? strerror(errno) : "the other end is gone");
                done += (size_t)n;
        }
}

EACH_PEER void measure_ways(const struct bench_options *o, put_function put, get_function get)
{
        struct way there, back;
        int fds[2];

        brood_check("brood_pipe", brood_pipe(&there.from, &there.to, true));
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
                bench_die("socketpair: %s", strerror(errno));
        there.from_fd = fds[0];
        there.to_fd = fds[1];
        back = (struct way){ there.to, there.from, there.to_fd, there.from_fd };

        if (!strcmp(o->figure, "64KiB"))
                bench_report("connection", o, stream(&there, put, get, 65536, 1, o->count).rate * 65536 / 1e9, "GB/s");
        else if (!strcmp(o->figure, "round-trip"))
                bench_report("connection", o, round_trip(&there, &back, put, get, o->count), "us");
        else
                bench_options_unknown(o, "64KiB, round-trip; of brood, socketpair");
        brood_connection_free(there.from);
        brood_connection_free(there.to);
        close(fds[0]);
        close(fds[1]);
}

int main(int argc, char **argv)
{
        struct bench_options o = bench_options_parse(argc, argv);

        if (!strcmp(o.peer, "brood"))
                measure_ways(&o, brood_put, brood_get);
        else if (!strcmp(o.peer, "socketpair"))
                measure_ways(&o, socket_put, socket_get);
        else
                bench_options_unknown(&o, "64KiB, round-trip; of brood, socketpair");
        return 0;
}
