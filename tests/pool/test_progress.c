/* SPDX-License-Identifier: MIT
 *
 * tests/pool/test_progress.c: the line of a progress, read from the other side of a terminal.
 *
 * What draws is a child whose stderr is a pseudo-terminal, or a pipe; the test reads all that it has written.
 */
#include "tasks.h"

#include <brood/progress.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <termios.h>

enum { TEXT_SIZE = 1 << 20, COLUMNS = 100 };

struct scene {
        int (*draw)(void);
        int slave;
        char text[TEXT_SIZE];
        size_t size;
};

static int draw_in_scene(void *arg)
{
        struct scene *scene = arg;
        require(dup2(scene->slave, STDERR_FILENO) == STDERR_FILENO);
        close(scene->slave);
        int r = scene->draw();
        fflush(NULL);
        return r;
}

/* Run it, and read all of what it has written; its exit code. */
static int run(struct scene *scene, int master)
{
        pid_t pid = check_start(draw_in_scene, scene);
        close(scene->slave);
        scene->size = 0;
        for (ssize_t n; scene->size + 1 < TEXT_SIZE; scene->size += (size_t)n)
                if ((n = read(master, scene->text + scene->size, TEXT_SIZE - 1 - scene->size)) <= 0)
                        break;
        scene->text[scene->size] = '\0';
        close(master);
        return check_wait(pid);
}

static struct scene *scene_new(int (*draw)(void))
{
        struct scene *scene = calloc(1, sizeof *scene);
        assert_non_null(scene);
        scene->draw = draw;
        return scene;
}

static struct scene *on_a_terminal(int (*draw)(void))
{
        struct scene *scene = scene_new(draw);
        int master = posix_openpt(O_RDWR | O_NOCTTY);
        assert_true(master >= 0);
        assert_int_equal(grantpt(master), 0);
        assert_int_equal(unlockpt(master), 0);
        scene->slave = open(ptsname(master), O_RDWR | O_NOCTTY);
        assert_true(scene->slave >= 0);
        assert_int_equal(ioctl(master, TIOCSWINSZ, &(struct winsize){ .ws_col = COLUMNS, .ws_row = 25 }), 0);
        int r = run(scene, master);
        if (r != 0)
                fprintf(stderr, "%s\n", scene->text);
        assert_int_equal(r, 0);
        return scene;
}

static struct scene *on_a_pipe(int (*draw)(void))
{
        struct scene *scene = scene_new(draw);
        int ends[2];
        assert_int_equal(pipe(ends), 0);
        scene->slave = ends[1];
        assert_int_equal(run(scene, ends[0]), 0);
        return scene;
}

static bool says(const struct scene *scene, const char *what)
{
        if (strstr(scene->text, what))
                return true;
        fprintf(stderr, "no \"%s\" in \"%s\"\n", what, scene->text);
        return false;
}

/* How many lines were drawn; none is wider than the terminal, less the column that stays free. */
static int lines_of(const struct scene *scene, size_t columns)
{
        int count = 0;
        for (const char *c = scene->text; (c = strchr(c, '\r')) != NULL && c[1] != '\n'; count++) {
                c++;
                assert_true(strcspn(c, "\r\n") < columns);
        }
        return count;
}

/* ---- what is drawn ---- */

enum { TOTAL = 200, MS = 400, INTERVAL = 20 };

/* TOTAL items, evenly in about MS; every twentieth fails. */
static int draw_items_of(const brood_progress_options *options)
{
        brood_progress *p = NULL;
        require_int(brood_progress_new(&p, options), 0);
        uint64_t failed = 0;
        for (int i = 1; i <= TOTAL; i++) {
                usleep(MS * 1000 / TOTAL);
                brood_progress_update(p, (uint64_t)i, failed += i % 20 == 0);
        }
        brood_progress_free(p);
        return 0;
}

static int draw_items(void)
{
        return draw_items_of(&(brood_progress_options){ .label = "a\njob", .total = TOTAL, .interval_ms = INTERVAL });
}

