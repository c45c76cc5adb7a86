/* What a statically linked ink would else need of the machine that it was built on (INK_STATIC): the C++ library and the
 * unwinder in libgcc are compiled for the builder's glibc, and call functions that glibc 2.34 does not have. They are here in
 * terms of what it has. All stay inside the file they are linked into.
 *
 * Exceptions do not occur: LLVM is compiled without them. The unwinder comes with the C++ library all the same. */
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

/* Debian's libjansson.a compares a stream with stdin, by an address that a shared library can't have; static.cmake gives it
 * this name instead. No stream of ours is stdin. */
FILE *ink_no_stdin;

/* glibc 2.36; std::random_device */
uint32_t arc4random(void) {
  uint32_t v;
  while (getrandom(&v, sizeof v, 0) != (ssize_t)sizeof v)
    if (errno != EINTR) abort();
  return v;
}

/* glibc 2.35; the unwinder looks for the object that holds an address, and its table of frames */
#if defined(DLFO_STRUCT_HAS_EH_DBASE)
typedef struct Wanted {
  uintptr_t at;
  struct dl_find_object *out;
} Wanted;

static int look(struct dl_phdr_info *info, size_t size, void *ctx) {
  Wanted *w = ctx;
  uintptr_t low = UINTPTR_MAX, high = 0, frames = 0, inside = 0;
  for (int i = 0; i < info->dlpi_phnum; i++) {
    const ElfW(Phdr) *p = &info->dlpi_phdr[i];
    uintptr_t begin = info->dlpi_addr + p->p_vaddr, end = begin + p->p_memsz;
    if (p->p_type == PT_GNU_EH_FRAME) frames = begin;
    if (p->p_type != PT_LOAD) continue;
    if (begin < low) low = begin;
    if (end > high) high = end;
    inside |= w->at >= begin && w->at < end;
  }
  if (!inside) return 0;
  *w->out = (struct dl_find_object){
      .dlfo_map_start = (void *)low, .dlfo_map_end = (void *)high, .dlfo_eh_frame = (void *)frames};
  return frames ? 1 : -1;
}

int _dl_find_object(void *address, struct dl_find_object *out) {
  return dl_iterate_phdr(look, &(Wanted){(uintptr_t)address, out}) == 1 ? 0 : -1;
}
#endif
