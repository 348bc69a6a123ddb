/* SPDX-License-Identifier: MIT
 *
 * pipe/secret.h: a key, and what is proven with it: HMAC, which a library that is well kept calculates (nettle).  Built without
 * one, there are no keys.
 */
#ifndef BROOD_PIPE_SECRET_H
#define BROOD_PIPE_SECRET_H

#include <stdbool.h>
#include <stddef.h>

struct secret {
        size_t size;
        unsigned char bytes[];
};

/* What multiprocessing.connection knows. */
enum digest {
        DIGEST_MD5,
        DIGEST_SHA256,
        DIGEST_SHA384,
        DIGEST_SHA3_256,
        DIGEST_SHA3_384,
        DIGEST_COUNT,
};

#define DIGEST_SIZE_MOST 48

/* A copy of a key, or NULL for none: 0; -EINVAL (it is NULL but has a size, or has no size, or too many bytes); -EOPNOTSUPP;
 * -ENOMEM. */
int secret_new(struct secret **ret_secret, const void *key, size_t size);

/* Wipe it and free it; NULL is fine. */
void secret_free(struct secret *secret);

/* As it is called on the wire. */
const char *digest_name(enum digest digest);
size_t digest_size(enum digest digest);

/* The HMAC of some bytes: digest_size() bytes to `ret_digest`. */
void secret_sign(const struct secret *secret, enum digest digest, const void *bytes, size_t size,
                 unsigned char ret_digest[DIGEST_SIZE_MOST]);

/* Compare in a time that does not depend on where they differ. */
bool digest_equal(const unsigned char *a, const unsigned char *b, size_t size);

#endif
