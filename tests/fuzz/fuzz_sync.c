/* SPDX-License-Identifier: MIT
 *
 * tests/fuzz/fuzz_sync.c: a lock, semaphore, condition, event, barrier or reader/writer lock whose shared memory says what no brood
 * wrote.
 *
 * An input is a script, as that of fuzz_queue.c: its first bytes choose an object, the next ones call it, then bytes of the input
 * are written over its memory, and its functions are called in an order that the input draws, through the handle of the maker and
 * through one that attached.  Four stagings:
 *
 *     damage    the memory of a living object is overwritten, before the calls and between them
 *     copy      a new memfd has the head of the object's and other bytes behind it, cut off or grown, sealed or not
 *     race      a thread keeps changing words while the calls run
 *     healthy   nothing is overwritten; then what damage excuses is an error
 *
 * What must hold, whatever the bytes say: no crash and no endless loop; each result is one that the header names; numbers are
 * within the limits that a caller may rely on; time limits are respected; in the end no descriptor and no mapping is left.
 */
#include "damage.h"
#include "target.h"

#include <brood/brood.h>

#include "shm/region.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
        STEPS_MAX = 96,
        CALLS_MAX = 10,
        CALL_LIMIT_MS = 5000, /* no call takes so long, on however busy a machine */
        GROUNDS_MAX = 2,
};

const char target_name[] = "fuzz_sync";

enum kind { LOCK, RLOCK, SEMAPHORE, CONDITION, EVENT, BARRIER, RWLOCK, KINDS };

struct scene {
        struct script script;
        enum kind kind;
        int parties;  /* of a barrier, as it was made */
        void *maker;  /* the handle that made the object, as long as it is there */
        bool damaged; /* what the headers call damage is no error any more */
        bool racing;
        void *handles[2]; /* the maker's, and one that attached; NULL if there is none */
        int count;        /* of descriptors */
        int descriptors[GROUNDS_MAX];
        struct ground grounds[GROUNDS_MAX]; /* of the object; of a condition's lock */
        int ground_count;
};

