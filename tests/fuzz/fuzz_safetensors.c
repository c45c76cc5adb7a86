/* Safetensors files and what reads them: a file alone, and weights for a program: one file, or an index with shards.
 *
 * The bytes are x.safetensors; behind a line "====" model.safetensors.index.json and two shards, a.safetensors and
 * b.safetensors. A file that begins with '{' gets its 8 bytes of length before it, so that mutations of the header count. */
#include "runtime/safetensors.h"
#include "runtime/weights.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/runtime_fixture.h"

static Fixture *fixture;
static Engine *engine;

static void start(void) {
  static Program p;
  Report err = {0};
  fixture = fixture_new();
  MUST(program_open(&p, fixture->blob, fix_kernels, &err), "%s", err.text);
  engine = engine_new(&p, 1, &err);
  MUST(engine, "%s", err.text);
}

/* The header ends where its braces close; what follows is data. */
static void put(const char *name, FuzzPart x) {
  static uint8_t all[1 << 20];
  size_t n = 0, k = 0;
  int depth = 0;
  if (x.n && x.at[0] == '{' && x.n < sizeof all - 16) {
    do depth += (x.at[n] == '{') - (x.at[n] == '}');
    while (++n < x.n && depth);
    for (int i = 0; i < 8; i++) all[k++] = (uint8_t)((uint64_t)n >> (8 * i));
    memcpy(all + k, x.at, x.n);
    fuzz_put(name, all, k + x.n);
  } else {
    fuzz_put(name, x.at, x.n);
  }
}

static void read_all(const SafeFile *f) {
  float v[64];
  for (int i = 0; i < f->n; i++) {
    const SafeTensor *t = &f->tensor[i];
    int64_t n = t->elements;
    MUST(t->begin <= t->end && t->end <= f->map.n, "tensor '%s' is not inside its file", t->name);
    MUST(safe_find(f, t->name) == t, "tensor '%s' is not found", t->name);
    if (!safe_is_float(t)) continue;
    for (int64_t at = 0; at < n; at += 64) safe_read(f, t, at, n - at < 64 ? n - at : 64, v);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  FuzzPart part[4];
  Report err = {0};
  if (!engine) start();
  int n = fuzz_split(data, size, part, 4);
  put("x.safetensors", part[0]);
  SafeFile *f = safe_open(fuzz_path("x.safetensors"), &err);
  fuzz_report(&err, !f);
  if (f) read_all(f);
  safe_close(f);
  bool ok = weights_load(engine, fuzz_path("x.safetensors"), &err);
  fuzz_report(&err, !ok);
  if (n > 1) {
    fuzz_put("model.safetensors.index.json", part[1].at, part[1].n);
    put("a.safetensors", part[2]);
    put("b.safetensors", part[3]);
    ok = weights_load(engine, fuzz_path(""), &err);
    fuzz_report(&err, !ok);
  }
  return 0;
}
