/* SPDX-License-Identifier: MIT
 *
 * tests/process/test_methods.c: what the start methods have each of their own, and where they must agree: how a function is found
 * again, what a child is given, what becomes of it when its fork server dies, and how each failure is told.  That the rest is the
 * same for all is shown by the other tests of this directory, which run by each method.
 */
#include "check.h"
#include "setting.h"

#include <brood/queue.h>

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ARRAY_LENGTH(array) (sizeof(array) / sizeof((array)[0]))
#define MIB ((size_t)1 << 20)

/* Each of the tests goes through all of them. */
#define FOR_EACH_METHOD(m)                                                                                             \
        for (brood_start_method m = BROOD_START_FORK; m <= BROOD_START_FORKSERVER; m = (brood_start_method)(m + 1))

static brood_process *begin(brood_start_method m, int (*target)(void *), const void *bytes, size_t size)
{
        brood_process_options options = { .target = target, .start_method = m, .bytes = bytes, .size = size };
        return start_with(&options);
}

static void finish(brood_process *p, int code)
{
        assert_int_equal(brood_process_join(p, 60000), 0);
        int told = BROOD_EXITCODE_UNKNOWN, r = brood_process_exitcode(p, &told);
        if (r != -ENODATA || kernel_tells()) {
                assert_int_equal(r, 0);
                assert_int_equal(told, code);
        }
        brood_process_free(p);
}

/* A start that fails with this error in this step, and leaves nothing. */
static void expect_failure(const brood_process_options *options, int error, const char *step)
{
        brood_process *p = NULL;
        assert_int_equal(brood_process_new(&p, options), 0);
        assert_int_equal(brood_process_start(p), error);
        assert_string_equal(brood_process_failed_step(p), step);
        assert_int_equal(brood_process_pid(p), 0);
        assert_int_equal(brood_process_is_alive(p), 0);
        assert_int_equal(brood_process_join(p, 0), -EINVAL);
        brood_process_free(p);
        assert_int_equal(brood_wait(NULL, 0), -ECHILD);
        expect_no_children();
}

/* ---- what a target is given ---- */

struct parcel {
        uint64_t seed;
        size_t size; /* of all of it */
        unsigned char bytes[];
};

static unsigned char byte_of(uint64_t seed, size_t i)
{
        return (unsigned char)((seed + i) * UINT64_C(0x9e3779b97f4a7c15) >> 56);
}

static struct parcel *parcel_new(size_t size)
{
        struct parcel *parcel = malloc(size);
        assert_non_null(parcel);
        parcel->seed = support_random(UINT64_MAX);
        parcel->size = size;
        for (size_t i = 0; i < size - sizeof *parcel; i++)
                parcel->bytes[i] = byte_of(parcel->seed, i);
        return parcel;
}

static int open_parcel(void *bytes)
{
        const struct parcel *parcel = bytes;
        ask((uintptr_t)bytes % BROOD_BYTES_ALIGNMENT == 0);
        for (size_t i = 0; i < parcel->size - sizeof *parcel; i++)
                ask(parcel->bytes[i] == byte_of(parcel->seed, i));
        memset(bytes, 0xff, parcel->size); /* they are its own */
        return 5;
}

static void test_bytes(void **state)
{
        (void)state;
        static const size_t more[] = { 0, 1, 15, 16, 17, 4000, 4096, 65537, MIB + 3, 40 * MIB };
        FOR_EACH_METHOD(m)
        {
                for (size_t i = 0; i < ARRAY_LENGTH(more); i++) {
                        struct parcel *parcel = parcel_new(sizeof *parcel + more[i]);
                        brood_process_options options = {
                                .target = open_parcel, .start_method = m, .bytes = parcel, .size = parcel->size
                        };
                        brood_process *p = NULL;
                        assert_int_equal(brood_process_new(&p, &options), 0);
                        memset(parcel, 0xee, parcel->size); /* they were copied */
                        free(parcel);
                        assert_int_equal(brood_process_start(p), 0);
                        finish(p, 5);
                }
        }
}

static int expect_nothing(void *bytes)
{
        return bytes == NULL ? 5 : 6;
}

static int expect_something(void *bytes)
{
        return bytes != NULL && (uintptr_t)bytes % BROOD_BYTES_ALIGNMENT == 0 ? 5 : 6;
}

static void test_no_bytes(void **state)
{
        (void)state;
        FOR_EACH_METHOD(m)
        {
                finish(begin(m, expect_nothing, NULL, 0), 5);
                finish(begin(m, expect_something, "", 0), 5);
        }
}

/* ---- which function ---- */

static int return_byte(void *byte)
{
        return *(unsigned char *)byte;
}

/* Of this program, and of a library: a function of the C library has the right form. */
static void test_functions(void **state)
{
        (void)state;
        unsigned char byte = 123;
        FOR_EACH_METHOD(m)
        {
                finish(begin(m, return_byte, &byte, 1), 123);
                finish(begin(m, (int (*)(void *))(uintptr_t)atoi, "42", 3), 42);
        }
}

static void *load(const char *variable, const char *name)
{
        const char *path = getenv(variable);
        void *module = path == NULL ? NULL : dlopen(path, RTLD_NOW);
        void *function = module == NULL ? NULL : dlsym(module, name);
        if (function == NULL)
                fprintf(stderr, "%s of %s (%s) is not there\n", name, variable, path == NULL ? "not set" : path);
        return function;
}

static int (*late_function(const char *variable))(void *)
{
        void *function = load(variable, "late_function");
        assert_non_null(function);
        return (int (*)(void *))(uintptr_t)function;
}

static int load_late_module(void)
{
        return load("BROOD_TEST_LATE", "late_function") == NULL ? -ENOENT : 0;
}

/* A module that this process has loaded while it ran; the child of a fork has it, a spawned one has not, and a child of the
 * server has it if the preload has loaded it. */
