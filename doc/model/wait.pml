/* SPDX-License-Identifier: MIT
 *
 * wait.pml: going to sleep with an asymmetric barrier.
 *
 * A putter publishes with a plain store, which stays in its store buffer (one place deep, as on x86) until the memory takes it, a
 * locked instruction of its own or another's barrier drains it; then it loads the wait word, without a fence.  A getter that
 * finds nothing sets the SLEEPERS bit, has everybody's store buffers drained, looks again and sleeps.  One that is woken looks
 * first; if it has got a message, and MANY says that there may be other sleepers, it sets the bit again, and wakes the next if
 * there is more.  The kernel wakes the one that has slept longest, unless ANY_ORDER.
 *
 * A slice of sleep ends only when nothing else in the whole system can move (Promela's `timeout`).  Checked: while nobody has been
 * killed, no slice is ever needed; after a death, the getter whose slice ends finds what is there, and none is left asleep
 * beside a message.
 */
#ifndef PUTTERS
#define PUTTERS 2
#endif
#ifndef PUTS
#define PUTS 1
#endif
#ifndef BATCH
#define BATCH 1 /* messages that a put publishes with one store, as a run */
#endif
#ifndef RETURNS
#define RETURNS 0 /* messages that somebody holds, and gives back: where nobody looks for more who was woken */
#endif
#ifndef GETTERS
#define GETTERS 2
#endif
#ifndef GETS
#define GETS 1
#endif
#ifndef CRASHES
#define CRASHES 0
#endif

#define SLEEPERS 1
#define MANY 2
#define EVENT 4

#ifdef BREAK_NO_COUNT
#define COUNT_UP 0
#else
#define COUNT_UP EVENT
#endif
#ifdef BREAK_NO_MANY
#define MANY_BIT 0
#else
#define MANY_BIT MANY
#endif
#ifdef BREAK_LAST_NOT_COMPARED
#define IS_ANOTHERS(last) (last == 0)
#else
#define IS_ANOTHERS(last) (word != last)
#endif

/* What is shared: the messages that can be seen, and the wait word. */
byte items, returned, word;

/* What the hardware and the kernel know. */
bool buffered[PUTTERS + 1]; /* a message whose store has not reached the memory */
byte asleep[4]; /* in which place of the row */
bool alive[PUTTERS + GETTERS + 1];
byte crashes, ended;

#define drain(p) \
        if \
        :: buffered[p] -> buffered[p] = false; items = items + BATCH \
        :: else \
        fi

#define ANY_ASLEEP (asleep[1] || asleep[2] || asleep[3])
#ifndef ANY_ORDER
#define NEXT(g) (asleep[g] == 1)
#define LAST_PLACE (1 + (asleep[1] > 0) + (asleep[2] > 0) + (asleep[3] > 0))
#define move_up(g, place) \
        if \
        :: asleep[g] > place -> asleep[g]-- \
        :: else \
        fi
inline get_up(g)
{
        d_step {
                place = asleep[g];
                asleep[g] = 0;
                if
                :: place > 0 -> move_up(1, place); move_up(2, place); move_up(3, place)
                :: else
                fi;
                place = 0
        }
}
byte place; /* 0 but within a step */
#else
#define NEXT(g) asleep[g]
#define LAST_PLACE 1
#define get_up(g) asleep[g] = 0
#endif

/* membarrier(2): everybody's store buffers. */
inline barrier()
{
        d_step {
                drain(1);
#if PUTTERS > 1
                drain(2);
#endif
#if PUTTERS > 2
                drain(3);
#endif
                skip
        }
}

/* futex_wake(): one of the sleepers, whichever; s stays if there is none. */
inline futex_wake_one()
{
        if
        :: NEXT(1) -> get_up(1); s = 0
#if GETTERS > 1
        :: NEXT(2) -> get_up(2); s = 0
#endif
#if GETTERS > 2
        :: NEXT(3) -> get_up(3); s = 0
#endif
        :: !ANY_ASLEEP -> skip
        fi
}

/* waitword_wake_slow(): clear the bit and count up, in a loop of compare-and-swap, which is one step; the system call; and if it
 * has woken nobody, nobody is left asleep, unless the word has changed since. */
inline wake_one()
{
        d_step { word = (word + COUNT_UP) & ~SLEEPERS; s = word };
#ifdef BREAK_MANY_CLEARED_ALWAYS
        atomic { futex_wake_one(); s = word };
#else
        atomic { futex_wake_one() };
#endif
        atomic {
                if
#ifdef BREAK_MANY_CLEARED_BLIND
                :: s & MANY -> word = word & ~MANY
#else
                :: s & MANY && word == s -> word = s & ~MANY
#endif
                :: else
                fi;
                s = 0
        }
}

proctype putter(byte me)
{
        byte n, s;

        {
        skip;
        do
        :: n < PUTS ->
                /* The claim is a locked instruction: it drains this process's buffer. */
                d_step { drain(me) };
                buffered[me] = true;
                if
                :: word & SLEEPERS ->
                        /* A compare-and-swap follows, which drains the buffer as well. */
                        d_step { drain(me) };
                        wake_one()
                :: else
                fi;
                n++
        :: else -> break
        od
        } unless {
                d_step { !alive[me] -> n = 0; s = 0 }
        }
}

/* A look at the ring: first where the head is, which is set back when a message comes back. */
inline look()
{
#if RETURNS > 0
        atomic {
                if
                :: returned > 0 -> returned--; goto done
                :: else
                fi
        };
#endif
        atomic {
                if
                :: items > 0 -> items--; goto done
                :: else
                fi
        }
}

