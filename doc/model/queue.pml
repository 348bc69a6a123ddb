/* SPDX-License-Identifier: MIT
 *
 * queue.pml: the ring: slots, hints, repair, redelivery and the seal of a closed ring, as doc/design/queue.md has them.
 *
 * PUTTERS processes put PUTS messages each, or less if somebody closes the ring before; GETTERS processes get until they are told that
 * it is closed and empty.  Up to CRASHES of them are killed, at any statement.  A position is a number, lap * SLOTS + index.
 *
 * Checked: I1 (laps only grow), I2 (positions are claimed in order), I3 and I4 (nothing that a jump passes over is of use to who jumps),
 * I5 (nobody takes a message while an earlier one is being written), I6 (a redelivered message is found: a getter that is told
 * "closed and empty" is right), I7 (no half-written message is seen); each committed message is taken once and none is lost;
 * every survivor ends.
 */
#ifndef SLOTS
#define SLOTS 2
#endif
#ifndef PUTTERS
#define PUTTERS 2
#endif
#ifndef GETTERS
#define GETTERS 2
#endif
#ifndef PUTS
#define PUTS 1
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#define MOST 12 /* positions: puts, and those that were skipped or only looked at */

#define EMPTY 0
#define WRITING 1
#define FULL 2
#define READING 3
#define CLOSED 4
#define S(lap, kind, owner) (((lap) << 6) | ((kind) << 3) | (owner))
#define LAP(w) ((w) >> 6)
#define KIND(w) (((w) >> 3) & 7)
#define OWNER(w) ((w) & 7)
#define AHEAD(w, position) (LAP(w) - (position) / SLOTS)

/* What is shared. */
short slot[SLOTS];
byte half1[SLOTS], half2[SLOTS];
byte tail, head, settled;
bool closed;

bool alive[PUTTERS + GETTERS + 1];
byte crashes;

/* The checker's book-keeping. */
byte claims;                       /* positions claimed for writing, which must be the first ones */
byte committed, taken;
bool told, left[PUTTERS + GETTERS + 1]; /* a getter was told that nothing will come any more */

/* What a process waits for that has found nothing.  (A message behind a claim ends the wait, too: it looks again and again.) */
#define DEAD_CLAIM(i) ((KIND(slot[i]) == WRITING || KIND(slot[i]) == READING) && !alive[OWNER(slot[i])])
#define CLAIM(i) (KIND(slot[i]) == WRITING || KIND(slot[i]) == READING)
#if SLOTS == 1
#define ANY(kind) (KIND(slot[0]) == kind)
#define ANY_DEAD_CLAIM DEAD_CLAIM(0)
#define ANY_CLAIM CLAIM(0)
#define WRITTEN_BEFORE(p) true
#define DONE_BEFORE(p) true
#else
#define ANY(kind) (KIND(slot[0]) == kind || KIND(slot[1]) == kind)
#define ANY_DEAD_CLAIM (DEAD_CLAIM(0) || DEAD_CLAIM(1))
#define ANY_CLAIM (CLAIM(0) || CLAIM(1))
#define DONE_BEFORE(p) (AHEAD(slot[((p) + 1) % 2], (p) - 1) > 0)
/* The position before p, and so all before it, is not one that a putter is at work on or has not claimed. */
#define WRITTEN_BEFORE(p) \
        ((p) == 0 || AHEAD(slot[((p) + 1) % 2], (p) - 1) > 0 || \
         (AHEAD(slot[((p) + 1) % 2], (p) - 1) == 0 && \
          (KIND(slot[((p) + 1) % 2]) == FULL || KIND(slot[((p) + 1) % 2]) == READING)))
#endif

/* What a process knows for itself is set to zero where it no longer matters, so that fewer states differ. */
#define forget at = 0; start = 0; w = 0; busy = false; sight = 0; sight_state = 0

/* Each atomic sequence below has one access to what is shared, and what its process makes of it. */
inline hint_advance(hint, from, to)
{
        if
        :: hint == from -> hint = to
        :: else
        fi
}

inline step_on()
{
        if
        :: AHEAD(w, at) > 2 ->
                at = (LAP(w) - 2) * SLOTS + at % SLOTS;
                assert(DONE_BEFORE(at)) /* I4 */
        :: else
        fi;
        at++
}

