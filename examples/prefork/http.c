/* SPDX-License-Identifier: MIT
 *
 * http.c: requests, answers, and the files, of the example prefork.
 */
#include "http.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FILES_BYTES_MAX ((size_t)1 << 30) /* of all files together */

/* ---- requests ---- */

/* A part of the request. */
struct text {
        const char *at;
        size_t size;
};

static bool is(struct text text, const char *word)
{
        return text.size == strlen(word) && memcmp(text.at, word, text.size) == 0;
}

static bool is_caseless(struct text text, const char *word)
{
        return text.size == strlen(word) && strncasecmp(text.at, word, text.size) == 0;
}

/* Takes what comes before the separator off the head of a text, and the separator; all of it if there is none. */
static struct text take(struct text *from, char separator)
{
        const char *end = memchr(from->at, separator, from->size);
        struct text taken = { from->at, end == NULL ? from->size : (size_t)(end - from->at) };
        size_t skip = taken.size + (end != NULL);
        from->at += skip;
        from->size -= skip;
        return taken;
}

/* Takes a line, without the "\r\n" that ends it.  (All lines end so here: see http_parse().) */
static struct text take_line(struct text *from)
{
        struct text line = take(from, '\n');
        if (line.size > 0)
                line.size--;
        return line;
}

static struct text trimmed(struct text text)
{
        while (text.size > 0 && (*text.at == ' ' || *text.at == '\t')) {
                text.at++;
                text.size--;
        }
        while (text.size > 0 && (text.at[text.size - 1] == ' ' || text.at[text.size - 1] == '\t'))
                text.size--;
        return text;
}

static bool is_token(struct text text)
{
        for (size_t i = 0; i < text.size; i++) {
                char c = text.at[i];
                bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
                if (c == 0 || (!letter && strchr("!#$%&'*+-.^_`|~", c) == NULL))
                        return false;
        }
        return text.size > 0;
}

/* Neither control characters, nor line ends that are none. */
static bool is_plain(struct text text)
{
        for (size_t i = 0; i < text.size; i++)
                if ((unsigned char)text.at[i] < ' ' && text.at[i] != '\t')
                        return false;
        return true;
}

static int hex_digit(char c)
{
        return c >= '0' && c <= '9'   ? c - '0'
               : c >= 'a' && c <= 'f' ? c - 'a' + 10
               : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                      : -1;
}

/* The path of a target, decoded. */
static int parse_target(struct text target, char path[HTTP_PATH_MAX])
{
        if (target.size > 7 && strncasecmp(target.at, "http://", 7) == 0) { /* as a proxy asks for it */
                const char *slash = memchr(target.at + 7, '/', target.size - 7);
                if (slash == NULL)
                        return -400;
                target.size -= (size_t)(slash - target.at);
                target.at = slash;
        }
        struct text rest = take(&target, '?');
        if (rest.size == 0 || rest.at[0] != '/')
                return -400;

        size_t length = 0;
        for (size_t i = 0; i < rest.size; i++) {
                int c = (unsigned char)rest.at[i];
                if (c == '%') {
                        if (i + 2 >= rest.size || hex_digit(rest.at[i + 1]) < 0 || hex_digit(rest.at[i + 2]) < 0)
                                return -400;
                        c = 16 * hex_digit(rest.at[i + 1]) + hex_digit(rest.at[i + 2]);
                        i += 2;
                }
                if (c < ' ' || c == 127)
                        return -400;
                if (length + 1 >= HTTP_PATH_MAX)
                        return -414;
                path[length++] = (char)c;
        }
        path[length] = 0;
        return 0;
}

/* GET /path HTTP/1.1 */
static int parse_request_line(struct text line, struct http_request *request, bool *ret_has_host)
{
        if (!is_plain(line))
                return -400;
        struct text method = take(&line, ' '), target = take(&line, ' '), version = line;
        request->head = is(method, "HEAD");
        if (!is_token(method) || target.size == 0)
                return -400;
        if (is(version, "HTTP/1.1"))
                request->keep_alive = true;
        else if (is(version, "HTTP/1.0"))
                *ret_has_host = true; /* it needs none */
        else
                return version.size == 8 && memcmp(version.at, "HTTP/", 5) == 0 ? -505 : -400;
        if (!request->head && !is(method, "GET"))
                return -405;
        return parse_target(target, request->path);
}

