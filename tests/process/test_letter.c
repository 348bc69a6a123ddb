/* SPDX-License-Identifier: MIT
 *
 * tests/process/test_letter.c: the letter that tells a process who it is: what was written is what is read, and whatever else
 * is in it, reading it gives an error and not a crash.  And places in modules, which letters are made of.
 */
#include "check.h"

#include "os/descriptors.h"
#include "os/module.h"
#include "process/letter.h"

#include <fcntl.h>

static int target(void *unused)
{
        (void)unused;
        return 0;
}

static int preload(void)
{
        return 0;
}

static int class_run(brood_process *process)
{
        (void)process;
        return 0;
}

static const brood_process_class class = { .name = "Class", .size = 100, .run = class_run };

/* What a handle for spawn is, without brood_main() having been called. */
static brood_process *handle(const brood_process_options *options)
{
        brood_process *process = process_alloc(options);
        assert_non_null(process);
        strcpy(process->name, "Isaac");
        if (options->process_class != NULL)
                process->self = calloc(1, options->process_class->size);
        return process;
}

/* Read it as a child does; the copy that stays in a child is a leak here, so the child is one. */
static int read_back(const struct letter *letter, int (*look)(const struct contents *, brood_process *))
{
        fflush(NULL);
        pid_t pid = fork();
        if (pid == 0) {
                struct letter mine;
                struct contents contents;
                brood_process *process;
                int r = letter_open(&mine, letter->memfd);
                if (r == 0)
                        r = letter_read(&mine, &contents, &process);
                _exit(r < 0 ? 1 : look(&contents, process));
        }
        return check_wait(pid);
}

static const char *const environment[] = { "A=1", "", "B=22", NULL };
static const int numbers[] = { 7, 9, 11 };

static int look_at_all(const struct contents *contents, brood_process *process)
{
        require(process->options.target == target);
        require(process->options.process_class == NULL && process->self == NULL);
        require(process->options.size == 5 && memcmp(process->bytes, "bytes", 5) == 0);
        require((uintptr_t)process->bytes % BROOD_BYTES_ALIGNMENT == 0);
        require(strcmp(brood_process_name(process), "Isaac") == 0);
        require(process->owner == getppid() && process->options.detached);
        require(contents->handed_count == 3 && memcmp(process->handed, numbers, sizeof numbers) == 0);
        require(contents->keep_count == 2 && memcmp(contents->keep, numbers, 2 * sizeof *numbers) == 0);
        require(contents->branch == 33 && !contents->is_server && contents->start_method == BROOD_START_FORK);
        require(sigismember(&contents->mask, SIGUSR1) == 1 && sigismember(&contents->mask, SIGUSR2) == 0);
        const struct outfit *outfit = &contents->outfit;
        require(strcmp(outfit->directory, "/some/where") == 0 && strcmp(outfit->cgroup, "/group") == 0);
        require(outfit->cpus_count == 1 && outfit->cpus[0] == 11);
        require(outfit->memory_limit == 1 && outfit->cpu_seconds == 2 && outfit->file_limit == 3);
        require(outfit->process_limit == 4 && outfit->nice == 5);
        require(outfit->new_session && !outfit->new_group && outfit->close_others);
        for (int i = 0; i < 3; i++)
                require(strcmp(contents->environment[i], environment[i]) == 0);
        require(contents->environment[3] == NULL);
        return 0;
}

static int look_at_little(const struct contents *contents, brood_process *process)
{
        require(process->options.target == target && process->bytes == NULL && process->options.size == 0);
        require(contents->handed_count == 0 && contents->keep_count == 0 && contents->environment == NULL);
        require(contents->outfit.directory == NULL && contents->outfit.cgroup == NULL && contents->outfit.cpus == NULL);
        return 0;
}

static int look_at_class(const struct contents *contents, brood_process *process)
{
        require(process->options.process_class == &class && process->options.target == NULL);
        require(((char *)process->self)[99] == 'z' && contents->preload == NULL);
        return 0;
}

static int look_at_server(const struct contents *contents, brood_process *process)
{
        require(contents->is_server && contents->preload == preload && process->is_server);
        return 0;
}

