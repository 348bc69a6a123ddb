/* SPDX-License-Identifier: MIT
 *
 * pool/worker.c: a worker: takes a task from the ring, runs it, tells the outcome.
 *
 *     claim an index from the ring           the ring's slot is READING, ours
 *     worker.task = ticket                   what the keeper looks at if we die
 *     task QUEUED -> RUNNING, ours (CAS)     the task has begun
 *     release the ring's slot
 *     run
 *     value, outcome
 *     task -> DONE (exchange)                the task has ended; tell whoever asked (pool/ended.h)
 *
 * Killed before the CAS: the slot is still READING, and its recovery puts the index back; the task has not begun.  Between the CAS
 * and the release: the index comes back too, but the next worker finds the task not QUEUED, and throws the index away.  Between
 * the CAS and the exchange: the keeper finds RUNNING with our number and reports our death.  After it: the task has ended; the
 * keeper tells those who asked, in case that we had not.
 */
#include "os/atfork.h"
#include "os/child.h"
#include "os/clock.h"
#include "os/descriptors.h"
#include "os/probe.h"
#include "os/signals.h"
#include "os/syscall.h"
#include "os/usage.h"
#include "pool/ended.h"
#include "pool/limits.h"
#include "pool/urgent.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* What its own functions may know of the worker. */
static struct {
        uint32_t number;
        uint64_t
            mark; /* of its process, and of no child that a task may fork; 0: this is no worker, and comes from none */
        void *state;
        struct code_map *code;
        struct task_terms *terms; /* of the task that it runs; NULL: none */
} self;

int brood_worker_id(void)
{
        return self.mark != 0 && process_mark() == self.mark ? (int)self.number : -ESRCH;
}

void *brood_worker_state(void)
{
        return self.state;
}

void brood_worker_set_state(void *state)
{
        self.state = state;
}

/* What the task has said of its error. */
static struct {
        char text[BROOD_TASK_MESSAGE_MAX];
        uint32_t size;
} message;

ssize_t brood_task_fail(int error, const char *format, ...)
{
        va_list arguments;

        va_start(arguments, format);
        int n = vsnprintf(message.text, sizeof message.text, format, arguments);
        va_end(arguments);
        message.size = n < 0 ? 0 : (uint32_t)n < sizeof message.text ? (uint32_t)n : (uint32_t)sizeof message.text - 1;
        return error < 0 ? error : -EINVAL;
}

/* A task that has failed has no use for the room of its result. */
static void keep_message(brood_pool *pool, struct task *task)
{
        uint64_t room = task->items == 0 ? task->room : task->room * task->items;

        task->message = message.size < room ? message.size : (uint32_t)room;
        if (task->message > 0)
                memcpy(region_at(&pool->region, task->out), message.text, task->message);
}

int brood_task_submit(brood_task_function function, const void *arg, size_t size)
{
        struct task_terms *terms = self.terms;

        if (brood_worker_id() < 0 || terms == NULL)
                return -ESRCH;
        if (function == NULL || (arg == NULL && size > 0))
                return -EINVAL;
        uint64_t there = code_there(self.code, function);
        if (there == 0)
                return -ENOEXEC;
        size_t left = terms->subtasks_room - terms->subtasks_used;
        if (left < sizeof(struct subtask) || size > left - sizeof(struct subtask))
                return -ENOSPC;
        struct subtask *subtask = (struct subtask *)((unsigned char *)(terms + 1) + terms->subtasks_used);
        *subtask = (struct subtask){ .function = there, .size = (uint32_t)size };
        if (size > 0)
                memcpy(subtask->arg, arg, size);
        terms->subtasks_used += (uint32_t)round_up(sizeof *subtask + size, SUBTASK_UNIT);
        return 0;
}

int64_t worker_call(uint64_t function, const void *arg, size_t size, void *out, size_t room)
{
        brood_task_function here = code_here(self.code, function);

        if (here == NULL)
                return -ENOEXEC;
        ssize_t value = here(arg, size, out, room);

        if (process_mark() != self.mark)
                child_exit(0);
        return value > 0 && (size_t)value > room ? -EMSGSIZE : value;
}

static int64_t call(const struct task *task, const unsigned char *arg, unsigned char *out)
{
        return worker_call(task->function, arg, task->arg_size, out, task->room);
}