/* The claim of a dead process, of lap LAP(w) and in slot at % SLOTS, is undone. */
inline repair()
{
        atomic {
                if
                :: slot[at % SLOTS] == w && KIND(w) == WRITING ->
                        slot[at % SLOTS] = S(LAP(w) + 1, EMPTY, 0);
                        at = 255
                :: slot[at % SLOTS] == w && KIND(w) == READING ->
                        slot[at % SLOTS] = S(LAP(w), FULL, 0);
                        at = LAP(w) * SLOTS + at % SLOTS
                :: else -> at = 255
                fi
        };
        /* Getters may have gone past it.  If the head is not set back, find_strays finds the message. */
        if
        :: at < head -> head = at
        :: else
        fi
}

proctype putter(byte me)
{
        short w, sight_state;
        byte at, start, n, sight;
        bool busy;

        {
        skip;
again:
        if
        :: n == PUTS -> goto over
        :: else
        fi;
        atomic { start = tail; at = start };
        atomic {
                if
                :: closed -> goto over
                :: else
                fi
        };
look:
        atomic {
                w = slot[at % SLOTS];
                if
                :: AHEAD(w, at) < 0 -> goto no_place
                :: AHEAD(w, at) == 0 && KIND(w) == CLOSED -> goto over
                :: AHEAD(w, at) == 0 && KIND(w) == EMPTY -> skip
                :: else ->
                        if
                        :: AHEAD(w, at) > 1 -> at = (LAP(w) - 1) * SLOTS + at % SLOTS
                        :: else
                        fi;
                        at++;
                        assert(at <= claims); /* I3 */
                        goto look
                fi
        };
        atomic {
                if
                :: slot[at % SLOTS] == w ->
                        w = S(LAP(w), WRITING, me);
                        slot[at % SLOTS] = w;
                        assert(at == claims && !told); /* I2 */
                        claims++;
                        assert(claims < MOST)
                :: else -> goto look
                fi
        };
        hint_advance(tail, start, at + 1);
#ifdef BREAK_PUBLISH_EARLY
        atomic { assert(slot[at % SLOTS] == w && !told); slot[at % SLOTS] = S(LAP(w), FULL, 0); committed++ };
        half1[at % SLOTS] = at + 1;
        atomic { half2[at % SLOTS] = at + 1; forget; n++ };
#else
        half1[at % SLOTS] = at + 1;
        half2[at % SLOTS] = at + 1;
        atomic { assert(slot[at % SLOTS] == w && !told); slot[at % SLOTS] = S(LAP(w), FULL, 0); committed++; forget; n++ };
#endif
        goto again;

no_place:
        hint_advance(tail, start, at);
        atomic {
                if
                :: (KIND(w) == WRITING || KIND(w) == READING) && OWNER(w) != me && !alive[OWNER(w)] -> skip
                :: else -> goto pause
                fi
        };
        repair();
pause:
        atomic { forget };
        ANY(EMPTY) || ANY(CLOSED) || ANY_DEAD_CLAIM || closed;
        goto again;
over:
        atomic { forget; n = 0; left[me] = true }
        } unless {
                d_step { !alive[me] -> forget; n = 0 }
        }
}