static void test_a_terminal(void **state)
{
        (void)state;
        int64_t start = support_now_ms();
        struct scene *scene = on_a_terminal(draw_items);
        int64_t took = support_now_ms() - start;
        int lines = lines_of(scene, COLUMNS);
        assert_true(lines >= 2 && lines <= took / INTERVAL + 2);
        assert_true(says(scene, "\ra job "));
        assert_true(says(scene, "=>"));
        assert_true(says(scene, "/200  "));
        assert_true(says(scene, "/s  ETA 0:0"));
        assert_true(says(scene, "100% ["));
        assert_true(says(scene, "=] 200/200  "));
        assert_true(says(scene, "/s  in 0:0"));
        /* It fills the terminal, and ends with its line. */
        assert_true(says(scene, "10 failed\r\n"));
        const char *last = strstr(scene->text, "100% [");
        while (last[-1] != '\r')
                last--;
        assert_int_equal(strcspn(last, "\r\n"), COLUMNS - 1);
        assert_true(scene->text[scene->size - 1] == '\n');
        assert_ptr_equal(strchr(scene->text, '\n'), &scene->text[scene->size - 1]);
        free(scene);
}

static int draw_without_total(void)
{
        return draw_items_of(&(brood_progress_options){ .interval_ms = INTERVAL });
}

static void test_no_total(void **state)
{
        (void)state;
        struct scene *scene = on_a_terminal(draw_without_total);
        assert_true(lines_of(scene, COLUMNS) >= 2);
        assert_true(says(scene, "\r200  "));
        assert_null(strchr(scene->text, '%'));
        assert_null(strchr(scene->text, '['));
        assert_null(strstr(scene->text, "ETA"));
        free(scene);
}

static int draw_narrow(void)
{
        brood_progress *p = NULL;
        for (unsigned short columns = 1; columns < 60; columns++) {
                struct winsize size = { .ws_col = columns, .ws_row = 25 };
                require_int(ioctl(STDERR_FILENO, TIOCSWINSZ, &size), 0);
                require_int(brood_progress_new(&p, &(brood_progress_options){ .label = "narrow", .total = 1000 }), 0);
                brood_progress_update(p, 700, 30);
                brood_progress_free(p);
        }
        return 0;
}

/* It is cut off, and never wider; what does not fit goes, the bar first. */
static void test_narrow_terminals(void **state)
{
        (void)state;
        struct scene *scene = on_a_terminal(draw_narrow);
        const char *line = scene->text;
        for (size_t columns = 1; columns < 60; columns++) {
                size_t width = strcspn(line + 1, "\r\n");
                assert_true(line[0] == '\r' && width < columns);
                assert_true(columns < 12 || strncmp(line + 1, "narrow  70%", 11) == 0);
                line = strchr(line, '\n') + 1;
        }
        assert_true(*line == '\0');
        free(scene);
}

/* ---- what is not ---- */

static void test_no_terminal(void **state)
{
        (void)state;
        struct scene *scene = on_a_pipe(draw_items);
        assert_int_equal(scene->size, 0);
        free(scene);
}

static int draw_always(void)
{
        return draw_items_of(
            &(brood_progress_options){ .label = "log", .total = TOTAL, .interval_ms = INTERVAL, .always = true });
}

static void test_always(void **state)
{
        (void)state;
        struct scene *scene = on_a_pipe(draw_always);
        assert_null(strchr(scene->text, '\r'));
        assert_true(strncmp(scene->text, "log ", 4) == 0);
        assert_true(says(scene, "\nlog 100% [="));
        assert_true(scene->text[scene->size - 1] == '\n');
        free(scene);
}

static int draw_much(void)
{
        brood_progress *p = NULL;
        require_int(brood_progress_new(&p, &(brood_progress_options){ .total = 3000000 }), 0);
        for (uint64_t i = 1; i <= 3000000; i++)
                brood_progress_update(p, i, 0);
        brood_progress_free(p);
        return 0;
}

/* Three million updates are not three million lines. */
static void test_throttled(void **state)
{
        (void)state;
        int64_t start = support_now_ms();
        struct scene *scene = on_a_terminal(draw_much);
        assert_true(lines_of(scene, COLUMNS) <= (support_now_ms() - start) / BROOD_PROGRESS_INTERVAL_DEFAULT + 2);
        assert_true(says(scene, "3000000/3000000"));
        free(scene);
}

static int use_in_child(void *arg)
{
        usleep(2000);
        brood_progress_update(arg, 666, 0);
        brood_progress_clear(arg);
        brood_progress_free(arg);
        return 0;
}

static int draw_and_fork(void)
{
        brood_progress *p = NULL;
        require_int(brood_progress_new(&p, &(brood_progress_options){ .total = 1000, .interval_ms = 1 }), 0);
        usleep(2000);
        brood_progress_update(p, 500, 0);
        pid_t pid = fork();
        if (pid == 0)
                _exit(use_in_child(p));
        require_int(check_wait(pid), 0);
        brood_progress_free(p);
        return 0;
}

