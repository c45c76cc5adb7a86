/* The C API's contexts and its compiler: a specification to a file, to text, or to a model in memory.
 *
 * A call's memory is one arena; when it fails the context keeps it until the next, for the diagnostics point into it. A model
 * keeps nothing of it: its tables lie in the object file that the linker loaded.
 * Must hold: no state outside the handles but base/'s table of names and ir/'s of expressions, which have locks. */
#include "driver/compile.h"
#include "api/api.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

_Static_assert((int)INK_RANK >= (int)PROGRAM_RANK, "ink_buffer.shape holds every buffer's");
_Static_assert((int)INK_SOURCE == (int)DUMP_SOURCE && (int)INK_ASM == (int)DUMP_ASM, "stages are those of a dump");

int ink_abi_version(void) {
  return INKSTONE_ABI;
}

const char *ink_version(void) {
  return INK_VERSION;
}

/* ---- contexts */

static void renew(ink_context *c) {
  arena_free(c->arena);
  c->arena = arena_new();
  c->diags = diags_new(c->arena);
}

ink_context *ink_context_new(void) {
  ink_context *c = calloc(1, sizeof *c);
  if (c) renew(c);
  return c;
}

void ink_context_free(ink_context *c) {
  if (!c) return;
  arena_free(c->arena);
  text_free(&c->rendered);
  free(c);
}

void context_begin(ink_context *c) {
  if (c->diags->n || c->diags->nsources) renew(c);
}

ink_status context_error(ink_context *c, ink_status status, const char *hint, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  const char *text = arena_vprintf(c->arena, fmt, ap);
  va_end(ap);
  diag_hint(c->diags, (Span){0}, hint, "%s", text);
  return status;
}

ink_status context_report(ink_context *c, ink_status status, Report *r) {
  ink_status all = INK_OK;
  for (const char *line = r->text; line && *line;) {
    size_t n = strcspn(line, "\n");
    all = context_error(c, status, NULL, "%.*s", (int)n, line);
    line += n + (line[n] == '\n');
  }
  report_free(r);
  return all;
}

size_t ink_diagnostic_count(const ink_context *c) {
  return c ? (size_t)c->diags->n : 0;
}

ink_status ink_diagnostic_get(const ink_context *c, size_t index, ink_diagnostic *out) {
  if (!c || !out || index >= (size_t)c->diags->n) return INK_MISUSE;
  const Diags *d = c->diags;
  const Diag *g = &d->list[index];
  ink_diagnostic o = {.message = g->text, .hint = g->hint, .line = (int32_t)g->at.line, .column = (int32_t)g->at.col};
  if (g->at.file && g->at.file <= (uint32_t)d->nsources) o.path = d->sources[g->at.file - 1].path;
  return struct_give(out, &o, sizeof o);
}

const char *ink_diagnostic_text(ink_context *c) {
  if (!c) return "";
  text_free(&c->rendered);
  diags_render(c->diags, &c->rendered);
  return c->rendered.s ? c->rendered.s : "";
}

/* ---- structs across the border */

bool struct_take(ink_context *c, const char *what, void *to, size_t n, const void *from) {
  size_t size = 0;
  memset(to, 0, n);
  if (from) memcpy(&size, from, sizeof size);
  if (size < sizeof size) {
    context_error(c, INK_MISUSE, "INK_INIT sets its size", "%s without its size", what);
    return false;
  }
  memcpy(to, from, size < n ? size : n);
  for (size_t i = n; i < size; i++)
    if (((const unsigned char *)from)[i]) {
      context_error(c, INK_MISUSE, NULL, "%s has fields that this library, version %s, does not know", what,
                    INK_VERSION);
      return false;
    }
  return true;
}

ink_status struct_give(void *to, const void *from, size_t n) {
  size_t size;
  memcpy(&size, to, sizeof size);
  if (size < sizeof size) return INK_MISUSE;
  memset(to, 0, size);
  memcpy(to, from, size < n ? size : n);
  memcpy(to, &size, sizeof size);
  return INK_OK;
}

/* ---- locale */

static locale_t plain;

static void make_plain(void) {
  plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

locale_t locale_enter(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, make_plain);
  return uselocale(plain);
}

void locale_leave(locale_t before) {
  uselocale(before);
}

/* ---- the compiler */

static bool read_spec(ink_context *c, const ink_spec *from, Compile *out) {
  ink_spec s;
  *out = (Compile){.arena = c->arena, .diags = c->diags};
  if (!struct_take(c, "ink_spec", &s, sizeof s, from)) return false;
  if (!s.path && !s.text) context_error(c, INK_MISUSE, NULL, "ink_spec: neither path nor text: which model?");
  if (s.batch < 0 || s.batch > 1000000 || s.seq < 0 || s.seq > 10000000)
    context_error(c, INK_MISUSE, NULL, "ink_spec: batch or seq out of range");
  out->model_path = s.path ? s.path : "model";
  out->model_text = s.text;
  out->folder = s.base_folder;
  out->train_path = s.train_path || !s.train_text ? s.train_path : "train";
  out->train_text = s.train_text;
  out->target_name = s.target ? s.target : "cpu:native";
  out->models = s.models ? s.models : place_models(c->arena);
  out->batch = s.batch;
  out->time = s.seq;
  for (size_t i = 0; i < s.override_count; i++) {
    const char *set = s.overrides ? s.overrides[i] : NULL;
    if (!set || *set == '=' || !strchr(set, '='))
      context_error(c, INK_MISUSE, NULL, "ink_spec: override %zu takes KEY=VALUE, not '%s'", i, set ? set : "NULL");
    else
      PUSH(c->arena, out->sets, out->nsets, out->cap_sets, set);
  }
  return !c->diags->n;
}

