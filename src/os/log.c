/* SPDX-License-Identifier: MIT */
#include "os/log.h"
#include "os/atfork.h"
#include "os/errno.h"
#include "os/syscall.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static_assert(BROOD_LOG_LINE_MAX <= PIPE_BUF, "a line is written to a pipe as a whole");

atomic_u32 log_level_now = BROOD_LOG_OFF;

static _Atomic(const char *) process_name = "MainProcess";

/* Where messages go.  Changed with the process-wide lock held, and so never half changed in a forked child; read without it, as
 * often as it takes to read both of the same version. */
static struct {
        atomic_u32 version;                   /* odd: it is being changed */
        _Atomic(brood_log_function) function; /* NULL: stderr */
        _Atomic(void *) arg;
} sink;

static _Thread_local bool in_callback;

bool log_is_level(uint32_t level)
{
        return level == BROOD_LOG_DEBUG || level == BROOD_LOG_INFO || level == BROOD_LOG_WARNING ||
               level == BROOD_LOG_ERROR || level == BROOD_LOG_OFF;
}

static const char *name_of(brood_log_level level)
{
        return level >= BROOD_LOG_ERROR     ? "ERROR"
               : level >= BROOD_LOG_WARNING ? "WARNING"
               : level >= BROOD_LOG_INFO    ? "INFO"
                                            : "DEBUG";
}

static int set_sink(brood_log_function function, void *arg, brood_log_level level)
{
        if (!log_is_level((uint32_t)level))
                return -EINVAL;
        int r = process_lock();
        if (r < 0)
                return r;
        uint32_t version = load_relaxed(&sink.version);
        store_relaxed(&sink.version, version + 1);
        fence_full(); /* R1: pairs with A1 in read_sink */
        store_relaxed(&sink.function, function);
        store_relaxed(&sink.arg, arg);
        store_release(&sink.version, version + 2); /* R2: pairs with A2 in read_sink */
        store_relaxed(&log_level_now, (uint32_t)level);
        process_unlock();
        return 0;
}

static brood_log_function read_sink(void **ret_arg)
{
        for (;;) {
                uint32_t version = load_acquire(&sink.version); /* A2 */
                brood_log_function function = load_relaxed(&sink.function);
                *ret_arg = load_relaxed(&sink.arg);
                fence_full(); /* A1 */
                if (version % 2 == 0 && load_relaxed(&sink.version) == version)
                        return function;
                cpu_relax();
        }
}

int brood_log_to_stderr(brood_log_level level)
{
        return set_sink(NULL, NULL, level);
}

int brood_log_to(brood_log_function function, void *arg, brood_log_level level)
{
        return function == NULL ? -EINVAL : set_sink(function, arg, level);
}

brood_log_level brood_log_get_level(void)
{
        return (brood_log_level)load_relaxed(&log_level_now);
}

/* All of it by one write, mostly.  Who cannot be written to is not told. */
static void write_line(const char *line, size_t length)
{
        while (length > 0) {
                ssize_t n = write(STDERR_FILENO, line, length);
                if (n == 0 || (n < 0 && errno != EINTR))
                        return;
                if (n > 0) {
                        line += n;
                        length -= (size_t)n;
                }
        }
}

/* What vsnprintf(3) has written, of what it wanted to, with a mark where it is not all: its length. */
static size_t cut(char *text, size_t room, int wanted)
{
        static const char mark[] = "...";

        if (wanted < 0)
                wanted = 0;
        if ((size_t)wanted < room)
                return (size_t)wanted;
        memcpy(text + room - sizeof mark, mark, sizeof mark);
        return room - 1;
}

static void call_back(brood_log_function function, void *arg, brood_log_level level, const char *message)
{
        const brood_log_record record = {
                .level = level,
                .pid = getpid(),
                .process = load_relaxed(&process_name),
                .message = message,
        };

        in_callback = true;
        function(&record, arg);
        in_callback = false;
}

void brood_log(brood_log_level level, const char *format, ...)
{
        if (!log_wants(level) || format == NULL || level == BROOD_LOG_OFF || !log_is_level((uint32_t)level) ||
            in_callback)
                return;
        KEEP_ERRNO;
        char line[BROOD_LOG_LINE_MAX];
        size_t length = 0;
        void *arg;
        va_list arguments;

        brood_log_function function = read_sink(&arg);
        if (function == NULL)
                length = (size_t)snprintf(line, sizeof line, "[%s/%s/%d] ", name_of(level), load_relaxed(&process_name),
                                          (int)getpid());
        errno = kept_errno; /* for %m */
        va_start(arguments, format);
        int wanted = vsnprintf(line + length, sizeof line - length, format, arguments);
        va_end(arguments);
        length += cut(line + length, sizeof line - length, wanted);
        if (function != NULL) {
                line[length] = '\0';
                call_back(function, arg, level, line);
        } else {
                line[length] = '\n'; /* in the place of the string's end */
                write_line(line, length + 1);
        }
}

CHILD_CODE void log_enter_process(const char *name)
{
        store_relaxed(&process_name, name);
        if (log_wants(BROOD_LOG_ERROR) && in_callback) {
                /* Else a callback that starts a process would be called in it, and start another. */
                in_callback = false;
                log_leave_callback();
        }
}

void log_leave_callback(void)
{
        if (load_relaxed(&sink.function) != NULL)
                (void)brood_log_to_stderr(BROOD_LOG_OFF);
}

uint32_t log_level_passed_on(void)
{
        return load_relaxed(&sink.function) == NULL ? load_relaxed(&log_level_now) : BROOD_LOG_OFF;
}

void log_take_over(uint32_t level)
{
        (void)brood_log_to_stderr((brood_log_level)level);
}