static void test_late_module(void **state)
{
        (void)state;
        brood_process_options options = { .target = late_function("BROOD_TEST_LATE") };
        options.start_method = BROOD_START_FORK;
        finish(start_with(&options), 77);
        options.start_method = BROOD_START_SPAWN;
        expect_failure(&options, -ELIBACC, "function");
        options.start_method = BROOD_START_FORKSERVER;
        expect_failure(&options, -ELIBACC, "function");
        assert_int_equal(brood_set_forkserver_preload(load_late_module), 0);
        finish(start_with(&options), 77);
        assert_int_equal(brood_forkserver_stop(), 0);
        assert_int_equal(brood_set_forkserver_preload(NULL), 0);
}

static void test_module_without_an_id(void **state)
{
        (void)state;
        brood_process_options options = { .target = late_function("BROOD_TEST_NAMELESS") };
        options.start_method = BROOD_START_FORK;
        finish(start_with(&options), 77);
        options.start_method = BROOD_START_SPAWN;
        expect_failure(&options, -ENOEXEC, "function");
        options.start_method = BROOD_START_FORKSERVER;
        expect_failure(&options, -ENOEXEC, "function");
}

static void test_no_module(void **state)
{
        (void)state;
        void *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_true(page != MAP_FAILED);
        brood_process_options options = { .target = (int (*)(void *))(uintptr_t)page };
        options.start_method = BROOD_START_SPAWN;
        expect_failure(&options, -ENOEXEC, "function");
        options.start_method = BROOD_START_FORKSERVER;
        expect_failure(&options, -ENOEXEC, "function");
        munmap(page, 4096);
        static const int not_code = 1;
        options.target = (int (*)(void *))(uintptr_t)&not_code;
        expect_failure(&options, -ENOEXEC, "function");
}

/* ---- classes ---- */

struct machine {
        uint64_t seed;
        size_t upto;
        unsigned char state[MIB];
};

static int machine_init(brood_process *process, void *seed)
{
        struct machine *self = brood_process_self(process);
        self->seed = *(uint64_t *)seed;
        for (size_t i = 0; i < sizeof self->state; i++)
                self->state[i] = byte_of(self->seed, i);
        return 0;
}

static int machine_run(brood_process *process)
{
        struct machine *self = brood_process_self(process);
        ask(process == brood_current_process());
        ask(brood_process_pid(process) == getpid());
        ask(strncmp(brood_process_name(process), "Machine-", 8) == 0);
        ask(self->upto == 7); /* written between the making and the start */
        for (size_t i = 0; i < sizeof self->state; i++)
                ask(self->state[i] == byte_of(self->seed, i));
        self->upto = 8;
        return 9;
}

static int machine_ends;
static void machine_fini(brood_process *process)
{
        machine_ends += ((struct machine *)brood_process_self(process))->upto == 7;
}

static const brood_process_class machine_class = {
        .name = "Machine",
        .size = sizeof(struct machine),
        .init = machine_init,
        .run = machine_run,
        .fini = machine_fini,
};

static void test_class(void **state)
{
        (void)state;
        FOR_EACH_METHOD(m)
        {
                uint64_t seed = support_random(UINT64_MAX);
                brood_process_options options = { .process_class = &machine_class, .arg = &seed, .start_method = m };
                brood_process *p = NULL;
                assert_int_equal(brood_process_new(&p, &options), 0);
                ((struct machine *)brood_process_self(p))->upto = 7;
                machine_ends = 0;
                assert_int_equal(brood_process_start(p), 0);
                finish(p, 9);
                assert_int_equal(machine_ends, 1);
        }
}

static int changeable_run(brood_process *process)
{
        (void)process;
        return 3;
}

/* A class that is no static data, or is not what the program has in its file, cannot be found again. */
static void test_class_that_cannot_be_found(void **state)
{
        (void)state;
        static brood_process_class changed = { .run = changeable_run, .size = 8 };
        brood_process_class on_the_stack = { .run = changeable_run };
        FOR_EACH_METHOD(m)
        {
                brood_process_options options = { .process_class = &changed, .start_method = m };
                changed.size = 8;
                finish(start_with(&options), 3);
                changed.size = 24;
                if (m == BROOD_START_FORK)
                        finish(start_with(&options), 3);
                else
                        expect_failure(&options, -ENOEXEC, "function");
                options.process_class = &on_the_stack;
                if (m == BROOD_START_FORK)
                        finish(start_with(&options), 3);
                else
                        expect_failure(&options, -ENOEXEC, "function");
        }
}

/* ---- descriptors ---- */

struct handed {
        int count;
        bool fork, others_closed;
        ino_t inodes[BROOD_PROCESS_DESCRIPTORS_MAX];
};

static int look_at_handed(void *arg)
{
        const struct handed *handed = arg;
        struct stat about;
        for (int i = 0; i < handed->count; i++) {
                int fd = brood_handed_descriptor((size_t)i);
                ask(fd > 2);
                ask(fstat(fd, &about) == 0);
                ask(about.st_ino == handed->inodes[i]);
                ask(fcntl(fd, F_GETFD) == FD_CLOEXEC);
        }
        ask(brood_handed_descriptor((size_t)handed->count) == -EINVAL);
        ask(brood_handed_descriptor(SIZE_MAX) == -EINVAL);
        return 5;
}

/* Descriptors that can be told apart. */
static void open_some(int *fds, ino_t *inodes, int count)
{
        for (int i = 0; i < count; i++) {
                struct stat about;
                fds[i] = memfd_create("test", MFD_CLOEXEC);
                assert_int_equal(fstat(fds[i], &about), 0);
                inodes[i] = about.st_ino;
        }
}

static void close_some(const int *fds, int count)
{
        for (int i = 0; i < count; i++)
                close(fds[i]);
}