static void write_full(struct letter *letter)
{
        sigset_t mask;
        sigemptyset(&mask);
        sigaddset(&mask, SIGUSR1);
        brood_process *process = handle(&(brood_process_options){
            .target = target,
            .bytes = "bytes",
            .size = 5,
            .hand_over = numbers,
            .hand_over_count = 3,
            .detached = true,
            .setup = { .environment = environment },
        });
        const struct fitting fitting = {
                .outfit = { .directory = "/some/where",
                            .cgroup = "/group",
                            .keep = numbers,
                            .keep_count = 2,
                            .cpus = &numbers[2],
                            .cpus_count = 1,
                            .memory_limit = 1,
                            .cpu_seconds = 2,
                            .file_limit = 3,
                            .process_limit = 4,
                            .nice = 5,
                            .new_session = true,
                            .close_others = true },
        };
        assert_int_equal(letter_write(letter, process, 33, &mask, &fitting), 0);
        brood_process_free(process);
}

static void test_what_is_written_is_read(void **state)
{
        (void)state;
        struct letter letter;
        sigset_t mask;
        sigemptyset(&mask);
        write_full(&letter);
        assert_int_equal(read_back(&letter, look_at_all), 0);
        letter_close(&letter);

        brood_process *process = handle(&(brood_process_options){ .target = target });
        assert_int_equal(letter_write(&letter, process, 3, &mask, NULL), 0);
        assert_int_equal(read_back(&letter, look_at_little), 0);
        letter_close(&letter);
        process->options.target = NULL;
        process->is_server = true;
        process->preload = preload;
        assert_int_equal(letter_write(&letter, process, 3, &mask, NULL), 0);
        assert_int_equal(read_back(&letter, look_at_server), 0);
        letter_close(&letter);
        brood_process_free(process);

        process = handle(&(brood_process_options){ .process_class = &class });
        ((char *)process->self)[99] = 'z';
        assert_int_equal(letter_write(&letter, process, 3, &mask, NULL), 0);
        assert_int_equal(read_back(&letter, look_at_class), 0);
        letter_close(&letter);
        brood_process_free(process);
}