/* What a compilation made goes, but for the diagnostics of one that failed, which point into it. */
static ink_status finish(ink_context *c, Compile *compile, bool ok) {
  compile_free(compile);
  if (ok) renew(c);
  return ok ? INK_OK : INK_FAILED;
}

static bool link_spec(ink_context *c, Compile *compile, const ink_linker *from, const char *path) {
  ink_linker l = {.size = sizeof l};
  if (from && !struct_take(c, "ink_linker", &l, sizeof l, from)) return false;
  if (!target_resolve(c->arena, c->diags, compile->target_name, &compile->target)) return false;
  if (!l.runtime && !(l.runtime = place_inkrt(c->arena, c->diags, &compile->target))) return false;
  return compile_run(compile, STAGE_OBJECT) &&
         link_program(c->arena, c->diags, &compile->object, &compile->target, l.cc, l.runtime, path);
}

ink_status ink_build(ink_context *c, const ink_spec *spec, const ink_linker *linker, const char *path) {
  Compile compile;
  if (!c) return INK_MISUSE;
  context_begin(c);
  if (!path || !*path) return context_error(c, INK_MISUSE, NULL, "ink_build: no path to write to");
  if (!read_spec(c, spec, &compile)) return INK_MISUSE;
  locale_t before = locale_enter();
  bool ok = link_spec(c, &compile, linker, path);
  locale_leave(before);
  return finish(c, &compile, ok);
}

ink_status ink_dump(ink_context *c, const ink_spec *spec, ink_stage stage, const char *kernel, char **text) {
  Compile compile;
  Text out = {0};
  if (!c) return INK_MISUSE;
  context_begin(c);
  if (!text || (int)stage < 0 || (int)stage >= DUMP_COUNT)
    return context_error(c, INK_MISUSE, NULL, "ink_dump: %s", text ? "no such stage" : "nowhere to put the text");
  *text = NULL;
  if (kernel && stage != INK_KERNELS && stage != INK_LLVM && stage != INK_ASM)
    return context_error(c, INK_MISUSE, NULL, "ink_dump: stage '%s' does not show a single kernel", dump_names[stage]);
  if (!read_spec(c, spec, &compile)) return INK_MISUSE;
  locale_t before = locale_enter();
  bool ok = compile_dump(&compile, (Dump)stage, kernel, &out);
  locale_leave(before);
  if (!ok) text_free(&out);
  *text = out.s;
  return finish(c, &compile, ok);
}

void ink_text_free(char *text) {
  free(text);
}

/* ---- models */

static bool open_program(ink_context *c, const Target *t, const Text *object, ink_model *m) {
  Report err = {0};
  if (!target_here(t))
    return diag_hint(c->diags, (Span){0}, "ink_build makes programs for it",
                     "target %s is of another architecture than this process: its code can not run here", t->name);
  if (!(m->jit = jit_load(c->diags, object))) return false;
  const unsigned char *blob = jit_symbol(m->jit, c->diags, "ink_program");
  const KernelFn *kernels = blob ? jit_symbol(m->jit, c->diags, "ink_kernels") : NULL;
  if (!kernels) return false;
  program_open(&m->program, blob, kernels, &err);
  if (context_report(c, INK_FAILED, &err)) return false;
  m->buffer = calloc((size_t)m->program.nbuffers + 1, sizeof(int));
  if (!m->buffer) return diag_error(c->diags, (Span){0}, "out of memory");
  for (int i = 0; i < m->program.nbuffers; i++)
    if (m->program.buffers[i].kind <= BUF_STATE) m->buffer[m->nbuffers++] = i;
  return true;
}

ink_model *ink_compile(ink_context *c, const ink_spec *spec) {
  Compile compile;
  if (!c) return NULL;
  context_begin(c);
  if (!read_spec(c, spec, &compile)) return NULL;
  ink_model *m = calloc(1, sizeof *m);
  if (!m) {
    context_error(c, INK_FAILED, NULL, "out of memory");
    return NULL;
  }
  m->context = c;
  locale_t before = locale_enter();
  bool ok = compile_run(&compile, STAGE_OBJECT) && open_program(c, &compile.target, &compile.object, m);
  locale_leave(before);
  if (finish(c, &compile, ok) == INK_OK) return m;
  ink_model_free(m);
  return NULL;
}

void ink_model_free(ink_model *m) {
  if (!m) return;
  jit_free(m->jit);
  free(m->buffer);
  free(m);
}