static void test_hand_over(void **state)
{
        (void)state;
        static const int counts[] = { 0, 1, 7, BROOD_PROCESS_DESCRIPTORS_MAX };
        int fds[BROOD_PROCESS_DESCRIPTORS_MAX];
        struct handed handed = { 0 };
        open_some(fds, handed.inodes, BROOD_PROCESS_DESCRIPTORS_MAX);
        assert_int_equal(brood_handed_descriptor(0), -ESRCH);
        FOR_EACH_METHOD(m)
        {
                for (size_t i = 0; i < 2 * ARRAY_LENGTH(counts); i++) {
                        handed.count = counts[i / 2];
                        brood_process_options options = { .target = look_at_handed,
                                                          .start_method = m,
                                                          .bytes = &handed,
                                                          .size = sizeof handed,
                                                          .hand_over = fds,
                                                          .hand_over_count = (size_t)handed.count,
                                                          .detached = i == 3 };
                        options.setup.close_others = i % 2 == 1;
                        brood_process *p = start_with(&options);
                        if (options.detached) {
                                assert_int_equal(brood_process_join(p, 60000), 0);
                                brood_process_free(p);
                        } else {
                                finish(p, 5);
                        }
                }
        }
        /* One that is not open. */
        close_some(fds, BROOD_PROCESS_DESCRIPTORS_MAX);
        brood_process_options options = { .target = look_at_handed, .hand_over = fds, .hand_over_count = 3 };
        options.start_method = BROOD_START_SPAWN;
        expect_failure(&options, -EBADF, "descriptors");
        options.start_method = BROOD_START_FORKSERVER;
        expect_failure(&options, -EBADF, "descriptors");
}

struct kept_numbers {
        int count;
        int numbers[40];
        ino_t inodes[41]; /* the last one is of the descriptor that is handed over */
};

static int look_at_kept(void *arg)
{
        const struct kept_numbers *kept = arg;
        struct stat about;
        char text[8];
        for (int i = 0; i < kept->count; i++) {
                ask(fstat(kept->numbers[i], &about) == 0);
                ask(about.st_ino == kept->inodes[i]);
                ask(fcntl(kept->numbers[i], F_GETFD) == 0);
        }
        ask(fstat(brood_handed_descriptor(0), &about) == 0);
        ask(about.st_ino == kept->inodes[40]);
        /* What is brood's own has survived. */
        ask(brood_parent_sentinel() > 2 && fcntl(brood_parent_sentinel(), F_GETFD) == FD_CLOEXEC);
        struct pollfd parent = { .fd = brood_parent_sentinel(), .events = POLLIN };
        ask(poll(&parent, 1, 0) == 0);
        ask(fgets(text, sizeof text, stdin) == NULL);
        printf("out");
        return 5;
}

/* All the numbers that anything else could have in the child, in no order; and the streams go elsewhere at the same time. */
static void test_kept_numbers(void **state)
{
        (void)state;
        struct kept_numbers kept = { .count = 40 };
        int fds[41];
        FOR_EACH_METHOD(m)
        {
                for (int round = 0; round < 5; round++) {
                        open_some(fds, kept.inodes, 41);
                        for (int i = 0; i < 40; i++) {
                                int j = (int)support_random((uint64_t)i + 1);
                                kept.numbers[i] = kept.numbers[j];
                                kept.numbers[j] = fds[i];
                        }
                        struct stat about;
                        for (int i = 0; i < 40; i++) {
                                assert_int_equal(fstat(kept.numbers[i], &about), 0);
                                kept.inodes[i] = about.st_ino;
                        }
                        brood_process_options options = {
                                .target = look_at_kept,
                                .start_method = m,
                                .bytes = &kept,
                                .size = sizeof kept,
                                .hand_over = &fds[40],
                                .hand_over_count = 1,
                                .setup = { .keep = kept.numbers,
                                           .keep_count = 40,
                                           .input = { .kind = BROOD_STREAM_NULL },
                                           .output = { .kind = BROOD_STREAM_CAPTURE },
                                           .close_others = round % 2 == 1 },
                        };
                        brood_process *p = start_with(&options);
                        char text[8] = "";
                        assert_int_equal(read(brood_process_stream(p, 1), text, sizeof text), 3);
                        assert_string_equal(text, "out");
                        finish(p, 5);
                        close_some(fds, 41);
                }
        }
}

/* As the header's example has it. */
static int put_seventeen(void *byte)
{
        const int d[] = { brood_handed_descriptor(0), brood_handed_descriptor(1) };
        brood_queue *queue;
        ask(brood_queue_attach(&queue, d) == 0);
        ask(brood_queue_put(queue, byte, 1, BROOD_FOREVER) == 0);
        brood_queue_free(queue);
        return 5;
}

static void test_queue(void **state)
{
        (void)state;
        brood_queue *queue;
        int d[BROOD_QUEUE_DESCRIPTORS];
        assert_int_equal(brood_queue_new(&queue, NULL), 0);
        assert_int_equal(brood_queue_descriptors(queue, d), 0);
        FOR_EACH_METHOD(m)
        {
                unsigned char byte = (unsigned char)(17 + m), got = 0;
                brood_process *p = start_with(&(brood_process_options){
                    .target = put_seventeen,
                    .start_method = m,
                    .bytes = &byte,
                    .size = 1,
                    .hand_over = d,
                    .hand_over_count = BROOD_QUEUE_DESCRIPTORS,
                });
                assert_int_equal(brood_queue_get(queue, &got, 1, 60000), 1);
                assert_int_equal(got, byte);
                finish(p, 5);
        }
        brood_queue_free(queue);
}

/* A host that is out of descriptors: each number too few is an error, and nothing is lost.  They are close-on-exec, so that a
 * spawned process has room. */