static void test_no_letter(void **state)
{
        (void)state;
        struct letter letter;
        int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
        assert_int_equal(letter_open(&letter, 987), -EBADF);
        assert_int_equal(letter_open(&letter, null), -EUCLEAN);
        close(null);
        int fd = memfd_create("lie", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        assert_int_equal(ftruncate(fd, 10000), 0);
        assert_int_equal(letter_open(&letter, fd), -EUCLEAN); /* it could shrink */
        assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
        assert_int_equal(letter_open(&letter, fd), -EUCLEAN); /* it is empty */
        close(fd);
        fd = memfd_create("lie", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        assert_int_equal(ftruncate(fd, 100), 0);
        assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
        assert_int_equal(letter_open(&letter, fd), -EUCLEAN); /* it is too short */
        close(fd);
}

/* Read it many times with something changed each time.  In one child, since what was read stays. */
static int read_damaged(void *arg)
{
        const struct letter *letter = arg;
        unsigned char *bytes = (unsigned char *)letter->gate, *good = malloc(letter->size);
        int rounds = support_rounds(20000), errors = 0;
        require(good != NULL);
        memcpy(good, bytes, letter->size);
        for (int i = 0; i < rounds; i++) {
                struct letter mine;
                struct contents contents;
                brood_process *process = NULL;
                int changes = 1 + (int)support_random(4);
                for (int j = 0; j < changes; j++) {
                        size_t at = support_random(letter->size);
                        if (support_random(2))
                                bytes[at] = (unsigned char)support_random(256);
                        else if (at + 8 <= letter->size) /* a size, an offset or a flag, near its limits */
                                memcpy(bytes + (at & ~(size_t)7),
                                       &(uint64_t){ support_random(2 * letter->size) - letter->size }, 8);
                }
                int r = letter_open(&mine, letter->memfd);
                require(r == 0 || r == -EUCLEAN);
                if (r == 0) {
                        r = letter_read(&mine, &contents, &process);
                        require(r == 0 || r == -EUCLEAN || r == -EPROTONOSUPPORT || r == -ELIBACC || r == -ENOEXEC);
                        require((r == 0) == (process != NULL));
                        munmap(mine.gate, sizeof *mine.gate);
                }
                if (r == 0 && contents.environment != NULL)
                        for (const char *const *string = contents.environment; *string != NULL; string++)
                                require(strlen(*string) < letter->size);
                if (r == 0 && contents.outfit.directory != NULL)
                        require(strlen(contents.outfit.directory) < letter->size);
                if (r == 0)
                        require(strlen(brood_process_name(process)) <= BROOD_PROCESS_NAME_MAX);
                errors += r < 0;
                memcpy(bytes, good, letter->size);
        }
        printf("%d of %d letters refused\n", errors, rounds);
        return errors > 0 ? 0 : 1;
}

static void test_damaged_letters(void **state)
{
        (void)state;
        struct letter letter;
        write_full(&letter);
        assert_int_equal(check_wait(check_start(read_damaged, &letter)), 0);
        letter_close(&letter);
}

/* ---- places ---- */

static int some_data = 1;

static void test_places(void **state)
{
        (void)state;
        struct module_place place;
        uintptr_t found = 0;
        const uintptr_t functions[] = { (uintptr_t)target, (uintptr_t)preload, (uintptr_t)strlen };
        for (size_t i = 0; i < array_length(functions); i++) {
                assert_int_equal(module_place_of(functions[i], &place), 0);
                assert_int_equal(module_find(&place, true, &found), 0);
                assert_true(found == functions[i]);
        }
        assert_int_equal(module_place_of((uintptr_t)&some_data, &place), 0);
        assert_int_equal(module_find(&place, false, &found), 0);
        assert_true(found == (uintptr_t)&some_data);
        found = 0;
        assert_int_equal(module_find(&place, true, &found), -ENOEXEC);
        place.offset = UINT64_MAX / 2;
        assert_int_equal(module_find(&place, false, &found), -ENOEXEC);
        place.id[0] ^= 1;
        assert_int_equal(module_find(&place, false, &found), -ELIBACC);
        place.id_size = 0;
        assert_int_equal(module_find(&place, false, &found), -ELIBACC);
        assert_true(found == 0);
        memset(&place, 0x55, sizeof place);
        const struct module_place before = place;
        int local;
        assert_int_equal(module_place_of((uintptr_t)&local, &place), -ENOEXEC);
        assert_int_equal(module_place_of(0, &place), -ENOEXEC);
        assert_int_equal(module_place_of(UINTPTR_MAX, &place), -ENOEXEC);
        assert_memory_equal(&place, &before, sizeof place);
}

/* ---- numbers ---- */

static int inode_of(int fd)
{
        return (int)descriptor_id(fd);
}

/* Any numbers for any descriptors, also those that others of them have. */
static int place_randomly(void *unused)
{
        enum { COUNT = 12, OTHERS = 5, ROUNDS = 300 };
        (void)unused;
        for (int round = 0; round < ROUNDS; round++) {
                int fds[COUNT], others[OTHERS + 1], wanted[COUNT], inodes[COUNT + OTHERS], first = -1;
                for (int i = 0; i < COUNT + OTHERS; i++) {
                        int fd = memfd_create("test", MFD_CLOEXEC);
                        first = i == 0 ? fd : first;
                        *(i < COUNT ? &fds[i] : &others[i - COUNT]) = fd;
                        inodes[i] = inode_of(fd);
                }
                others[OTHERS] = -1; /* none is one, too */
                for (int i = 0; i < COUNT; i++)
                        for (bool again = true; again;) {
                                wanted[i] = first + (int)support_random(COUNT + OTHERS + 4);
                                again = false;
                                for (int j = 0; j < i; j++)
                                        again |= wanted[j] == wanted[i];
                        }
                require_int(descriptors_place(fds, wanted, COUNT, others, OTHERS + 1), 0);
                for (int i = 0; i < COUNT; i++) {
                        require_int(inode_of(wanted[i]), inodes[i]);
                        require_int(fcntl(wanted[i], F_GETFD), 0);
                        require_int(fds[i], wanted[i]);
                }
                for (int i = 0; i < OTHERS; i++) {
                        require_int(inode_of(others[i]), inodes[COUNT + i]);
                        require_int(fcntl(others[i], F_GETFD), FD_CLOEXEC);
                        close(others[i]);
                }
                require_int(others[OTHERS], -1);
                for (int i = 0; i < COUNT; i++)
                        close(fds[i]);
                int next = memfd_create("test", MFD_CLOEXEC);
                require_int(next, first); /* nothing else is left open */
                close(next);
        }
        return 0;
}

static void test_descriptors_placed(void **state)
{
        (void)state;
        assert_int_equal(check_wait(check_start(place_randomly, NULL)), 0);
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_what_is_written_is_read), support_test(test_no_letter),
                support_test(test_damaged_letters),         support_test(test_places),
                support_test(test_descriptors_placed),
        };
        return support_main(argc, argv, "letter", tests, array_length(tests), 60);
}
