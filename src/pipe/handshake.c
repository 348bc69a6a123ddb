/* SPDX-License-Identifier: MIT */
#include "pipe/handshake.h"
#include "os/random.h"

#include <assert.h>
#include <string.h>

enum { QUESTION_OLD = 20 };

static const char challenge_mark[] = "#CHALLENGE#";
static const char welcome_mark[] = "#WELCOME#";
static const char failure_mark[] = "#FAILURE#";
static const char question_mark[] = "{sha256}";

#define MARK_SIZE(mark) (sizeof(mark) - 1)

static_assert(FRAME_SHORT + MARK_SIZE(challenge_mark) + HANDSHAKE_QUESTION <= HANDSHAKE_OUT, "a question");
static_assert(2 * FRAME_SHORT + 2 * MARK_SIZE(welcome_mark) + HANDSHAKE_QUESTION < HANDSHAKE_OUT, "two messages");
static_assert(FRAME_SHORT + MARK_SIZE("{sha3_384}") + DIGEST_SIZE_MOST <= HANDSHAKE_OUT, "an answer");

/* ---- what is sent ---- */

/* A message of two parts. */
static void say(struct handshake *handshake, const void *a, size_t a_size, const void *b, size_t b_size)
{
        unsigned char *at = handshake->out + handshake->out_size;

        frame_put(at, a_size + b_size, FRAME_SHORT);
        at += FRAME_SHORT;
        memcpy(at, a, a_size);
        at += a_size;
        if (b_size > 0)
                memcpy(at, b, b_size);
        handshake->out_size += FRAME_SHORT + a_size + b_size;
}

static void ask(struct handshake *handshake)
{
        say(handshake, challenge_mark, MARK_SIZE(challenge_mark), handshake->question, sizeof handshake->question);
        handshake->step = HANDSHAKE_ANSWER;
}

/* ---- what comes ---- */

/* The digest that a message names, and where the name ends; false if it names none that we know. */
static bool digest_named(const unsigned char *message, size_t size, enum digest *ret_digest, size_t *ret_end)
{
        for (int digest = 0; digest < DIGEST_COUNT; digest++) {
                const char *name = digest_name((enum digest)digest);
                size_t length = strlen(name);

                if (size >= length + 2 && message[0] == '{' && memcmp(message + 1, name, length) == 0 &&
                    message[1 + length] == '}') {
                        *ret_digest = (enum digest)digest;
                        *ret_end = length + 2;
                        return true;
                }
        }
        return false;
}

static int take_question(struct handshake *handshake, const unsigned char *message, size_t size)
{
        unsigned char name[16] = "{", signature[DIGEST_SIZE_MOST];
        enum digest digest = DIGEST_MD5;
        size_t end = 0;

        if (size < MARK_SIZE(challenge_mark) + QUESTION_OLD ||
            memcmp(message, challenge_mark, MARK_SIZE(challenge_mark)) != 0)
                return -EPROTO;
        message += MARK_SIZE(challenge_mark);
        size -= MARK_SIZE(challenge_mark);
        if (size != QUESTION_OLD && !digest_named(message, size, &digest, &end))
                return -EPROTO;
        if (digest == DIGEST_MD5 && handshake->refuse_md5)
                return -EPROTO;
        secret_sign(handshake->secret, digest, message, size, signature);
        memcpy(name, message, end); /* its own name for it; nothing, if it has none */
        say(handshake, name, end, signature, digest_size(digest));
        handshake->step = HANDSHAKE_VERDICT;
        return 0;
}

static int judge_answer(const struct handshake *handshake, const unsigned char *message, size_t size)
{
        unsigned char expected[DIGEST_SIZE_MOST];
        enum digest digest = DIGEST_MD5;
        size_t end = 0;

        if (size != digest_size(DIGEST_MD5) && !digest_named(message, size, &digest, &end))
                return -EPROTO;
        if (digest == DIGEST_MD5 && handshake->refuse_md5)
                return -EPROTO;
        if (size - end != digest_size(digest))
                return -EPROTO;
        secret_sign(handshake->secret, digest, handshake->question, sizeof handshake->question, expected);
        return digest_equal(message + end, expected, size - end) ? 0 : -EKEYREJECTED;
}