static void run(brood_pool *pool, struct task *task)
{
        const unsigned char *arg = region_at(&pool->region, task->arg);
        unsigned char *out = region_at(&pool->region, task->out);

        message.size = 0;
        if (task->items == 0) {
                task->value = call(task, arg, out);
        } else {
                for (uint64_t i = 0; i < task->items; i++, arg += task->arg_size, out += task->room) {
                        int64_t value = call(task, arg, out);
                        if (value < 0) {
                                task->value = value;
                                break;
                        }
                        memset(out + value, 0, task->room - (size_t)value);
                        task->value = (int64_t)((i + 1) * task->room);
                }
        }
        task->outcome = task->value < 0 ? BROOD_OUTCOME_ERROR : BROOD_OUTCOME_OK;
        if (task->value < 0 && message.size > 0)
                keep_message(pool, task);
}

struct worker {
        brood_pool *pool;
        struct worker_slot *slot;
        uint32_t number;
        uint32_t pid;
        uint64_t begun; /* tasks */
};

/* A task is DONE.  False: nobody could be told, and this worker is to take no other; then the keeper tells.  (A task may have
 * closed all descriptors, and opened others under their numbers.  They are looked at where they are needed.) */
static bool tell(const struct worker *worker, struct task *task, uint64_t before)
{
        if (!(before & TASK_ASKED) || !ended_tell(worker->pool, task, before))
                return true;
        if (!descriptor_is_marked(worker->pool->bell))
                return false;
        eventfd_raise(worker->pool->bell);
        return true;
}

/* QUEUED -> RUNNING; false if the ticket is stale.  A task that was canceled is DONE instead. */
static bool begin(const struct worker *worker, struct task *task, uint64_t ticket)
{
        uint32_t generation = ticket_generation(ticket), number = worker->number;
        uint64_t state = load_seq_cst(&task->state);

        while (task_generation(state) == generation && task_kind(state) == TASK_QUEUED) {
                if (state & TASK_CANCELED) {
                        counts_end(&worker->slot->counts, BROOD_OUTCOME_CANCELED);
                        if (cas_u64(&task->state, state, task_state(generation, TASK_DONE, number))) {
                                tell(worker, task, state);
                                return false;
                        }
                        counts_settle(&worker->slot->counts, false);
                } else if (cas_u64(&task->state, state,
                                   task_state(generation, TASK_RUNNING, number) | (state & TASK_HOSTS))) {
                        return true;
                }
                state = load_seq_cst(&task->state);
        }
        return false;
}

static void run_on_terms(struct worker *worker, struct task *task, struct task_terms *terms)
{
        struct limits limits;

        limits_set(&limits, worker->pool, worker->slot, terms);
        terms->subtasks_used = 0; /* what an earlier try has handed in, it has not */
        self.terms = terms;
        run(worker->pool, task);
        self.terms = NULL;
        limits_lift(&limits);
        if (terms->memory_limit > 0 && task->value == -ENOMEM)
                task->outcome = BROOD_OUTCOME_MEMORY;
        terms->started = (int64_t)load_relaxed(&worker->slot->started);
        terms->ended = clock_now();
        terms->cpu = usage_cpu() - (int64_t)load_relaxed(&worker->slot->cpu);
        terms->peak_memory = usage_peak_memory();
}

/* RUNNING -> DONE.  False: this worker is to take no other task. */
static bool end(const struct worker *worker, struct task *task, uint64_t ticket)
{
        uint64_t done = task_state(ticket_generation(ticket), TASK_DONE, worker->number);

        PROBE3(task_end, ticket, task->outcome, worker->number);
        counts_end(&worker->slot->counts, (uint32_t)task->outcome);
        if (insight_on(worker->pool))
                insight_end(worker->pool, worker->number, task, ticket);
        uint64_t before = exchange_seq_cst(&task->state, done);

        return tell(worker, task, before) && !(before & TASK_LAST);
}

/* A ticket that was claimed from a ring. */
struct taken {
        struct ring *ring;
        struct ring_claim claim;
};

/* Run the task of a ticket, which came from a ring, or from the keeper (NULL).  False: this worker is to take no other. */
static bool serve_ticket(struct worker *worker, uint64_t ticket, const struct taken *taken)
{
        struct task *task = ticket_task(worker->pool, ticket);

        if (load_relaxed(&task->terms) != 0 && !descriptor_is_marked(worker->pool->doorbell)) {
                if (taken != NULL)
                        ring_unclaim(taken->ring, &taken->claim);
                return false; /* another begins it, of whom the keeper learns */
        }
        counts_prepare(&worker->slot->counts);
        store_release(&worker->slot->task, ticket);
        if (load_relaxed(&task->terms) != 0) {
                /* Before the task is RUNNING: whoever finds it so, finds these. */
                store_relaxed(&worker->slot->started, (uint64_t)clock_now());
                store_relaxed(&worker->slot->cpu, (uint64_t)usage_cpu());
        }
        bool begun = begin(worker, task, ticket);
        if (taken != NULL)
                ring_release(taken->ring, &taken->claim);
        if (!begun)
                return true;
        if (insight_on(worker->pool))
                insight_begin(worker->pool, worker->number, task);
        PROBE3(task_begin, ticket, task->function, worker->number);
        task->worker = worker->pid;
        struct task_terms *terms = pool_terms(worker->pool, task);
        if (terms == NULL)
                run(worker->pool, task);
        else
                run_on_terms(worker, task, terms);
        child_flush();
        worker->begun++;
        return end(worker, task, ticket) && worker->begun != worker->pool->options.max_tasks_per_child;
}

