/* SPDX-License-Identifier: MIT
 *
 * queue_kernel.c: the queues that the kernel has, and its futex.
 *
 *     pipe        pipe(2): of 64 KiB, which is 1,024 small messages; of 1 MiB for the large ones
 *     seqpacket   a pair of Unix sockets that keep messages apart
 *     mq          POSIX message queues, mq_overview(7)
 *     futex       futex_cell.h: for one message at a time (round trips only)
 */
#include "futex_cell.h"
#include "queue.h"

#include <mqueue.h>
#include <sys/resource.h>
#include <sys/socket.h>

/* Two ends: what is put into fd[1] is got from fd[0]. */
static int *ends_new(void)
{
        int *fd = malloc(2 * sizeof *fd);

        if (!fd)
                bench_die("no memory");
        return fd;
}

static void ends_end(void *queue)
{
        int *fd = queue;

        close(fd[0]);
        close(fd[1]);
        free(fd);
}

/* pipe: a read and a write of 64 bytes are whole, because all are of that size and it divides the page size.  Larger ones come in
 * parts, and there is one writer and one reader. */

static void *pipe_make(size_t depth, size_t size)
{
        int *fd = ends_new();

        if (pipe2(fd, O_CLOEXEC) < 0)
                bench_die("pipe: %s", strerror(errno));
        /* Beyond what an ordinary user may have, it stays as it is. */
        if (size > MESSAGE_SMALL)
                fcntl(fd[1], F_SETPIPE_SZ, (int)(depth * size));
        return fd;
}

EACH_PEER void pipe_put(void *queue, const void *message, size_t size)
{
        for (size_t done = 0; done < size;) {
                ssize_t n = write(((int *)queue)[1], (const char *)message + done, size - done);

                if (n <= 0)
                        bench_die("write: %s", strerror(errno));
                done += (size_t)n;
        }
}

EACH_PEER void pipe_get(void *queue, void *message, size_t size)
{
        for (size_t done = 0; done < size;) {
                ssize_t n = read(((int *)queue)[0], (char *)message + done, size - done);

                if (n <= 0)
                        bench_die("read: %s", n < 0 ? strerror(errno) : "no writer is left");
                done += (size_t)n;
        }
}

/* seqpacket */

static void *seqpacket_make(size_t depth, size_t size)
{
        int *fd = ends_new(), room = (int)(depth * size);

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd) < 0)
                bench_die("socketpair: %s", strerror(errno));
        /* The kernel counts its own overhead, about ten times a small message. */
        if (size == MESSAGE_SMALL)
                room *= 10;
        if (setsockopt(fd[1], SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room) < 0)
                setsockopt(fd[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
        return fd;
}

EACH_PEER void seqpacket_put(void *queue, const void *message, size_t size)
{
        ssize_t n = send(((int *)queue)[1], message, size, MSG_NOSIGNAL);

        if (n != (ssize_t)size)
                bench_die("send: %s", n < 0 ? strerror(errno) : "a part of a message");
}

EACH_PEER void seqpacket_get(void *queue, void *message, size_t size)
{
        ssize_t n = recv(((int *)queue)[0], message, size, 0);

        if (n != (ssize_t)size)
                bench_die("recv: %s", n < 0 ? strerror(errno) : "a message of another size");
}

/* mq.  The system's limits are 10 messages of 8 KiB unless somebody has raised them.  They are looked at when a queue is opened:
 * whoever may raise them does so for that moment only; others have 10 messages. */

static bool limit_read(const char *path, size_t *ret_limit)
{
        FILE *f = fopen(path, "re");
        bool read = f && fscanf(f, "%zu", ret_limit) == 1;

        if (f)
                fclose(f);
        return read;
}

static bool limit_write(const char *path, size_t limit)
{
        FILE *f = fopen(path, "we");
        bool written = f && fprintf(f, "%zu\n", limit) > 0;

        /* What the kernel says is heard when the text leaves the buffer. */
        if (f && fclose(f) != 0)
                written = false;
        return written;
}

static int mq_open_unnamed(size_t depth, size_t size)
{
        struct mq_attr attributes = { .mq_maxmsg = (long)depth, .mq_msgsize = (long)size };
        char name[64];
        mqd_t mq;

        snprintf(name, sizeof name, "/brood-bench-%ld-%" PRIx64, (long)getpid(), bench_now_ns());
        mq = mq_open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600, &attributes);
        if (mq >= 0)
                mq_unlink(name);
        return mq;
}

static void *mq_make(size_t depth, size_t size)
{
        static const char *const path[2] = { "/proc/sys/fs/mqueue/msg_max", "/proc/sys/fs/mqueue/msgsize_max" };
        size_t wanted[2] = { depth, size }, limit[2] = { 0, 0 };
        bool raised[2] = { false, false };
        struct rlimit bytes = { RLIM_INFINITY, RLIM_INFINITY };
        int *fd = ends_new();

        setrlimit(RLIMIT_MSGQUEUE, &bytes); /* if we may; otherwise 10 messages fit all the same */
        for (int i = 0; i < 2; i++) {
                if (!limit_read(path[i], &limit[i]))
                        bench_skip("the kernel has no POSIX message queues");
                if (limit[i] < wanted[i])
                        raised[i] = limit_write(path[i], wanted[i]);
        }
        fd[0] = mq_open_unnamed(depth, size);
        if (fd[0] < 0)
                fd[0] = mq_open_unnamed(10, size);
        for (int i = 0; i < 2; i++) {
                if (raised[i])
                        limit_write(path[i], limit[i]);
        }
        if (fd[0] < 0)
                bench_skip("mq_open: %s", strerror(errno));
        fd[1] = dup(fd[0]);
        return fd;
}

EACH_PEER void mq_put(void *queue, const void *message, size_t size)
{
        if (mq_send(((int *)queue)[1], message, size, 0) < 0)
                bench_die("mq_send: %s", strerror(errno));
}

EACH_PEER void mq_get(void *queue, void *message, size_t size)
{
        ssize_t n = mq_receive(((int *)queue)[0], message, size, NULL);

        if (n != (ssize_t)size)
                bench_die("mq_receive: %s", n < 0 ? strerror(errno) : "a message of another size");
}

/* futex */

static void *cell_make(size_t depth, size_t size)
{
        static_assert(FUTEX_CELL_ROOM == MESSAGE_SMALL, "a cell holds a small message");
        (void)depth;
        (void)size;
        return futex_cell_new();
}

static void cell_end(void *queue)
{
        (void)queue; /* ends with the program */
}

EACH_PEER void cell_put(void *queue, const void *message, size_t size)
{
        futex_cell_put(queue, message, size);
}

EACH_PEER void cell_get(void *queue, void *message, size_t size)
{
        futex_cell_get(queue, message, size);
}

int main(int argc, char **argv)
{
        struct bench_options o = bench_options_parse(argc, argv);

        if (!strcmp(o.peer, "pipe"))
                measure(&o, 65536, pipe_make, ends_end, pipe_put, pipe_get);
        else if (!strcmp(o.peer, "seqpacket"))
                measure(&o, 65536, seqpacket_make, ends_end, seqpacket_put, seqpacket_get);
        else if (!strcmp(o.peer, "mq"))
                measure(&o, 65536, mq_make, ends_end, mq_put, mq_get);
        else if (!strcmp(o.peer, "futex") && !strncmp(o.figure, "round-trip", 10))
                measure(&o, MESSAGE_SMALL, cell_make, cell_end, cell_put, cell_get);
        else
                bench_options_unknown(&o, "those of queue.h; of pipe, seqpacket, mq, futex (round trips)");
        return 0;
}