static int host_without_descriptors(void *arg)
{
        brood_start_method m = *(brood_start_method *)arg;
        static int taken[1 << 16];
        int count = 0, refused = 0;
        struct rlimit limit = { 256, 256 };
        ask(setrlimit(RLIMIT_NOFILE, &limit) == 0);
        brood_process *p;
        const brood_process_options options = { .target = expect_nothing, .start_method = m };
        ask(brood_process_new(&p, &options) == 0);
        ask(brood_process_start(p) == 0); /* makes the registry, and the server */
        ask(brood_process_join(p, BROOD_FOREVER) == 0);
        brood_process_free(p);
        int before = support_count_descriptors();
        for (int fd; (fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0;)
                taken[count++] = fd;
        for (int room = 0; room < 16; room++) {
                ask(brood_process_new(&p, &options) == 0);
                int r = brood_process_start(p);
                ask(r == 0 || r == -EMFILE);
                refused += r < 0;
                if (r == 0)
                        ask(brood_process_join(p, BROOD_FOREVER) == 0);
                brood_process_free(p);
                close(taken[--count]);
        }
        while (count > 0)
                close(taken[--count]);
        ask(refused > 0 && refused < 16);
        ask(support_count_descriptors() == before);
        ask(brood_wait(NULL, 0) == -ECHILD);
        return 0;
}

static void test_no_descriptor_left(void **state)
{
        (void)state;
        FOR_EACH_METHOD(m) assert_int_equal(in_child(host_without_descriptors, &m), 0);
}

/* ---- the rest of what a child has ---- */

struct surroundings {
        char directory[256];
        char value[32];
        sigset_t mask, ignored;
};

static void look_around(struct surroundings *s)
{
        memset(s, 0, sizeof *s);
        if (getcwd(s->directory, sizeof s->directory) == NULL)
                strcpy(s->directory, "?");
        const char *value = getenv("BROOD_TEST_VALUE");
        snprintf(s->value, sizeof s->value, "%s", value == NULL ? "(none)" : value);
        sigprocmask(SIG_SETMASK, NULL, &s->mask);
        sigemptyset(&s->ignored);
        for (int i = 1; i < NSIG; i++) {
                struct sigaction action;
                if (sigaction(i, NULL, &action) == 0 && action.sa_handler == SIG_IGN)
                        sigaddset(&s->ignored, i);
        }
}

static int compare_surroundings(void *expected)
{
        struct surroundings mine;
        const struct surroundings *parents = expected;
        look_around(&mine);
        ask(strcmp(mine.directory, parents->directory) == 0);
        ask(strcmp(mine.value, parents->value) == 0);
        ask(getenv("BROOD_SPAWNED") == NULL);
        ask(strncmp(brood_process_name(brood_current_process()), "Process-", 8) == 0);
        for (int i = 1; i < NSIG; i++) {
                ask(sigismember(&mine.mask, i) == sigismember(&parents->mask, i));
                ask(sigismember(&mine.ignored, i) == sigismember(&parents->ignored, i));
        }
        return 5;
}

static void handle(int signal)
{
        (void)signal;
}

/* What changes in the host between two starts changes for the second child, whatever the server had. */
static void test_surroundings(void **state)
{
        (void)state;
        char before[256];
        sigset_t mask, blocked;
        assert_non_null(getcwd(before, sizeof before));
        sigemptyset(&blocked);
        sigaddset(&blocked, SIGUSR1);
        sigaddset(&blocked, SIGRTMIN + 2);
        for (int round = 0; round < 2; round++) {
                FOR_EACH_METHOD(m)
                {
                        struct surroundings s;
                        look_around(&s);
                        finish(begin(m, compare_surroundings, &s, sizeof s), 5);
                }
                if (round == 0) {
                        assert_int_equal(chdir("/proc"), 0);
                        setenv("BROOD_TEST_VALUE", "changed", 1);
                        sigprocmask(SIG_BLOCK, &blocked, &mask);
                        signal(SIGUSR2, SIG_IGN);
                        signal(SIGPIPE, SIG_IGN);
                        signal(SIGHUP, handle); /* which is nobody's in a spawned process */
                }
        }
        sigprocmask(SIG_SETMASK, &mask, NULL);
        signal(SIGUSR2, SIG_DFL);
        signal(SIGPIPE, SIG_DFL);
        signal(SIGHUP, SIG_DFL);
        unsetenv("BROOD_TEST_VALUE");
        assert_int_equal(chdir(before), 0);
}

static int return_method(void *unused)
{
        (void)unused;
        return (int)brood_get_start_method();
}

static void test_default_method(void **state)
{
        (void)state;
        assert_int_equal(brood_get_start_method(), BROOD_START_FORK);
        FOR_EACH_METHOD(m)
        {
                assert_int_equal(brood_set_start_method(m), 0);
                assert_int_equal(brood_get_start_method(), m);
                /* The default is the children's, too, however they were started. */
                for (int by = BROOD_START_DEFAULT; by <= BROOD_START_FORKSERVER; by++)
                        finish(begin((brood_start_method)by, return_method, NULL, 0), (int)m);
                /* An arg is for fork alone, by whatever way it was chosen. */
                brood_process *p = NULL;
                int number = 0,
                    r = brood_process_new(&p, &(brood_process_options){ .target = return_number, .arg = &number });
                assert_int_equal(r, m == BROOD_START_FORK ? 0 : -EINVAL);
                brood_process_free(p);
                /* brood_fork() forks. */
                pid_t pid = brood_fork(&p);
                if (pid == 0)
                        _exit(11);
                assert_true(pid > 0);
                assert_int_equal(brood_process_join(p, BROOD_FOREVER), 0);
                expect_exitcode(p, 11);
                brood_process_free(p);
        }
        assert_int_equal(brood_set_start_method((brood_start_method)4), -EINVAL);
        assert_int_equal(brood_set_start_method((brood_start_method)-1), -EINVAL);
        assert_int_equal(brood_get_start_method(), BROOD_START_FORKSERVER);
        assert_int_equal(brood_set_start_method(BROOD_START_DEFAULT), 0);
        assert_int_equal(brood_get_start_method(), BROOD_START_FORK);
}

struct nest {
        brood_start_method methods[3];
        int depth;
};

static int nest(void *arg)
{
        struct nest *n = arg;
        if (n->depth == 3)
                return 5;
        const brood_process_options options = {
                .target = nest, .start_method = n->methods[n->depth++], .bytes = n, .size = sizeof *n
        };
        brood_process *p;
        int code = 0;
        ask(brood_process_new(&p, &options) == 0);
        ask(brood_process_start(p) == 0);
        ask(brood_process_join(p, BROOD_FOREVER) == 0);
        int r = brood_process_exitcode(p, &code);
        ask(r == -ENODATA || (r == 0 && code == 5));
        brood_process_free(p);
        return 5;
}

static void test_nested_starts(void **state)
{
        (void)state;
        for (int i = 0; i < 27; i++) {
                struct nest n = { { (brood_start_method)(i % 3 + 1), (brood_start_method)(i / 3 % 3 + 1),
                                    (brood_start_method)(i / 9 + 1) },
                                  0 };
                assert_int_equal(nest(&n), 5);
        }
}

/* ---- the warning ---- */

static void *wait_for_byte(void *fd)
{
        char c;
        ssize_t n;
        while ((n = read(*(int *)fd, &c, 1)) < 0 && errno == EINTR)
                ;
        return n == 1 ? NULL : fd;
}

static void test_warnings(void **state)
{
        (void)state;
        int ends[2];
        assert_int_equal(brood_process_warnings(NULL), -EINVAL);
        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        for (int threads = host_has_company(); threads < 2; threads++) {
                pthread_t thread;
                if (threads)
                        assert_int_equal(pthread_create(&thread, NULL, wait_for_byte, &ends[0]), 0);
                FOR_EACH_METHOD(m)
                {
                        brood_process *p = begin(m, expect_nothing, NULL, 0);
                        int expected = threads && m == BROOD_START_FORK ? BROOD_WARNING_THREADS : 0;
#if !CHECK_TSAN /* it has a thread of its own */
                        assert_int_equal(brood_process_warnings(p), expected);
#else
                        (void)expected;
#endif
                        finish(p, 5);
                }
                brood_process *p = NULL;
                pid_t pid = brood_fork(&p);
                if (pid == 0)
                        _exit(0);
#if !CHECK_TSAN
                assert_int_equal(brood_process_warnings(p), threads ? BROOD_WARNING_THREADS : 0);
#endif
                brood_process_free(p);
                if (threads) {
                        assert_int_equal(write(ends[1], "x", 1), 1);
                        pthread_join(thread, NULL);
                }
        }
        close(ends[0]);
        close(ends[1]);
}

/* ---- the server ---- */

/* A target that tells its parent's pid, and then waits for a byte. */
struct line {
        int told, wait;
};

static int tell_and_wait(void *arg)
{
        const struct line *line = arg;
        pid_t parent = getppid();
        char c;
        ask(write(line->told, &parent, sizeof parent) == sizeof parent);
        ask(read(line->wait, &c, 1) == 1);
        return 5;
}

struct lines {
        int told[2], wait[2];
        struct line line;
};

static void lines_open(struct lines *l)
{
        assert_int_equal(pipe2(l->told, O_CLOEXEC), 0);
        assert_int_equal(pipe2(l->wait, O_CLOEXEC), 0);
        l->line = (struct line){ l->told[1], l->wait[0] };
        keep_descriptor(l->line.told);
        keep_descriptor(l->line.wait);
}

static void lines_close(struct lines *l)
{
        forget_descriptor(l->line.told);
        forget_descriptor(l->line.wait);
        for (int i = 0; i < 2; i++) {
                close(l->told[i]);
                close(l->wait[i]);
        }
}

static pid_t hear_pid(struct lines *l)
{
        pid_t pid = 0;
        ssize_t n;
        while ((n = read(l->told[0], &pid, sizeof pid)) < 0 && errno == EINTR)
                ;
        assert_int_equal(n, sizeof pid);
        return pid;
}

static brood_process *start_by_server(const struct lines *l, bool detached)
{
        const int keep[] = { l->line.told, l->line.wait };
        return start_with(&(brood_process_options){
            .target = tell_and_wait,
            .start_method = BROOD_START_FORKSERVER,
            .bytes = &l->line,
            .size = sizeof l->line,
            .detached = detached,
            .setup = { .keep = keep, .keep_count = 2 },
        });
}

static void let_go(struct lines *l)
{
        assert_int_equal(write(l->wait[1], "x", 1), 1);
}

struct server_seen {
        pid_t pid;
        int children;
};

/* Once it has closed what came with the request: the streams; the branch of its lifeline, its parent, the control, the poller; and
 * one for each child. */
static bool has_few_descriptors(void *given)
{
        const struct server_seen *server = given;
        int count = 0;
        for (int fd = 0; fd < 128; fd++) { /* the branch has a high number */
                char path[64];
                struct stat about;
                snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)server->pid, fd);
                count += lstat(path, &about) == 0;
        }
        return count == 7 + server->children;
}

