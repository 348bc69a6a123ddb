/* SPDX-License-Identifier: MIT
 *
 * os/namespace.h: a PID namespace, all of which the kernel kills when its first process ends.
 *
 * The first process, the floor, is ours: it reaps whoever is left to it, and does nothing else.  It is not the process that the
 * namespace is for, since a first process hears no signal that it does not handle.
 */
#ifndef BROOD_OS_NAMESPACE_H
#define BROOD_OS_NAMESPACE_H

/* Have the children of this process, from now on, be born in a new PID namespace with a /proc of its own.  The process itself stays
 * where it is, but for its mounts: it must not use /proc any more.  It has one thread, all signals blocked, and SIGCHLD at its
 * default.
 *
 * Who may not do that may still do it in a user namespace of its own, in which it has its own user and group, and there are no
 * others.  That is tried, too.
 *
 * A pidfd of the floor, which dies with this process; -EPERM (not allowed), -ENOTSUP (the kernel has none); -EAGAIN, -ENOMEM,
 * -EMFILE, -ENFILE.  After a failure this process is good for nothing but to end. */
int namespace_enter(void);

#endif
