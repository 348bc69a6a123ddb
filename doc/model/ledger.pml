/* SPDX-License-Identifier: MIT
 *
 * ledger.pml: a number to which all contribute, and the account of each (src/sync/ledger.c), as a semaphore uses them.
 *
 * Each user acquires and releases, one access to shared memory a step, and may be killed between any two.  Whoever finds that a user
 * is dead, and a watcher that lives on, repairs: gives back what its account counts and gives its number up.  A newcomer then takes
 * the place of the dead one, with a new generation, so that a repairer that comes late meets an account that is another's.
 *
 * `held` is what a user has truly taken: it changes with the compare-and-swap on the word, in one step.  Checked: value and
 * holdings always add up to what there was; an account that has been brought up to the word counts what is held; at the end, with all
 * the dead repaired, nothing is lost and nothing is there twice.
 */
#ifndef USERS
#define USERS 2
#endif
#ifndef OPS
#define OPS 2 /* operations of each user */
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef UNITS
#define UNITS 1
#endif

#define NONE 0
#define ADD 1
#define TAKE 2
#define CLEAR 3

/* The word, and the accounts. */
byte seq, effect, who, value = UNITS;
byte tag[USERS + 1], account[USERS + 1], generation[USERS + 1];

/* What is true. */
byte held[USERS + 1];
bool dead[USERS + 1];   /* the user of this index, in its generation */
bool given_up[USERS + 1];
byte crashes;

/* A word, as a process has read it. */
#define word_is(s, e, w, v) (seq == s && effect == e && who == w && value == v)

/* This very user: the index may have been given to another since. */
#define alive (!dead[me] && generation[me] == mine)

inline read_word()
{
        d_step { s = seq; e = effect; w = who; v = value }
}

/* apply(): bring the account up to the word that was read. */
inline apply()
{
        if
        :: e != NONE ->
                d_step { at = tag[w]; an = account[w]; ag = generation[w] };
#ifdef BREAK_NO_TAG
                if
                :: true ->
#else
                if
                :: at != s ->
#endif
#ifdef BREAK_NO_RECHECK
                        if
                        :: true ->
#else
                        if
                        :: word_is(s, e, w, v) ->
#endif
                                d_step {
                                        if
                                        :: tag[w] == at && account[w] == an && generation[w] == ag ->
                                                tag[w] = s;
                                                if
                                                :: e == ADD -> account[w] = an + 1
                                                :: e == TAKE && an > 0 -> account[w] = an - 1
                                                :: e == CLEAR -> account[w] = 0
                                                :: else
                                                fi
                                        :: else
                                        fi
                                }
                        :: else
                        fi
                :: else
                fi
        :: else
        fi
}

/* The compare-and-swap of ledger_change(), after which the word is as in s, e, w, v; `done` tells whether it was made. */
inline change(new_value, new_effect, new_who, gain)
{
        d_step {
                done = word_is(s, e, w, v) && alive;
                if
                :: done ->
                        /* L1: whatever the word said has been applied. */
                        assert(effect == NONE || tag[who] == seq);
                        seq++;
                        effect = new_effect;
                        who = new_who;
                        value = new_value;
                        held[new_who] = held[new_who] + gain;
                        s = seq;
                        e = effect;
                        w = who;
                        v = value
                :: else
                fi
        }
}

/* recover(): on proof of death of the user with index x and generation g; `lives` is about who repairs. */
inline recover(x, g, lives)
{
        do
        :: lives ->
                read_word();
#ifndef BREAK_RECOVER_UNHELPED
                apply();
#endif
#ifdef BREAK_NO_GENERATION
                an = account[x];
#else
                d_step { an = (generation[x] == g -> account[x] : 0) };
#endif
                if
                :: an == 0 -> break
                :: else
                fi;
                d_step {
                        done = word_is(s, e, w, v) && lives;
                        if
                        :: done ->
                                assert(effect == NONE || tag[who] == seq);
                                assert(held[x] == an && generation[x] == g); /* the dead one's, and nobody else's */
                                seq++;
                                effect = CLEAR;
                                who = x;
                                value = v + an;
                                held[x] = 0;
                                s = seq;
                                e = effect;
                                w = who;
                                v = value
                        :: else
                        fi
                };
                if
                :: done -> apply(); break
                :: else
                fi
        :: !(lives) -> break
        od;
        skip;
        /* The number is given up, once. */
        d_step {
                if
                :: lives && generation[x] == g && dead[x] && !given_up[x] ->
                        assert(held[x] == 0); /* L4 */
                        given_up[x] = true
                :: else
                fi
        }
}

#define conserved (value + held[1] + held[2] + (USERS > 2 -> held[USERS] : 0) == UNITS)

proctype User(byte me)
{
        byte s, e, w, v, at, an, ag, ops, other, proof, mine = generation[me];
        bool done, acquiring;

        do
        :: alive && ops < OPS ->
                ops++;
                acquiring = held[me] == 0;
                do
                :: alive ->
                        read_word();
                        if
                        :: acquiring && v == 0 -> break /* it would wait */
                        :: else
                        fi;
#ifndef BREAK_NO_HELP
                        apply();
#endif
                        if
                        :: acquiring -> change(v - 1, ADD, me, 1)
                        :: else -> change(v + 1, TAKE, me, 255)
                        fi;
                        assert(conserved);
                        if
                        :: alive && done -> apply(); break
                        :: else
                        fi
                :: !alive -> break
                od
        :: !alive || ops == OPS -> break
        od;
        /* Who lives looks for the dead. */
        other = 0;
        do
        :: alive && other < USERS ->
                other++;
                if
                :: other != me && dead[other] && !given_up[other] ->
                        proof = generation[other];
                        recover(other, proof, alive)
                :: else
                fi
        :: !alive || other == USERS -> break
        od;
        skip
}

/* Kills at any step, and lets somebody else have an index that was given up. */
proctype Fate()
{
        byte x;

        do
        :: crashes < CRASHES ->
                if
                :: x = 1
                :: x = 2
                fi;
                d_step {
                        if
                        :: !dead[x] -> crashes++; dead[x] = true
                        :: else
                        fi
                }
        :: given_up[1] ->
                d_step { given_up[1] = false; dead[1] = false; generation[1]++; account[1] = 0 };
                run User(1)
        :: true -> break
        od
}

/* When all others have come to rest: repairs what is left, and looks at the books. */
init
{
        byte s, e, w, v, at, an, ag, x, proof;
        bool done;

        atomic {
                x = 1;
                do
                :: x <= USERS -> run User(x); x++
                :: x > USERS -> break
                od;
                run Fate()
        };
        timeout;
        x = 0;
        do
        :: x < USERS ->
                x++;
                if
                :: dead[x] && !given_up[x] -> proof = generation[x]; recover(x, proof, true)
                :: else
                fi
        :: x == USERS -> break
        od;
        read_word();
        apply();
        assert(conserved && account[1] == held[1] && account[2] == held[2]);
        assert(!dead[1] || held[1] == 0);
        assert(!dead[2] || held[2] == 0)
}
