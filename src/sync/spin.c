/* SPDX-License-Identifier: MIT */
#include "sync/spin.h"
#include "os/cpu.h"

void spin_init(struct spin *spin)
{
        /* Asked once in a process: finding out reads several files, and only "one or more" matters. */
        static atomic_u32 cpus;

        if (load_relaxed(&cpus) == 0)
                store_relaxed(&cpus, (uint32_t)cpu_usable());
        spin->pauses = load_relaxed(&cpus) > 1;
        store_relaxed(&spin->length, SPIN_MOST / 4);
        store_relaxed(&spin->last, 0);
}

void spin_pause(const struct spin *spin, uint32_t i)
{
        if (spin->pauses == 0 || spin_offers(i))
                cpu_yield();
        else
                cpu_relax();
}

void spin_rest(struct spin *spin, uint64_t position)
{
        uint64_t before = load_relaxed(&spin->last);

        store_relaxed(&spin->last, position);
        if (spin->pauses > 0 && position - before >= SPIN_ROW)
                for (uint32_t i = 0; i < SPIN_REST; i++)
                        cpu_relax();
}