/* waitword_prepare(): set the bit, in one step as above; and MANY, if the bit was set already and not by this call. */
inline prepare(last)
{
        d_step {
#ifdef BREAK_BARRIER_ONCE
                was_set = word & SLEEPERS;
#endif
                if
                :: word & SLEEPERS && IS_ANOTHERS(last) -> word = word | SLEEPERS | MANY_BIT
                :: else -> word = word | SLEEPERS
                fi;
                prepared = word
        }
}

proctype getter(byte me)
{
        byte n, s, prepared;
        bool slept, got;
#ifdef BREAK_BARRIER_ONCE
        bool was_set;
#endif

        {
        skip;
        do
        :: n < GETS ->
                /* The first look; or who was woken looks: what it finds needs no preparations. */
again:
                look();
#ifdef BREAK_BARRIER_BEFORE_BIT
                barrier();
#endif
                prepare(prepared);
#if !defined(BREAK_NO_BARRIER) && !defined(BREAK_BARRIER_BEFORE_BIT)
#ifdef BREAK_BARRIER_ONCE
                /* Who finds the bit set trusts that who has set it has also executed the barrier. */
                if
                :: !was_set -> barrier()
                :: else
                fi;
#else
                barrier();
#endif
#endif
#ifndef BREAK_NO_SECOND_LOOK
                look();
#endif
#if RETURNS > 0
                /* Before it sleeps, it looks behind the head (find_strays). */
                if
                :: returned > 0 -> goto again
                :: else
                fi;
#endif
                /* futex_wait: the kernel compares the word once more. */
                d_step {
                        if
                        :: word == prepared -> asleep[me - PUTTERS] = LAST_PLACE
                        :: else
                        fi
                };
                if
                :: atomic {
                        !asleep[me - PUTTERS] ->
                        slept = true;
#ifndef BREAK_WOKEN_REMEMBERS
                        prepared = 0
#endif
                   }
                :: timeout ->
                        /* Nothing moves but the clock. */
                        assert(crashes > 0);
                        if
                        :: items + returned > 0 -> get_up(me - PUTTERS); slept = true
                        :: else -> goto over
                        fi
                fi;
                goto again;
done:
                /* The wake may have been the only one for several messages, and the waker has taken the bit away from all. */
                if
#ifdef BREAK_NO_CHAIN
                :: false
#else
                :: slept && word & MANY ->
#endif
#ifdef BREAK_MORE_BEFORE_BIT
                        got = items > 0;
#endif
#ifndef BREAK_BIT_NOT_AGAIN
                        prepare(0);
                        barrier();
#endif
#ifndef BREAK_MORE_BEFORE_BIT
                        got = items > 0;
#endif
                        if
#ifdef BREAK_BIT_NOT_AGAIN
                        :: got -> wake_one()
#else
                        :: got && word & SLEEPERS -> wake_one()
#endif
                        :: else
                        fi
                :: else
                fi;
                atomic { got = false; slept = false; prepared = 0; n++ }
        :: else -> break
        od;
over:
        atomic { ended++; n = 0; prepared = 0; slept = false }
        } unless {
                d_step {
                        !alive[me] ->
                        get_up(me - PUTTERS);
                        ended++;
                        n = 0; s = 0; prepared = 0; slept = false; got = false
                }
        }
}

#if RETURNS > 0
/* Somebody gives messages back, one by one. */
proctype returner()
{
        byte n, s;

        do
        :: n < RETURNS ->
                returned++;
#ifndef BREAK_RETURN_WAKES_ONE
                if
                :: word & (SLEEPERS | MANY) ->
                        d_step { word = (word + COUNT_UP) & ~SLEEPERS; s = word };
                        d_step { asleep[1] = 0; asleep[2] = 0; asleep[3] = 0 };
                        atomic {
                                if
                                :: s & MANY && word == s -> word = s & ~MANY
                                :: else
                                fi;
                                s = 0
                        }
                :: else
                fi;
#else
                if
                :: word & SLEEPERS -> wake_one()
                :: else
                fi;
#endif
                n++
        :: else -> break
        od
}
#endif

/* Store buffers drain by themselves, some time. */
active proctype memory()
{
end:
        do
        :: d_step { buffered[1] -> buffered[1] = false; items = items + BATCH }
#if PUTTERS > 1
        :: d_step { buffered[2] -> buffered[2] = false; items = items + BATCH }
#endif
#if PUTTERS > 2
        :: d_step { buffered[3] -> buffered[3] = false; items = items + BATCH }
#endif
        od
}

active proctype killer()
{
        /* It may stop at any time: that nothing else moves must not depend on it. */
        do
        :: d_step { crashes < CRASHES && alive[1] -> alive[1] = false; crashes++ }
        :: d_step { crashes < CRASHES && alive[PUTTERS + 1] -> alive[PUTTERS + 1] = false; crashes++ }
#if CRASHES > 1
        :: d_step { crashes < CRASHES && alive[2] -> alive[2] = false; crashes++ }
        :: d_step { crashes < CRASHES && alive[PUTTERS + 2] -> alive[PUTTERS + 2] = false; crashes++ }
#endif
        :: break
        od
}

init {
        byte i = 1;

        atomic {
#if RETURNS > 0
                run returner();
#endif
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
        };
        /* The living have all ended: no message may lie there that one of them waited for. */
        ended == GETTERS;
        assert(crashes > 0 || items + returned == 0)
}
