/* SPDX-License-Identifier: MIT
 *
 * remote_queue: a queue for programs that are no relatives of the one that made it.
 *
 * The server listens on a socket and hands its queue to whoever connects and knows the key.  The workers are programs that were
 * executed, and have nothing of the server's but the address and the key.  From the moment at which they have the queue, jobs
 * reach them through shared memory; the connection carries what they report in the end.  A stranger with another key gets nothing.
 *
 *     remote_queue                  the server, which starts two workers and a stranger
 *     remote_queue work ADDRESS     a worker, which could have been started by anybody; the key is in the environment
 */
#include "example.h"

#define KEY_VARIABLE "REMOTE_QUEUE_KEY"

enum { WORKERS = 2, JOBS = 20 };

/* ---- a worker ---- */

static int work(const char *address)
{
        brood_connection *c;
        brood_queue *q;
        const char *key = getenv(KEY_VARIABLE);
        brood_client_options options = { .key = key, .key_size = key == NULL ? 0 : strlen(key) };
        int job, done = 0;

        int r = brood_client(&c, address, &options, 10000);
        if (r == -EKEYREJECTED) {
                printf("Stranger: %s\n", brood_strerror(r));
                return 3;
        }
        example_check(r, "client");
        example_check(brood_connection_recv_queue(c, &q, 10000), "receive the queue");
        while (brood_queue_get(q, &job, sizeof job, BROOD_FOREVER) == sizeof job)
                done++;
        /* A Python program could do the same. */
        example_check(brood_connection_send(c, &done, sizeof done, 10000), "report");
        brood_queue_free(q);
        brood_connection_free(c);
        return 0;
}

/* ---- the server ---- */

struct worker {
        const char *address;
        const char *key;
};

static int become_worker(void *arg)
{
        const struct worker *worker = arg;
        if (worker->key != NULL)
                setenv(KEY_VARIABLE, worker->key, 1);
        execl("/proc/self/exe", "remote_queue", "work", worker->address, (char *)NULL);
        return 127;
}

static brood_process *start(const struct worker *worker)
{
        brood_process *p;
        example_check(brood_process_new(&p, &(brood_process_options){ .target = become_worker, .arg = (void *)worker }),
                      "new");
        example_check(brood_process_start(p), "start");
        return p;
}

static int end(brood_process *p)
{
        int exitcode;
        example_check(brood_process_join(p, BROOD_FOREVER), "join");
        example_check(brood_process_exitcode(p, &exitcode), "exitcode");
        brood_process_free(p);
        return exitcode;
}

/* One with the wrong key: accept goes on, and counts those whom it has refused. */
static void refuse_stranger(brood_listener *l)
{
        struct worker stranger = { brood_listener_address(l), "open sesame" };
        brood_process *p = start(&stranger);
        brood_connection *c;

        while (brood_listener_refused(l) == 0)
                if (brood_listener_accept(l, &c, 100) == 0)
                        exit(1);
        if (end(p) != 3)
                exit(1);
}

int main(int argc, char **argv)
{
        setvbuf(stdout, NULL, _IOLBF, 0);
        if (argc == 3 && strcmp(argv[1], "work") == 0)
                return work(argv[2]);
        example_begin(argc, argv);

        brood_listener *l;
        brood_queue *q;
        brood_connection *c[WORKERS];
        brood_process *p[WORKERS];
        const char *key = "fourteen herrings";
        brood_listener_options options = { .key = key,
                                           .key_size = strlen(key) }; /* at an address of the kernel's choice */
        int r = brood_listener_new(&l, &options);
        if (r == -EOPNOTSUPP) {
                printf("This brood was built without keys\n");
                key = NULL;
                r = brood_listener_new(&l, NULL);
        }
        example_check(r, "listener");
        example_check(brood_queue_new(&q, NULL), "queue");
        if (key != NULL)
                refuse_stranger(l);

        struct worker worker = { brood_listener_address(l), key };
        for (int i = 0; i < WORKERS; i++)
                p[i] = start(&worker);
        for (int i = 0; i < WORKERS; i++) {
                example_check(brood_listener_accept(l, &c[i], 10000), "accept");
                example_check(brood_connection_send_queue(c[i], q, 10000), "send the queue");
        }
        for (int job = 0; job < JOBS; job++)
                example_check(brood_queue_put(q, &job, sizeof job, BROOD_FOREVER), "put");
        example_check(brood_queue_close(q), "close");

        int all = 0, done;
        for (int i = 0; i < WORKERS; i++) {
                example_check(brood_connection_recv(c[i], &done, sizeof done, 10000), "recv");
                brood_connection_free(c[i]);
                all += done;
        }
        for (int i = 0; i < WORKERS; i++)
                if (end(p[i]) != 0)
                        return 1;
        printf("%d workers did %d of %d jobs\n", WORKERS, all, JOBS);
        brood_queue_free(q);
        brood_listener_free(l);
        return 0;
}
