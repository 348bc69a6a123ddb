/* SPDX-License-Identifier: MIT
 *
 * runs.pml: the runs of a batch: RUN places of the ring claimed with one word, as doc/design/queue.md has them.
 *
 * The ring is that of queue.pml.  One or two putters put PUTS and PUTS_2 messages, in runs where RUN places of a lap are EMPTY, else
 * one by one; GETTERS processes get in runs where RUN messages are there and the first has not come back, else one by one,
 * until nobody is left to put and nothing is left.  Up to CRASHES of them are killed, at any statement, also while they repair.
 * FILLED messages are there at first, or (DIED) the claim of somebody who has died over the first of them.
 *
 * Checked: U1 (while a run's owner is at work, nobody changes the word of any of its places), U2 (nobody claims one of them), U3
 * and U4 (each message of a published run is taken once, and none of another; what has been published is not undone),
 * and I2 to I7 of queue.pml with runs about; every survivor ends.
 */
#ifndef RUN
#define RUN 2
#endif
#ifndef SLOTS
#define SLOTS 3
#endif
#ifndef PUTS
#define PUTS 4
#endif
#ifndef PUTS_2
#define PUTS_2 0
#endif
#ifndef GETTERS
#define GETTERS 2
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef FILLED
#define FILLED 0 /* messages that are there at first */
#endif
#ifndef DIED
#define DIED 0 /* or READING_RUN, WRITING_RUN: somebody has died over a run of the FILLED ones before all begins... */
#endif
#define CORPSE 5 /* ...and this is its number */
#define PUTTERS (PUTS_2 > 0 -> 2 : 1)
#define USERS (PUTTERS + GETTERS)

#define EMPTY 0
#define WRITING 1
#define FULL 2
#define READING 3
#define WRITING_RUN 5
#define READING_RUN 6
#define CAME_BACK 7 /* in the place of the owner of a FULL slot */
#define S(lap, kind, owner) (((lap) << 6) | ((kind) << 3) | (owner))
#define LAP(w) ((w) >> 6)
#define KIND(w) (((w) >> 3) & 7)
#define OWNER(w) ((w) & 7)
#define AHEAD(w, position) (LAP(w) - (position) / SLOTS)
#define IS_WRITING(w) (KIND(w) == WRITING || KIND(w) == WRITING_RUN)
#define IS_READING(w) (KIND(w) == READING || KIND(w) == READING_RUN)
#define IS_RUN(w) (KIND(w) >= WRITING_RUN)

/* What is shared. */
short slot[SLOTS];
byte bytes[SLOTS]; /* of a message: its position, counted from 1 */
byte tail, head, settled;

bool alive[6];
byte crashes;

/* The checker's book-keeping. */
byte claims;               /* positions claimed for writing, which must be the first ones */
int committed, taken;      /* a bit a position */
byte putting, getting;     /* how many have not ended */
bool left[6];

#define BIT(position) (1 << (position))
#define RUN_BITS(position) (((1 << RUN) - 1) << (position))
#define STATE(position) slot[(position) % SLOTS]

#define CLAIMED(i) (IS_WRITING(slot[i]) || IS_READING(slot[i]))
#define DEAD(w) ((IS_WRITING(w) || IS_READING(w)) && !alive[OWNER(w)])
#define BACK(i) (KIND(slot[i]) == FULL && OWNER(slot[i]) == CAME_BACK)
/* Before a position: everything is done with; nobody is writing or has yet to. */
#define DONE(p) ((p) < 0 || AHEAD(STATE(p), p) > 0)
#define WRITTEN(p) \
        ((p) < 0 || AHEAD(STATE(p), p) > 0 || \
         (AHEAD(STATE(p), p) == 0 && !IS_WRITING(STATE(p)) && KIND(STATE(p)) != EMPTY))
