/* SPDX-License-Identifier: MIT
 *
 * tests/pipe/test_handshake.c: the protocol of the keys by itself, without sockets: each digest against known values, each dialect,
 * each wrong answer, and bytes that come in pieces.
 */
#include "check.h"

#include "pipe/handshake.h"

static struct secret *key_new(const char *text)
{
        struct secret *secret = NULL;
        int r = secret_new(&secret, text, strlen(text));
        if (r == -EOPNOTSUPP)
                skip(); /* built without HMAC */
        assert_int_equal(r, 0);
        return secret;
}

/* ---- digests ---- */

/* HMACs of "what do ya want for nothing?" under "Jefe": those of RFC 2202 and RFC 4231; of SHA-3, what Python's hmac says. */
static void test_digests(void **state)
{
        (void)state;
        static const char question[] = "what do ya want for nothing?";
        static const char *const expected[DIGEST_COUNT] = {
                [DIGEST_MD5] = "750c783e6ab0b503eaa86e310a5db738",
                [DIGEST_SHA256] = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
                [DIGEST_SHA384] =
                    "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239ecfab21649",
                [DIGEST_SHA3_256] = "c7d4072e788877ae3596bbb0da73b887c9171f93095b294ae857fbe2645e1ba5",
                [DIGEST_SHA3_384] =
                    "f1101f8cbf9766fd6764d2ed61903f21ca9b18f57cf3e1a23ca13508a93243ce48c045dc007f26a21b3f5e0e9df4c20a",
        };
        struct secret *key = key_new("Jefe");
        for (int digest = 0; digest < DIGEST_COUNT; digest++) {
                unsigned char bytes[DIGEST_SIZE_MOST] = { 0 };
                char text[2 * DIGEST_SIZE_MOST + 1] = "";
                secret_sign(key, (enum digest)digest, question, sizeof question - 1, bytes);
                for (size_t i = 0; i < digest_size((enum digest)digest); i++)
                        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
                assert_string_equal(text, expected[digest]);
                assert_true(digest_equal(bytes, bytes, sizeof bytes));
                unsigned char other[DIGEST_SIZE_MOST];
                memcpy(other, bytes, sizeof other);
                other[digest_size((enum digest)digest) - 1] ^= 1;
                assert_false(digest_equal(bytes, other, digest_size((enum digest)digest)));
        }
        secret_free(key);
        secret_free(NULL);
}

static void test_keys(void **state)
{
        (void)state;
        struct secret *untouched = (struct secret *)&state, *secret = untouched;
        char bytes[5000] = "";
        assert_int_equal(secret_new(&secret, bytes, 0), -EINVAL);
        assert_int_equal(secret_new(&secret, NULL, 1), -EINVAL);
        assert_int_equal(secret_new(&secret, bytes, 4097), -EINVAL);
        assert_ptr_equal(secret, untouched);
        assert_int_equal(secret_new(&secret, NULL, 0), 0);
        assert_null(secret);
        int r = secret_new(&secret, bytes, 4096);
        assert_true(r == 0 || r == -EOPNOTSUPP);
        secret_free(secret);
}

/* ---- two sides ---- */

/* Hand what one side has to say to the other, in pieces of `step` bytes: as handshake_took(). */
static int deliver(struct handshake *from, struct handshake *to, size_t step)
{
        int r = 0;
        size_t at = 0;
        while (at < from->out_size && r == 0) {
                size_t n = handshake_wants(to);
                assert_true(n > 0);
                n = n < step ? n : step;
                n = n < from->out_size - at ? n : from->out_size - at;
                memcpy(handshake_room(to), from->out + at, n);
                assert_true(handshake_room(to) + n <= to->in + sizeof to->in);
                at += n;
                r = handshake_took(to, n);
        }
        from->out_size = 0;
        return r;
}

/* Until both are done or one has an error. */
static int converse(struct handshake *a, struct handshake *b, size_t step)
{
        int r = 0;
        while (r == 0 && (a->out_size > 0 || b->out_size > 0)) {
                if (a->out_size > 0)
                        r = deliver(a, b, step);
                else
                        r = deliver(b, a, step);
        }
        return r;
}

