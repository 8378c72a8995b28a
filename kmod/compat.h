/* SPDX-License-Identifier: GPL-2.0 */
/* All that differs among kernels. Kbuild finds out what there is. */
#ifndef IVSHMEM_COMPAT_H
#define IVSHMEM_COMPAT_H

#include <linux/eventfd.h>
#include <linux/mm.h>

#ifndef HAVE_VM_FLAGS_SET /* before 6.3 */
static inline void vm_flags_set(struct vm_area_struct *vma, vm_flags_t flags)
{
	vma->vm_flags |= flags;
}
#endif

#ifdef HAVE_EVENTFD_SIGNAL_ONE /* since 6.8 */
#define eventfd_signal_one(ctx) eventfd_signal(ctx)
#else
#define eventfd_signal_one(ctx) eventfd_signal(ctx, 1)
#endif

#endif
