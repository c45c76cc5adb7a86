/* What this machine has. The runtime is compiled for the base instruction set, so this code can always run and say in
 * words what is missing, where the kernels would die of an illegal instruction.
 *
 * Memory that can be had is the smaller of MemAvailable and what the cgroup still allows (its limit less its use, file
 * cache not counted as use). Cores are those of the affinity mask, at most the cgroup's CPU quota rounded up. */
#include "runtime/machine.h"
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <time.h>
#include <unistd.h>

/* name as LLVM and the program know it, name as the compiler's CPU test knows it */
#define X86_FEATURES(F)                                                                                                \
  F("sse3", "sse3")                                                                                                    \
  F("ssse3", "ssse3")                                                                                                  \
  F("sse4.1", "sse4.1")                                                                                                \
  F("sse4.2", "sse4.2")                                                                                                \
  F("popcnt", "popcnt")                                                                                                \
  F("avx", "avx")                                                                                                      \
  F("avx2", "avx2")                                                                                                    \
  F("fma", "fma")                                                                                                      \
  F("f16c", "f16c")                                                                                                    \
  F("bmi", "bmi")                                                                                                      \
  F("bmi2", "bmi2")                                                                                                    \
  F("lzcnt", "lzcnt")                                                                                                  \
  F("movbe", "movbe")                                                                                                  \
  F("avx512f", "avx512f")                                                                                              \
  F("avx512vl", "avx512vl")                                                                                            \
  F("avx512bw", "avx512bw")                                                                                            \
  F("avx512dq", "avx512dq")                                                                                            \
  F("avx512cd", "avx512cd")                                                                                            \
  F("avx512vnni", "avx512vnni")                                                                                        \
  F("avxvnni", "avxvnni")                                                                                              \
  F("avx512bf16", "avx512bf16")                                                                                        \
  F("avx512vbmi", "avx512vbmi")                                                                                        \
  F("avx512vbmi2", "avx512vbmi2")                                                                                      \
  F("avx512ifma", "avx512ifma")                                                                                        \
  F("avx512bitalg", "avx512bitalg")                                                                                    \
  F("avx512vpopcntdq", "avx512vpopcntdq")

/* name as LLVM and the program know it, its bit of getauxval's HWCAP or HWCAP2 (asm/hwcap.h) */
#define AARCH64_FEATURES(F)                                                                                            \
  F("neon", AT_HWCAP, HWCAP_ASIMD)                                                                                     \
  F("sve", AT_HWCAP, HWCAP_SVE)                                                                                        \
  F("sve2", AT_HWCAP2, HWCAP2_SVE2)                                                                                    \
  F("bf16", AT_HWCAP2, HWCAP2_BF16)

/* 1: there, 0: missing, -1: a name this runtime does not know */
static int has_feature(const char *name) {
#if defined(__x86_64__)
  __builtin_cpu_init();
#define F(llvm, gcc)                                                                                                   \
  if (!strcmp(name, llvm)) return __builtin_cpu_supports(gcc) ? 1 : 0;
  X86_FEATURES(F)
#undef F
#elif defined(__aarch64__)
#define F(llvm, word, bit)                                                                                             \
  if (!strcmp(name, llvm)) return getauxval(word) & (bit) ? 1 : 0;
  AARCH64_FEATURES(F)
#undef F
#endif
  return -1;
}

bool machine_has(const char *features, Report *err) {
  bool ok = true;
  while (*features) {
    size_t n = strcspn(features, ", ");
    char name[64];
    if (n && n < sizeof(name)) {
      memcpy(name, features, n);
      name[n] = 0;
      int has = has_feature(name[0] == '+' ? name + 1 : name);
      if (has <= 0) {
        ok = false;
        report_add(err,
                   has < 0 ? "this program needs the CPU feature '%s', which this runtime does not know"
                           : "this program needs the CPU feature '%s', which this processor does not have",
                   name);
      }
    }
    features += n + (features[n] != 0);
  }
  if (!ok) report_add(err, "build the model again for this machine: `ink build ... --target cpu:native`");
  return ok;
}

