/* SPDX-License-Identifier: MIT
 *
 * tests/kill/sync_scene.c: see sync_scene.h.
 */
#include "sync_scene.h"

struct sync_books *sync_books_new(void)
{
        return check_shared(sizeof(struct sync_books));
}

void sync_books_free(struct sync_books *books)
{
        munmap(books, sizeof *books);
}

void sync_complain(struct sync_scene *scene, const char *format, ...)
{
        va_list arguments;
        va_start(arguments, format);
        verdict_vcomplain(&scene->books->verdict, format, arguments);
        va_end(arguments);
}

void sync_expect(struct sync_scene *scene, const char *what, int result, int wanted)
{
        if (result != wanted)
                sync_complain(scene, "%s: %d and not %d", what, result, wanted);
}

void sync_note_wait(struct sync_scene *scene, int64_t start)
{
        verdict_note_wait(&scene->books->verdict, start, SYNC_WAIT_MS);
}

/* ---- the scene ---- */

void sync_open(struct sync_scene *scene, const struct sync_object *object, const struct sync_act *act,
               struct sync_books *books, uint64_t chance)
{
        *scene = (struct sync_scene){ .object = object, .act = act, .books = books, .chance = chance };
        for (int s = 0; s < SYNC_SEATS; s++)
                books->seats[s].vacant = true;
        for (int h = 0; h < SYNC_HELPERS; h++)
                books->helpers[h] = (struct sync_helper){ 0 };
        atomic_store(&books->readers, 0);
        atomic_store(&books->writers, 0);
        atomic_store(&books->told, 0);
        atomic_store(&books->untold, 0);
        atomic_store(&books->flag, 0);
        atomic_store(&books->count, 0);
        verdict_clear(&books->verdict);
        object->open(scene);
        scene->unreaped = support_random(2) != 0; /* in each kill anew */
}

struct casting {
        struct sync_scene *scene;
        struct sync_seat *seat;
};

static int prepare_victim(void *arg)
{
        struct casting *casting = arg;
        const struct sync_act *act = casting->scene->act;
        if (!act->cold)
                require_int(casting->scene->object->warm(casting->scene), 0);
        if (act->prepare)
                require_int(act->prepare(casting->scene, casting->seat), 0);
        return 0;
}

static void call_victim(void *arg)
{
        struct casting *casting = arg;
        casting->scene->act->call(casting->scene, casting->seat);
}

pid_t sync_seat(struct sync_scene *scene, int number)
{
        struct sync_seat *seat = &scene->books->seats[number];
        seat->vacant = false;
        seat->number = number;
        seat->chance = check_mix(scene->chance + (uint64_t)number);
        atomic_store(&seat->progress, 0);
        atomic_store(&seat->result, -EINPROGRESS);
        struct casting casting = { .scene = scene, .seat = seat };
        pid_t pid = step_start(&(struct step_victim){
            .prepare = prepare_victim, .call = call_victim, .arg = &casting, .mark = &seat->mark });
        if (pid < 0)
                sync_complain(scene, "a victim has not come to its call");
        scene->victims[number] = pid > 0 ? pid : 0;
        return pid;
}

void sync_kill(struct sync_scene *scene, int number)
{
        if (scene->victims[number] == 0)
                return;
        if (scene->unreaped)
                step_kill_unreaped(scene->victims[number]);
        else
                step_kill(scene->victims[number]);
}

void sync_settle(struct sync_scene *scene)
{
        scene->act->settle(scene);
        for (int h = 0; h < scene->helpers; h++)
                if (sync_is_waiting(scene, h))
                        sync_complain(scene, "helper %d still waits at the end", h);
}

void sync_end(struct sync_scene *scene)
{
        for (int h = 0; h < scene->helpers; h++)
                sync_dismiss(scene, h);
        for (int s = 0; s < SYNC_SEATS; s++)
                if (scene->unreaped && scene->victims[s])
                        step_reap(scene->victims[s]);
        if (scene->dead)
                step_reap(scene->dead);
        scene->object->close(scene);
}

/* ---- victims, the dead, helpers ---- */

bool sync_has_ended(const struct sync_seat *seat)
{
        return atomic_load(&seat->mark.ended) != 0;
}

void sync_progress(struct sync_seat *seat, int progress)
{
        atomic_store(&seat->progress, progress);
}

int sync_progress_of(struct sync_scene *scene)
{
        return atomic_load(&scene->books->seats[0].progress);
}