proctype getter(byte me)
{
        short w, sight_state;
        byte at, start, sight;
        bool busy;

        {
        skip;
again:
        atomic { start = head; at = start };
look:
        atomic {
                w = slot[at % SLOTS];
                if
                :: AHEAD(w, at) < 0 || (AHEAD(w, at) == 0 && (KIND(w) == EMPTY || KIND(w) == CLOSED)) -> goto nothing
                :: AHEAD(w, at) == 0 && KIND(w) == WRITING ->
#ifdef BREAK_PASS_WRITING
                        if
                        :: slot[(at + 1) % SLOTS] == S((at + 1) / SLOTS, FULL, 0) -> at++; goto look
                        :: else -> goto nothing
                        fi
#else
                        goto nothing
#endif
                :: AHEAD(w, at) == 0 && KIND(w) == FULL -> skip
                :: else -> step_on(); goto look
                fi
        };
        atomic {
                if
                :: slot[at % SLOTS] == w ->
                        w = S(LAP(w), READING, me);
                        slot[at % SLOTS] = w;
                        assert(WRITTEN_BEFORE(at)) /* I5 */
                :: else -> goto look
                fi
        };
        hint_advance(head, start, at + 1);
        assert(half1[at % SLOTS] == at + 1); /* I7 */
        assert(half2[at % SLOTS] == at + 1);
        atomic {
#ifndef BREAK_NO_PROOF
                assert(slot[at % SLOTS] == w);
#endif
                slot[at % SLOTS] = S(LAP(w) + 1, EMPTY, 0);
                taken++;
                forget
        };
        goto again;

nothing:
        /* Nothing at `at`, where w was: look closer. */
        hint_advance(head, start, at);
        atomic {
                sight = at;
                sight_state = w;
                if
#ifdef BREAK_NO_PROOF
                :: AHEAD(w, at) == 0 && KIND(w) == WRITING -> skip
#else
                :: AHEAD(w, at) == 0 && KIND(w) == WRITING && !alive[OWNER(w)] -> skip
#endif
                :: else -> goto strays
                fi
        };
        repair();
        atomic { forget };
        goto again;

strays:
        /* Messages that came back, and those who are still reading. */
#ifndef BREAK_NO_STRAYS
        atomic { start = settled; at = start };
walk:
        atomic {
                w = slot[at % SLOTS];
                if
                :: AHEAD(w, at) == 0 && KIND(w) == FULL -> goto found
                :: AHEAD(w, at) == 0 && KIND(w) == READING -> goto reading
                :: AHEAD(w, at) > 0 -> goto passed
                :: else -> goto walked
                fi
        };
reading:
        atomic {
                if
                :: !alive[OWNER(w)] -> skip
                :: else -> busy = true; goto passed
                fi
        };
        repair();
        atomic { forget };
        goto again;
found:
        atomic { head = at; forget };
        goto again;
passed:
        atomic {
                step_on();
                if
                :: busy -> goto walk
                :: else
                fi
        };
        hint_advance(settled, start, at);
        atomic { start = at; goto walk };
#endif
walked:
        atomic {
                at = 0;
                start = 0;
                w = 0;
                if
                :: busy || AHEAD(sight_state, sight) != 0 -> goto pause
                :: !busy && AHEAD(sight_state, sight) == 0 && KIND(sight_state) == CLOSED -> goto told_so
                :: !busy && AHEAD(sight_state, sight) == 0 && KIND(sight_state) == EMPTY && closed -> skip
                :: else -> goto pause
                fi
        };
#ifndef BREAK_NO_SEAL
        atomic {
                if
                :: slot[sight % SLOTS] == sight_state -> slot[sight % SLOTS] = S(LAP(sight_state), CLOSED, 0)
                :: else -> forget; goto again
                fi
        };
#endif
told_so:
        atomic { forget; told = true; left[me] = true; assert(taken == committed); goto over }; /* I6 */
pause:
        atomic { forget };
        ANY(FULL) || ANY(CLOSED) || ANY_DEAD_CLAIM || (closed && !ANY_CLAIM);
        goto again;
over:
        skip
        } unless {
                d_step { !alive[me] -> forget }
        }
}

active proctype closer()
{
        closed = true
}

active proctype killer()
{
end:
        /* The putters are alike, and the getters: of each, let the first be the first to die. */
        do
        :: d_step { crashes < CRASHES && alive[1] && !left[1] -> alive[1] = false; crashes++ }
        :: d_step { crashes < CRASHES && alive[PUTTERS + 1] && !left[PUTTERS + 1] -> alive[PUTTERS + 1] = false; crashes++ }
#if CRASHES > 1 && PUTTERS > 1
        :: d_step { crashes < CRASHES && !alive[1] && alive[2] && !left[2] -> alive[2] = false; crashes++ }
#endif
        od
}

init {
        byte i = 1;

        atomic {
                do
                :: i <= PUTTERS + GETTERS ->
                        alive[i] = true;
                        if
                        :: i <= PUTTERS -> run putter(i)
                        :: else -> run getter(i)
                        fi;
                        i++
                :: else -> break
                od
        }
}
