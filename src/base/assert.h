/*
 * assert.h - programming errors stop the process with one line; operating errors are returned.
 *
 * BUG_ON(c): always compiled in; for conditions whose violation would corrupt memory.
 * DEBUG_ON(c): only in builds with QUIRE_DEBUG (the test builds); for expensive or very hot checks.
 * WARN_ON(c): counts (struct quire's warn counter through base_warn) and goes on; tests require 0.
 * Locking: none taken; may be called with any lock held and inside a fault handler.
 */
#ifndef QUIRE_BASE_ASSERT_H
#define QUIRE_BASE_ASSERT_H

#include "base/types.h"

/* Provided by the machine leaf (native) or the explorer: print and abort; never returns. */
__attribute__((noreturn, cold)) void base_panic(const char *file, int line, const char *what);
/* Print once per place, count always. */
__attribute__((cold)) void base_warn(const char *file, int line, const char *what);

#define BUG_ON(c)                                            \
	do {                                                 \
		if (unlikely(c))                             \
			base_panic(__FILE__, __LINE__, #c); \
	} while (0)
#define BUG(what) base_panic(__FILE__, __LINE__, what)
#define WARN_ON(c)                                            \
	({                                                    \
		bool _w = !!(c);                              \
		if (unlikely(_w))                             \
			base_warn(__FILE__, __LINE__, #c);   \
		_w;                                           \
	})
#ifdef QUIRE_DEBUG
#define DEBUG_ON(c) BUG_ON(c)
#else
#define DEBUG_ON(c)           \
	do {                  \
		if (0)        \
			(void)(c); \
	} while (0)
#endif

#endif
