/* SPDX-License-Identifier: MIT */
#include "process/letter.h"
#include "os/child.h"
#include "os/descriptors.h"
#include "os/log.h"
#include "os/memfd.h"
#include "os/module.h"
#include "os/signals.h"
#include "process/main.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum part {
        PART_PAYLOAD, /* a target's bytes, or a class's state */
        PART_HANDED,  /* numbers */
        PART_KEEP,    /* numbers */
        PART_CPUS,
        PART_DIRECTORY,
        PART_CGROUP,
        PART_ENVIRONMENT, /* strings, one after the other */
        PARTS,
};

enum {
        LETTER_VERSION = 1,
        ALIGNMENT = 16,
        HEAD_AT = 64, /* behind the gate */

        FLAG_CLASS = 1,
        FLAG_SERVER = 2,
        FLAG_DETACHED = 4,
        FLAG_BYTES = 8,
        FLAG_ENVIRONMENT = 16,
        FLAG_DIRECTORY = 32,
        FLAG_CGROUP = 64,
        FLAG_SESSION = 128,
        FLAG_GROUP = 256,
        FLAG_CLOSE_OTHERS = 512,
        FLAG_SIGNALS_STAY = 1024,
        FLAGS = 2047,
};

static const char magic[8] = "broodlet";

/* The bits of two signal sets are the libc's; the letter goes from a program to the same program. */
struct head {
        char magic[8];
        uint32_t version;
        uint32_t head_size;
        uint64_t size; /* of the whole */
        uint32_t flags;
        uint32_t start_method;
        int32_t parent;
        int32_t branch;
        uint64_t memory_limit, cpu_seconds, file_limit, process_limit;
        int32_t nice;
        uint32_t log_level;
        struct module_place place; /* of the target, the class, or a server's preload; none: its id has no bytes */
        char name[BROOD_PROCESS_NAME_MAX + 1];
        sigset_t mask, ignored;
        struct span {
                uint64_t offset, size;
        } parts[PARTS];
};
static_assert(sizeof(struct gate) <= HEAD_AT, "the head lies behind the gate");
static_assert(offsetof(struct head, place) == 80 && sizeof(struct module_place) == 80, "no holes before the name");
static_assert(sizeof(struct head) % ALIGNMENT == 0, "the first part follows");
static_assert(HEAD_AT + sizeof(struct head) <= 4096, "gate and head are in one page");

/* ---- writing ---- */

/* What goes into each part, as it lies in the parent. */
struct source {
        const void *data;
        size_t size;
};

static struct source string_source(const char *string)
{
        return (struct source){ string, string == NULL ? 0 : strlen(string) + 1 };
}

static size_t environment_size(const char *const *environment)
{
        size_t size = 0;

        for (; environment != NULL && *environment != NULL; environment++)
                size += strlen(*environment) + 1;
        return size;
}

static void write_environment(char *at, size_t size, const char *const *environment)
{
        /* Another thread may be changing what it has not to: no more than was counted. */
        for (; *environment != NULL; environment++) {
                size_t length = strlen(*environment) + 1;
                if (length > size)
                        break;
                memcpy(at, *environment, length);
                at += length;
                size -= length;
        }
}

static int place_of(const brood_process *process, struct module_place *ret_place)
{
        const brood_process_class *class = process->options.process_class;

        if (process->is_server && process->preload == NULL) {
                *ret_place = (struct module_place){ 0 };
                return 0;
        }
        return module_place_of(process->is_server ? (uintptr_t)process->preload
                               : class != NULL    ? (uintptr_t) class
                                                  : (uintptr_t)process->options.target,
                               ret_place);
}

static uint32_t flags_of(const brood_process *process, const struct outfit *outfit)
{
        uint32_t flags = 0;

        flags |= process->options.process_class != NULL ? FLAG_CLASS : 0;
        flags |= process->options.bytes != NULL ? FLAG_BYTES : 0;
        flags |= process->is_server ? FLAG_SERVER : 0;
        flags |= process->options.detached ? FLAG_DETACHED : 0;
        flags |= process->signals_stay ? FLAG_SIGNALS_STAY : 0;
        if (outfit != NULL) {
                flags |= FLAG_ENVIRONMENT;
                flags |= outfit->directory != NULL ? FLAG_DIRECTORY : 0;
                flags |= outfit->cgroup != NULL ? FLAG_CGROUP : 0;
                flags |= outfit->new_session ? FLAG_SESSION : 0;
                flags |= outfit->new_group ? FLAG_GROUP : 0;
                flags |= outfit->close_others ? FLAG_CLOSE_OTHERS : 0;
        }
        return flags;
}

