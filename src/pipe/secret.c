/* SPDX-License-Identifier: MIT */
#include "pipe/secret.h"
#include "os/random.h"

#include <brood/listener.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#ifdef BROOD_WITH_NETTLE
#include <nettle/hmac.h>
#include <nettle/memops.h>
#include <nettle/nettle-meta.h>
#include <nettle/sha3.h>
#endif

void secret_free(struct secret *secret)
{
        if (secret == NULL)
                return;
        memory_wipe(secret->bytes, secret->size);
        free(secret);
}

const char *digest_name(enum digest digest)
{
        static const char *const names[] = { "md5", "sha256", "sha384", "sha3_256", "sha3_384" };

        return names[digest];
}

size_t digest_size(enum digest digest)
{
        static const size_t sizes[] = { 16, 32, 48, 32, DIGEST_SIZE_MOST };

        return sizes[digest];
}

#ifdef BROOD_WITH_NETTLE

int secret_new(struct secret **ret_secret, const void *key, size_t size)
{
        if (key == NULL && size == 0) {
                *ret_secret = NULL;
                return 0;
        }
        if (key == NULL || size == 0 || size > BROOD_KEY_LIMIT)
                return -EINVAL;
        struct secret *secret = malloc(sizeof *secret + size);
        if (secret == NULL)
                return -ENOMEM;
        secret->size = size;
        memcpy(secret->bytes, key, size);
        *ret_secret = secret;
        return 0;
}

void secret_sign(const struct secret *secret, enum digest digest, const void *bytes, size_t size,
                 unsigned char ret_digest[DIGEST_SIZE_MOST])
{
        const struct nettle_hash *const hashes[] = { &nettle_md5, &nettle_sha256, &nettle_sha384, &nettle_sha3_256,
                                                     &nettle_sha3_384 };
        const struct nettle_hash *hash = hashes[digest];
        union {
                struct md5_ctx md5;
                struct sha256_ctx sha256;
                struct sha512_ctx sha512;
                struct sha3_256_ctx sha3_256;
                struct sha3_384_ctx sha3_384;
        } outer, inner, state;

        hmac_set_key(&outer, &inner, &state, hash, secret->size, secret->bytes);
        hmac_update(&state, hash, size, bytes);
        hmac_digest(&outer, &inner, &state, hash, digest_size(digest), ret_digest);
        /* From these, an HMAC can be made as from the key itself. */
        memory_wipe(&outer, sizeof outer);
        memory_wipe(&inner, sizeof inner);
        memory_wipe(&state, sizeof state);
}

bool digest_equal(const unsigned char *a, const unsigned char *b, size_t size)
{
        return memeql_sec(a, b, size) != 0;
}

#else

/* No secret is ever made, so nothing is ever signed. */

int secret_new(struct secret **ret_secret, const void *key, size_t size)
{
        if (key == NULL && size == 0) {
                *ret_secret = NULL;
                return 0;
        }
        return key == NULL || size == 0 || size > BROOD_KEY_LIMIT ? -EINVAL : -EOPNOTSUPP;
}

void secret_sign(const struct secret *secret, enum digest digest, const void *bytes, size_t size,
                 unsigned char ret_digest[DIGEST_SIZE_MOST])
{
        (void)secret;
        (void)bytes;
        (void)size;
        memset(ret_digest, 0, digest_size(digest));
}

bool digest_equal(const unsigned char *a, const unsigned char *b, size_t size)
{
        (void)a;
        (void)b;
        (void)size;
        return false;
}

#endif
