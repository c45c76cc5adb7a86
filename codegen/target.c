/* Names of machines to their numbers. x86-64 levels are those of the psABI, aarch64 is every ARMv8-A with NEON; `native` asks the
 * machine that compiles. A target of another architecture is compiled for as any other; only running it needs another machine. */
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
enum { L1 = 32 << 10, L2 = 512 << 10, L3 = 8 << 20 }; /* bytes of caches that nobody tells of */

static void init_targets(void) {
  LLVMInitializeX86TargetInfo();
  LLVMInitializeX86Target();
  LLVMInitializeX86TargetMC();
  LLVMInitializeX86AsmPrinter();
  LLVMInitializeAArch64TargetInfo();
  LLVMInitializeAArch64Target();
  LLVMInitializeAArch64TargetMC();
  LLVMInitializeAArch64AsmPrinter();
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

#if defined(__x86_64__)
#define HERE "x86_64"
#elif defined(__aarch64__)
#define HERE "aarch64"
#else
#error "cpu:native is not known on this architecture"
#endif

bool target_here(const Target *t) {
  return !strcmp(t->arch, HERE);
}

/* A level's widest registers and what a program checks for when it starts (names of runtime/machine.c). */
static const struct Level {
  const char *name, *arch, *cpu;
  int lanes, registers;
  const char *require;
} levels[] = {
    {"x86-64", "x86_64", "x86-64", 4, 16, ""},
    {"x86-64-v2", "x86_64", "x86-64-v2", 4, 16, "sse4.2"},
    {"x86-64-v3", "x86_64", "x86-64-v3", 8, 16, "avx2,fma,bmi2"},
    {"x86-64-v4", "x86_64", "x86-64-v4", 16, 32, "avx2,fma,bmi2,avx512f,avx512bw,avx512dq,avx512vl"},
    {"aarch64", "aarch64", "generic", 4, 32, "neon"},
};

static const struct Level *find_level(const char *name) {
  for (int i = 0; i < LEN(levels); i++)
    if (!strcmp(levels[i].name, name)) return &levels[i];
  return NULL;
}

static const char *all_targets(Arena *a) {
  const char *all = "cpu, cpu:native";
  for (int i = 0; i < LEN(levels); i++) all = arena_printf(a, "%s, cpu:%s", all, levels[i].name);
  return all;
}

static bool has(const char *features, const char *plus) {
  return strstr(features, plus) != NULL;
}

static const char *own_level(const char *features) {
  if (!strcmp(HERE, "aarch64")) return "aarch64";
  bool v3 = has(features, "+avx2") && has(features, "+fma");
  bool v4 = v3 && has(features, "+avx512f") && has(features, "+avx512bw") && has(features, "+avx512vl");
  return v4 ? "x86-64-v4" : v3 ? "x86-64-v3" : "x86-64-v2";
}

/* What a program for this very machine checks: its level, which on x86-64 is near enough, and on AArch64, where there is one for
 * all, what LLVM may make use of beyond it. */
static const char *own_require(Arena *a, const struct Level *level, const char *features) {
  static const char *const more[] = {"sve", "sve2", "bf16"};
  const char *all = level->require;
  for (int i = 0; i < LEN(more) && !strcmp(level->arch, "aarch64"); i++)
    if (has(arena_printf(a, "%s,", features), arena_printf(a, "+%s,", more[i])))
      all = arena_printf(a, "%s,%s", all, more[i]);
  return all;
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
    if (v != out->lanes) out->registers = v == 16 ? 32 : 16;
    out->lanes = (int)v;
    return true;
  }
  const struct {
    const char *name;
    int64_t *bytes;
  } sizes[] = {{"chunk=", &out->chunk}, {"memory=", &out->memory}, {"l3=", &out->l3}};
  for (int i = 0; i < LEN(sizes); i++) {
    if (strncmp(option, sizes[i].name, strlen(sizes[i].name)) != 0) continue;
    if (!number || v < 0)
      return diag_error(d, (Span){0}, "target option '%s': %.*s is a number of bytes", option,
                        (int)strlen(sizes[i].name) - 1, sizes[i].name);
    *sizes[i].bytes = v;
    return true;
  }
  if (!strncmp(option, "fuse=", 5)) {
    if (!number || v < 0 || v > 1) return diag_error(d, (Span){0}, "target option '%s': fuse is 0 or 1", option);
    out->apart = !v;
    return true;
  }
  return diag_error(d, (Span){0},
                    "target option '%s': lanes=N, chunk=BYTES, memory=BYTES, l3=BYTES and fuse=0 are known", option);
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
    return diag_hint(d, (Span){0}, all_targets(a), "unknown target '%s'", name);
  const char *machine = colon ? colon + 1 : "native";
  out->name = arena_strdup(a, name);
  const struct Level *level = find_level(machine);
  if (!strcmp(machine, "native")) {
    char *cpu = LLVMGetHostCPUName(), *features = LLVMGetHostCPUFeatures();
    out->cpu = arena_strdup(a, cpu);
    out->features = arena_strdup(a, features);
    LLVMDisposeMessage(cpu);
    LLVMDisposeMessage(features);
    level = find_level(own_level(out->features));
  } else if (level) {
    out->cpu = level->cpu;
    out->features = "";
  } else {
    const char *names[LEN(levels) + 1] = {"native"};
    for (int i = 0; i < LEN(levels); i++) names[i + 1] = levels[i].name;
    const char *near = near_miss(machine, names, LEN(names));
    return diag_hint(d, (Span){0}, near ? arena_printf(a, "did you mean 'cpu:%s'?", near) : all_targets(a),
                     "unknown target '%s'", name);
  }
  out->arch = level->arch;
  out->triple = arena_printf(a, "%s-unknown-linux-gnu", level->arch);
  out->require = strcmp(machine, "native") ? level->require : own_require(a, level, out->features);
  out->dpbf16 = has(out->features, "+avx512bf16") && has(out->features, "+avx512vl");
  if (out->dpbf16) out->require = arena_printf(a, "%s,avx512bf16", out->require);
  bool wide = has(out->features, "+avx512vnni") && has(out->features, "+avx512vl");
  out->dpbusd = wide ? 16 : has(out->features, "+avxvnni") ? 8 : 0;
  if (out->dpbusd) out->require = arena_printf(a, "%s,%s", out->require, wide ? "avx512vnni" : "avxvnni");
  out->lanes = level->lanes;
  out->registers = level->registers;
  out->chunk = CHUNK_BYTES;
  if (target_here(out)) {
    out->l1 = cache_size(1, _SC_LEVEL1_DCACHE_SIZE, L1);
    out->l2 = cache_size(2, _SC_LEVEL2_CACHE_SIZE, L2);
    out->l3 = cache_size(3, _SC_LEVEL3_CACHE_SIZE, L3);
  } else { /* the caches of this machine say nothing of one of another architecture */
    out->l1 = L1, out->l2 = L2, out->l3 = L3;
  }
  out->cores = (int)sysconf(_SC_NPROCESSORS_ONLN);
  while (option) {
    char *next = strchr(option, ',');
    if (next) *next++ = 0;
    if (!target_option(d, option, out)) return false;
    option = next;
  }
  return true;
}