static size_t aligned(size_t size)
{
        return (size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
}

int letter_write(struct letter *ret_letter, const brood_process *process, int branch, const sigset_t *mask,
                 const struct fitting *fitting)
{
        const brood_process_options *options = &process->options;
        const struct outfit *outfit = fitting == NULL ? NULL : &fitting->outfit;
        const char *const *environment = options->setup.environment;
        struct head head = {
                .version = LETTER_VERSION,
                .head_size = sizeof head,
                .flags = flags_of(process, outfit),
                .start_method = start_method_of(BROOD_START_DEFAULT),
                .parent = child_pid(),
                .branch = branch,
                .log_level = log_level_passed_on(),
                .mask = *mask,
        };
        struct source sources[PARTS] = {
                [PART_HANDED] = { process->handed, options->hand_over_count * sizeof(int) },
        };

        int r = place_of(process, &head.place);
        if (r < 0)
                return r;
        memcpy(head.magic, magic, sizeof magic);
        memcpy(head.name, process->name, sizeof head.name);
        sources[PART_PAYLOAD] = options->process_class == NULL
                                    ? (struct source){ process->bytes, options->size }
                                    : (struct source){ process->self, options->process_class->size };
        if (outfit != NULL) {
                if (environment == NULL)
                        environment = child_environment();
                head.memory_limit = outfit->memory_limit;
                head.cpu_seconds = outfit->cpu_seconds;
                head.file_limit = outfit->file_limit;
                head.process_limit = outfit->process_limit;
                head.nice = outfit->nice;
                signals_ignored(&head.ignored);
                sources[PART_KEEP] = (struct source){ outfit->keep, outfit->keep_count * sizeof(int) };
                sources[PART_CPUS] = (struct source){ outfit->cpus, outfit->cpus_count * sizeof(int) };
                sources[PART_DIRECTORY] = string_source(outfit->directory);
                sources[PART_CGROUP] = string_source(outfit->cgroup);
                sources[PART_ENVIRONMENT].size = environment_size(environment);
        }
        size_t size = HEAD_AT + sizeof head;
        for (int i = 0; i < PARTS; i++) {
                head.parts[i] = (struct span){ size, sources[i].size };
                size += aligned(sources[i].size);
        }
        head.size = size;

        struct letter letter = { .size = size };
        letter.memfd = r = descriptor_above_streams(memfd_new("brood-letter", size, size));
        if (r < 0)
                return r;
        void *memory;
        r = memory_map(letter.memfd, size, &memory);
        if (r < 0) {
                descriptor_close(&letter.memfd);
                return r;
        }
        letter.gate = memory;
        char *start = memory;
        memcpy(start + HEAD_AT, &head, sizeof head);
        for (int i = 0; i < PARTS; i++)
                if (sources[i].data != NULL && sources[i].size > 0)
                        memcpy(start + head.parts[i].offset, sources[i].data, sources[i].size);
        if (outfit != NULL && environment != NULL)
                write_environment(start + head.parts[PART_ENVIRONMENT].offset, sources[PART_ENVIRONMENT].size,
                                  environment);
        *ret_letter = letter;
        return 0;
}

void letter_close(struct letter *letter)
{
        descriptor_close(&letter->memfd);
        memory_unmap(letter->gate, letter->size);
}

/* ---- reading ---- */

int letter_open(struct letter *ret_letter, int memfd)
{
        size_t size;
        void *memory;

        int r = memfd_check(memfd, &size);
        if (r < 0)
                return r == -EBADF ? r : -EUCLEAN;
        if (size < HEAD_AT + sizeof(struct head))
                return -EUCLEAN;
        r = memory_map(memfd, sizeof(struct gate), &memory); /* its page */
        if (r < 0)
                return r;
        if (memcmp((char *)memory + HEAD_AT, magic, sizeof magic) != 0) {
                memory_unmap(memory, sizeof(struct gate));
                return -EUCLEAN;
        }
        *ret_letter = (struct letter){ .memfd = memfd, .gate = memory, .size = size };
        return 0;
}

static bool is_string(const char *text, size_t size)
{
        return size > 0 && text[size - 1] == '\0';
}

/* The copy, with its head, is what is checked; nothing is read from the letter itself again. */
static bool is_in_order(const char *copy, const struct head *head, size_t size)
{
        if (head->size != size || (head->flags & ~(uint32_t)FLAGS) != 0 || head->place.id_size > MODULE_ID_MAX ||
            head->name[BROOD_PROCESS_NAME_MAX] != '\0' || head->start_method > BROOD_START_FORKSERVER ||
            !log_is_level(head->log_level) ||
            ((head->flags & FLAG_CLASS) && (head->flags & (FLAG_BYTES | FLAG_SERVER))))
                return false;
        for (int i = 0; i < PARTS; i++) {
                const struct span *part = &head->parts[i];
                if (part->offset % ALIGNMENT != 0 || part->offset > size || part->size > size - part->offset)
                        return false;
        }
        const struct span *parts = head->parts;
        return parts[PART_HANDED].size % sizeof(int) == 0 && parts[PART_KEEP].size % sizeof(int) == 0 &&
               parts[PART_CPUS].size % sizeof(int) == 0 &&
               (!(head->flags & FLAG_DIRECTORY) ||
                is_string(copy + parts[PART_DIRECTORY].offset, parts[PART_DIRECTORY].size)) &&
               (!(head->flags & FLAG_CGROUP) || is_string(copy + parts[PART_CGROUP].offset, parts[PART_CGROUP].size)) &&
               (parts[PART_ENVIRONMENT].size == 0 ||
                is_string(copy + parts[PART_ENVIRONMENT].offset, parts[PART_ENVIRONMENT].size));
}

/* An array of the strings that follow one another; NULL if memory is short. */
static const char *const *array_of(const char *text, size_t size)
{
        size_t count = 0;

        for (size_t i = 0; i < size; i++)
                count += text[i] == '\0';
        const char **strings = calloc(count + 1, sizeof *strings);
        for (size_t i = 0; i < count && strings != NULL; i++) {
                strings[i] = text;
                text += strlen(text) + 1;
        }
        return strings;
}

/* What it is to run: the function or the class is looked up, and what the parent said of it compared. */
static int find_what_to_run(brood_process *process, struct contents *contents, const struct head *head, void *payload)
{
        uintptr_t address = 0;

        if (head->place.id_size == 0 && contents->is_server)
                return 0;
        int r = module_find(&head->place, !(head->flags & FLAG_CLASS), &address);
        if (r < 0)
                return r;
        if (contents->is_server) {
                contents->preload = (int (*)(void))address;
                return 0;
        }
        if (!(head->flags & FLAG_CLASS)) {
                process->options.target = (int (*)(void *))address;
                process->options.bytes = process->bytes = head->flags & FLAG_BYTES ? payload : NULL;
                process->options.size = (size_t)head->parts[PART_PAYLOAD].size;
                return 0;
        }
        const brood_process_class *class = (const brood_process_class *)address;
        if (address % _Alignof(brood_process_class) != 0 || class->run == NULL ||
            class->size != head->parts[PART_PAYLOAD].size)
                return -ENOEXEC; /* it is no constant: the parent has changed it while it ran */
        process->options.process_class = class;
        process->self = class->size == 0 ? NULL : payload;
        return 0;
}

int letter_read(const struct letter *letter, struct contents *ret_contents, brood_process **ret_process)
{
        static const brood_process_options none;
        char *copy = aligned_alloc(ALIGNMENT, aligned(letter->size));
        brood_process *process = process_alloc(&none);
        struct contents contents = { 0 };
        struct head head;
        void *memory;
        int r = -ENOMEM;

        if (copy == NULL || process == NULL)
                goto fail;
        r = memory_map(letter->memfd, letter->size, &memory);
        if (r < 0)
                goto fail;
        memcpy(copy, memory, letter->size);
        memory_unmap(memory, letter->size);
        memcpy(&head, copy + HEAD_AT, sizeof head);
        r = -EPROTONOSUPPORT;
        if (head.version != LETTER_VERSION || head.head_size != sizeof head)
                goto fail;
        r = -EUCLEAN;
        if (!is_in_order(copy, &head, letter->size))
                goto fail;

        const struct span *parts = head.parts;
        contents = (struct contents){
                .is_server = head.flags & FLAG_SERVER,
                .start_method = head.start_method,
                .branch = head.branch,
                .log_level = head.log_level,
                .mask = head.mask,
                .ignored = head.ignored,
                .handed_count = parts[PART_HANDED].size / sizeof(int),
                .keep = (const int *)(copy + parts[PART_KEEP].offset),
                .keep_count = parts[PART_KEEP].size / sizeof(int),
                .outfit = {
                        .directory = head.flags & FLAG_DIRECTORY ? copy + parts[PART_DIRECTORY].offset : NULL,
                        .streams = { OUTFIT_INHERIT, OUTFIT_INHERIT, OUTFIT_INHERIT },
                        .cpus = parts[PART_CPUS].size == 0 ? NULL : (const int *)(copy + parts[PART_CPUS].offset),
                        .cpus_count = parts[PART_CPUS].size / sizeof(int),
                        .cgroup = head.flags & FLAG_CGROUP ? copy + parts[PART_CGROUP].offset : NULL,
                        .memory_limit = head.memory_limit,
                        .cpu_seconds = head.cpu_seconds,
                        .file_limit = head.file_limit,
                        .process_limit = head.process_limit,
                        .nice = head.nice,
                        .new_session = head.flags & FLAG_SESSION,
                        .new_group = head.flags & FLAG_GROUP,
                        .close_others = head.flags & FLAG_CLOSE_OTHERS,
                },
        };
        r = -ENOMEM;
        if (head.flags & FLAG_ENVIRONMENT) {
                contents.environment =
                    array_of(copy + parts[PART_ENVIRONMENT].offset, (size_t)parts[PART_ENVIRONMENT].size);
                if (contents.environment == NULL)
                        goto fail;
        }
        process->handed = (int *)(copy + parts[PART_HANDED].offset);
        process->options.hand_over_count = contents.handed_count;
        process->options.detached = head.flags & FLAG_DETACHED;
        process->signals_stay = head.flags & FLAG_SIGNALS_STAY;
        process->owner = head.parent;
        process->is_server = contents.is_server;
        memcpy(process->name, head.name, sizeof process->name);
        r = find_what_to_run(process, &contents, &head, copy + parts[PART_PAYLOAD].offset);
        if (r < 0)
                goto fail;
        *ret_contents = contents;
        *ret_process = process;
        return 0;
fail:
        free((void *)(uintptr_t)contents.environment);
        free(copy);
        free(process);
        return r;
}
