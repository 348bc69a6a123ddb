/* SPDX-License-Identifier: MIT */
#include "os/robust.h"
#include "os/syscall.h"

#include <linux/futex.h>
#include <stddef.h>

int robust_hold(atomic_u32 *word)
{
        /* The list and its one entry are private; the kernel finds the word by its distance from the entry. */
        static struct robust_list entry;
        static struct robust_list_head head;

        entry.next = &head.list;
        head.list.next = &entry;
        head.futex_offset = (long)((intptr_t)word - (intptr_t)&entry);
        head.list_op_pending = NULL;
        long r = kernel_call(SYS_set_robust_list, &head, sizeof head);
        if (r < 0)
                return (int)r;
        /* The kernel wakes at a death only where the value says that there are waiters. */
        store_seq_cst(word, (uint32_t)kernel_call(SYS_gettid) | FUTEX_WAITERS);
        return 0;
}

bool robust_alive(uint32_t value)
{
        return (value & FUTEX_TID_MASK) != 0;
}
