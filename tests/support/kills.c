/* SPDX-License-Identifier: MIT
 *
 * tests/support/kills.c: see kills.h.
 */
#include "kills.h"

enum { AWAKE_MS = 1000 }; /* a sleeper must be, after it was woken */

/* ---- the verdict ---- */

void verdict_vcomplain(struct verdict *verdict, const char *format, va_list arguments)
{
        if (atomic_fetch_add(&verdict->complaints, 1) == 0)
                vsnprintf(verdict->complaint, sizeof verdict->complaint, format, arguments);
}

void verdict_complain(struct verdict *verdict, const char *format, ...)
{
        va_list arguments;
        va_start(arguments, format);
        verdict_vcomplain(verdict, format, arguments);
        va_end(arguments);
}

void verdict_note_wait(struct verdict *verdict, int64_t start, int limit_ms)
{
        int took = (int)(support_now_ms() - start);
        if (took > atomic_load(&verdict->longest_ms)) /* two at once may lose one; the audit does not need it */
                atomic_store(&verdict->longest_ms, took);
        if (took > limit_ms)
                verdict_complain(verdict, "a call waits for %d ms", took);
}

void verdict_clear(struct verdict *verdict)
{
        atomic_store(&verdict->complaints, 0);
        verdict->complaint[0] = '\0';
}

/* ---- the kills ---- */

void kills_skip_if_impossible(void)
{
        const char *why;
        if (!step_possible(&why)) {
                printf("skipped: %s\n", why);
                skip();
        }
}

void kills_set_up(struct kills *kills, struct verdict *verdict)
{
        *kills = (struct kills){
                .verdict = verdict,
                .path = { .at = calloc(KILLS_STEPS_MOST, sizeof *kills->path.at), .room = KILLS_STEPS_MOST },
                .points = calloc(KILLS_STEPS_MOST, sizeof *kills->points),
        };
        assert_non_null(kills->path.at);
        assert_non_null(kills->points);
}

void kills_tear_down(struct kills *kills)
{
        free(kills->path.at);
        free(kills->points);
}

void kills_conclude(struct kills *kills, const char *what)
{
        kills_tear_down(kills);
        printf("%s: %d kill points in %d calls, longest wait %d ms, %d failures\n", what, kills->kills, kills->calls,
               kills->longest_ms, kills->failures);
        assert_int_equal(kills->failures, 0);
}

bool kills_is_thorough(void)
{
        return support_rounds(1) >= 100000;
}

bool kills_note(struct kills *kills)
{
        int longest = atomic_load(&kills->verdict->longest_ms);
        kills->kills++;
        if (longest > kills->longest_ms)
                kills->longest_ms = longest;
        return atomic_load(&kills->verdict->complaints) == 0;
}

/* ---- stepping ---- */

static enum step_end step_first(struct kills *kills, const struct kills_run *run, long count, long *ret_count)
{
        enum step_end end = step_run(run->pid, run->mark, count, run->wake == NULL, &kills->path, ret_count);
        if (end != STEP_ASLEEP)
                return end;
        run->wake(run->arg);
        end = step_await(run->pid, AWAKE_MS) ? STEP_THERE : STEP_ASLEEP;
        if (end == STEP_ASLEEP)
                verdict_complain(kills->verdict, "a sleeper is not woken");
        step_note(run->pid, &kills->path);
        return end;
}

enum step_end kills_step(struct kills *kills, const struct kills_run *run, long k, bool is_first, long *ret_steps)
{
        long act_at = run->act ? run->next_act(run->arg, 0) : KILLS_STEPS_MOST + 1, steps = 0;
        enum step_end end = STEP_THERE;
        if (is_first)
                kills->path.count = kills->path.forks_count = 0;
        while (steps < k && end == STEP_THERE) {
                long until = k < act_at ? k : act_at, done;
                if (is_first) {
                        end = step_first(kills, run, until - steps, &done);
                        steps += done;
                } else {
                        end = step_go(run->pid, run->mark, &kills->path, steps, until, run->wake, run->arg);
                        steps = until;
                }
                if (steps == act_at && end == STEP_THERE && steps < k) {
                        run->act(run->arg);
                        act_at = run->next_act(run->arg, act_at);
                }
        }
        if (end == STEP_CRASHED)
                verdict_complain(kills->verdict, "the victim has crashed");
        if (steps >= KILLS_STEPS_MOST)
                verdict_complain(kills->verdict, "the call does not end within %ld instructions", steps);
        *ret_steps = steps;
        return end;
}

/* One that sleeps is left alone until it wakes. */
void kills_step_both(struct kills *kills, const pid_t pids[2], const struct step_mark *const marks[2], const long k[2],
                     uint64_t *chance)
{
        long done[2] = { 0 };
        bool asleep[2] = { false }, over[2] = { false };
        while (!(over[0] && over[1])) {
                int s = (int)check_random(chance, 2);
                if (over[s])
                        s = !s;
                if (asleep[s]) {
                        /* If both sleep, or the other has ended: kill it in its sleep. */
                        if (!step_await(pids[s], over[!s] || asleep[!s] ? 5 : 0)) {
                                over[s] = over[!s] || asleep[!s];
                                continue;
                        }
                        asleep[s] = false;
                }
                long chunk = 1 + (long)check_random(chance, 40), moved = 0;
                if (chunk > k[s] - done[s])
                        chunk = k[s] - done[s];
                enum step_end end = step_run(pids[s], marks[s], chunk, false, NULL, &moved);
                done[s] += moved;
                asleep[s] = end == STEP_ASLEEP;
                over[s] = end == STEP_ENDED || end == STEP_CRASHED || done[s] >= k[s];
                if (end == STEP_CRASHED)
                        verdict_complain(kills->verdict, "victim %d has crashed", s);
        }
}

/* After each instruction, but after one that comes again and again (of a loop that looks for a change, or of a rep movsb) only now
 * and then from its eighth time on. */
long kills_find_points(struct kills *kills, long steps)
{
        enum { ALWAYS = 8, PLACES = 1 << 16 };
        uint64_t seldom =
            kills_is_thorough() ? 1 : 8; /* there is no faster way into the middle of a loop than by steps */
        static struct {
                uintptr_t at;
                uint32_t times;
        } places[PLACES];
        memset(places, 0, sizeof places);
        long count = 0;
        for (long k = 1; k <= steps && k < kills->path.count; k++) {
                uintptr_t at = kills->path.at[k];
                size_t i = (size_t)check_mix(at) % PLACES;
                while (places[i].times && places[i].at != at)
                        i = (i + 1) % PLACES;
                places[i].at = at;
                if (places[i].times++ < ALWAYS || support_random(places[i].times * seldom) < ALWAYS / 4)
                        kills->points[count++] = k;
        }
        return count;
}