static void test_both_sides(void **state)
{
        (void)state;
        static const size_t steps[] = { 1, 3, 4, 5, 64, 300 };
        struct secret *key = key_new("right"), *other = key_new("wrong");
        struct handshake listener, client;
        for (size_t i = 0; i < array_length(steps); i++)
                for (int refuse = 0; refuse < 2; refuse++) {
                        assert_int_equal(handshake_begin(&listener, key, true, refuse), 0);
                        assert_int_equal(handshake_begin(&client, key, false, refuse), 0);
                        assert_int_equal(client.out_size, 0); /* the listener begins */
                        assert_int_equal(converse(&listener, &client, steps[i]), 0);
                        assert_int_equal(listener.step, HANDSHAKE_DONE);
                        assert_int_equal(client.step, HANDSHAKE_DONE);
                        assert_int_equal(handshake_wants(&listener), 0);

                        assert_int_equal(handshake_begin(&listener, key, true, refuse), 0);
                        assert_int_equal(handshake_begin(&client, other, false, refuse), 0);
                        assert_int_equal(converse(&listener, &client, steps[i]), -EKEYREJECTED);
                        assert_int_equal(listener.step, HANDSHAKE_ANSWER);
                        /* And it tells the client so. */
                        assert_int_equal(deliver(&listener, &client, steps[i]), -EKEYREJECTED);
                }
        secret_free(key);
        secret_free(other);
}

/* Two questions are never the same. */
static void test_questions(void **state)
{
        (void)state;
        struct secret *key = key_new("right");
        struct handshake a, b;
        assert_int_equal(handshake_begin(&a, key, true, false), 0);
        assert_int_equal(handshake_begin(&b, key, true, false), 0);
        assert_memory_equal(a.out, "\0\0\0\73#CHALLENGE#{sha256}", 23);
        assert_int_equal(a.out_size, 63);
        assert_memory_not_equal(a.out + 23, b.out + 23, 40);
        secret_free(key);
}

/* ---- one side, and another that says this or that ---- */

static int say(struct handshake *to, const void *bytes, size_t size)
{
        unsigned char message[400];
        frame_put(message, size, 4);
        memcpy(message + 4, bytes, size);
        int r = 0;
        for (size_t at = 0; at < 4 + size && r == 0; at++) {
                *handshake_room(to) = message[at];
                r = handshake_took(to, 1);
        }
        return r;
}

static int say_text(struct handshake *to, const char *text)
{
        return say(to, text, strlen(text));
}

/* What it has just said, without its length. */
static void assert_said(struct handshake *from, const void *bytes, size_t size)
{
        assert_int_equal(from->out_size, 4 + size);
        assert_int_equal(frame_get(from->out, 4), size);
        assert_memory_equal(from->out + 4, bytes, size);
        from->out_size = 0;
}

/* The answer to a listener's question, in a digest; `prefix` is how it is called. */
static size_t answer_with(unsigned char *bytes, const struct handshake *listener, const struct secret *key,
                          enum digest digest, const char *prefix)
{
        size_t length = strlen(prefix);
        memcpy(bytes, prefix, length);
        secret_sign(key, digest, listener->question, sizeof listener->question, bytes + length);
        return length + digest_size(digest);
}

static void test_answers(void **state)
{
        (void)state;
        struct secret *key = key_new("right"), *other = key_new("wrong");
        static const struct {
                enum digest digest;
                const char *prefix;
        } dialects[] = {
                { DIGEST_MD5, "" },
                { DIGEST_MD5, "{md5}" },
                { DIGEST_SHA256, "{sha256}" },
                { DIGEST_SHA384, "{sha384}" },
                { DIGEST_SHA3_256, "{sha3_256}" },
                { DIGEST_SHA3_384, "{sha3_384}" },
        };
        unsigned char answer[64];
        struct handshake listener;
        for (size_t i = 0; i < array_length(dialects); i++)
                for (int refuse = 0; refuse < 2; refuse++) {
                        bool refused = refuse && dialects[i].digest == DIGEST_MD5;
                        for (int wrong = 0; wrong < 4; wrong++) {
                                assert_int_equal(handshake_begin(&listener, key, true, refuse), 0);
                                listener.out_size = 0;
                                size_t size = answer_with(answer, &listener, wrong == 1 ? other : key,
                                                          dialects[i].digest, dialects[i].prefix);
                                if (wrong == 2)
                                        answer[size - 1] ^= 0x80;
                                int expected = refused ? -EPROTO : wrong ? -EKEYREJECTED : 0;
                                if (wrong == 3) { /* cut short */
                                        size--;
                                        expected = -EPROTO;
                                }
                                assert_int_equal(say(&listener, answer, size), expected);
                                if (expected == 0)
                                        assert_said(&listener, "#WELCOME#", 9);
                                else
                                        assert_said(&listener, "#FAILURE#", 9);
                                assert_int_equal(listener.step, expected == 0 ? HANDSHAKE_CHALLENGE : HANDSHAKE_ANSWER);
                        }
                }
        /* The right digest under another name. */
        static const char *const names[] = {
                "{sha3_256}", "{sha1}", "{}", "{sha256", "sha256}", "{SHA256}", "{sha256 }"
        };
        for (size_t i = 0; i < array_length(names); i++) {
                assert_int_equal(handshake_begin(&listener, key, true, false), 0);
                listener.out_size = 0;
                size_t size = answer_with(answer, &listener, key, DIGEST_SHA256, names[i]);
                assert_true(say(&listener, answer, size) < 0);
        }
        secret_free(key);
        secret_free(other);
}

