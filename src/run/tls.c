/*
 * Where thread-local variables are. The core stands on a library (liburcu) that finds its own
 * through __tls_get_addr(), which reads, and after a dlopen() grows, a vector in the program's
 * heap: managed memory, perhaps not resident, and malloc. Neither may happen inside a fault.
 *
 * So the function is interposed (gate.S). Modules that were there when the program started have
 * their variables at a fixed distance from the thread pointer; for these the address is a sum. All
 * others go to the C library.
 */
#include "run/run.h"

#include <dlfcn.h>
#include <link.h>

#define MODULES 64 /* gate.S knows it */

/* Distance of a module's block from the thread pointer; 0: not known. Constant after the start. */
long run_tls_distance[MODULES];
void *run_tls_real;
void run_tls_resolve(void);

/* The first call may come from any library's constructor, before ours. */
void run_tls_resolve(void)
{
	void *real = dlsym(RTLD_NEXT, "__tls_get_addr");

	__atomic_store_n(&run_tls_real, real, __ATOMIC_RELEASE);
}

static int note_module(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)size;
	(void)arg;
	if (info->dlpi_tls_modid && info->dlpi_tls_modid < MODULES && info->dlpi_tls_data)
		run_tls_distance[info->dlpi_tls_modid] =
			(char *)info->dlpi_tls_data - (char *)__builtin_thread_pointer();
	return 0;
}

/* In the constructor: every module that is loaded now has its block beside the thread pointer. */
void run_tls_init(void)
{
	if (!run_tls_real)
		run_tls_resolve();
	dl_iterate_phdr(note_module, NULL);
}
