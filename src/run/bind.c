/*
 * Libraries under the core are bound at once. A lazily bound call would look its symbol up on first
 * use, perhaps inside a fault, and the loader's lists of a program that loads plugins lie in its
 * heap: managed memory, which must not be touched there. Some distributions bind these libraries at
 * load time anyway; then nothing is left to do here.
 */
#include "run/run.h"

#include <dlfcn.h>
#include <link.h>
#include <string.h>

static const char *const libraries[] = {
	"liblz4.so.1",     "libxxhash.so.0",      "libzstd.so.1",
	"liburcu-bp.so.8", "liburcu-common.so.8", "liburing.so.2"
};

struct tables {
	const ElfW(Rela) * plt;
	size_t plt_bytes;
	const ElfW(Sym) * symbols;
	const char *strings;
	bool now;
};

/* The loader has made the addresses in the dynamic section absolute. */
static void read_dynamic(const struct link_map *map, struct tables *t)
{
	memset(t, 0, sizeof(*t));
	for (const ElfW(Dyn) *d = map->l_ld; d->d_tag != DT_NULL; d++) {
		switch (d->d_tag) {
		case DT_JMPREL:
			t->plt = (const void *)d->d_un.d_ptr;
			break;
		case DT_PLTRELSZ:
			t->plt_bytes = d->d_un.d_val;
			break;
		case DT_SYMTAB:
			t->symbols = (const void *)d->d_un.d_ptr;
			break;
		case DT_STRTAB:
			t->strings = (const char *)d->d_un.d_ptr;
			break;
		case DT_FLAGS:
			t->now |= !!(d->d_un.d_val & DF_BIND_NOW);
			break;
		case DT_FLAGS_1:
			t->now |= !!(d->d_un.d_val & DF_1_NOW);
			break;
		default:
			break;
		}
	}
}

/* From the library itself first, then from those that it needs: not from the program. */
static void bind(void *handle, const struct link_map *map)
{
	struct tables t;

	read_dynamic(map, &t);
	if (t.now || !t.plt || !t.symbols || !t.strings)
		return;
	for (size_t i = 0; i < t.plt_bytes / sizeof(*t.plt); i++) {
		const ElfW(Rela) *r = &t.plt[i];
		const ElfW(Sym) *s = &t.symbols[ELF64_R_SYM(r->r_info)];
		void *to;

		if (ELF64_R_TYPE(r->r_info) != R_X86_64_JUMP_SLOT)
			continue;
		to = dlsym(handle, t.strings + s->st_name);
		if (to)
			*(void **)(map->l_addr + r->r_offset) = to;
	}
}

void run_bind_libraries(void)
{
	for (u32 i = 0; i < ARRAY_SIZE(libraries); i++) {
		void *handle = dlopen(libraries[i], RTLD_LAZY | RTLD_NOLOAD);
		struct link_map *map;

		if (!handle)
			continue;
		if (!dlinfo(handle, RTLD_DI_LINKMAP, &map))
			bind(handle, map);
		dlclose(handle);
	}
}
