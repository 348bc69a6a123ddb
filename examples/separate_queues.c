/* SPDX-License-Identifier: MIT
 *
 * separate_queues: what is shared is what was made before the fork.
 *
 * The Python original says it in a comment beside its queue: when the parent makes the object and the child gets it
 * from the parent, both work on the same one; when each process makes its own, they have no effect on each other.
 * This program does both: a message into a queue of one's own is never seen by the other process, one into the
 * inherited queue is.
 */
#include "example.h"

static brood_queue *make(void)
{
        brood_queue *q;
        example_check(brood_queue_new(&q, &(brood_queue_options){ .maxsize = 3 }), "queue");
        return q;
}

static void put(brood_queue *q, const char *name, const char *text)
{
        example_check(brood_queue_put(q, text, strlen(text), BROOD_FOREVER), "put");
        printf("Child: put \"%s\" into %s, which holds %d\n", text, name, (int)brood_queue_qsize(q));
}

static void get(brood_queue *q, const char *name)
{
        char text[64];
        ssize_t n = brood_queue_get(q, text, sizeof text, example_seed_times ? 8000 : 200);
        if (n == -ETIMEDOUT)
                printf("Parent: nothing in %s\n", name);
        else
                printf("Parent: got \"%.*s\" from %s\n", (int)example_check(n, "get"), text, name);
}

static int child(void *arg)
{
        brood_queue *shared = arg;
        brood_queue *own = make();
        put(own, "the child's own queue", "for nobody");
        put(shared, "the shared queue", "for the parent");
        brood_queue_free(own);
        return 0;
}

int main(int argc, char **argv)
{
        example_begin(argc, argv);

        brood_queue *shared = make(); /* made before the fork: one queue, in both processes */
        brood_process *p;
        int exitcode;
        example_check(brood_process_new(&p, &(brood_process_options){ .target = child, .arg = shared }), "new");
        example_check(brood_process_start(p), "start");

        brood_queue *own = make(); /* made in each process: two queues, with nothing in common */
        example_check(brood_process_join(p, BROOD_FOREVER), "join");
        example_check(brood_process_exitcode(p, &exitcode), "exitcode");
        get(own, "the parent's own queue");
        get(shared, "the shared queue");

        brood_queue_free(own);
        brood_queue_free(shared);
        brood_process_free(p);
        return exitcode;
}