static void parse_connection(struct text value, struct http_request *request)
{
        while (value.size > 0) {
                struct text option = trimmed(take(&value, ','));
                if (is_caseless(option, "close"))
                        request->keep_alive = false;
                else if (is_caseless(option, "keep-alive"))
                        request->keep_alive = true;
        }
}

static int parse_field(struct text line, struct http_request *request, int *n_hosts)
{
        const char *colon = memchr(line.at, ':', line.size);
        struct text name = take(&line, ':'), value = trimmed(line);
        if (colon == NULL || !is_token(name) || !is_plain(value))
                return -400;
        if (is_caseless(name, "Host"))
                (*n_hosts)++;
        else if (is_caseless(name, "Connection"))
                parse_connection(value, request);
        else if (is_caseless(name, "Transfer-Encoding") || (is_caseless(name, "Content-Length") && !is(value, "0")))
                return -413; /* a body, which nothing here wants */
        return 0;
}

int http_parse(const char *bytes, size_t size, struct http_request *ret_request)
{
        struct text rest = { bytes, size };
        while (rest.size >= 2 && memcmp(rest.at, "\r\n", 2) == 0) { /* empty lines before a request are no fault */
                rest.at += 2;
                rest.size -= 2;
        }
        const char *end = memmem(rest.at, rest.size, "\r\n\r\n", 4);
        if (end == NULL) {
                *ret_request = (struct http_request){ 0 };
                if (size < HTTP_REQUEST_MAX)
                        return 0;
                return memmem(rest.at, rest.size, "\r\n", 2) == NULL ? -414 : -431;
        }
        rest.size = (size_t)(end + 2 - rest.at);

        bool needs_no_host = false;
        int n_hosts = 0;
        *ret_request = (struct http_request){ 0 };
        int r = parse_request_line(take_line(&rest), ret_request, &needs_no_host);
        while (r == 0 && rest.size > 0)
                r = parse_field(take_line(&rest), ret_request, &n_hosts);
        if (r == 0 && n_hosts != 1 && !(needs_no_host && n_hosts == 0))
                r = -400;
        return r < 0 ? r : (int)(end + 4 - bytes);
}

/* ---- answers ---- */

const char *http_reason(int status)
{
        switch (status) {
        case 200:
                return "OK";
        case 400:
                return "Bad Request";
        case 404:
                return "Not Found";
        case 405:
                return "Method Not Allowed";
        case 408:
                return "Request Timeout";
        case 413:
                return "Content Too Large";
        case 414:
                return "URI Too Long";
        case 431:
                return "Request Header Fields Too Large";
        case 505:
                return "HTTP Version Not Supported";
        default:
                return "Unknown";
        }
}

/* "Wed, 25 Nov 2026 13:00:00 GMT", made anew once a second. */
static const char *date(void)
{
        static char text[32];
        static time_t made;
        time_t now = time(NULL);
        if (now != made) {
                struct tm tm;
                strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &tm));
                made = now;
        }
        return text;
}

size_t http_head(char head[HTTP_HEAD_MAX], int status, const char *type, size_t size, bool keep_alive)
{
        int n = snprintf(head, HTTP_HEAD_MAX,
                         "HTTP/1.1 %d %s\r\nDate: %s\r\nServer: prefork\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
                         "%sConnection: %s\r\n\r\n",
                         status, http_reason(status), date(), type, size, status == 405 ? "Allow: GET, HEAD\r\n" : "",
                         keep_alive ? "keep-alive" : "close");
        return (size_t)n;
}

/* ---- the files ---- */

static struct http_file *files;
static size_t n_files, files_room, files_bytes;
static size_t root_size; /* of the directory's own path, which is not part of the files' */