/* Who does not know the key can have the listener sign nothing, and gets nothing out of giving it its own words back. */
static void test_reflection(void **state)
{
        (void)state;
        struct secret *key = key_new("right");
        struct handshake listener;
        unsigned char question[59];
        assert_int_equal(handshake_begin(&listener, key, true, false), 0);
        memcpy(question, listener.out + 4, sizeof question);
        listener.out_size = 0;
        assert_int_equal(say(&listener, question, sizeof question), -EPROTO);
        assert_said(&listener, "#FAILURE#", 9);

        assert_int_equal(handshake_begin(&listener, key, true, false), 0);
        listener.out_size = 0;
        assert_int_equal(say(&listener, listener.question, sizeof listener.question), -EPROTO);
        assert_said(&listener, "#FAILURE#", 9);

        assert_int_equal(handshake_begin(&listener, key, true, false), 0);
        listener.out_size = 0;
        assert_int_equal(say_text(&listener, "#WELCOME#"), -EPROTO);
        assert_said(&listener, "#FAILURE#", 9);
        secret_free(key);
}

/* What the client signs, and what not. */
static void test_questions_to_the_client(void **state)
{
        (void)state;
        struct secret *key = key_new("right");
        struct handshake client;
        unsigned char expected[64];
        static const struct {
                const char *question;
                int refuse;
                int result;
                enum digest digest;
                const char *prefix;
        } cases[] = {
                { "#CHALLENGE#01234567890123456789", 0, 0, DIGEST_MD5, "" },
                { "#CHALLENGE#01234567890123456789", 1, -EPROTO, 0, "" },
                { "#CHALLENGE#{md5}0123456789012345678901234567890123456789", 0, 0, DIGEST_MD5, "{md5}" },
                { "#CHALLENGE#{md5}0123456789012345678901234567890123456789", 1, -EPROTO, 0, "" },
                { "#CHALLENGE#{sha256}0123456789012345678901234567890123456789", 1, 0, DIGEST_SHA256, "{sha256}" },
                { "#CHALLENGE#{sha256}0123456789abc", 1, 0, DIGEST_SHA256, "{sha256}" },
                { "#CHALLENGE#{sha384}0123456789012345678901234567890123456789", 1, 0, DIGEST_SHA384, "{sha384}" },
                { "#CHALLENGE#{sha3_256}0123456789012345678901234567890123456789", 1, 0, DIGEST_SHA3_256,
                  "{sha3_256}" },
                { "#CHALLENGE#{sha3_384}0123456789012345678901234567890123456789", 1, 0, DIGEST_SHA3_384,
                  "{sha3_384}" },
                { "#CHALLENGE#{sha512}0123456789012345678901234567890123456789", 0, -EPROTO, 0, "" },
                { "#CHALLENGE#0123456789012345678", 0, -EPROTO, 0, "" },
                { "#CHALLENGE#{sha256}0123456789a", 0, -EPROTO, 0, "" },
                { "#CHALLENGE#012345678901234567890", 0, -EPROTO, 0, "" },
                { "#CHALLENGE#", 0, -EPROTO, 0, "" },
                { "#CHALLENGE!01234567890123456789", 0, -EPROTO, 0, "" },
                { "#WELCOME#", 0, -EPROTO, 0, "" },
                { "01234567890123456789", 0, -EPROTO, 0, "" },
        };
        for (size_t i = 0; i < array_length(cases); i++) {
                assert_int_equal(handshake_begin(&client, key, false, cases[i].refuse), 0);
                assert_int_equal(say_text(&client, cases[i].question), cases[i].result);
                if (cases[i].result < 0) {
                        assert_int_equal(client.out_size, 0);
                        continue;
                }
                const char *question = cases[i].question + 11;
                size_t length = strlen(cases[i].prefix);
                memcpy(expected, cases[i].prefix, length);
                secret_sign(key, cases[i].digest, question, strlen(question), expected + length);
                assert_said(&client, expected, length + digest_size(cases[i].digest));
                assert_int_equal(client.step, HANDSHAKE_VERDICT);
        }
        secret_free(key);
}

