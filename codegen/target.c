/* Names of machines to their numbers. x86-64 levels are those of the psABI; `native` asks the machine that compiles. */
#include "codegen/codegen.h"
#include <errno.h>
#include <llvm-c/Core.h>
#include <llvm-c/Target.h>
#include <llvm-c/TargetMachine.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CHUNK_BYTES = 64 << 20 }; /* so large that a turn of the loop costs nothing beside its work */

static void init_targets(void) {
  LLVMInitializeX86TargetInfo();
  LLVMInitializeX86Target();
  LLVMInitializeX86TargetMC();
  LLVMInitializeX86AsmPrinter();
}

/* A line of what the kernel says of a cache of the first core; "" when it says nothing. */
static const char *cache_line(int index, const char *what, char text[32]) {
  char path[96];
  snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/%s", index, what);
  FILE *f = fopen(path, "r");
  if (!f || !fgets(text, 32, f)) text[0] = 0;
  if (f) fclose(f);
  return text;
}

/* Bytes of a core's data cache. The kernel is asked first: the C library takes all third-level caches of a package for one. */
static int64_t cache_size(int level, int name, int64_t otherwise) {
  char text[32];
  for (int i = 0; i < 8; i++) {
    if (atoi(cache_line(i, "level", text)) != level || cache_line(i, "type", text)[0] == 'I') continue;
    int64_t kib = atoll(cache_line(i, "size", text));
    if (kib > 0) return kib << 10;
  }
  long n = sysconf(name);
  return n > 0 ? n : otherwise;
}

/* A level's widest registers and what a program checks for when it starts (names of __builtin_cpu_supports). */
static const struct Level {
  const char *name;
  int lanes, registers;
  const char *require;
} levels[] = {
    {"x86-64", 4, 16, ""},
    {"x86-64-v2", 4, 16, "sse4.2"},
    {"x86-64-v3", 8, 16, "avx2,fma,bmi2"},
    {"x86-64-v4", 16, 32, "avx2,fma,bmi2,avx512f,avx512bw,avx512dq,avx512vl"},
};

static const struct Level *find_level(const char *name) {
  for (int i = 0; i < LEN(levels); i++)
    if (!strcmp(levels[i].name, name)) return &levels[i];
  return NULL;
}

static bool has(const char *features, const char *plus) {
  return strstr(features, plus) != NULL;
}

/* "lanes=16" or "chunk=65536": one number of the machine said otherwise. "fuse=0": every op is a kernel of its own. */
static bool target_option(Diags *d, const char *option, Target *out) {
  const char *equal = strchr(option, '=');
  char *end = NULL;
  errno = 0;
  long long v = equal ? strtoll(equal + 1, &end, 10) : 0;
  bool number = equal && end != equal + 1 && !*end && !errno;
  if (!strncmp(option, "lanes=", 6)) {
    if (!number || (v != 4 && v != 8 && v != 16))
      return diag_error(d, (Span){0}, "target option '%s': lanes are 4, 8 or 16", option);
    out->lanes = (int)v;
    out->registers = v == 16 ? 32 : 16;
    return true;
  }
  if (!strncmp(option, "chunk=", 6)) {
    if (!number || v < 0) return diag_error(d, (Span){0}, "target option '%s': chunk is a number of bytes", option);
    out->chunk = v;
    return true;
  }
  if (!strncmp(option, "fuse=", 5)) {
    if (!number || v < 0 || v > 1) return diag_error(d, (Span){0}, "target option '%s': fuse is 0 or 1", option);
    out->apart = !v;
    return true;
  }
  return diag_error(d, (Span){0}, "target option '%s': lanes=N, chunk=BYTES and fuse=0 are known", option);
}

bool target_has(const Target *t, const char *feature) {
  size_t n = strlen(feature);
  for (const char *s = t->features; (s = strstr(s, feature)); s += n)
    if (s > t->features && s[-1] == '+' && (!s[n] || s[n] == ',')) return true;
  return false;
}

bool target_resolve(Arena *a, Diags *d, const char *name, Target *out) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, init_targets);
  memset(out, 0, sizeof *out);
  char *spec = arena_strdup(a, name);
  char *option = strchr(spec, ',');
  if (option) *option++ = 0;
  const char *colon = strchr(spec, ':');
  size_t nkind = colon ? (size_t)(colon - spec) : strlen(spec);
  if (nkind != 3 || strncmp(spec, "cpu", 3))
    return diag_hint(d, (Span){0}, "cpu, cpu:native, cpu:x86-64, cpu:x86-64-v2, cpu:x86-64-v3, cpu:x86-64-v4",
                     "unknown target '%s'", name);
  const char *machine = colon ? colon + 1 : "native";
  out->name = arena_strdup(a, name);
  out->triple = "x86_64-unknown-linux-gnu";
  const struct Level *level = find_level(machine);
  if (!strcmp(machine, "native")) {
    char *cpu = LLVMGetHostCPUName(), *features = LLVMGetHostCPUFeatures();
    out->cpu = arena_strdup(a, cpu);
    out->features = arena_strdup(a, features);
    LLVMDisposeMessage(cpu);
    LLVMDisposeMessage(features);
    bool v3 = has(out->features, "+avx2") && has(out->features, "+fma");
    bool v4 =
        v3 && has(out->features, "+avx512f") && has(out->features, "+avx512bw") && has(out->features, "+avx512vl");
    level = find_level(v4 ? "x86-64-v4" : v3 ? "x86-64-v3" : "x86-64-v2");
  } else if (level) {
    out->cpu = machine;
    out->features = "";
  } else {
    const char *names[LEN(levels) + 1] = {"native"};
    for (int i = 0; i < LEN(levels); i++) names[i + 1] = levels[i].name;
    const char *near = near_miss(machine, names, LEN(names));
    return diag_hint(d, (Span){0}, near ? arena_printf(a, "did you mean 'cpu:%s'?", near) : NULL, "unknown target '%s'",
                     name);
  }
  out->dpbf16 = has(out->features, "+avx512bf16") && has(out->features, "+avx512vl");
  out->require = out->dpbf16 ? arena_printf(a, "%s,avx512bf16", level->require) : level->require;
  out->lanes = level->lanes;
  out->registers = level->registers;
  out->chunk = CHUNK_BYTES;
  while (option) {
    char *next = strchr(option, ',');
    if (next) *next++ = 0;
    if (!target_option(d, option, out)) return false;
    option = next;
  }
  out->l1 = cache_size(1, _SC_LEVEL1_DCACHE_SIZE, 32 << 10);
  out->l2 = cache_size(2, _SC_LEVEL2_CACHE_SIZE, 512 << 10);
  out->l3 = cache_size(3, _SC_LEVEL3_CACHE_SIZE, 8 << 20);
  out->cores = (int)sysconf(_SC_NPROCESSORS_ONLN);
  return true;
}
