/* SPDX-License-Identifier: MIT
 *
 * wait.pml: going to sleep with an asymmetric barrier.
 *
 * A putter publishes with a plain store, which stays in its store buffer (one place deep, as on x86) until the memory takes it, a
 * locked instruction of its own or another's barrier drains it; then it loads the wait word, without a fence.  A getter that
 * finds nothing sets the SLEEPERS bit, has everybody's store buffers drained, looks again and sleeps.
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
#define EVENT 2

/* What is shared: the messages that can be seen, and the wait word. */
byte items, word;

/* What the hardware and the kernel know. */
bool buffered[PUTTERS + 1]; /* a message whose store has not reached the memory */
bool asleep[GETTERS + 1];
bool alive[PUTTERS + GETTERS + 1];
byte crashes, ended;

#define drain(p) \
        if \
        :: buffered[p] -> buffered[p] = false; items++ \
        :: else \
        fi

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

/* Clear the bit, count up, wake one: the compare-and-swap, and then the system call. */
inline wake_one()
{
        do
        :: s = word;
#ifdef BREAK_NO_COUNT
           d_step {
                if
                :: word == s -> word = s & ~SLEEPERS; s = 255
                :: else
                fi
           };
#else
           d_step {
                if
                :: word == s -> word = (s + EVENT) & ~SLEEPERS; s = 255
                :: else
                fi
           };
#endif
           if
           :: s == 255 -> break
           :: else
           fi
        od;
        s = 0;
        if
        :: asleep[1] -> asleep[1] = false
#if GETTERS > 1
        :: asleep[2] -> asleep[2] = false
#endif
#if GETTERS > 2
        :: asleep[3] -> asleep[3] = false
#endif
        :: !(asleep[1]
#if GETTERS > 1
             || asleep[2]
#endif
#if GETTERS > 2
             || asleep[3]
#endif
             ) -> skip
        fi
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

proctype getter(byte me)
{
        byte n, s, prepared;
        bool slept, got, was_set;

        {
        skip;
        do
        :: n < GETS ->
                do
                :: d_step { prepared = word | SLEEPERS; was_set = word & SLEEPERS };
#ifdef BREAK_BARRIER_BEFORE_BIT
                   barrier();
#endif
                   if
                   :: was_set
                   :: atomic { !was_set && word == (prepared & ~SLEEPERS) -> word = prepared }
                   :: !was_set && word != (prepared & ~SLEEPERS) -> goto prepare_again
                   fi;
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
                   d_step {
                        if
                        :: items > 0 -> items--; got = true
                        :: else
                        fi
                   };
#else
                   if
                   :: slept ->
                        d_step {
                                if
                                :: items > 0 -> items--; got = true
                                :: else
                                fi
                        }
                   :: else
                   fi;
#endif
                   if
                   :: got ->
                        /* The wake may have been the only one for several messages. */
#ifndef BREAK_NO_CHAIN
                        if
                        :: slept && (word & SLEEPERS) && items > 0 -> wake_one()
                        :: else
                        fi;
#endif
                        break
                   :: else
                   fi;
                   /* futex_wait: the kernel compares the word once more. */
                   d_step {
                        if
                        :: word == prepared -> asleep[me - PUTTERS] = true
                        :: else
                        fi
                   };
                   if
                   :: !asleep[me - PUTTERS] -> slept = true
                   :: timeout ->
                        /* Nothing moves but the clock. */
                        assert(crashes > 0);
                        if
                        :: items > 0 -> asleep[me - PUTTERS] = false; slept = true
                        :: else -> goto over
                        fi
                   fi;
prepare_again:
                   atomic { prepared = 0; was_set = false }
                od;
                atomic { got = false; slept = false; prepared = 0; was_set = false; n++ }
        :: else -> break
        od;
over:
        atomic { ended++; n = 0 }
        } unless {
                d_step {
                        !alive[me] ->
                        asleep[me - PUTTERS] = false;
                        ended++;
                        n = 0; s = 0; prepared = 0; slept = false; got = false; was_set = false
                }
        }
}

/* Store buffers drain by themselves, some time. */
active proctype memory()
{
end:
        do
        :: d_step { buffered[1] -> buffered[1] = false; items++ }
#if PUTTERS > 1
        :: d_step { buffered[2] -> buffered[2] = false; items++ }
#endif
#if PUTTERS > 2
        :: d_step { buffered[3] -> buffered[3] = false; items++ }
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
        assert(crashes > 0 || items == 0)
}
