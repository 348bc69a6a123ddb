/* SPDX-License-Identifier: MIT
 *
 * lease.pml: how a message leaves its slot for a lease, and what becomes of it when the processes that hold it, or that repair
 * what a dead one left, are killed between any two steps.
 *
 * One putter (that never dies; queue.pml kills putters) fills SLOTS slots with MESSAGES messages; USERS consumers get, lease,
 * acknowledge, give back and repair until the queue is drained.  Up to CRASHES of them are killed.  Which slot is looked at first
 * is left open, so that every order of looking is covered; the order of the messages is queue.pml's concern.
 *
 * Checked: a message is finished once (acknowledged, got, or counted as a dead letter, exactly once); nobody has it while another
 * living consumer has it; no half-copied message is seen; a consumer that finds the queue drained is right; every survivor ends.
 */
#ifndef SLOTS
#define SLOTS 1
#endif
#ifndef ENTRIES
#define ENTRIES 2
#endif
#ifndef USERS
#define USERS 3
#endif
#ifndef KEEPERS
#define KEEPERS 0 /* further processes that only repair, and are not killed */
#endif
#ifndef MESSAGES
#define MESSAGES 2
#endif
#ifndef CRASHES
#define CRASHES 2
#endif
#ifndef GIVE_BACKS
#define GIVE_BACKS 1
#endif
#ifndef MAX_DELIVERIES
#define MAX_DELIVERIES 2
#endif

/* A slot's word: lap, kind, owner. */
#define EMPTY 0
#define FULL 2
#define READING 3
#define S(lap, kind, owner) (((lap) << 6) | ((kind) << 3) | (owner))
#define S_LAP(w) ((w) >> 6)
#define S_KIND(w) (((w) >> 3) & 7)
#define S_OWNER(w) ((w) & 7)

/* An entry's word: generation, deliveries, kind, owner. */
#define FREE 0
#define FILLING 1
#define HELD 2
#define READY 3
#define E(gen, n, kind, owner) (((gen) << 7) | ((n) << 5) | ((kind) << 3) | (owner))
#define E_GEN(w) ((w) >> 7)
#define E_N(w) (((w) >> 5) & 3)
#define E_KIND(w) (((w) >> 3) & 3)
#define E_OWNER(w) ((w) & 7)

/* What is shared. */
short slot[SLOTS];
byte message[SLOTS]; /* the bytes of the message */
short entry[ENTRIES];
byte at[ENTRIES]; /* the position that the message came from: lap * SLOTS + index */
byte half1[ENTRIES], half2[ENTRIES];
byte tally[ENTRIES]; /* the last generation that became a dead letter: counted before the entry is freed, so that it is not missed */

/* What the kernel knows. */
bool alive[USERS + KEEPERS + 1];
byte crashes;

/* What nobody in the program can see: the checker's book-keeping. */
byte dead_letters; /* as counted by the program */
byte finished, buried;
bool done[MESSAGES + 1], dead_letter[MESSAGES + 1], left[USERS + 1];
byte user_of[MESSAGES + 1], give_backs;

/* The number of laps in which slot i gets a message. */
#define LAPS(i) ((MESSAGES - (i) + SLOTS - 1) / SLOTS)
#define LIVES(o) alive[o]

#define SLOT_WORK(i) (S_KIND(slot[i]) == FULL || (S_KIND(slot[i]) == READING && !LIVES(S_OWNER(slot[i]))))
#define ENTRY_WORK(e) \
        (E_KIND(entry[e]) == READY || (E_KIND(entry[e]) != FREE && !LIVES(E_OWNER(entry[e]))))
#define SLOT_DONE(i) (S_LAP(slot[i]) >= LAPS(i))
#if SLOTS == 1
#define SLOTS_WORK SLOT_WORK(0)
#define SLOTS_DONE SLOT_DONE(0)
#else
#define SLOTS_WORK (SLOT_WORK(0) || SLOT_WORK(1))
#define SLOTS_DONE (SLOT_DONE(0) && SLOT_DONE(1))
#endif
#if ENTRIES == 1
#define ENTRIES_WORK ENTRY_WORK(0)
#define ENTRIES_DONE (E_KIND(entry[0]) == FREE)
#else
#define ENTRIES_WORK (ENTRY_WORK(0) || ENTRY_WORK(1))
#define ENTRIES_DONE (E_KIND(entry[0]) == FREE && E_KIND(entry[1]) == FREE)
#endif