static int64_t now_ms(void)
{
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* An errno that only damage excuses. */
static int if_damaged(const struct scene *scene, int error)
{
        return scene->damaged ? error : 0;
}

static void expect_flag(const char *call, int r)
{
        expect(call, r, 0);
        must(r <= 1);
}

#define expect_wait(scene, call, r, timeout, ...)                                                                      \
        expect(call, r, in_vain(timeout), if_damaged(scene, EUSERS), __VA_ARGS__)

/* ---- the calls of each kind; `which` is below CALLS_MAX ---- */

static int act(void *arg)
{
        return arg == NULL ? 0 : -ERANGE;
}

static void call_lock(struct scene *scene, brood_lock *lock, int which, int timeout)
{
        brood_death death;
        int r;

        switch (which) {
        case 0:
        case 1:
        case 2:
                r = brood_lock_acquire(lock, timeout);
                expect_wait(scene, "acquire", r, timeout, 0);
                must(r <= BROOD_HOLDER_DIED);
                return;
        case 3:
        case 4:
        case 5:
                r = brood_lock_release(lock);
                expect("release", r, EPERM);
                must(r <= 0);
                return;
        case 6:
                expect_flag("locked", brood_lock_locked(lock));
                return;
        case 7:
                r = brood_lock_consistent(lock);
                expect("consistent", r, EPERM);
                must(r <= 0);
                return;
        default:
                r = brood_lock_death(lock, &death);
                expect("death", r, EPERM, ENODATA);
                must(r <= 0);
                return;
        }
}

static void call_semaphore(struct scene *scene, brood_semaphore *semaphore, int which, int timeout)
{
        int r;

        switch (which) {
        case 0:
        case 1:
        case 2:
        case 3:
                r = brood_semaphore_acquire(semaphore, timeout);
                expect_wait(scene, "acquire", r, timeout, 0);
                must(r <= 0);
                return;
        case 4:
        case 5:
        case 6:
        case 7:
                r = brood_semaphore_release(semaphore);
                expect("release", r, EOVERFLOW, if_damaged(scene, EUSERS));
                must(r <= 0);
                return;
        default:
                r = brood_semaphore_get_value(semaphore);
                must(r >= 0 && r <= BROOD_SEMAPHORE_VALUE_MAX);
                return;
        }
}

static bool never(void *arg)
{
        (void)arg;
        return false;
}

static void call_condition(struct scene *scene, brood_condition *condition, int which, int timeout)
{
        brood_lock *lock = brood_condition_lock(condition);
        int r;

        switch (which) {
        case 0:
        case 1:
                r = brood_condition_acquire(condition, timeout);
                expect_wait(scene, "acquire", r, timeout, 0);
                return;
        case 2:
                r = brood_condition_release(condition);
                expect("release", r, EPERM);
                return;
        case 3:
        case 4:
        case 5:
                /* Taking the lock back has no time limit, and somebody who writes a living holder into it all the time is waited
                 * for. */
                if (scene->racing)
                        return;
                if (which < 5)
                        r = brood_condition_wait(condition, timeout);
                else
                        r = brood_condition_wait_for(condition, never, NULL, timeout);
                expect_wait(scene, "wait", r, timeout, EPERM, if_damaged(scene, ENOBUFS));
                must(r <= BROOD_HOLDER_DIED);
                return;
        case 6:
                r = brood_condition_notify(condition, take_byte(&scene->script));
                expect("notify", r, EPERM);
                must(r <= 255);
                return;
        case 7:
                r = brood_condition_notify_all(condition);
                expect("notify_all", r, EPERM);
                must(r <= BROOD_CONDITION_WAITERS);
                return;
        default:
                call_lock(scene, lock, 6 + which % 3, timeout);
                return;
        }
}

static void call_event(struct scene *scene, brood_event *event, int which, int timeout)
{
        int r;

        switch (which) {
        case 0:
        case 1:
                must(brood_event_set(event) == 0);
                return;
        case 2:
        case 3:
                must(brood_event_clear(event) == 0);
                return;
        case 4:
        case 5:
                expect_flag("is_set", brood_event_is_set(event));
                return;
        case 6:
        case 7:
                r = brood_event_wait(event, timeout);
                expect_wait(scene, "wait", r, timeout, 0);
                must(r <= 0);
                return;
        default:
                r = brood_event_fileno(event);
                must(r >= 0 && fcntl(r, F_GETFD) >= 0);
                return;
        }
}

static void call_barrier(struct scene *scene, brood_barrier *barrier, int which, int timeout)
{
        int r;

        switch (which) {
        case 0:
        case 1:
        case 2:
        case 3:
                r = brood_barrier_wait(barrier, timeout);
                expect_wait(scene, "wait", r, timeout, EPIPE, ERANGE, if_damaged(scene, EAGAIN));
                must(r < brood_barrier_parties(barrier));
                return;
        case 4:
        case 5:
                must(brood_barrier_reset(barrier) == 0);
                return;
        case 6:
                must(brood_barrier_abort(barrier) == 0);
                return;
        case 7:
                /* A handle's own knowledge is its own: what somebody writes into the memory later does not change it. */
                r = brood_barrier_parties(barrier);
                must(r >= 1 && r <= BROOD_BARRIER_PARTIES_MAX);
                if (barrier == scene->maker || !scene->damaged)
                        must(r == scene->parties);
                return;
        case 8:
                r = brood_barrier_n_waiting(barrier);
                must(r >= 0 && r <= (scene->damaged ? BROOD_BARRIER_PARTIES_MAX : scene->parties));
                return;
        default:
                expect_flag("broken", brood_barrier_broken(barrier));
                return;
        }
}

static void call_rwlock(struct scene *scene, brood_rwlock *lock, int which, int timeout)
{
        brood_death death;
        int r;

        switch (which) {
        case 0:
        case 1:
        case 2:
        case 3:
                r = (which < 2 ? brood_rwlock_acquire_read : brood_rwlock_acquire_write)(lock, timeout);
                expect_wait(scene, "acquire", r, timeout, 0);
                must(r <= BROOD_HOLDER_DIED);
                return;
        case 4:
        case 5:
        case 6:
                r = brood_rwlock_release(lock);
                expect("release", r, EPERM);
                must(r <= 0);
                return;
        case 7:
                r = brood_rwlock_consistent(lock);
                expect("consistent", r, EPERM);
                must(r <= 0);
                return;
        default:
                r = brood_rwlock_death(lock, &death);
                expect("death", r, EPERM, ENODATA);
                must(r <= 0);
                return;
        }
}

/* ---- handles ---- */

/* A handle of some type, through a pointer to any. */
#define set_through(type, ret_handle, ...)                                                                             \
        do {                                                                                                           \
                type *typed = *(ret_handle);                                                                           \
                r = __VA_ARGS__;                                                                                       \
                *(ret_handle) = typed;                                                                                 \
        } while (0)

static int make_handle(struct scene *scene, void **ret_handle)
{
        int r;
        struct script *script = &scene->script;
        uint8_t how = take_byte(script), number = take_byte(script);
        brood_semaphore_options units = { .bounded = how % 3 == 1, .events = how % 3 == 2 };
        brood_barrier_options meeting = { .action = how % 2 ? act : NULL,
                                          .arg = how % 4 == 3 ? scene : NULL,
                                          .break_on_death = how / 4 % 2 };

        switch (scene->kind) {
        case LOCK:
                set_through(brood_lock, ret_handle, brood_lock_new(&typed));
                break;
        case RLOCK:
                set_through(brood_lock, ret_handle, brood_rlock_new(&typed));
                break;
        case SEMAPHORE:
                set_through(brood_semaphore, ret_handle, brood_semaphore_new(&typed, number % 4, &units));
                break;
        case CONDITION:
                set_through(brood_condition, ret_handle, brood_condition_new(&typed, NULL));
                break;
        case EVENT:
                set_through(brood_event, ret_handle, brood_event_new(&typed));
                break;
        case BARRIER:
                scene->parties = 1 + number % 3;
                set_through(brood_barrier, ret_handle, brood_barrier_new(&typed, scene->parties, &meeting));
                break;
        default:
                set_through(brood_rwlock, ret_handle, brood_rwlock_new(&typed));
                break;
        }
        return r;
}

static int attach_handle(struct scene *scene, void **ret_handle, const int *descriptors)
{
        void *untouched = scene, *handle = untouched;
        int r;

        switch (scene->kind) {
        case LOCK:
        case RLOCK:
                set_through(brood_lock, &handle, brood_lock_attach(&typed, descriptors));
                break;
        case SEMAPHORE:
                set_through(brood_semaphore, &handle, brood_semaphore_attach(&typed, descriptors));
                break;
        case CONDITION:
                set_through(brood_condition, &handle, brood_condition_attach(&typed, descriptors, NULL));
                break;
        case EVENT:
                set_through(brood_event, &handle, brood_event_attach(&typed, descriptors));
                break;
        case BARRIER:
                set_through(brood_barrier, &handle, brood_barrier_attach(&typed, descriptors, NULL, NULL));
                break;
        default:
                set_through(brood_rwlock, &handle, brood_rwlock_attach(&typed, descriptors));
                break;
        }
        expect("attach", r, EINVAL, EBADF, EPERM, EACCES, EUCLEAN, EPROTONOSUPPORT, ENOMEM, EMFILE, ENFILE);
        must(r <= 0);
        if (r < 0) {
                must(handle == untouched);
                return r;
        }
        *ret_handle = handle;
        return 0;
}

static void tell_descriptors(struct scene *scene, void *handle, int *ret_descriptors)
{
        int r;

        switch (scene->kind) {
        case LOCK:
        case RLOCK:
                r = brood_lock_descriptors(handle, ret_descriptors);
                break;
        case SEMAPHORE:
                r = brood_semaphore_descriptors(handle, ret_descriptors);
                break;
        case CONDITION:
                r = brood_condition_descriptors(handle, ret_descriptors);
                break;
        case EVENT:
                r = brood_event_descriptors(handle, ret_descriptors);
                break;
        case BARRIER:
                r = brood_barrier_descriptors(handle, ret_descriptors);
                break;
        default:
                r = brood_rwlock_descriptors(handle, ret_descriptors);
                break;
        }
        must(r == 0);
}

static void free_handle(struct scene *scene, int which)
{
        void *handle = scene->handles[which];

        scene->handles[which] = NULL;
        switch (scene->kind) {
        case LOCK:
        case RLOCK:
                brood_lock_free(handle);
                return;
        case SEMAPHORE:
                brood_semaphore_free(handle);
                return;
        case CONDITION:
                brood_condition_free(handle);
                return;
        case EVENT:
                brood_event_free(handle);
                return;
        case BARRIER:
                brood_barrier_free(handle);
                return;
        default:
                brood_rwlock_free(handle);
                return;
        }
}

static void do_call(struct scene *scene)
{
        uint8_t how = take_byte(&scene->script);
        int handle = how & 1, timeout = how % 8 == 7, which = (int)take_below(&scene->script, CALLS_MAX + 1);
        int64_t start = now_ms();

        if (which == CALLS_MAX || scene->handles[handle] == NULL) {
                free_handle(scene, 1);
                attach_handle(scene, &scene->handles[1], scene->descriptors);
        } else {
                void *object = scene->handles[handle];
                switch (scene->kind) {
                case LOCK:
                case RLOCK:
                        call_lock(scene, object, which, timeout);
                        break;
                case SEMAPHORE:
                        call_semaphore(scene, object, which, timeout);
                        break;
                case CONDITION:
                        call_condition(scene, object, which, timeout);
                        break;
                case EVENT:
                        call_event(scene, object, which, timeout);
                        break;
                case BARRIER:
                        call_barrier(scene, object, which, timeout);
                        break;
                default:
                        call_rwlock(scene, object, which, timeout);
                        break;
                }
        }
        int64_t took = now_ms() - start;
        if (took > CALL_LIMIT_MS)
                fail("call %d of kind %d took %lld ms", which, (int)scene->kind, (long long)took);
}

/* ---- staging ---- */

static void look_at(struct scene *scene, struct ground *ground, int fd, int event_fd)
{
        struct stat status;

        must(fstat(fd, &status) == 0);
        *ground = (struct ground){ &scene->script, NULL, (size_t)status.st_size, fd, event_fd };
        if (ground->size > 0) {
                ground->memory = mmap(NULL, ground->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
                must(ground->memory != MAP_FAILED);
        }
}

static void make(struct scene *scene)
{
        int descriptors[GROUNDS_MAX];

        must(make_handle(scene, &scene->handles[0]) == 0);
        scene->maker = scene->handles[0];
        tell_descriptors(scene, scene->handles[0], descriptors);
        scene->count = scene->kind == CONDITION || scene->kind == EVENT ? 2 : 1;
        scene->ground_count = scene->kind == CONDITION ? 2 : 1;
        for (int i = 0; i < scene->count; i++) {
                scene->descriptors[i] = fcntl(descriptors[i], F_DUPFD_CLOEXEC, 0);
                must(scene->descriptors[i] >= 0);
        }
        for (int i = 0; i < scene->ground_count; i++)
                look_at(scene, &scene->grounds[i], scene->descriptors[i],
                        scene->kind == EVENT ? scene->descriptors[1] : -1);
}

static struct ground *take_ground(struct scene *scene)
{
        return &scene->grounds[take_below(&scene->script, (size_t)scene->ground_count)];
}

static void damage(struct scene *scene)
{
        size_t count = 1 + take_below(&scene->script, 6);

        scene->damaged = true;
        for (size_t i = 0; i < count; i++)
                damage_ground(take_ground(scene));
}

/* Exchange one memory for another that begins like it: all of it, or no more than its head. */
static void stage_copy(struct scene *scene)
{
        static const size_t keeps[] = { SIZE_MAX, SIZE_MAX, 64, 64, 80, 128, 152, 192, 4096, 0, 8 };
        struct script *script = &scene->script;
        struct ground *ground = take_ground(scene);
        int at = (int)(ground - scene->grounds);
        size_t keep = keeps[take_below(script, array_length(keeps))], size = ground->size;
        uint8_t how = take_byte(script);

        if (how % 8 == 0)
                size = take_below(script, ground->size);
        else if (how % 8 == 1)
                size += 1 + take_below(script, 8192);
        int fd = memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        must(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
        struct ground copy;
        look_at(scene, &copy, fd, ground->event_fd);
        keep = keep < size ? keep : size;
        keep = keep < ground->size ? keep : ground->size;
        if (keep > 0)
                memcpy(copy.memory, ground->memory, keep);
        /* Words one by one, as long as there is script for them; then one again and again. */
        uint64_t word = take_number(script, 8);
        for (size_t to = keep; to + 8 <= size; to += 8) {
                memcpy(copy.memory + to, &word, 8);
                if (to < keep + 256)
                        word = take_number(script, 8);
        }
        if (how / 8 % 2 && size >= sizeof(struct region_head)) {
                /* Let it agree with itself about its size, so that what comes behind is looked at. */
                struct region_head head;
                memcpy(&head, copy.memory, sizeof head);
                head.size = size;
                memcpy(copy.memory, &head, sizeof head);
        }
        if (how / 16 % 8 != 0)
                must(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0);

        bool whole = keep == ground->size && size == ground->size && how / 16 % 8 != 0;
        for (int i = 0; i < 2; i++)
                free_handle(scene, i);
        scene->maker = NULL;
        must(munmap(ground->memory, ground->size) == 0);
        must(close(scene->descriptors[at]) == 0);
        *ground = copy;
        scene->descriptors[at] = fd;
        scene->damaged = true;
        if (take_byte(script) % 4 == 0)
                damage(scene);
        else if (whole && scene->kind != CONDITION) /* whose lock, or whose condition, is another now */
                must(attach_handle(scene, &scene->handles[0], scene->descriptors) == 0);
        if (scene->handles[0] == NULL)
                attach_handle(scene, &scene->handles[0], scene->descriptors);
        attach_handle(scene, &scene->handles[1], scene->descriptors);
}

static void perform(struct scene *scene, bool damaging)
{
        for (int i = 0; i < STEPS_MAX && scene->script.at < scene->script.end; i++)
                if (damaging && take_byte(&scene->script) % 8 == 0)
                        damage(scene);
                else
                        do_call(scene);
}

static int count_open(const char *path)
{
        DIR *dir = opendir(path);
        int count = 0;

        must(dir != NULL);
        while (readdir(dir) != NULL)
                count++;
        closedir(dir);
        return count;
}

static void leave(struct scene *scene)
{
        int first = take_byte(&scene->script) % 2;

        free_handle(scene, first);
        free_handle(scene, !first);
        for (int i = 0; i < scene->ground_count; i++)
                must(scene->grounds[i].size == 0 || munmap(scene->grounds[i].memory, scene->grounds[i].size) == 0);
        for (int i = 0; i < scene->count; i++)
                must(close(scene->descriptors[i]) == 0);
}

static void run_script(const uint8_t *data, size_t size)
{
        struct scene scene = { .script = { data, data + size } };
        struct race race;
        uint8_t how = take_byte(&scene.script) % 16;

        scene.kind = (enum kind)take_below(&scene.script, KINDS);
        make(&scene);
        if (take_byte(&scene.script) % 4)
                must(attach_handle(&scene, &scene.handles[1], scene.descriptors) == 0);
        for (size_t i = take_below(&scene.script, 16); i > 0; i--)
                do_call(&scene);
        if (how < 2) {
                perform(&scene, false);
        } else if (how < 8) {
                damage(&scene);
                perform(&scene, true);
        } else if (how < 13) {
                stage_copy(&scene);
                perform(&scene, true);
        } else {
                scene.damaged = true;
                scene.racing = race_start(&race, take_ground(&scene));
                perform(&scene, true);
                if (scene.racing)
                        race_stop(&race);
        }
        leave(&scene);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
        (void)argc;
        (void)argv;
        /* What the library and libc set up once and keep is not a leak of an input. */
        run_script((const uint8_t *)"", 0);
        return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        int before = count_open("/proc/self/fd");

        run_script(data, size);
        int after = count_open("/proc/self/fd");
        if (after != before)
                fail("%d descriptors before, %d after", before, after);
        return 0;
}
