/* SPDX-License-Identifier: MIT
 *
 * pool/report.c: how a task ended, in numbers and in words.
 *
 * What the result itself does not hold is read from the task, which is frozen from DONE to the end of its result.  A task that
 * has run wild may have written there: then the numbers are wrong, but no more than that.
 */
#include "os/signals.h"
#include "pool/subtasks.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void result_message(const brood_result *result, char message[BROOD_TASK_MESSAGE_MAX])
{
        const struct task *task = result_ended_task(result);
        size_t size = task != NULL && result->value < 0 ? task->message : 0, room = (size_t)result->room * OUT_UNIT;

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
        if (terms == NULL) {
                if (report->exitcode != 0 || report->outcome == BROOD_OUTCOME_EXITED)
                        report->peak_memory = task->peak_memory;
                return;
        }
        report->measured = true;
        report->queued_ns = terms->queued;
        report->started_ns = terms->started;
        report->ended_ns = terms->ended;
        report->cpu_ns = terms->cpu;
        report->peak_memory = terms->peak_memory;
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
                .worker = result_worker(result),
                .exitcode = result_exitcode(result),
        };
        const struct task *task = result_ended_task(result);
        if (task != NULL)
                take_measures(&report, result->pool, task);
        result_message(result, report.message);
        memcpy(ret_report, &report, size);
        return 0;
}

/* Of a result that was settled with something to tell. */
static void describe(const brood_result *result, char *text, size_t room)
{
        char name[SIGNAL_NAME_MAX], message[BROOD_TASK_MESSAGE_MAX];
        int worker = (int)result_worker(result), error = (int)result->value;
        const char *why;

        switch (result->outcome) {
        case BROOD_OUTCOME_ERROR:
                if (result->extra->parent != NULL && result->extra->parent->error < 0) {
                        snprintf(text, room, "not all tasks that it handed in could be taken up: %d (%s)", error,
                                 brood_strerror(error));
                        break;
                }
                result_message(result, message);
                snprintf(text, room, "the function returned %d (%s) in worker %d%s%s", error, brood_strerror(error),
                         worker, message[0] != '\0' ? ": " : "", message);
                break;
        case BROOD_OUTCOME_EXITED:
                snprintf(text, room, "worker %d exited with code %d", worker, result_exitcode(result));
                break;
        case BROOD_OUTCOME_SIGNALED:
                snprintf(text, room, "worker %d was killed by %s (%s)", worker,
                         signal_name(-result_exitcode(result), name), strsignal(-result_exitcode(result)));
                break;
        case BROOD_OUTCOME_TIME:
        case BROOD_OUTCOME_CPU:
                snprintf(text, room, "worker %d was ended by %s: the task's limit of %s has passed", worker,
                         signal_name(-result_exitcode(result), name),
                         result->outcome == BROOD_OUTCOME_CPU ? "CPU time" : "time");
                break;
        case BROOD_OUTCOME_MEMORY:
                snprintf(text, room, "the task reached its memory limit in worker %d", worker);
                break;
        case BROOD_OUTCOME_OUT_OF_MEMORY:
                snprintf(text, room, "worker %d was killed by the kernel because its control group ran out of memory",
                         worker);
                break;
        default:
                why = brood_pool_reason(result->pool);
                snprintf(text, room, "the pool broke: %.160s", why == NULL ? "" : why);
        }
}

static int reason_room(brood_result *result, size_t room)
{
        pthread_mutex_lock(&result->pool->mutex);
        int r = result_extend(result);
        if (r == 0 && result->extra->reason == NULL)
                result->extra->reason = malloc(room);
        pthread_mutex_unlock(&result->pool->mutex);
        return r < 0 || result->extra->reason == NULL ? -ENOMEM : 0;
}

const char *brood_result_reason(brood_result *result)
{
        enum { REASON_ROOM = POOL_REASON_MAX + BROOD_TASK_MESSAGE_MAX };

        switch (brood_result_outcome(result)) {
        case -EINVAL:
        case -EPERM:
                return "";
        case BROOD_OUTCOME_PENDING:
                return "the task has not ended";
        case BROOD_OUTCOME_OK:
                return "the task succeeded";
        case BROOD_OUTCOME_CANCELED:
                return result->canceled ? "the task was canceled" : "the pool was terminated before the task had ended";
        default:
                break;
        }
        if (reason_room(result, REASON_ROOM) < 0)
                return brood_strerror((int)result->value);
        describe(result, result->extra->reason, REASON_ROOM);
        return result->extra->reason;
}