#define begin_use(m) \
        assert(!done[m] && !dead_letter[m]); \
        assert(user_of[m] == 0 || !LIVES(user_of[m])); \
        user_of[m] = me
#define finish(m) \
        assert(!done[m] && !dead_letter[m]); \
        done[m] = true; \
        user_of[m] = 0; \
        finished++

/* What a process knows for itself is set to zero where it no longer matters, so that fewer states differ. */
#define forget w = 0; v = 0; i = 0; e = 0; g = 0; n = 0; p = 0; a = 0; b = 0; t = 0; found = false

/* The position of an entry is done with in its slot: on behalf of `whose`, who is this process or dead. */
inline finish_move(position, whose)
{
        d_step {
                if
                :: slot[position % SLOTS] == S(position / SLOTS, READING, whose) ->
                        slot[position % SLOTS] = S(position / SLOTS + 1, EMPTY, 0)
                :: else
                fi
        }
}

/* The message of entry e, word `v`, is not to be delivered again: count it once, whoever else is about to do so. */
inline bury(v, e)
{
#ifndef BREAK_COUNT_LATE
        t = tally[e];
        if
        :: t < E_GEN(v) ->
                d_step {
                        if
                        :: tally[e] == t -> tally[e] = E_GEN(v); dead_letters++
                        :: else
                        fi
                }
        :: else
        fi;
#endif
        d_step {
                t = 0;
                if
                :: entry[e] == v ->
                        entry[e] = E(E_GEN(v) + 1, 0, FREE, 0);
                        assert(!done[at[e] + 1] && !dead_letter[at[e] + 1]);
                        dead_letter[at[e] + 1] = true;
                        user_of[at[e] + 1] = 0;
                        finished++;
                        buried++;
                        t = 1
                :: else
                fi
        };
#ifdef BREAK_COUNT_LATE
        if
        :: t == 1 -> dead_letters++
        :: else
        fi;
#endif
        t = 0
}

inline repair_slot()
{
        if
        :: !LIVES(S_OWNER(w)) ->
                found = false;
#ifndef BREAK_IGNORE_ENTRIES
                e = 0;
                do
                :: e < ENTRIES ->
                        v = entry[e];
                        if
                        :: E_KIND(v) == HELD && E_OWNER(v) == S_OWNER(w) ->
                                d_step { found = found || at[e] == S_LAP(w) * SLOTS + i; e++ }
                        :: else -> e++
                        fi
                :: else -> break
                od;
#endif
                atomic {
                        if
                        :: slot[i] == w && found -> slot[i] = S(S_LAP(w) + 1, EMPTY, 0)
                        :: slot[i] == w && !found -> slot[i] = S(S_LAP(w), FULL, 0)
                        :: else
                        fi
                }
        :: else
        fi
}

inline repair_entry()
{
        if
        :: !LIVES(E_OWNER(v)) ->
                if
                :: E_KIND(v) == FILLING ->
                        d_step {
                                if
                                :: entry[e] == v -> entry[e] = E(E_GEN(v), 0, FREE, 0)
                                :: else
                                fi
                        }
                :: E_KIND(v) == HELD ->
                        p = at[e];
#ifndef BREAK_NO_RECHECK
                        /* The word was read before the death was proved: its owner may have acknowledged it, begun to fill
                         * the entry again, written another position, and died only then.  What is not a compare-and-swap on the
                         * word needs to know that the word is still there after the position was read. */
                        if
                        :: entry[e] == v -> skip
                        :: else -> atomic { forget }; goto end_again
                        fi;
#endif
#ifndef BREAK_READY_BEFORE_MOVE
                        finish_move(p, E_OWNER(v));
#endif
                        if
                        :: E_N(v) < MAX_DELIVERIES ->
                                d_step {
                                        if
                                        :: entry[e] == v -> entry[e] = E(E_GEN(v), E_N(v), READY, 0)
                                        :: else
                                        fi
                                }
                        :: else ->
                                bury(v, e)
                        fi;
#ifdef BREAK_READY_BEFORE_MOVE
                        finish_move(p, E_OWNER(v))
#endif
                fi
        :: else
        fi
}