#if SLOTS == 2
#define ANY(what) (what(0) || what(1))
#define DONE_UP_TO(p) (DONE(p) && DONE((p) - 1))
#define WRITTEN_BEFORE(p) WRITTEN((p) - 1)
#elif SLOTS == 3
#define ANY(what) (what(0) || what(1) || what(2))
#define DONE_UP_TO(p) (DONE(p) && DONE((p) - 1) && DONE((p) - 2))
#define WRITTEN_BEFORE(p) (WRITTEN((p) - 1) && WRITTEN((p) - 2))
#else
#define ANY(what) (what(0) || what(1) || what(2) || what(3))
#define DONE_UP_TO(p) (DONE(p) && DONE((p) - 1) && DONE((p) - 2) && DONE((p) - 3))
#define WRITTEN_BEFORE(p) (WRITTEN((p) - 1) && WRITTEN((p) - 2) && WRITTEN((p) - 3))
#endif
#define DEAD_CLAIM(i) DEAD(slot[i])

/* What a process knows for itself is set to zero where it no longer matters, so that fewer states differ. */
#define forget at = 0; start = 0; w = 0; seen = 0; i = 0

/* Each atomic sequence below has one access to what is shared, and what its process makes of it. */
inline hint_advance(hint, from, to)
{
        if
        :: hint == from -> hint = to
        :: else
        fi
}

/* Behind a position that is claimed, in state w. */
inline pass()
{
#ifdef BREAK_PASS_ONE
        at++
#else
        at = at + (AHEAD(w, at) == 0 && IS_RUN(w) -> RUN : 1)
#endif
}

/* A getter's way on. */
inline step_on()
{
        if
        :: AHEAD(w, at) > 2 ->
                at = (LAP(w) - 2) * SLOTS + at % SLOTS;
                assert(DONE_UP_TO(at)); /* I4 */
                at++
        :: else -> pass()
        fi
}

/* Whether a run may begin at `at`, as far as its other places say: all in one lap and in this state.  Each is loaded by itself.
 * (The load of the first one decides nothing that the compare-and-swap does not.) */
#define FITS (at % SLOTS + RUN <= SLOTS && (at == start || at % SLOTS != 0))

inline look_at_others(enough, state)
{
#ifndef BREAK_NO_LOOK
        atomic {
                if
                :: enough && FITS && STATE(at + 1) == state -> i = 2
                :: else -> goto no_run
                fi
        };
#if RUN > 2
        do
        :: atomic { i < RUN && STATE(at + i) == state -> i++ }
        :: atomic { i < RUN && STATE(at + i) != state -> i = 0; goto no_run }
        :: i == RUN -> break
        od;
#endif
#else
        if
        :: enough && FITS
        :: else -> goto no_run
        fi;
#endif
}

#ifdef BREAK_REPAIR_UPWARDS
#define FIRST_OTHER 1
#define NEXT_OTHER(i) ((i) + 1 == RUN -> 0 : (i) + 1)
#else
#define FIRST_OTHER (RUN - 1)
#define NEXT_OTHER(i) ((i) - 1)
#endif

/* The other places of a run, whose owner is dead: the load of each, and the compare-and-swap. */
inline repair_others()
{
        do
        :: i > 0 ->
                seen = STATE(at + i);
                atomic {
                        if
                        :: KIND(w) == READING_RUN && seen == S(LAP(w), FULL, 0) && STATE(at + i) == seen ->
#ifndef BREAK_MARK_FIRST_ONLY
                                STATE(at + i) = S(LAP(w), FULL, CAME_BACK)
#endif
                        :: KIND(w) == WRITING_RUN && (seen == S(LAP(w), FULL, 0) || seen == S(LAP(w), EMPTY, 0)) &&
                           STATE(at + i) == seen ->
                                assert(!(committed & BIT(at + i))); /* U4 */
                                STATE(at + i) = S(LAP(w) + 1, EMPTY, 0)
                        :: else
                        fi;
                        seen = 0;
                        i = NEXT_OTHER(i)
                }
        :: else -> break
        od
}