/* Whether the worker is to sleep no longer on the pool's ring: it is dismissed, or there is something more urgent. */
static bool is_called(void *arg)
{
        const struct worker *worker = arg;

        return load_seq_cst(&worker->slot->dismissed) != 0 || urgent_waits(worker->pool);
}

/* Take the next ticket, the most urgent one first; waits for it.  False: there is none any more, or this worker is to take none. */
static bool take(struct worker *worker, struct taken *taken)
{
        brood_pool *pool = worker->pool;
        int r = 0;

        while (load_relaxed(&worker->slot->dismissed) == 0) {
                if (urgent_claim(pool, &taken->claim, &taken->ring))
                        return true;
                /* All rings are closed together: what was put into the others before that, was there to be seen. */
                if (r == -EPIPE)
                        return false;
                taken->ring = &pool->ring;
                r = ring_claim(&pool->ring, &taken->claim, sizeof(uint64_t), DEADLINE_NEVER);
                if (r != -EPIPE && r != -ECANCELED)
                        return r == 0;
        }
        return false;
}

static void serve(struct worker *worker, uint64_t ticket)
{
        struct taken taken;

        if (ticket != 0 && !serve_ticket(worker, ticket, NULL))
                return;
        while (take(worker, &taken)) {
                memcpy(&ticket, taken.claim.bytes, sizeof ticket);
                if (!serve_ticket(worker, ticket, &taken))
                        return;
        }
}

CHILD_CODE int worker_enter(const brood_pool *pool, pid_t keeper, const struct sigaction *sigchld)
{
        /* Beside the lifeline: the keeper has one thread, so that its death signal can be trusted. */
        int r = child_die_with_parent(keeper);
        if (r < 0)
                return r;
        signals_restore_sigchld(sigchld);
        signals_restore(process_parent_mask(pool->keeper));
        return process_mark_init();
}

CHILD_CODE bool worker_initialize(const brood_pool *pool, struct worker_slot *slot)
{
        self.state = NULL;
        slot->verdict = pool->options.initializer != NULL ? pool->options.initializer(pool->options.initarg) : 0;
        return slot->verdict == 0;
}

/* From here on this process is a worker to the functions that it runs. */
static void become(uint32_t number)
{
        self.number = number;
        self.mark = process_mark();
}

CHILD_CODE int worker_work(brood_pool *pool, const struct employment *employment)
{
        struct worker worker = {
                .pool = pool,
                .slot = &pool->workers[employment->number],
                .number = employment->number,
                .pid = (uint32_t)child_pid(),
        };

        if (process_mark_init() < 0)
                return 1;
        pool->references = UINT32_MAX; /* its copy of the handle stays, though a task frees it */
        become(worker.number);
        self.code = &pool->code;
        if (insight_on(pool))
                insight_ready(pool, worker.number);
        fetch_add_relaxed(&pool->shared->initialised, 1);
        store_release(&worker.slot->stage, WORKER_READY);
        pool->ring.called = is_called;
        pool->ring.called_arg = &worker;
        serve(&worker, employment->ticket);
        store_release(&worker.slot->stage, WORKER_LEAVING);
        if (pool->options.finalizer != NULL)
                pool->options.finalizer(pool->options.initarg);
        return 0;
}

CHILD_CODE int worker_run(brood_pool *pool, const struct employment *employment)
{
        struct worker_slot *slot = &pool->workers[employment->number];
        const char name[] = "brood-worker"; /* in the code, and not where it would be a page fault more */

        child_set_name(name);
        if (worker_enter(pool, employment->keeper, employment->sigchld) < 0)
                return 1;
        become(employment->number);
        if (!worker_initialize(pool, slot)) {
                store_release(&slot->stage, WORKER_INIT_FAILED);
                return 1;
        }
        return worker_work(pool, employment);
}
