/* SPDX-License-Identifier: MIT
 *
 * buffer.pml: which message has which buffer, when nobody ever frees one.
 *
 * A buffer's word says which position, or which lease (entry and generation), has it; it is free when that one is done with.  Putters
 * claim a slot and then a free buffer; consumers move messages to leases, which re-stamps the buffer's word before the slot is freed;
 * a keeper repairs, and may be slow: what it has read may be long past when it acts.  Up to CRASHES consumers are killed, and up to
 * ABANDONED putters (whose slot is then EMPTY in its next lap: the repair of queue.pml, here in one step).
 *
 * Checked: a buffer that a committed message refers to is never claimed; a reader sees the bytes of its own message; every
 * message is finished once; no buffer is lost (a putter that waits for one for ever would be an invalid end).
 */
#ifndef SLOTS
#define SLOTS 1
#endif
#define ENTRIES 1
#define BUFFERS 2
#ifndef PUTTERS
#define PUTTERS 1
#endif
#ifndef CONSUMERS
#define CONSUMERS 2
#endif
#ifndef MESSAGES
#define MESSAGES 3
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef ABANDONED
#define ABANDONED 0
#endif
#define KEEPER (CONSUMERS + 1)
#define PUTTER 7

#define EMPTY 0
#define WRITING 1
#define FULL 2
#define READING 3
#define S(lap, kind, owner) (((lap) << 6) | ((kind) << 3) | (owner))
#define S_LAP(w) ((w) >> 6)
#define S_KIND(w) (((w) >> 3) & 7)
#define S_OWNER(w) ((w) & 7)

#define FREE 0
#define FILLING 1
#define HELD 2
#define READY 3
#define E(gen, kind, owner) (((gen) << 5) | ((kind) << 3) | (owner))
#define E_GEN(w) ((w) >> 5)
#define E_KIND(w) (((w) >> 3) & 3)
#define E_OWNER(w) ((w) & 7)

/* A buffer's word: 0 at first, then a position, or the generation of the one entry. */
#define AT(position) (64 | (position))
#define LEASE(gen) (128 | (gen))
#define IS_AT(w) ((w) & 64)
#define VALUE(w) ((w) & 63)

/* What is shared. */
short slot[SLOTS];
byte slot_buffer[SLOTS];
short entry;
byte entry_at, entry_buffer;
byte buffer[BUFFERS], half1[BUFFERS], half2[BUFFERS];

bool alive[KEEPER + 1];
byte crashes;

/* The checker's book-keeping. */
byte next, finished, abandoned;
byte held_by[BUFFERS]; /* the committed message that is in this buffer, or 0 */

#define LAPS(i) ((MESSAGES - (i) + SLOTS - 1) / SLOTS)
#define SLOT_WORK(i) (S_KIND(slot[i]) == FULL || (S_KIND(slot[i]) == READING && !alive[S_OWNER(slot[i])]))
#define SLOT_DONE(i) (S_LAP(slot[i]) >= LAPS(i))
#if SLOTS == 1
#define SLOTS_WORK SLOT_WORK(0)
#define SLOTS_DONE SLOT_DONE(0)
#else
#define SLOTS_WORK (SLOT_WORK(0) || SLOT_WORK(1))
#define SLOTS_DONE (SLOT_DONE(0) && SLOT_DONE(1))
#endif
#define ENTRY_WORK (E_KIND(entry) == READY || (E_KIND(entry) != FREE && !alive[E_OWNER(entry)]))
#define BUFFER_FREE(b) \
        (buffer[b] == 0 || \
         (IS_AT(buffer[b]) && S_LAP(slot[VALUE(buffer[b]) % SLOTS]) > VALUE(buffer[b]) / SLOTS) || \
         (buffer[b] >= 128 && E_GEN(entry) > VALUE(buffer[b])))

inline restamp(b, position, gen)
{
#ifndef BREAK_NO_RESTAMP
        d_step {
                if
                :: buffer[b] == AT(position) -> buffer[b] = LEASE(gen)
                :: else
                fi
        }
#else
        skip
#endif
}

inline free_slot(position, whose)
{
        d_step {
                if
                :: slot[position % SLOTS] == S(position / SLOTS, READING, whose) ->
                        slot[position % SLOTS] = S(position / SLOTS + 1, EMPTY, 0)
                :: else
                fi
        }
}

