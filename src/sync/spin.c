/* SPDX-License-Identifier: MIT */
#include "sync/spin.h"
#include "os/cpu.h"

void spin_init(struct spin *spin)
{
        /* Asked once in a process: finding out reads several files, and only "one or more" matters. */
        static atomic_u32 cpus;

        if (load_relaxed(&cpus) == 0)
                store_relaxed(&cpus, (uint32_t)cpu_usable());
        spin->most = load_relaxed(&cpus) > 1 ? SPIN_MOST : 0;
        store_relaxed(&spin->length, spin->most / 4);
}