static void test_in_a_forked_child(void **state)
{
        (void)state;
        struct scene *scene = on_a_terminal(draw_and_fork);
        assert_null(strstr(scene->text, "666"));
        assert_int_equal(lines_of(scene, COLUMNS), 2);
        assert_true(says(scene, "500/1000"));
        free(scene);
}

static int draw_on_a_stopped_terminal(void)
{
        brood_progress *p = NULL;
        require_int(brood_progress_new(&p, &(brood_progress_options){ .total = 100, .interval_ms = 1 }), 0);
        require_int(tcflow(STDERR_FILENO, TCOOFF), 0);
        for (uint64_t i = 1; i <= 50; i++) {
                usleep(1500);
                brood_progress_update(p, i, 0);
        }
        require_int(tcflow(STDERR_FILENO, TCOON), 0);
        usleep(1500);
        brood_progress_update(p, 77, 0);
        brood_progress_clear(p);
        brood_progress_free(p);
        return 0;
}

static void test_a_stopped_terminal(void **state)
{
        (void)state;
        struct scene *scene = on_a_terminal(draw_on_a_stopped_terminal);
        assert_null(strstr(scene->text, " 50/100"));
        assert_true(says(scene, " 77/100"));
        /* Wiped: the line, as many spaces, and the last line. */
        const char *wiped = strstr(strstr(scene->text, " 77/100"), "\r ") + 1;
        assert_int_equal(strspn(wiped, " "), COLUMNS - 1);
        assert_true(wiped[COLUMNS - 1] == '\r' && wiped[COLUMNS] == '\r');
        free(scene);
}

/* ---- a pool ---- */

static ssize_t fail_task(const void *arg, size_t size, void *out, size_t room)
{
        (void)arg, (void)size, (void)out, (void)room;
        return -ERANGE;
}

static int follow_a_pool(void)
{
        brood_pool *pool = NULL;
        brood_progress *p = NULL;
        require_int(brood_pool_new(&pool, &(brood_pool_options){ .processes = 2 }), 0);
        require_int(brood_progress_new(&p, &(brood_progress_options){ .label = "tasks", .interval_ms = 1 }), 0);
        for (int i = 0; i < 40; i++)
                require_int(
                    brood_pool_apply_async(pool, NULL, i % 4 ? sleep_task : fail_task, &(int){ 1 }, sizeof(int)), 0);
        brood_pool_close(pool);
        int r;
        while ((r = brood_pool_join(pool, 2)) == -ETIMEDOUT)
                brood_progress_follow(p, pool);
        require_int(r, 0);
        brood_progress_follow(p, pool);
        brood_progress_follow(p, NULL);
        brood_pool_free(pool);
        brood_progress_free(p);
        return 0;
}

static void test_a_pool(void **state)
{
        (void)state;
        struct scene *scene = on_a_terminal(follow_a_pool);
        assert_true(says(scene, "40/40"));
        assert_true(says(scene, "10 failed\r\n"));
        free(scene);
}

/* ---- bad input ---- */

static void test_refused(void **state)
{
        (void)state;
        brood_progress *p = NULL;
        char bytes[sizeof(brood_progress_options) + 8] = { 0 };
        assert_int_equal(brood_progress_new(NULL, NULL), -EINVAL);
        assert_int_equal(brood_progress_new(&p, &(brood_progress_options){ .interval_ms = -1 }), -EINVAL);
        bytes[sizeof bytes - 1] = 1;
        assert_int_equal(brood_progress_new_sized(&p, (const void *)bytes, sizeof bytes), -E2BIG);
        assert_null(p);
        brood_progress_update(NULL, 1, 1);
        brood_progress_follow(NULL, NULL);
        brood_progress_set_total(NULL, 1);
        brood_progress_clear(NULL);
        brood_progress_free(NULL);
        /* All defaults, a label that is too long, and more done than there is. */
        char label[300];
        memset(label, 'x', sizeof label - 1);
        label[sizeof label - 1] = '\0';
        assert_int_equal(brood_progress_new(&p, NULL), 0);
        brood_progress_free(p);
        assert_int_equal(brood_progress_new(&p, &(brood_progress_options){ .label = label, .total = 1 }), 0);
        brood_progress_update(p, UINT64_MAX, UINT64_MAX);
        brood_progress_free(p);
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_a_terminal),
                support_test(test_no_total),
                support_test(test_narrow_terminals),
                support_test(test_no_terminal),
                support_test(test_always),
                support_test(test_throttled),
                support_test(test_in_a_forked_child),
                support_test(test_a_stopped_terminal),
                support_test(test_a_pool),
                support_test(test_refused),
        };
        return support_main(argc, argv, "progress", tests, array_length(tests), 60);
}