/* The first one, or the only one. */
inline repair_first()
{
        atomic {
                if
                :: STATE(at) == w && IS_WRITING(w) -> STATE(at) = S(LAP(w) + 1, EMPTY, 0); came_back = false
                :: STATE(at) == w && IS_READING(w) ->
#ifdef BREAK_NO_MARK
                        STATE(at) = S(LAP(w), FULL, 0);
#else
                        STATE(at) = S(LAP(w), FULL, CAME_BACK);
#endif
                        came_back = true
                :: else -> came_back = false
                fi
        }
}

/* The claim w at the position `at`, whose owner has been proved dead, is undone. */
inline repair()
{
#ifdef BREAK_FIRST_REPAIRED_FIRST
        repair_first();
        i = (IS_RUN(w) -> FIRST_OTHER : 0);
        repair_others();
#else
        /* What the words of the others say is the run's only if this is still the run, behind the proof. */
        atomic {
                if
#ifdef BREAK_NO_RECHECK
                :: IS_RUN(w) -> i = FIRST_OTHER
#else
                :: IS_RUN(w) && STATE(at) == w -> i = FIRST_OTHER
                :: IS_RUN(w) && STATE(at) != w -> w = 0
#endif
                :: !IS_RUN(w)
                fi
        };
        repair_others();
        repair_first();
#endif
        /* Getters may have gone past it.  If the head is not set back, find_strays finds the message. */
        if
        :: came_back && at < head -> came_back = false; head = at
        :: else -> came_back = false
        fi
}

proctype putter(byte me; byte puts)
{
        short w, seen;
        byte at, start, n, i;
        bool came_back;

        {
        skip;
again:
        atomic {
                if
                :: n == puts -> goto over
                :: else -> start = tail; at = start
                fi
        };
batch:
        look_at_others(puts - n >= RUN, S(at / SLOTS, EMPTY, 0));
        atomic {
                if
                :: STATE(at) == S(at / SLOTS, EMPTY, 0) ->
                        w = S(at / SLOTS, WRITING_RUN, me);
                        STATE(at) = w;
                        assert(at == claims); /* I2 */
                        claims = claims + RUN;
                        i = 0
                :: else -> i = 0; goto no_run
                fi
        };
#ifdef BREAK_PUBLISH_FIRST
        atomic { STATE(at) = S(LAP(w), FULL, 0); committed = committed | RUN_BITS(at) };
#endif
        do
        :: i < RUN ->
                bytes[(at + i) % SLOTS] = at + i + 1;
                atomic {
                        if
                        :: i > 0 -> assert(STATE(at + i) == S(LAP(w), EMPTY, 0)); STATE(at + i) = S(LAP(w), FULL, 0) /* U1 */
                        :: else
                        fi;
                        i++
                }
        :: else -> break
        od;
        atomic {
#ifndef BREAK_PUBLISH_FIRST
                assert(STATE(at) == w);
                STATE(at) = S(LAP(w), FULL, 0);
                committed = committed | RUN_BITS(at);
#endif
                w = 0;
                i = 0;
                at = at + RUN;
                n = n + RUN;
                goto batch
        };
no_run:
        atomic {
                if
                :: at == start -> goto look
                :: at != start && tail == start -> skip
                :: else -> goto again
                fi
        };
        tail = at;
        goto again;

look:
        atomic {
                w = STATE(at);
                if
                :: AHEAD(w, at) < 0 -> goto no_place
                :: AHEAD(w, at) == 0 && KIND(w) == EMPTY -> skip
                :: else ->
                        if
                        :: AHEAD(w, at) > 1 -> at = (LAP(w) - 1) * SLOTS + at % SLOTS; at++
                        :: else -> pass()
                        fi;
                        assert(at <= claims); /* I3 */
                        goto look
                fi
        };
        atomic {
                if
                :: STATE(at) == w ->
                        w = S(LAP(w), WRITING, me);
                        STATE(at) = w;
                        assert(at == claims); /* I2 */
                        claims++
                :: else -> goto look
                fi
        };
        hint_advance(tail, start, at + 1);
        bytes[at % SLOTS] = at + 1;
        atomic { assert(STATE(at) == w); STATE(at) = S(LAP(w), FULL, 0); committed = committed | BIT(at); forget; n++ };
        goto again;

no_place:
        hint_advance(tail, start, at);
        atomic {
                at = LAP(w) * SLOTS + at % SLOTS;
                start = 0;
                if
                :: DEAD(w) -> skip
                :: else -> goto pause
                fi
        };
        repair();
        atomic { forget };
        goto again;
pause:
        atomic {
                STATE(at) != w || DEAD(w) || getting == 0 -> forget;
                if
                :: getting == 0 -> goto over
                :: else -> goto again
                fi
        };
over:
        atomic { forget; n = 0; left[me] = true; putting-- }
        } unless {
                d_step { !alive[me] -> forget; n = 0; came_back = false; putting-- }
        }
}

