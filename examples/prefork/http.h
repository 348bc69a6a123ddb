/* SPDX-License-Identifier: MIT
 *
 * http.h: as much of HTTP/1.1 (RFC 9112) as the example prefork speaks, and the files that it serves.  No sockets here: bytes in,
 * bytes out.
 *
 * Requests are GET and HEAD, without a body.  Everything else is answered by an error and the end of the connection.
 */
#ifndef HTTP_H
#define HTTP_H

#include <stdbool.h>
#include <stddef.h>

#define HTTP_REQUEST_MAX 8192 /* bytes of a request, to the empty line at its end */
#define HTTP_PATH_MAX 1024
#define HTTP_HEAD_MAX 512

/* ---- requests ---- */

struct http_request {
        bool head;                /* HEAD and not GET: the answer has no body */
        bool keep_alive;          /* the connection is for further requests */
        char path[HTTP_PATH_MAX]; /* decoded, without the query */
};

/* Parse the request at the head of `size` bytes.
 * Returns how many bytes it takes; 0 (it has not come as a whole); or a status with a minus (-400, ...) with which the client is to
 * be sent away: then only `head` is known. */
int http_parse(const char *bytes, size_t size, struct http_request *ret_request);

/* ---- answers ---- */

/* What goes before a body of `size` bytes.  Returns how many bytes it is. */
size_t http_head(char head[HTTP_HEAD_MAX], int status, const char *type, size_t size, bool keep_alive);

/* "Not Found" for 404. */
const char *http_reason(int status);

/* ---- the files ---- */

struct http_file {
        char *path;
        const char *type;
        char *data;
        size_t size;
};

/* Read all regular files below a directory into memory; NULL: one page of our own.  Whoever is forked afterwards has them, too, in
 * the same pages of memory.  Returns 0 or a negative errno. */
int http_load(const char *directory);

/* The file at a path; the directory's index.html for one that ends with a slash; NULL. */
const struct http_file *http_find(const char *path);

void http_unload(void);

#endif
