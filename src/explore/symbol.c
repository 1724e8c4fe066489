/*
 * symbol.c - the name of the function around an address of the program: from the symbol table of
 * the file that it was loaded from, which also lists static functions.
 */
#include "explore/internal.h"

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct image {
	const char *path;
	u64 base;
	const u8 *bytes;
	u64 size;
};

static struct image image; /* the last one asked for; kept mapped */

static bool image_open(u64 pc)
{
	struct link_map *map = NULL;
	struct stat st;
	Dl_info info;
	void *p;
	int fd;

	if (!dladdr1((void *)pc, &info, (void **)&map, RTLD_DL_LINKMAP) || !map)
		return false;
	if (image.bytes && image.base == map->l_addr)
		return true;
	fd = open(map->l_name[0] ? map->l_name : "/proc/self/exe", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	if (fstat(fd, &st)) {
		close(fd);
		return false;
	}
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (p == MAP_FAILED)
		return false;
	if (image.bytes)
		munmap((void *)image.bytes, image.size);
	image = (struct image){ .base = map->l_addr, .bytes = p, .size = (u64)st.st_size };
	return true;
}

static const char *image_find(u64 offset)
{
	const Elf64_Ehdr *eh = (const void *)image.bytes;
	const Elf64_Shdr *sh = (const void *)(image.bytes + eh->e_shoff);

	for (u32 i = 0; i < eh->e_shnum; i++) {
		const Elf64_Sym *sym = (const void *)(image.bytes + sh[i].sh_offset);
		const char *names = (const char *)image.bytes + sh[sh[i].sh_link].sh_offset;

		if (sh[i].sh_type != SHT_SYMTAB)
			continue;
		for (u64 n = sh[i].sh_size / sizeof(*sym); n--; sym++) {
			if (ELF64_ST_TYPE(sym->st_info) == STT_FUNC &&
			    offset - sym->st_value < sym->st_size)
				return names + sym->st_name;
		}
	}
	return NULL;
}

char *symbol_name(u64 pc)
{
	const char *name = pc && image_open(pc) ? image_find(pc - 1 - image.base) : NULL;
	char *copy = strdup(name ? name : "");

	/* "f.part.0" and the like are f. */
	if (copy && strchr(copy, '.'))
		*strchr(copy, '.') = 0;
	return copy;
}