static void test_verdicts(void **state)
{
        (void)state;
        struct secret *key = key_new("right");
        struct handshake client;
        static const struct {
                const char *verdict;
                int result;
        } cases[] = {
                { "#WELCOME#", 0 }, { "#FAILURE#", -EKEYREJECTED }, { "#WELCOME", -EPROTO }, { "#WELCOME#x", -EPROTO },
                { "x", -EPROTO },
        };
        for (size_t i = 0; i < array_length(cases); i++) {
                assert_int_equal(handshake_begin(&client, key, false, false), 0);
                assert_int_equal(say_text(&client, "#CHALLENGE#01234567890123456789"), 0);
                client.out_size = 0;
                assert_int_equal(say_text(&client, cases[i].verdict), cases[i].result);
                if (cases[i].result == 0) {
                        assert_int_equal(client.step, HANDSHAKE_ANSWER);
                        assert_int_equal(client.out_size, 63);
                }
        }
        secret_free(key);
}

/* Lengths that no message of the protocol has; the limit itself is read to its end. */
static void test_lengths(void **state)
{
        (void)state;
        struct secret *key = key_new("right");
        struct handshake listener;
        static const uint32_t lengths[] = { 0, 257, 65536, 0x7fffffff, 0x80000000, 0xffffffff, 256 };
        for (size_t i = 0; i < array_length(lengths); i++) {
                assert_int_equal(handshake_begin(&listener, key, true, false), 0);
                frame_put(handshake_room(&listener), lengths[i], 4);
                int r = handshake_took(&listener, 4);
                assert_int_equal(r, lengths[i] == 256 ? 0 : -EPROTO);
        }
        assert_int_equal(handshake_wants(&listener), 256);
        memset(handshake_room(&listener), 'x', 256);
        assert_int_equal(handshake_took(&listener, 256), -EPROTO);
        secret_free(key);
}

/* Any bytes at all: it ends, within its memory. */
static void test_garbage(void **state)
{
        (void)state;
        struct secret *key = key_new("right");
        for (int round = 0; round < support_rounds(20000); round++) {
                struct handshake handshake;
                size_t wants;
                bool listener = support_random(2);
                assert_int_equal(handshake_begin(&handshake, key, listener, support_random(2)), 0);
                for (int r = 0, said = 0; r == 0 && (wants = handshake_wants(&handshake)) > 0; said++) {
                        assert_true(said < 1000);
                        assert_true(handshake_room(&handshake) + wants <= handshake.in + sizeof handshake.in);
                        handshake.out_size = 0;
                        size_t n = 1 + support_random(wants);
                        for (size_t i = 0; i < n; i++)
                                handshake_room(&handshake)[i] =
                                    (unsigned char)(handshake.have + i < 3 ? 0 : support_random(256));
                        r = handshake_took(&handshake, n);
                }
                assert_int_not_equal(handshake.step, HANDSHAKE_DONE);
        }
        secret_free(key);
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_digests),
                support_test(test_keys),
                support_test(test_both_sides),
                support_test(test_questions),
                support_test(test_answers),
                support_test(test_reflection),
                support_test(test_questions_to_the_client),
                support_test(test_verdicts),
                support_test(test_lengths),
                support_test(test_garbage),
        };
        return support_main(argc, argv, "handshake", tests, array_length(tests), 60);
}