proctype getter(byte me)
{
        short w, seen, sight_state;
        byte at, start, i, sight;
        bool came_back, busy;

        {
        skip;
again:
        atomic { start = head; at = start };
batch:
        look_at_others(true, S(at / SLOTS, FULL, 0));
        atomic {
                if
#ifdef BREAK_START_AT_CAME_BACK
                :: AHEAD(STATE(at), at) == 0 && KIND(STATE(at)) == FULL ->
#else
                :: STATE(at) == S(at / SLOTS, FULL, 0) ->
#endif
                        w = S(at / SLOTS, READING_RUN, me);
                        STATE(at) = w;
                        assert(WRITTEN_BEFORE(at)); /* I5 */
                        i = 0
                :: else -> i = 0; goto no_run
                fi
        };
#ifdef BREAK_FREE_FIRST
        atomic { STATE(at) = S(LAP(w) + 1, EMPTY, 0); taken = taken | BIT(at) };
#endif
        do
        :: i < RUN ->
                assert(bytes[(at + i) % SLOTS] == at + i + 1); /* I7, U3 */
                atomic {
                        if
                        :: i > 0 ->
                                assert(STATE(at + i) == S(LAP(w), FULL, 0)); /* U1 */
                                assert(committed & BIT(at + i) && !(taken & BIT(at + i)));
                                STATE(at + i) = S(LAP(w) + 1, EMPTY, 0);
                                taken = taken | BIT(at + i)
                        :: else
                        fi;
                        i++
                }
        :: else -> break
        od;
        atomic {
#ifndef BREAK_FREE_FIRST
                assert(STATE(at) == w);
                assert(committed & BIT(at) && !(taken & BIT(at)));
                STATE(at) = S(LAP(w) + 1, EMPTY, 0);
                taken = taken | BIT(at);
#endif
                w = 0;
                i = 0;
                at = at + RUN;
                goto batch
        };
no_run:
        atomic {
                if
                :: at == start -> goto look
                :: at != start && head == start -> skip
                :: else -> goto again
                fi
        };
        head = at;
        goto again;

look:
        atomic {
                w = STATE(at);
                if
                :: AHEAD(w, at) < 0 || (AHEAD(w, at) == 0 && (KIND(w) == EMPTY || IS_WRITING(w))) -> goto nothing
                :: AHEAD(w, at) == 0 && KIND(w) == FULL -> skip
                :: else -> step_on(); goto look
                fi
        };
        atomic {
                if
                :: STATE(at) == w ->
                        w = S(LAP(w), READING, me);
                        STATE(at) = w;
                        assert(WRITTEN_BEFORE(at)) /* I5 */
                :: else -> goto look
                fi
        };
        hint_advance(head, start, at + 1);
        assert(bytes[at % SLOTS] == at + 1); /* I7, U3 */
        atomic {
                assert(STATE(at) == w); /* U2 */
                assert(committed & BIT(at) && !(taken & BIT(at)));
                STATE(at) = S(LAP(w) + 1, EMPTY, 0);
                taken = taken | BIT(at);
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
                :: AHEAD(w, at) == 0 && IS_WRITING(w) && !alive[OWNER(w)] -> skip
                :: else -> goto strays
                fi
        };
        repair();
        atomic { forget; sight = 0; sight_state = 0 };
        goto again;

strays:
        /* Messages that came back, and those who are still reading. */
        atomic { start = settled; at = start };
walk:
        atomic {
                w = STATE(at);
                if
                :: AHEAD(w, at) > 0 -> step_on(); goto walk
                :: else
                fi
        };
        if
        :: !busy -> hint_advance(settled, start, at)
        :: else
        fi;
        atomic {
                start = at;
                if
                :: AHEAD(w, at) == 0 && KIND(w) == FULL -> goto found
                :: AHEAD(w, at) == 0 && IS_READING(w) -> skip
                :: else -> goto walked
                fi
        };
        atomic {
                if
                :: !alive[OWNER(w)] -> skip
                :: else -> busy = true; pass(); goto walk
                fi
        };
        repair();
        atomic { forget; sight = 0; sight_state = 0; busy = false };
        goto again;
found:
        atomic { head = at; forget; sight = 0; sight_state = 0; busy = false };
        goto again;
walked:
        /* Nothing can come any more if nobody is left to put, nobody is reading, and the end of the queue is where it was. */
        atomic {
                forget;
                if
                :: !busy && sight_state == S(sight / SLOTS, EMPTY, 0) && putting == 0 && STATE(sight) == sight_state ->
                        assert(taken == committed); /* I6 */
                        goto over
                :: else
                fi
        };
        /* A message that has come back, or a dead one's claim, is found from anywhere. */
        atomic {
                STATE(sight) != sight_state || ANY(DEAD_CLAIM) || ANY(BACK) || (putting == 0 && !ANY(CLAIMED)) ->
                sight = 0;
                sight_state = 0;
                busy = false
        };
        goto again;
over:
        atomic { sight = 0; sight_state = 0; busy = false; left[me] = true; getting-- }
        } unless {
                d_step { !alive[me] -> forget; sight = 0; sight_state = 0; busy = false; came_back = false; getting-- }
        }
}