void sync_die(struct sync_scene *scene, int (*function)(void *scene))
{
        fflush(NULL);
        scene->dead = fork();
        assert_true(scene->dead >= 0);
        if (scene->dead == 0) {
                if (function(scene) == 0)
                        raise(SIGKILL);
                fflush(NULL);
                _exit(1);
        }
        siginfo_t info;
        while (waitid(P_PID, (id_t)scene->dead, &info, WEXITED | WNOWAIT) < 0 && errno == EINTR)
                ;
        sync_expect(scene, "who was to die", info.si_status, SIGKILL);
}

int sync_send(struct sync_scene *scene, void (*function)(struct sync_scene *scene, struct sync_helper *helper))
{
        int number = scene->helpers++;
        struct sync_helper *helper = &scene->books->helpers[number];
        fflush(NULL);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                atomic_store(&helper->begun, 1);
                function(scene, helper);
                atomic_store(&helper->ended, 1);
                _exit(0);
        }
        helper->pid = pid;
        return number;
}

int sync_help(struct sync_scene *scene, void (*function)(struct sync_scene *scene, struct sync_helper *helper))
{
        int number = sync_send(scene, function);
        struct sync_helper *helper = &scene->books->helpers[number];
        if (!check_reaches(&helper->begun, 1, CHECK_HANG_MS) || !check_asleep(helper->pid))
                sync_complain(scene, "helper %d does not sleep", number);
        return number;
}

void sync_dismiss(struct sync_scene *scene, int helper)
{
        struct sync_helper *who = &scene->books->helpers[helper];
        if (who->pid)
                check_kill(who->pid);
        who->pid = 0;
        atomic_store(&who->ended, 1);
}

bool sync_is_waiting(struct sync_scene *scene, int helper)
{
        return !atomic_load(&scene->books->helpers[helper].ended);
}

int sync_await(struct sync_scene *scene, int helper)
{
        struct sync_helper *who = &scene->books->helpers[helper];
        int64_t start = support_now_ms();
        if (!check_reaches(&who->ended, 1, SYNC_LIMIT_MS))
                sync_complain(scene, "helper %d is not woken", helper);
        sync_note_wait(scene, start);
        return atomic_load(&who->result);
}

void sync_run(struct sync_scene *scene, int count, int (*function)(void *scene))
{
        pid_t pids[SYNC_HELPERS];
        for (int i = 0; i < count; i++)
                pids[i] = check_start(function, scene);
        for (int i = 0; i < count; i++) {
                int code = check_wait(pids[i]);
                if (code != 0)
                        sync_complain(scene, "a fresh process ended with %d", code);
        }
}

bool sync_seldom(void)
{
        return support_random(100) == 0;
}

/* ---- who is inside ---- */

void sync_enter(struct sync_scene *scene, bool writes)
{
        struct sync_books *books = scene->books;
        int readers = writes ? atomic_load(&books->readers) : (atomic_fetch_add(&books->readers, 1), 0);
        int writers = writes ? atomic_fetch_add(&books->writers, 1) : atomic_load(&books->writers);
        if (readers + writers > 0)
                sync_complain(scene, "a %s is let in beside %d readers and %d writers", writes ? "writer" : "reader",
                              readers, writers);
}

void sync_leave(struct sync_scene *scene, bool writes)
{
        atomic_fetch_sub(writes ? &scene->books->writers : &scene->books->readers, 1);
}

void sync_judge_death(struct sync_scene *scene, const brood_death *death, bool may_be_victim, bool may_be_before)
{
        bool is_victim = false;
        for (int s = 0; s < SYNC_SEATS; s++)
                is_victim |= scene->victims[s] == death->pid && death->pid != 0;
        bool is_before = scene->dead != 0 && death->pid == scene->dead;
        if (!(is_victim && may_be_victim) && !(is_before && may_be_before))
                sync_complain(scene, "told of the death of %d (victim %d, before %d)", (int)death->pid,
                              (int)scene->victims[0], (int)scene->dead);
        /* One that was reaped at once may not have been asked before; one that has freed its handle could not be. */
        bool may_be_unknown = is_victim && (!scene->unreaped || scene->act->frees);
        if (death->exitcode != -SIGKILL && !(may_be_unknown && death->exitcode == BROOD_EXITCODE_UNKNOWN))
                sync_complain(scene, "told of an end with %d", death->exitcode);
}