proctype user(byte me)
{
        short w, v;
        byte i, e, g, n, p, a, b, t;
        bool found;

        {
        skip;
        /* A keeper (a consumer's number beyond USERS) only repairs, and may wait here for ever. */
end_again:
        if
        :: atomic { S_KIND(slot[0]) == READING && S_OWNER(slot[0]) != me -> w = slot[0] };
                repair_slot();
                atomic { forget };
                goto end_again
#if SLOTS > 1
        :: atomic { S_KIND(slot[1]) == READING && S_OWNER(slot[1]) != me -> w = slot[1]; i = 1 };
                repair_slot();
                atomic { forget };
                goto end_again
#endif
        :: atomic { (E_KIND(entry[0]) == FILLING || E_KIND(entry[0]) == HELD) && E_OWNER(entry[0]) != me -> v = entry[0] };
                repair_entry();
                atomic { forget };
                goto end_again
#if ENTRIES > 1
        :: atomic { (E_KIND(entry[1]) == FILLING || E_KIND(entry[1]) == HELD) && E_OWNER(entry[1]) != me -> v = entry[1]; e = 1 };
                repair_entry();
                atomic { forget };
                goto end_again
#endif
        :: me <= USERS
        fi;
        atomic { forget };

        /* What came back goes first. */
        e = 0;
        do
        :: e < ENTRIES ->
                v = entry[e];
                if
                :: E_KIND(v) == READY ->
                        d_step {
                                if
                                :: entry[e] == v ->
                                        v = E(E_GEN(v), E_N(v) + 1, HELD, me);
                                        entry[e] = v;
                                        found = true;
                                        begin_use(at[e] + 1)
                                :: else
                                fi
                        };
                        if
                        :: found -> goto use
                        :: else -> e++
                        fi
                :: else -> e++
                fi
        :: else -> break
        od;

        /* An entry to move a message to; or a plain get, which needs none. */
        e = 0;
        do
        :: e < ENTRIES ->
                v = entry[e];
                if
                :: E_KIND(v) == FREE ->
                        d_step {
                                if
                                :: entry[e] == v ->
                                        v = E(E_GEN(v), 0, FILLING, me);
                                        entry[e] = v;
                                        found = true
                                :: else
                                fi
                        };
                        if
                        :: found -> break
                        :: else -> e++
                        fi
                :: else -> e++
                fi
#ifdef ONLY_LEASES
        :: e == ENTRIES -> goto pause
#else
        :: e = ENTRIES; break
#endif
        od;
        found = false;

        i = 0;
        do
        :: i < SLOTS ->
                w = slot[i];
                if
                :: S_KIND(w) == FULL ->
                        d_step {
                                if
                                :: slot[i] == w -> w = S(S_LAP(w), READING, me); slot[i] = w; found = true
                                :: else
                                fi
                        };
                        if
                        :: found -> break
                        :: else -> i++
                        fi
                :: else -> i++
                fi
        :: else -> break
        od;

        if
        :: !found && e < ENTRIES ->
                d_step { assert(entry[e] == v); entry[e] = E(E_GEN(v), 0, FREE, 0) };
                goto nothing
        :: !found && e == ENTRIES ->
                goto nothing
        :: found && e == ENTRIES ->
                /* A plain get. */
                a = message[i];
                d_step { assert(message[i] == a && a == S_LAP(w) * SLOTS + i + 1); begin_use(a) };
                d_step {
                        assert(slot[i] == w);
                        slot[i] = S(S_LAP(w) + 1, EMPTY, 0);
                        finish(a);
                        forget
                };
                goto end_again
        :: found && e < ENTRIES ->
                p = S_LAP(w) * SLOTS + i;
#ifdef BREAK_HELD_BEFORE_COPY
                at[e] = p;
                d_step { v = E(E_GEN(v), 1, HELD, me); entry[e] = v; begin_use(p + 1) };
                half1[e] = message[i];
                half2[e] = message[i];
                finish_move(p, me);
#else
                half1[e] = message[i];
                half2[e] = message[i];
                at[e] = p;
#ifdef BREAK_FREE_BEFORE_HELD
                finish_move(p, me);
#endif
                d_step { assert(entry[e] == v); v = E(E_GEN(v), 1, HELD, me); entry[e] = v; begin_use(p + 1) };
                finish_move(p, me);
#endif
                goto use
        fi;

use:
        /* Entry e is ours, its word is v. */
        a = half1[e];
        b = half2[e];
        d_step { assert(a == b && a == at[e] + 1); assert(S_LAP(slot[at[e] % SLOTS]) > at[e] / SLOTS) };
        if
        :: true ->
                d_step { assert(entry[e] == v); entry[e] = E(E_GEN(v) + 1, 0, FREE, 0); finish(a) }
        :: d_step { give_backs < GIVE_BACKS -> give_backs++ };
                if
                :: E_N(v) < MAX_DELIVERIES ->
                        d_step { assert(entry[e] == v); entry[e] = E(E_GEN(v), E_N(v), READY, 0); user_of[a] = 0 }
                :: else ->
                        bury(v, e)
                fi
        fi;
        atomic { forget };
        goto end_again;

nothing:
        /* Drained?  Messages go from the ring to the entries, never back; so the ring is looked at first. */
#ifdef BREAK_ENTRIES_FIRST
        e = 0;
        do
        :: e < ENTRIES ->
                if
                :: E_KIND(entry[e]) == FREE || E_KIND(entry[e]) == FILLING -> e++
                :: else -> goto pause
                fi
        :: else -> break
        od;
#endif
        i = 0;
        do
        :: i < SLOTS ->
                if
                :: SLOT_DONE(i) -> i++
                :: else -> goto pause
                fi
        :: else -> break
        od;
#ifndef BREAK_ENTRIES_FIRST
        e = 0;
        do
        :: e < ENTRIES ->
                if
                :: E_KIND(entry[e]) == FREE || E_KIND(entry[e]) == FILLING -> e++
                :: else -> goto pause
                fi
        :: else -> break
        od;
#endif
        atomic { forget; left[me] = true; assert(finished == MESSAGES && dead_letters == buried) };
        goto over;

pause:
        atomic { forget };
        SLOTS_WORK || ENTRIES_WORK || (SLOTS_DONE && ENTRIES_DONE);
        goto end_again;
over:
        skip
        } unless {
                d_step { !alive[me] -> forget }
        }
}

active proctype putter()
{
        byte p;

        do
        :: p < MESSAGES ->
                d_step {
                        slot[p % SLOTS] == S(p / SLOTS, EMPTY, 0) ->
                        message[p % SLOTS] = p + 1;
                        slot[p % SLOTS] = S(p / SLOTS, FULL, 0);
                        p++
                }
        :: else -> break
        od
}

active proctype killer()
{
end:
        /* The consumers are alike: the first to die may as well be the first one, and the second the second. */
        do
        :: d_step { crashes < CRASHES && alive[1] && !left[1] -> alive[1] = false; crashes++ }
#if CRASHES > 1
        :: d_step { crashes < CRASHES && !alive[1] && alive[2] && !left[2] -> alive[2] = false; crashes++ }
#endif
        od
}

init {
        byte i;

        atomic {
                i = 0;
                do
                :: i < ENTRIES -> entry[i] = E(1, 0, FREE, 0); i++
                :: else -> break
                od;
                i = 1;
                do
                :: i <= USERS + KEEPERS -> alive[i] = true; run user(i); i++
                :: else -> break
                od;
                i = 0
        }
}
