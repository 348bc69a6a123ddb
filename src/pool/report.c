/* SPDX-License-Identifier: MIT
 *
 * pool/report.c: all that is known of how a task ended.
 *
 * It is read from the task, which is frozen from DONE to the end of its result.  A task that has run wild may have written there:
 * then the numbers are wrong, but no more than that.
 */
#include "pool/pool.h"

#include <errno.h>
#include <string.h>

/* The task of a result that was settled by the task's end; NULL: by a cancellation, or by the pool's end. */
static const struct task *ended_task(const brood_result *result)
{
        bool by_task = result->outcome != BROOD_OUTCOME_CANCELED && result->outcome != BROOD_OUTCOME_BROKEN;

        return by_task ? &result->pool->tasks[result->index] : NULL;
}

void result_message(const brood_result *result, char message[BROOD_TASK_MESSAGE_MAX])
{
        const struct task *task = ended_task(result);
        size_t size = task != NULL && result->value < 0 ? task->message : 0,
               room = result->pool->host_tasks[result->index].room;

        if (size > room || size >= BROOD_TASK_MESSAGE_MAX)
                size = 0;
        if (size > 0)
                memcpy(message, result_bytes(result), size);
        message[size] = '\0';
}

static void take_measures(brood_result_report *report, const brood_pool *pool, const struct task *task)
{
        const struct task_terms *terms = pool_terms(pool, task);

        report->attempts = (int)task->retried + 1;
        report->peak_memory = task->peak_memory;
        if (terms == NULL)
                return;
        report->measured = true;
        report->queued_ns = terms->queued;
        report->started_ns = task->started;
        report->ended_ns = task->ended;
        report->cpu_ns = task->cpu;
}

int brood_result_report_sized(brood_result *result, brood_result_report *ret_report, size_t size)
{
        int outcome = brood_result_outcome(result);

        if (outcome <= 0)
                return outcome < 0 ? outcome : -EAGAIN;
        if (ret_report == NULL)
                return -EINVAL;
        if (size > sizeof *ret_report)
                return -E2BIG;
        brood_result_report report = {
                .outcome = (brood_outcome)outcome,
                .error = result->value < 0 ? (int)result->value : 0,
                .worker = result->worker,
                .exitcode = result->exitcode,
        };
        const struct task *task = ended_task(result);
        if (task != NULL)
                take_measures(&report, result->pool, task);
        result_message(result, report.message);
        memcpy(ret_report, &report, size);
        return 0;
}