static int take_answer(struct handshake *handshake, const unsigned char *message, size_t size)
{
        int r = judge_answer(handshake, message, size);

        if (r < 0) {
                say(handshake, failure_mark, MARK_SIZE(failure_mark), NULL, 0);
                return r;
        }
        say(handshake, welcome_mark, MARK_SIZE(welcome_mark), NULL, 0);
        handshake->step = handshake->listener ? HANDSHAKE_CHALLENGE : HANDSHAKE_DONE;
        return 0;
}

static int take_verdict(struct handshake *handshake, const unsigned char *message, size_t size)
{
        if (size == MARK_SIZE(failure_mark) && memcmp(message, failure_mark, size) == 0)
                return -EKEYREJECTED;
        if (size != MARK_SIZE(welcome_mark) || memcmp(message, welcome_mark, size) != 0)
                return -EPROTO;
        if (handshake->listener)
                handshake->step = HANDSHAKE_DONE;
        else
                ask(handshake);
        return 0;
}

static int take_message(struct handshake *handshake, const unsigned char *message, size_t size)
{
        switch (handshake->step) {
        case HANDSHAKE_ANSWER:
                return take_answer(handshake, message, size);
        case HANDSHAKE_CHALLENGE:
                return take_question(handshake, message, size);
        case HANDSHAKE_VERDICT:
                return take_verdict(handshake, message, size);
        default:
                return -EPROTO;
        }
}

/* ---- going on ---- */

int handshake_begin(struct handshake *handshake, const struct secret *secret, bool listener, bool refuse_md5)
{
        handshake->secret = secret;
        handshake->listener = listener;
        handshake->refuse_md5 = refuse_md5;
        handshake->have = handshake->out_size = 0;
        memcpy(handshake->question, question_mark, MARK_SIZE(question_mark));
        int r =
            random_fill(handshake->question + MARK_SIZE(question_mark), HANDSHAKE_QUESTION - MARK_SIZE(question_mark));
        if (listener)
                ask(handshake);
        else
                handshake->step = HANDSHAKE_CHALLENGE;
        return r;
}

size_t handshake_wants(const struct handshake *handshake)
{
        if (handshake->step == HANDSHAKE_DONE)
                return 0;
        if (handshake->have < FRAME_SHORT)
                return FRAME_SHORT - handshake->have;
        return FRAME_SHORT + (size_t)frame_get(handshake->in, FRAME_SHORT) - handshake->have;
}

int handshake_took(struct handshake *handshake, size_t count)
{
        uint64_t size;

        handshake->have += count;
        if (handshake->have < FRAME_SHORT)
                return 0;
        /* The long form of a length is for messages that are never so short. */
        size = frame_get(handshake->in, FRAME_SHORT);
        if (size == 0 || size > HANDSHAKE_MOST)
                return -EPROTO;
        if (handshake->have < FRAME_SHORT + size)
                return 0;
        handshake->have = 0;
        return take_message(handshake, handshake->in + FRAME_SHORT, (size_t)size);
}

/* What is said is short, and the way there was empty: if it is full all the same, the other end does not read. */
static int send_out(struct handshake *handshake, const struct stream *stream, int64_t deadline)
{
        struct iovec part = { handshake->out, handshake->out_size };

        while (part.iov_len > 0) {
                ssize_t n = stream_send(stream, &part, 1, NULL, 0, deadline);

                if (n < 0)
                        return n == -EPIPE || n == -EAGAIN ? -ECONNRESET : (int)n;
                part.iov_base = (unsigned char *)part.iov_base + n;
                part.iov_len -= (size_t)n;
        }
        handshake->out_size = 0;
        return 0;
}

int handshake_drive(struct handshake *handshake, const struct stream *stream, int64_t deadline)
{
        for (;;) {
                int r = send_out(handshake, stream, deadline);
                if (r < 0)
                        return r;
                size_t wants = handshake_wants(handshake);
                if (wants == 0)
                        return 0;
                ssize_t n = stream_recv(stream, handshake_room(handshake), wants, NULL, deadline);
                if (n <= 0)
                        return n == 0 ? -ECONNRESET : (int)n;
                r = handshake_took(handshake, (size_t)n);
                if (r < 0) {
                        (void)send_out(handshake, stream, INT64_MIN); /* a #FAILURE#, if it goes out at once */
                        return r;
                }
        }
}