static void test_server_is_small(void **state)
{
        (void)state;
        struct lines l;
        lines_open(&l);
        brood_process *p = start_by_server(&l, false);
        pid_t server = hear_pid(&l);
        assert_int_not_equal(server, getpid());
        assert_int_equal(support_parent_of(server), getpid());
        char path[64], text[4096] = "";
        int threads = 0;
        snprintf(path, sizeof path, "/proc/%d/status", (int)server);
        FILE *file = fopen(path, "r");
        assert_non_null(file);
        while (fgets(text, sizeof text, file))
                sscanf(text, "Threads: %d", &threads);
        fclose(file);
#if !CHECK_TSAN
        assert_int_equal(threads, 1);
#endif
        assert_true(support_until(has_few_descriptors, &(struct server_seen){ server, 1 }, 20000));
        /* The same server is asked again. */
        brood_process *q = start_by_server(&l, false);
        assert_int_equal(hear_pid(&l), server);
        assert_true(support_until(has_few_descriptors, &(struct server_seen){ server, 2 }, 20000));
        /* It is no child that anybody waits for. */
        assert_int_equal(brood_active_children(NULL, 0), 2);
        let_go(&l);
        let_go(&l);
        finish(p, 5);
        finish(q, 5);
        assert_int_equal(brood_wait(NULL, BROOD_FOREVER), -ECHILD);
        assert_true(support_until(has_few_descriptors, &(struct server_seen){ server, 0 }, 20000));
        lines_close(&l);
}

