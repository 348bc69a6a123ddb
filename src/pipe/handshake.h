/* SPDX-License-Identifier: MIT
 *
 * pipe/handshake.h: how two ends prove to each other that they know the key: the protocol of multiprocessing.connection.
 *
 *     listener                                          client
 *     #CHALLENGE# question   ->
 *                            <-                         answer
 *     #WELCOME#              ->
 *                            <-                         #CHALLENGE# question
 *     answer                 ->
 *                            <-                         #WELCOME#
 *
 * Each is a message (pipe/frame.h) of at most 256 bytes.  The answer is the HMAC of the whole question under the key.  Two
 * dialects:
 *
 *     since 3.12     the question is "{sha256}" and 40 random bytes, the answer "{sha256}" and the digest.  The name in the
 *                    question is a wish; the answer names what it is.
 *     before         the question is 20 random bytes, the answer the 16 bytes of HMAC-MD5.  Of our question such a peer sees bytes
 *                    to be signed as a whole, name and all.
 *
 * What is checked.  A question is new: 40 bytes from the kernel.  The listener answers nothing before its own question has been
 * answered, so that who does not know the key cannot have it sign anything.  The client must answer first; it signs only what
 * is a question: 20 bytes, or a digest's name and at least as many bytes in all.  Whoever answers wrongly is told #FAILURE#, and no
 * more is read from him.
 *
 * The calculation knows nothing of sockets: handshake_wants() tells how many bytes to put at handshake_room(), handshake_took()
 * goes on with them, and `out` is what is to be sent.  handshake_drive() does all of that with a stream.
 */
#ifndef BROOD_PIPE_HANDSHAKE_H
#define BROOD_PIPE_HANDSHAKE_H

#include "os/stream.h"
#include "pipe/frame.h"
#include "pipe/secret.h"

enum {
        HANDSHAKE_MOST = 256, /* bytes of a message */
        HANDSHAKE_QUESTION = 48,
        HANDSHAKE_OUT = 128, /* a head and a digest's name and a digest; a head, the mark and a question */
};

enum handshake_step {
        HANDSHAKE_ANSWER,    /* the other end's answer is what comes next */
        HANDSHAKE_CHALLENGE, /* its question */
        HANDSHAKE_VERDICT,   /* what it thinks of our answer */
        HANDSHAKE_DONE,
};

struct handshake {
        const struct secret *secret;
        enum handshake_step step;
        bool listener, refuse_md5;
        unsigned char question[HANDSHAKE_QUESTION]; /* ours */
        unsigned char in[FRAME_SHORT + HANDSHAKE_MOST];
        unsigned char out[HANDSHAKE_OUT];
        size_t have, out_size;
};

/* 0, or why there is nothing random to be had. */
int handshake_begin(struct handshake *handshake, const struct secret *secret, bool listener, bool refuse_md5);

static inline unsigned char *handshake_room(struct handshake *handshake)
{
        return handshake->in + handshake->have;
}

/* How many bytes come next, not one more: at least 1, unless all is done. */
size_t handshake_wants(const struct handshake *handshake);

/* So many have come: 0 (so far, so good); -EPROTO (that is no part of the protocol, or is refused); -EKEYREJECTED. */
int handshake_took(struct handshake *handshake, size_t count);

/* Go on: 0 (it is done); -EAGAIN, -ETIMEDOUT (later); -ECONNRESET (the other end has left); -ENOMEM; or as handshake_took(). */
int handshake_drive(struct handshake *handshake, const struct stream *stream, int64_t deadline);

#endif