/* First line of a small file, or NULL. */
static char *read_line(const char *path, char *text, int size) {
  FILE *f = fopen(path, "r");
  if (!f) return NULL;
  char *line = fgets(text, size, f);
  fclose(f);
  if (line) line[strcspn(line, "\n")] = 0;
  return line;
}

/* Path of this process's cgroup (v2) below /sys/fs/cgroup, or "" when it is the root or unknown. */
static void cgroup_path(char *path, size_t size) {
  char line[512];
  path[0] = 0;
  if (read_line("/proc/self/cgroup", line, sizeof(line)) && !strncmp(line, "0::/", 4) && line[4])
    snprintf(path, size, "%s", line + 3);
}

static bool cgroup_read(const char *group, const char *file, char *text, int size) {
  char path[1024];
  snprintf(path, sizeof(path), "/sys/fs/cgroup%s/%s", group, file);
  return read_line(path, text, size) != NULL;
}

int machine_cores(void) {
  cpu_set_t set;
  int n = sched_getaffinity(0, sizeof(set), &set) ? (int)sysconf(_SC_NPROCESSORS_ONLN) : CPU_COUNT(&set);
  char group[600], text[128];
  cgroup_path(group, sizeof(group));
  double quota, period;
  if (cgroup_read(group, "cpu.max", text, sizeof(text)) && sscanf(text, "%lf %lf", &quota, &period) == 2 &&
      period > 0) {
    int cores = (int)((quota + period - 1) / period);
    if (cores >= 1 && cores < n) n = cores;
  }
  return n < 1 ? 1 : n;
}

/* A "name value [kB]" line of a file like /proc/meminfo or memory.stat. */
static uint64_t table_value(const char *path, const char *name) {
  FILE *f = fopen(path, "r");
  if (!f) return 0;
  char line[256];
  uint64_t value = 0;
  size_t n = strlen(name);
  while (fgets(line, sizeof(line), f))
    if (!strncmp(line, name, n) && (line[n] == ':' || line[n] == ' ')) {
      value = strtoull(line + n + 1, NULL, 10);
      if (strstr(line, "kB")) value <<= 10;
      break;
    }
  fclose(f);
  return value;
}

uint64_t machine_memory(void) {
  uint64_t free_bytes = table_value("/proc/meminfo", "MemAvailable");
  char group[600], text[128], path[1024];
  cgroup_path(group, sizeof(group));
  uint64_t limit = 0, used = 0;
  if (cgroup_read(group, "memory.max", text, sizeof(text))) {
    limit = strtoull(text, NULL, 10); /* "max": 0, no limit */
    if (cgroup_read(group, "memory.current", text, sizeof(text))) used = strtoull(text, NULL, 10);
    snprintf(path, sizeof(path), "/sys/fs/cgroup%s/memory.stat", group);
    uint64_t cache = table_value(path, "inactive_file");
    used = used > cache ? used - cache : 0;
  } else if (read_line("/sys/fs/cgroup/memory/memory.limit_in_bytes", text, sizeof(text))) {
    limit = strtoull(text, NULL, 10);
    if (read_line("/sys/fs/cgroup/memory/memory.usage_in_bytes", text, sizeof(text))) used = strtoull(text, NULL, 10);
  }
  if (limit) {
    uint64_t allowed = limit > used ? limit - used : 0;
    if (!free_bytes || allowed < free_bytes) free_bytes = allowed;
  }
  return free_bytes;
}

const char *machine_size(uint64_t bytes, char text[32]) {
  static const char *const unit[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB"};
  double v = (double)bytes;
  int u = 0;
  while (v >= 1024 && u < 5) v /= 1024, u++;
  if (u == 0)
    snprintf(text, 32, "%" PRIu64 " bytes", bytes);
  else
    snprintf(text, 32, "%.1f %s", v, unit[u]);
  return text;
}

bool machine_fits(uint64_t bytes, const char *what, Report *err) {
  uint64_t have = machine_memory();
  char a[32], b[32];
  if (have && bytes > have)
    return report_add(err,
                      "%s needs %s of memory, and %s can be had here; use a smaller batch or sequence length (a build)",
                      what, machine_size(bytes, a), machine_size(have, b));
  return true;
}

double machine_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