/* Nobody in the host knows of them any more: the server itself sees them end, and has nothing left of them. */
static void test_server_reaps_those_let_go(void **state)
{
        (void)state;
        enum { CHILDREN = 8 };
        struct lines l;
        pid_t pids[CHILDREN], server = 0;
        lines_open(&l);
        for (int i = 0; i < CHILDREN; i++) {
                brood_process *p = start_by_server(&l, true);
                server = hear_pid(&l);
                pids[i] = brood_process_pid(p);
                /* Some end at the very moment at which they are let go of. */
                if (i % 2 == 0)
                        let_go(&l);
                brood_process_free(p);
        }
        for (int i = 1; i < CHILDREN; i += 2)
                let_go(&l);
        for (int i = 0; i < CHILDREN; i++)
                assert_true(support_process_gone(pids[i], 20000));
        assert_true(support_until(has_few_descriptors, &(struct server_seen){ server, 0 }, 20000));
        lines_close(&l);
}

/* A server that was killed while nobody asked it: the next start makes a new one, and the old one is no zombie. */
static void test_idle_server_killed(void **state)
{
        (void)state;
        struct lines l;
        lines_open(&l);
        for (int i = 0; i < 5; i++) {
                brood_process *p = start_by_server(&l, false);
                pid_t server = hear_pid(&l);
                let_go(&l);
                finish(p, 5);
                assert_int_equal(kill(server, SIGKILL), 0);
                if (i % 2 == 0)
                        assert_true(support_process_gone(server, 20000));
                p = start_by_server(&l, false);
                pid_t next = hear_pid(&l);
                assert_int_not_equal(next, server);
                assert_int_equal(support_process_state(server), 0);
                let_go(&l);
                finish(p, 5);
        }
        lines_close(&l);
}

/* What becomes of the children of a server that is killed: they go on; join, exitcode and brood_wait tell their ends as far as the
 * kernel does. */
static void end_server(pid_t server, int way)
{
        if (way == 0)
                assert_int_equal(brood_forkserver_stop(), 0);
        else
                assert_int_equal(kill(server, SIGKILL), 0);
        assert_true(support_process_gone(server, 20000));
}

static void test_server_killed_with_children(void **state)
{
        (void)state;
        enum { CHILDREN = 4 };
        for (int way = 0; way < 4; way++) {
                struct lines l;
                brood_process *p[CHILDREN];
                pid_t server = 0;
                lines_open(&l);
                for (int i = 0; i < CHILDREN; i++) {
                        p[i] = start_by_server(&l, i == CHILDREN - 1);
                        server = hear_pid(&l);
                }
                end_server(server, way);
                for (int i = 0; i < CHILDREN; i++) {
                        assert_int_equal(brood_process_is_alive(p[i]), 1);
                        assert_int_equal(brood_process_join(p[i], way == 3 ? 20 : 0), way == 3 ? -ETIMEDOUT : -EAGAIN);
                }
                assert_int_equal(brood_wait(NULL, 0), -EAGAIN);
                assert_int_equal(brood_active_children(NULL, 0), CHILDREN - 1);
                /* Another server is there for others meanwhile. */
                brood_process *other = start_by_server(&l, false);
                assert_int_not_equal(hear_pid(&l), server);
                brood_process_free(other);

                for (int i = 0; i < CHILDREN - 1; i++)
                        let_go(&l);
                int ended = 0;
                for (int i = 0; i < 2 && way == 2; i++)
                        assert_true(brood_wait(NULL, 60000) > 0);
                for (int i = 0; i < CHILDREN; i++) {
                        int r = brood_process_join(p[i], 500);
                        ended += r == 0;
                        assert_true(r == 0 || r == -ETIMEDOUT);
                        int code = -1;
                        if (r == 0 && (r = brood_process_exitcode(p[i], &code)) != -ENODATA)
                                assert_true(r == -EAGAIN || (r == 0 && code == 5));
                }
                assert_int_equal(ended, CHILDREN - 1); /* three bytes for four */
                for (int i = 0; i < CHILDREN; i++)
                        brood_process_kill(p[i]);
                for (int i = 0; i < CHILDREN; i++) {
                        assert_int_equal(brood_process_join(p[i], 60000), 0);
                        brood_process_free(p[i]);
                }
                assert_int_equal(brood_wait(NULL, BROOD_FOREVER), -ECHILD);
                lines_close(&l);
        }
}

/* Where nobody reaps what was adopted, the host does not wait for that for ever. */
static int host_of_a_dead_server(void *arg)
{
        struct lines *l = arg;
        for (int i = 0; i < 2; i++) {
                brood_process *p = start_by_server(l, false);
                pid_t server = hear_pid(l);
                ask(kill(server, SIGKILL) == 0);
                ask(support_process_gone(server, 10000));
                let_go(l);
                int code = -1;
                if (i == 0)
                        ask(brood_process_join(p, 20000) == 0);
                else
                        ask(brood_wait(&code, 20000) == brood_process_pid(p));
                int r = brood_process_exitcode(p, &code);
                ask(r == -ENODATA || (r == 0 && code == 5));
                brood_process_free(p);
        }
        return 0;
}

