/*
 * uffd_abi.h - the parts of the kernel's userfaultfd and pagemap interface that older headers lack.
 *
 * Values are the kernel's; a newer <linux/userfaultfd.h> or <linux/fs.h> defines the same ones, and
 * then these stand back. Kernels that lack a feature are recognised at run time, never here.
 * Locking: constants only.
 */
#ifndef QUIRE_MACHINE_HOST_UFFD_ABI_H
#define QUIRE_MACHINE_HOST_UFFD_ABI_H

#include "base/types.h"

#include <linux/fs.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#ifndef UFFD_FEATURE_EXACT_ADDRESS
#define UFFD_FEATURE_EXACT_ADDRESS (1 << 11)
#endif
#ifndef UFFD_FEATURE_WP_HUGETLBFS_SHMEM
#define UFFD_FEATURE_WP_HUGETLBFS_SHMEM (1 << 12)
#endif
#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)
#endif
#ifndef UFFD_FEATURE_MINOR_SHMEM
#define UFFD_FEATURE_MINOR_SHMEM (1 << 10)
#endif
#ifndef UFFDIO_REGISTER_MODE_MINOR
#define UFFDIO_REGISTER_MODE_MINOR ((__u64)1 << 2)
#endif
#ifndef UFFD_FEATURE_POISON
#define UFFD_FEATURE_POISON (1 << 14)
#endif
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif
#ifndef UFFD_FEATURE_MOVE
#define UFFD_FEATURE_MOVE (1 << 16)
#endif

/* Own names: the kernel's header may or may not have the structure. */
struct host_uffdio_move {
	u64 dst;
	u64 src;
	u64 len;
	u64 mode;
	s64 move; /* out: bytes moved, or -errno */
};
#define HOST_UFFDIO_MOVE          _IOWR(UFFDIO, 0x05, struct host_uffdio_move)
#define HOST_MOVE_ALLOW_SRC_HOLES 2ull

struct host_uffdio_continue {
	u64 start;
	u64 len;
	u64 mode;
	s64 mapped; /* out: bytes mapped, or -errno */
};
#define HOST_UFFDIO_CONTINUE  _IOWR(UFFDIO, 0x07, struct host_uffdio_continue)
#define HOST_CONTINUE_MODE_WP 2ull /* Linux 6.4 */

#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

#define HOST_MADV_DONTNEED_LOCKED 24
#define HOST_MADV_POPULATE_READ   22
#define HOST_MADV_POPULATE_WRITE  23

struct host_page_region {
	u64 start;
	u64 end;
	u64 categories;
};

struct host_pm_scan_arg {
	u64 size;
	u64 flags;
	u64 start;
	u64 end;
	u64 walk_end; /* out: where the walk stopped */
	u64 vec;
	u64 vec_len;
	u64 max_pages;
	u64 category_inverted;
	u64 category_mask;
	u64 category_anyof_mask;
	u64 return_mask;
};
#define HOST_PAGEMAP_SCAN    _IOWR('f', 16, struct host_pm_scan_arg)
#define HOST_PAGE_IS_PRESENT 8ull
#define HOST_PAGE_IS_PFNZERO 32ull

#endif