active proctype killer()
{
end:
        /* The getters are alike: let the first be the first to die. */
        do
        :: d_step { crashes < CRASHES && alive[1] && !left[1] -> alive[1] = false; crashes++ }
#if PUTS_2 > 0
        :: d_step { crashes < CRASHES && alive[2] && !left[2] -> alive[2] = false; crashes++ }
#endif
        :: d_step { crashes < CRASHES && alive[PUTTERS + 1] && !left[PUTTERS + 1] -> alive[PUTTERS + 1] = false; crashes++ }
#if GETTERS > 1
        :: d_step {
                crashes < CRASHES && !alive[PUTTERS + 1] && alive[PUTTERS + 2] && !left[PUTTERS + 2] ->
                alive[PUTTERS + 2] = false;
                crashes++
           }
#endif
        od
}

init {
        byte i = 1;

        atomic {
                putting = PUTTERS;
                getting = GETTERS;
                do
                :: i <= USERS -> alive[i] = true; i++
                :: else -> break
                od;
                run putter(1, PUTS);
#if PUTS_2 > 0
                run putter(2, PUTS_2);
#endif
                i = 0;
                do
                :: i < FILLED -> slot[i] = S(0, FULL, 0); bytes[i] = i + 1; committed = committed | BIT(i); i++
                :: else -> break
                od;
                tail = FILLED;
                claims = FILLED;
#if DIED == READING_RUN
                slot[0] = S(0, READING_RUN, CORPSE);
#elif DIED == WRITING_RUN
                slot[0] = S(0, WRITING_RUN, CORPSE);
                committed = committed & ~RUN_BITS(0);
#endif
                i = 1;
                do
                :: i <= GETTERS -> run getter(PUTTERS + i); i++
                :: else -> break
                od;
                i = 0
        }
}