/* The buffer is named first: who frees the slot has seen to it that nobody takes the buffer for free. */
inline finish_move(b, position, gen, whose)
{
#ifdef BREAK_FREE_FIRST
        free_slot(position, whose);
        restamp(b, position, gen)
#else
        restamp(b, position, gen);
        free_slot(position, whose)
#endif
}

#define forget w = 0; v = 0; i = 0; p = 0; b = 0; a = 0; got = false

proctype consumer(byte me)
{
        short w, v;
        byte i, p, b, a;
        bool got;

        {
        skip;
end_again:
        if
        :: atomic { S_KIND(slot[0]) == READING && S_OWNER(slot[0]) != me -> w = slot[0] };
                goto repair_slot
#if SLOTS > 1
        :: atomic { S_KIND(slot[1]) == READING && S_OWNER(slot[1]) != me -> w = slot[1]; i = 1 };
                goto repair_slot
#endif
        :: atomic { (E_KIND(entry) == FILLING || E_KIND(entry) == HELD) && E_OWNER(entry) != me -> v = entry };
                goto repair_entry
        :: me != KEEPER
        fi;

        v = entry;
        if
        :: E_KIND(v) == READY ->
                d_step {
                        if
                        :: entry == v -> v = E(E_GEN(v), HELD, me); entry = v; got = true
                        :: else
                        fi
                };
                if
                :: got -> goto use
                :: else -> goto once_more
                fi
        :: E_KIND(v) == FREE ->
                d_step {
                        if
                        :: entry == v -> v = E(E_GEN(v), FILLING, me); entry = v; got = true
                        :: else
                        fi
                }
        :: true
        fi;
        if
        :: !got -> v = 0
        :: else
        fi;

        /* A lease if we have got the entry, a plain get otherwise. */
        i = 0;
        do
        :: i < SLOTS ->
                w = slot[i];
                if
                :: S_KIND(w) == FULL ->
                        d_step {
                                if
                                :: slot[i] == w -> w = S(S_LAP(w), READING, me); slot[i] = w
                                :: else -> w = 0
                                fi
                        };
                        if
                        :: S_KIND(w) == READING -> break
                        :: else -> i++
                        fi
                :: else -> i++
                fi
        :: else -> break
        od;
        if
        :: i == SLOTS ->
                if
                :: got -> entry = E(E_GEN(v), FREE, 0)
                :: else
                fi;
                goto nothing
        :: i < SLOTS && !got ->
                b = slot_buffer[i];
                p = S_LAP(w) * SLOTS + i;
                a = half1[b];
                d_step { assert(a == p + 1); a = half2[b]; assert(a == p + 1 && buffer[b] == AT(p)) };
                d_step {
                        assert(slot[i] == w && held_by[b] == a);
                        held_by[b] = 0;
                        finished++;
                        slot[i] = S(S_LAP(w) + 1, EMPTY, 0)
                };
                goto once_more
        :: i < SLOTS && got ->
                p = S_LAP(w) * SLOTS + i;
                b = slot_buffer[i];
                entry_buffer = b;
                entry_at = p;
                atomic { assert(entry == v); v = E(E_GEN(v), HELD, me); entry = v };
                finish_move(b, p, E_GEN(v), me)
        fi;

use:
        b = entry_buffer;
        p = entry_at;
        a = half1[b];
        d_step { assert(a == p + 1); a = half2[b]; assert(a == p + 1 && buffer[b] == LEASE(E_GEN(v))) };
        d_step {
                assert(entry == v && held_by[b] == a);
                held_by[b] = 0;
                finished++;
#ifdef BREAK_SAME_GENERATION
                entry = E(E_GEN(v), FREE, 0)
#else
                entry = E(E_GEN(v) + 1, FREE, 0)
#endif
        };
        goto once_more;

repair_slot:
        if
        :: alive[S_OWNER(w)] -> goto once_more
        :: else
        fi;
        v = entry;
        p = S_LAP(w) * SLOTS + i;
        if
        :: E_KIND(v) == HELD && E_OWNER(v) == S_OWNER(w) && entry_at == p ->
                b = entry_buffer;
                finish_move(b, p, E_GEN(v), S_OWNER(w))
        :: else ->
                d_step {
                        if
                        :: slot[i] == w -> slot[i] = S(S_LAP(w), FULL, 0)
                        :: else
                        fi
                }
        fi;
        goto once_more;

repair_entry:
        if
        :: alive[E_OWNER(v)] -> goto once_more
        :: E_KIND(v) == FILLING && !alive[E_OWNER(v)] ->
                d_step {
                        if
                        :: entry == v -> entry = E(E_GEN(v), FREE, 0)
                        :: else
                        fi
                }
        :: E_KIND(v) == HELD && !alive[E_OWNER(v)] ->
#ifdef BREAK_RECHECK_EARLY
                /* The word is looked at again after the proof of death, but before the position and the buffer are read. */
                if
                :: entry == v -> skip
                :: else -> goto once_more
                fi;
#endif
                p = entry_at;
                b = entry_buffer;
#if !defined(BREAK_NO_RECHECK) && !defined(BREAK_RECHECK_EARLY)
                /* Position and buffer may be those of a later lease, or half of one: then the word is another by now. */
                if
                :: entry == v -> skip
                :: else -> goto once_more
                fi;
#endif
                finish_move(b, p, E_GEN(v), E_OWNER(v));
                d_step {
                        if
                        :: entry == v -> entry = E(E_GEN(v), READY, 0)
                        :: else
                        fi
                }
        fi;

once_more:
        atomic { forget };
        goto end_again;

nothing:
        atomic { forget };
        if
        :: SLOTS_DONE && E_KIND(entry) == FREE -> goto over
        :: SLOTS_WORK || ENTRY_WORK -> goto end_again
        fi;
over:
        assert(finished == MESSAGES - abandoned)
        } unless {
                d_step { !alive[me] -> forget }
        }
}