static int adopter_that_does_not_reap(void *arg)
{
        ask(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0);
        signal(SIGCHLD, SIG_DFL);
        return in_child(host_of_a_dead_server, arg);
}

static void test_adopter_that_does_not_reap(void **state)
{
        (void)state;
        struct lines l;
        lines_open(&l);
        assert_int_equal(in_child(adopter_that_does_not_reap, &l), 0);
        lines_close(&l);
}

/* A host that is killed takes its server along, and the children that are not detached. */
struct family {
        struct lines lines;
        pid_t server, children[3]; /* the last one is detached */
};

static int host_with_server(void *arg)
{
        struct family *family = arg;
        for (int i = 0; i < 3; i++) {
                brood_process *p = start_by_server(&family->lines, i == 2);
                family->server = hear_pid(&family->lines);
                family->children[i] = brood_process_pid(p);
        }
        raise(SIGKILL);
        return 0;
}

static void test_host_killed(void **state)
{
        (void)state;
        struct family *f = mmap(NULL, sizeof *f, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        assert_true(f != MAP_FAILED);
        lines_open(&f->lines);
        assert_int_equal(in_child(host_with_server, f), HOST_DIED);
        int64_t since = support_now_ms();
        assert_true(support_process_gone(f->server, 10000));
        assert_true(support_process_gone(f->children[0], 10000));
        assert_true(support_process_gone(f->children[1], 10000));
        print_message("server and children gone %d ms after their host\n", (int)(support_now_ms() - since));
        assert_false(support_process_gone(f->children[2], 200));
        assert_int_equal(kill(f->children[2], SIGKILL), 0);
        assert_true(support_process_gone(f->children[2], 10000));
        lines_close(&f->lines);
        munmap(f, sizeof *f);
}

/* Killed at any moment, over and over, while children are started and joined: each call ends, with success or with -EPIPE, and
 * in the end all works. */
static void test_servers_killed_all_the_time(void **state)
{
        (void)state;
        int rounds = support_rounds(60), failures = 0, unknown = 0;
        struct lines l;
        lines_open(&l);
        for (int i = 0; i < rounds; i++) {
                brood_process *p = start_by_server(&l, false);
                pid_t server = hear_pid(&l);
                let_go(&l);
                long moment = (long)support_random(1500000);
                pid_t killer = fork();
                if (killer == 0) {
                        nanosleep(&(struct timespec){ 0, moment }, NULL);
                        kill(server, SIGKILL);
                        _exit(0);
                }
                finish(p, 5);
                for (int n = 0; n < 4; n++) {
                        const brood_process_options options = { .target = expect_nothing,
                                                                .start_method = BROOD_START_FORKSERVER };
                        int code = -1;
                        assert_int_equal(brood_process_new(&p, &options), 0);
                        int r = brood_process_start(p);
                        assert_true(r == 0 || r == -EPIPE);
                        failures += r < 0;
                        if (r == 0) {
                                assert_int_equal(brood_process_join(p, 60000), 0);
                                r = brood_process_exitcode(p, &code);
                                unknown += r < 0;
                                assert_true((r == 0 && code == 5) || r == -ENODATA || r == -EAGAIN);
                        }
                        brood_process_free(p);
                }
                end_plain_child(killer);
        }
        print_message("%d servers killed: %d starts failed, %d exit codes unknown\n", rounds, failures, unknown);
        assert_int_equal(brood_wait(NULL, 0), -ECHILD);
        finish(begin(BROOD_START_FORKSERVER, expect_nothing, NULL, 0), 5);
        lines_close(&l);
}

/* ---- the preload ---- */

static int preloaded;

static int preload(void)
{
        preloaded++;
        signal(SIGUSR2, SIG_IGN); /* which its children keep */
        return brood_current_process() == NULL ? 0 : -EBADE;
}

static int see_preload(void *unused)
{
        struct sigaction action;
        (void)unused;
        ask(sigaction(SIGUSR2, NULL, &action) == 0 && action.sa_handler == SIG_IGN);
        return preloaded++; /* each child has a copy */
}

static int preload_in_vain(void)
{
        return -ENOKEY;
}

static int preload_and_crash(void)
{
        _exit(3);
}

static void test_preload(void **state)
{
        (void)state;
        const brood_process_options options = { .target = see_preload, .start_method = BROOD_START_FORKSERVER };
        assert_int_equal(brood_set_forkserver_preload(preload), 0);
        for (int i = 0; i < 3; i++)
                finish(start_with(&options), 1);
        assert_int_equal(preloaded, 0); /* here it has not run */
        assert_int_equal(brood_set_forkserver_preload(NULL), -EALREADY);
        assert_int_equal(brood_forkserver_stop(), 0);

        assert_int_equal(brood_set_forkserver_preload(preload_in_vain), 0);
        expect_failure(&options, -ENOKEY, "preload");
        assert_int_equal(brood_set_forkserver_preload(preload_and_crash), 0);
        expect_failure(&options, -EPIPE, "");
        /* One that is in no module of the server's. */
        assert_int_equal(brood_set_forkserver_preload((int (*)(void))(uintptr_t)late_function("BROOD_TEST_LATE")), 0);
        expect_failure(&options, -ELIBACC, "preload");
        assert_int_equal(brood_set_forkserver_preload((int (*)(void))(uintptr_t)late_function("BROOD_TEST_NAMELESS")),
                         0);
        expect_failure(&options, -ENOEXEC, "preload");
        assert_int_equal(brood_set_forkserver_preload(NULL), 0);
        finish(begin(BROOD_START_FORKSERVER, expect_nothing, NULL, 0), 5);
        assert_int_equal(brood_forkserver_stop(), 0);
        assert_int_equal(brood_forkserver_stop(), 0);
}

/* ---- bad input ---- */

static void expect_refused(const brood_process_options *options, int error)
{
        brood_process *untouched = (void *)0x10, *p = untouched;
        assert_int_equal(brood_process_new(&p, options), error);
        assert_ptr_equal(p, untouched);
}

static void test_bad_input(void **state)
{
        (void)state;
        static const int streams[] = { 0, 1, 2, -1 };
        int fds[BROOD_PROCESS_DESCRIPTORS_MAX + 1], number = 0;
        char *argv[] = { NULL };
        for (size_t i = 0; i < ARRAY_LENGTH(fds); i++)
                fds[i] = 3;
        expect_refused(&(brood_process_options){ .target = wait_for_ever, .start_method = (brood_start_method)4 },
                       -EINVAL);
        expect_refused(&(brood_process_options){ .target = wait_for_ever, .start_method = (brood_start_method)-1 },
                       -EINVAL);
        FOR_EACH_METHOD(m)
        {
                if (m != BROOD_START_FORK)
                        expect_refused(
                            &(brood_process_options){ .target = return_number, .arg = &number, .start_method = m },
                            -EINVAL);
                brood_process_options options = { .target = wait_for_ever, .start_method = m, .size = 1 };
                expect_refused(&options, -EINVAL);
                options.bytes = &number;
                options.size = BROOD_PROCESS_BYTES_MAX + 1;
                expect_refused(&options, -EINVAL);
                options.size = SIZE_MAX;
                expect_refused(&options, -EINVAL);
                options.size = sizeof number;
                options.arg = &number;
                expect_refused(&options, -EINVAL);
                options.arg = NULL;
                options.target = NULL;
                options.process_class = &machine_class;
                expect_refused(&options, -EINVAL);
                options = (brood_process_options){ .target = wait_for_ever, .start_method = m, .hand_over_count = 1 };
                expect_refused(&options, -EINVAL);
                for (size_t i = 0; i < ARRAY_LENGTH(streams); i++) {
                        options.hand_over = &streams[i];
                        expect_refused(&options, -EINVAL);
                }
                options.hand_over = fds;
                options.hand_over_count = BROOD_PROCESS_DESCRIPTORS_MAX + 1;
                expect_refused(&options, -EINVAL);
                options.hand_over_count = SIZE_MAX;
                expect_refused(&options, -EINVAL);
                options.hand_over_count = BROOD_PROCESS_DESCRIPTORS_MAX;
                options.setup.keep = fds;
                options.setup.keep_count = 1;
                if (m == BROOD_START_FORKSERVER)
                        expect_refused(&options, -EINVAL);
        }
        /* A program has none of this. */
        const char *const true_argv[] = { "true", NULL };
        brood_process *p = NULL;
        assert_int_equal(
            brood_process_exec(&p, true_argv, &(brood_process_options){ .start_method = BROOD_START_FORK }, NULL),
            -EINVAL);
        assert_int_equal(brood_process_exec(&p, true_argv, &(brood_process_options){ .bytes = &number }, NULL),
                         -EINVAL);
        assert_int_equal(
            brood_process_exec(&p, true_argv, &(brood_process_options){ .hand_over = fds, .hand_over_count = 1 }, NULL),
            -EINVAL);
        assert_null(p);
        assert_int_equal(brood_main(-1, argv), -EINVAL);
        assert_int_equal(brood_main(1, NULL), -EINVAL);
}

/* The variable is there, but what it names is no letter: this program says so by its exit code (setting_main). */
static void test_variable_that_lies(void **state)
{
        (void)state;
        static const char *const lies[] = { "BROOD_SPAWNED=",
                                            "BROOD_SPAWNED=x",
                                            "BROOD_SPAWNED=0",
                                            "BROOD_SPAWNED=-1",
                                            "BROOD_SPAWNED=987",
                                            "BROOD_SPAWNED=7 ",
                                            "BROOD_SPAWNED=99999999999999999999" };
        const char *const argv[] = { "/proc/self/exe", NULL };
        for (size_t i = 0; i < ARRAY_LENGTH(lies); i++) {
                const char *const environment[] = { lies[i], NULL };
                brood_process *p;
                const brood_process_options options = {
                        .setup = { .environment = environment, .input = { .kind = BROOD_STREAM_NULL } },
                };
                assert_int_equal(brood_process_exec(&p, argv, &options, NULL), 0);
                finish(p, 1);
        }
        /* Memory, but not of brood's. */
        char variable[32];
        const int fd = memfd_create("lie", MFD_ALLOW_SEALING);
        assert_int_equal(ftruncate(fd, 8192), 0);
        for (int sealed = 0; sealed < 2; sealed++) {
                if (sealed)
                        assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
                snprintf(variable, sizeof variable, "BROOD_SPAWNED=%d", fd);
                const char *const environment[] = { variable, NULL };
                brood_process *p;
                const brood_process_options options = { .setup = { .environment = environment } };
                assert_int_equal(brood_process_exec(&p, argv, &options, NULL), 0);
                finish(p, 1);
        }
        close(fd);
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                process_test(test_bytes),
                process_test(test_no_bytes),
                process_test(test_functions),
                process_test(test_late_module),
                process_test(test_module_without_an_id),
                process_test(test_no_module),
                process_test(test_class),
                process_test(test_class_that_cannot_be_found),
                process_test(test_hand_over),
                process_test(test_kept_numbers),
                process_test(test_queue),
                process_test(test_no_descriptor_left),
                process_test(test_surroundings),
                process_test(test_default_method),
                process_test(test_nested_starts),
                process_test(test_warnings),
                process_test(test_server_is_small),
                process_test(test_server_reaps_those_let_go),
                process_test(test_idle_server_killed),
                process_test(test_server_killed_with_children),
                process_test(test_adopter_that_does_not_reap),
                process_test(test_host_killed),
                process_test(test_servers_killed_all_the_time),
                process_test(test_preload),
                process_test(test_bad_input),
                process_test(test_variable_that_lies),
        };
        return setting_main(argc, argv, "methods", tests, ARRAY_LENGTH(tests), 100);
}