static const char *type_of(const char *path)
{
        static const char *const types[][2] = {
                { ".html", "text/html; charset=utf-8" },
                { ".css", "text/css" },
                { ".js", "text/javascript" },
                { ".txt", "text/plain; charset=utf-8" },
                { ".json", "application/json" },
                { ".png", "image/png" },
                { ".svg", "image/svg+xml" },
                { ".jpg", "image/jpeg" },
        };
        const char *dot = strrchr(path, '.');
        for (size_t i = 0; dot != NULL && i < sizeof types / sizeof types[0]; i++)
                if (strcasecmp(dot, types[i][0]) == 0)
                        return types[i][1];
        return "application/octet-stream";
}

/* Takes `data` over, on success. */
static int add_file(const char *path, char *data, size_t size)
{
        if (n_files == files_room) {
                size_t room = files_room > 0 ? 2 * files_room : 64;
                struct http_file *more = realloc(files, room * sizeof *more);
                if (more == NULL)
                        return -ENOMEM;
                files = more;
                files_room = room;
        }
        char *copy = strdup(path);
        if (copy == NULL)
                return -ENOMEM;
        files[n_files++] = (struct http_file){ copy, type_of(copy), data, size };
        files_bytes += size;
        return 0;
}

static int read_all(int fd, char *data, size_t size)
{
        for (size_t done = 0; done < size;) {
                ssize_t n = read(fd, data + done, size - done);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 ? -errno : -EIO; /* it has become shorter */
                done += (size_t)n;
        }
        return 0;
}

static int load_file(const char *path, size_t size)
{
        if (size > FILES_BYTES_MAX - files_bytes)
                return -EFBIG;
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        if (fd < 0)
                return -errno;
        char *data = malloc(size + 1);
        int r = data == NULL ? -ENOMEM : read_all(fd, data, size);
        close(fd);
        if (r == 0)
                r = add_file(path + root_size, data, size);
        if (r < 0)
                free(data);
        return r;
}

/* For nftw(3); what is not 0 ends the walk. */
static int visit(const char *path, const struct stat *status, int kind, struct FTW *where)
{
        (void)where;
        if (kind != FTW_F || !S_ISREG(status->st_mode))
                return 0;
        int r = load_file(path, (size_t)status->st_size);
        if (r < 0)
                fprintf(stderr, "prefork: %s: %s\n", path, strerror(-r));
        return -r;
}

static int compare_files(const void *a, const void *b)
{
        return strcmp(((const struct http_file *)a)->path, ((const struct http_file *)b)->path);
}

static int load_page(void)
{
        static const char page[] =
            "<!DOCTYPE html>\n<title>prefork</title>\n<p>It works. <a href=\"/stats\">Figures</a>\n";
        char *data = strdup(page);
        int r = data == NULL ? -ENOMEM : add_file("/index.html", data, sizeof page - 1);
        if (r < 0)
                free(data);
        return r;
}

int http_load(const char *directory)
{
        if (directory == NULL)
                return load_page();
        root_size = strlen(directory);
        while (root_size > 0 && directory[root_size - 1] == '/')
                root_size--;
        errno = 0;
        int r = nftw(directory, visit, 32, FTW_PHYS);
        if (r < 0)
                return errno != 0 ? -errno : -EIO;
        if (n_files > 0)
                qsort(files, n_files, sizeof *files, compare_files);
        return -r;
}

const struct http_file *http_find(const char *path)
{
        char index[HTTP_PATH_MAX + sizeof "index.html"];
        size_t length = strlen(path);
        if (path[length - 1] == '/') {
                snprintf(index, sizeof index, "%sindex.html", path);
                path = index;
        }
        struct http_file key = { .path = (char *)path };
        return n_files == 0 ? NULL : bsearch(&key, files, n_files, sizeof *files, compare_files);
}

void http_unload(void)
{
        for (size_t i = 0; i < n_files; i++) {
                free(files[i].path);
                free(files[i].data);
        }
        free(files);
        files = NULL;
        n_files = files_room = files_bytes = 0;
}