proctype putter()
{
        byte p, b, w;

        do
        :: d_step {
                next < MESSAGES && slot[next % SLOTS] == S(next / SLOTS, EMPTY, 0) ->
                p = next;
                slot[p % SLOTS] = S(p / SLOTS, WRITING, PUTTER);
                next++
           };
                /* A free buffer: what its word names is done with. */
                b = 0;
                do
                :: b == BUFFERS ->
                        BUFFER_FREE(0) || BUFFER_FREE(1);
                        b = 0
                :: b < BUFFERS ->
                        w = buffer[b];
                        if
                        :: w == 0 || (IS_AT(w) && S_LAP(slot[VALUE(w) % SLOTS]) > VALUE(w) / SLOTS) ||
                           (w >= 128 && E_GEN(entry) > VALUE(w)) ->
                                d_step {
                                        if
#ifdef BREAK_STORE_BUFFER
                                        :: true ->
#else
                                        :: buffer[b] == w ->
#endif
                                                assert(held_by[b] == 0);
                                                buffer[b] = AT(p);
                                                w = 255
                                        :: else
                                        fi
                                };
                                if
                                :: w == 255 -> break
                                :: else -> b++
                                fi
                        :: else -> b++
                        fi
                od;
                half1[b] = p + 1;
                half2[b] = p + 1;
                slot_buffer[p % SLOTS] = b;
                if
                :: d_step {
                        assert(held_by[b] == 0);
                        held_by[b] = p + 1;
                        slot[p % SLOTS] = S(p / SLOTS, FULL, 0);
                        p = 0; b = 0; w = 0
                   }
                :: d_step {
                        abandoned < ABANDONED ->
                        abandoned++;
                        slot[p % SLOTS] = S(p / SLOTS + 1, EMPTY, 0);
                        p = 0; b = 0; w = 0
                   }
                fi
        :: next == MESSAGES -> break
        od
}

active proctype killer()
{
end:
        /* The consumers are alike: if one is to die, let it be the first. */
        do
        :: d_step { crashes < CRASHES && alive[1] -> alive[1] = false; crashes++ }
#if CONSUMERS > 1 && CRASHES > 1
        :: d_step { crashes < CRASHES && alive[2] -> alive[2] = false; crashes++ }
#endif
        od
}

init {
        byte i;

        atomic {
                entry = E(1, FREE, 0);
                i = 1;
                do
                :: i <= KEEPER -> alive[i] = true; run consumer(i); i++
                :: else -> break
                od;
                i = 0;
                do
                :: i < PUTTERS -> run putter(); i++
                :: else -> break
                od
        }
}
