/* Compiled kernels and programs in this process: what `ink build` would link, loaded by the JIT instead. */
#include "check/check.h"
#include "runtime/machine.h"
#include <stdlib.h>
#include <string.h>

bool native_runs(const Target *t) {
  Report r = {0};
  bool ok = target_here(t) && machine_has(t->require, &r);
  report_free(&r);
  return ok;
}

bool native_open(Native *n, Module *m, const Target *t, const Lowering *lower, bool code, Arena *a, Diags *d) {
  static const Lowering cpu = {lower_region, NULL, region_alias};
  ProgramSpec spec = {.model = m->name, .text = ""};
  ProgramReport report;
  Text blob = {0}, object = {0};
  *n = (Native){.mod = m, .km = kmodule_new(a, m->name)};
  bool ok = program_build(m, &spec, t, lower ? lower : &cpu, n->km, d, &blob, &report);
  for (int i = 0; ok && i < n->km->n; i++) ok = kernel_verify(n->km->kernels[i], d);
  ok = ok && (!code || llvm_compile(n->km, t, LLVM_OBJECT, NULL, blob.s, blob.n, d, &object));
  if (ok && code && native_runs(t)) {
    Report r = {0};
    const unsigned char *program = NULL;
    ok = (n->jit = jit_load(d, &object)) && (program = jit_symbol(n->jit, d, "ink_program")) &&
         (n->kernels = (const KernelFn *)jit_symbol(n->jit, d, "ink_kernels"));
    if (ok && !program_open(&n->program, program, n->kernels, &r)) ok = diag_error(d, (Span){0}, "%s", r.text);
    report_free(&r);
  }
  text_free(&blob);
  text_free(&object);
  if (!ok) native_close(n);
  return ok;
}

void native_close(Native *n) {
  jit_free(n->jit);
  n->jit = NULL;
}

static size_t bytes_of(const Tensor *t) {
  return (size_t)type_bytes(t->type);
}

/* What is allocated for so many bytes: at least 64 more, which must stay as they are. */
static size_t room_for(size_t bytes) {
  return (bytes + 127) / 64 * 64;
}

/* 64-byte aligned, every byte 0xff: NaNs, and indices that are out of range. */
static void *dirty(size_t bytes) {
  size_t room = room_for(bytes);
  void *p = aligned_alloc(64, room);
  if (!p) abort();
  return memset(p, 0xff, room);
}

static bool written_past(const void *p, size_t bytes) {
  const unsigned char *s = p;
  for (size_t i = bytes; i < room_for(bytes); i++)
    if (s[i] != 0xff) return true;
  return false;
}

static void *written(const Tensor *t) {
  void *p = dirty(bytes_of(t));
  tensor_write(t, p);
  return p;
}

static bool unchanged(const Tensor *t, const void *memory) {
  void *p = written(t);
  bool same = !memcmp(p, memory, bytes_of(t));
  free(p);
  return same;
}

/* What the kernel wrote to that is not its own; NULL: nothing. */
static const char *strayed(const Graph *region, const Tensor *in, const Tensor *out, void *const *buf) {
  for (int i = 0; i < region->ninputs; i++) {
    bool updated = false;
    for (int o = 0; o < region->noutputs; o++) updated = updated || buf[region->ninputs + o] == buf[i];
    if (written_past(buf[i], bytes_of(&in[i]))) return "writes past the end of an input";
    if (!updated && !unchanged(&in[i], buf[i])) return "writes into an input";
  }
  for (int o = 0; o < region->noutputs; o++)
    if (written_past(buf[region->ninputs + o], bytes_of(&out[o]))) return "writes past the end of an output";
  return NULL;
}

const char *native_kernel(const Native *n, const Graph *region, const Tensor *in, const Binding *bind, int nbind,
                          int threads, Tensor *out) {
  int at = kmodule_find(n->km, region->name), nargs = region->ninputs + region->noutputs;
  const Kernel *k = n->km->kernels[at];
  void **buf = calloc((size_t)nargs + 1, sizeof *buf), *scratch = dirty((size_t)k->scratch);
  int64_t ints[CHECK_BINDINGS] = {0};
  if (!buf) abort();
  for (int i = 0; i < k->nparams && i < CHECK_BINDINGS; i++)
    for (int b = 0; b < nbind; b++)
      if (!strcmp(bind[b].name, k->params[i])) ints[i] = bind[b].n;
  for (int i = 0; i < region->ninputs; i++) buf[i] = written(&in[i]);
  for (int o = 0; o < region->noutputs; o++) {
    for (int i = 0; i < region->ninputs; i++)
      if (region_alias(region, o, i) == REGION_MUST) buf[region->ninputs + o] = buf[i];
    if (!buf[region->ninputs + o]) buf[region->ninputs + o] = dirty(bytes_of(&out[o]));
  }
  int64_t dealt = 0;
  for (int t = threads - 1; t >= 0; t--) {
    memset(scratch, 0xff, (size_t)k->scratch);
    n->kernels[at](buf, ints, t, threads, scratch, &dealt);
  }
  const char *wrong = strayed(region, in, out, buf);
  if (written_past(scratch, (size_t)k->scratch)) wrong = "writes past the end of its scratch";
  for (int o = 0; o < region->noutputs; o++) tensor_read(&out[o], buf[region->ninputs + o]);
  for (int i = 0; i < nargs; i++) {
    bool shared = false;
    for (int j = 0; j < i; j++) shared = shared || buf[i] == buf[j];
    if (!shared) free(buf[i]);
  }
  free(buf);
  free(scratch);
  return wrong;
}

static bool run(Engine *e, const Native *n, const Graph *g, const Tensor *in, const Binding *bind, int nbind,
                Tensor *out, Diags *d) {
  const Program *p = &n->program;
  for (int b = 0; b < nbind; b++) engine_set_symbol(e, bind[b].name, bind[b].n); /* some are no kernel's business */
  for (int i = 0; i < p->nbuffers; i++)
    if (p->buffers[i].kind == BUF_TEMP) memset(engine_buffer(e, i), 0xff, p->buffers[i].bytes);
  for (int i = 0; i < g->ninputs; i++) {
    void *to = engine_named(e, g->inputs[i].name);
    if (to) tensor_write(&in[i], to);
  }
  engine_run(e, program_list(p, g->name));
  for (int o = 0; o < g->noutputs; o++) {
    void *from = engine_named(e, g->outputs[o].name);
    if (!from) return diag_error(d, (Span){0}, "the program has no buffer '%s'", g->outputs[o].name);
    tensor_read(&out[o], from);
  }
  return true;
}

bool native_list(const Native *n, const Graph *g, const Tensor *in, const Binding *bind, int nbind, int threads,
                 Tensor *out, Diags *d) {
  Report r = {0};
  Engine *e = engine_new(&n->program, threads, &r);
  bool ok = e ? run(e, n, g, in, bind, nbind, out, d) : diag_error(d, (Span){0}, "%s", r.text);
  engine_free(e);
  report_free(&r);
  return ok;
}
