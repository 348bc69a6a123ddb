/* SPDX-License-Identifier: MIT
 *
 * pool: a few processes do many tasks.
 *
 * The Python original hands ten messages to Pool().apply_async(); the worker prints the time and the message and
 * returns 8888. The pool is closed (no more tasks) and joined (all are done), and the last result, which was a
 * promise until then, is read.
 *
 * A task of brood reads bytes and writes bytes, as read(2) does: here a string comes in and an int goes out.
 */
#include "example.h"

static ssize_t worker(const void *arg, size_t size, void *out, size_t room)
{
        char now[64];
        int value = 8888;

        example_sleep(example_time(0.2, 2));
        time_t t = time(NULL);
        strftime(now, sizeof now, "%a %b %e %H:%M:%S %Y", localtime(&t));
        printf("%s -- %.*s\n", now, (int)size, (const char *)arg);
        if (room < sizeof value)
                return -EMSGSIZE;
        memcpy(out, &value, sizeof value);
        return sizeof value;
}

int main(int argc, char **argv)
{
        example_begin(argc, argv);

        /* One worker for each CPU that this process may use. */
        brood_pool *pool;
        example_check(brood_pool_new(&pool, NULL), "pool");

        /* As in the original only the last result is kept; giving up the others does not stop their tasks. */
        brood_result *result = NULL;
        for (int i = 0; i < 10; i++) {
                char msg[32];
                int size = snprintf(msg, sizeof msg, "Tedu %d", i);
                brood_result_free(result);
                example_check(brood_pool_apply_async(pool, &result, worker, msg, (size_t)size), "apply_async");
        }

        example_check(brood_pool_close(pool), "close");
        example_check(brood_pool_join(pool, BROOD_FOREVER), "join");

        int value;
        ssize_t size = brood_result_get(result, &value, sizeof value, BROOD_FOREVER);
        if (size != sizeof value) {
                fprintf(stderr, "the task failed: %s\n", brood_result_reason(result));
                return 1;
        }
        printf("%d\n", value);
        brood_result_free(result);
        brood_pool_free(pool);
        return 0;
}
