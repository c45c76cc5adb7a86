/* A module of fused graphs -> one program: kernels in a KModule and the blob of include/ink/program.h.
 *
 * Steps: every main graph becomes a list (steps.c), the temporaries get their offsets (memory.c), persistent buffers
 * are laid one behind the other, constant tables are evaluated, and all tables are written into one block whose references
 * are offsets from its start.
 *
 * What must hold: the blob is position-independent, its tables are aligned for their rows, constant buffers for any
 * vector; whatever the runtime checks when it opens a program holds by construction. */
#include "codegen/program.h"
#include "ir/expr.h"
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <string.h>

/* ---- the blob under construction: strings and tables collected apart, then put together */
typedef struct Table {
  void *rows;
  size_t size; /* of a row */
  int n, cap;
} Table;

typedef struct Writer {
  Arena *arena;
  Text strings; /* offset 0 is reserved for "absent" */
  uint32_t strings_at;
  Table buffers, params, pieces, kernels, steps, args, ints, lists, symbols, settings, files, places;
  const char **shared; /* by string of shared_at: the text, as a pointer */
  uint32_t *shared_at;
  int nshared, cap_shared, cap_shared_at;
} Writer;

/* Its offset in the blob: strings follow the header. */
static uint32_t string_add(Writer *w, const char *s) {
  if (!s) return 0;
  uint32_t at = (uint32_t)w->strings.n;
  text_write(&w->strings, s, strlen(s) + 1);
  return w->strings_at + at;
}

/* The same for a text that many rows name by the same pointer: written once. */
static uint32_t string_share(Writer *w, const char *s) {
  for (int i = w->nshared - 1; i >= 0; i--)
    if (w->shared[i] == s) return w->shared_at[i];
  uint32_t at = string_add(w, s);
  int n = w->nshared; /* two arrays, one count */
  PUSH(w->arena, w->shared, n, w->cap_shared, s);
  PUSH(w->arena, w->shared_at, w->nshared, w->cap_shared_at, at);
  return at;
}

static void *row_add(Writer *w, Table *t, size_t size) {
  if (t->n == t->cap) t->rows = arena_grow(w->arena, t->rows, size, t->n, &t->cap);
  t->size = size;
  void *row = (char *)t->rows + size * (size_t)t->n++;
  memset(row, 0, size);
  return row;
}
#define ROW(w, table, T) ((T *)row_add((w), &(w)->table, sizeof(T)))

static size_t align_up(size_t n, size_t to) {
  return (n + to - 1) / to * to;
}

/* ---- constant buffers */

static uint32_t bits_of(float f) {
  uint32_t bits;
  memcpy(&bits, &f, sizeof bits);
  return bits;
}

static float of_bits(uint32_t bits) {
  float f;
  memcpy(&f, &bits, sizeof f);
  return f;
}

/* The upper half of the nearest bf16, ties to even, rounded once: by way of f32, but compared with v itself. */
static uint16_t to_bf16(double v) {
  uint32_t bits = bits_of((float)v), low = bits & 0xffff0000u, high = low + 0x10000u;
  if (isnan(v)) return 0x7fc0;
  if (bits == low) return (uint16_t)(low >> 16);
  double down = fabs(v - (double)of_bits(low)), up = fabs((double)of_bits(high) - v);
  bool take_low = down < up || (down == up && !(low & 0x10000u));
  return (uint16_t)((take_low ? low : high) >> 16);
}

static bool store(void *out, DType dt, int64_t i, double v) {
  switch (dt) {
  case DT_f32: ((float *)out)[i] = (float)v; return true;
  case DT_f64: ((double *)out)[i] = v; return true;
  case DT_i32: ((int32_t *)out)[i] = (int32_t)nearbyint(v); return v > -2147483649. && v < 2147483648.;
  case DT_bf16: ((uint16_t *)out)[i] = to_bf16(v); return true;
  default: return false;
  }
}

static bool table_eval(Plan *p, const PlanBuffer *b, void *out) {
  static const char *const names[] = {"i", "j", "k", "l"};
  Expr e;
  uint32_t col;
  const char *err;
  int rank = b->type.rank;
  if (rank > LEN(names)) return diag_error(p->diags, (Span){0}, "a table of %d axes; at most 4", rank);
  if (!expr_parse(p->arena, b->table, names, rank, &e, &col, &err))
    return diag_error(p->diags, (Span){0}, "table '%s': column %u: %s", b->table, col + 1, err);
  double at[4] = {0};
  int64_t n = type_elements(b->type);
  for (int64_t x = 0; x < n; x++) {
    int64_t rest = x;
    for (int k = rank - 1; k >= 0; k--) {
      at[k] = (double)(rest % b->type.dim[k].n);
      rest /= b->type.dim[k].n;
    }
    double v = expr_eval(&e, at);
    if (!store(out, b->type.dt, x, v))
      return diag_error(p->diags, (Span){0}, "table '%s': %g is no %s", b->table, v, dtype_name[b->type.dt]);
  }
  return true;
}

/* ---- rows */

static bool lay_out(Plan *p, bool serves, ProgramReport *r) {
  int n = 0;
  MemoryItem *items = NEW_ARRAY(p->arena, MemoryItem, p->nbuffers + 1);
  int *who = NEW_ARRAY(p->arena, int, p->nbuffers + 1);
  for (int i = 0; i < p->nbuffers; i++) {
    PlanBuffer *b = &p->buffers[i];
    if (b->kind == BUF_TEMP && b->end >= 0) {
      who[n] = i;
      items[n++] = (MemoryItem){.bytes = b->bytes, .begin = b->begin, .end = b->end};
    } else if (b->kind == BUF_CONST) {
      b->offset = r->consts;
      r->consts = (int64_t)align_up((size_t)(r->consts + b->bytes), MEMORY_ALIGN);
    } else if (serves && (b->kind == BUF_PARAM || b->kind == BUF_STATE)) {
      b->offset = 0; /* weights and pages of the cache: whoever runs it has them */
    } else if (b->kind != BUF_TEMP) {
      b->offset = r->persistent;
      r->persistent = (int64_t)align_up((size_t)(r->persistent + b->bytes), MEMORY_ALIGN);
    }
  }
  MemoryReport m = memory_plan(p->arena, items, n, true);
  for (int i = 0; i < n; i++) p->buffers[who[i]].offset = items[i].offset;
  r->arena = m.arena;
  r->peak = m.peak;
  r->sum_temp = p->sum_temp;
  if (r->consts > INT32_MAX)
    return diag_error(p->diags, (Span){0}, "constant tables of %" PRId64 " bytes; at most 2 GiB", r->consts);
  return true;
}

static void write_buffers(Writer *w, const Plan *p) {
  for (int i = 0; i < p->nbuffers; i++) {
    const PlanBuffer *b = &p->buffers[i];
    ProgramBuffer *o = ROW(w, buffers, ProgramBuffer);
    o->name = string_add(w, b->name);
    o->source = string_add(w, b->source);
    o->dtype = (uint8_t)b->type.dt;
    o->kind = (uint8_t)b->kind;
    o->rank = (uint8_t)b->type.rank;
    o->offset = (uint64_t)b->offset; /* CONST: moved to their place in the blob at the end */
    o->bytes = (uint64_t)b->bytes;
    o->bound = b->bound < UINT32_MAX ? (uint32_t)b->bound : 0;
    o->panel = (uint32_t)b->type.panel;
    o->split = (uint32_t)b->type.split;
    for (int k = 0; k < b->type.rank; k++) o->dim[k] = b->type.dim[k].n;
  }
}

static bool find_state(Plan *p, const char *prefix, const char *name, uint32_t *out) {
  const char *label = arena_printf(p->arena, "%s%s", prefix, name);
  int i = plan_find_buffer(p, label);
  *out = (uint32_t)i;
  return i >= 0 || diag_error(p->diags, (Span){0}, "parameter '%s': no list has its '%s'", name, label);
}

/* A row for each buffer that a parameter fills: its own and, where contractions read it packed, another (passes/layout.c). What
 * is trained has one, and its states. */
static bool write_params(Writer *w, Plan *p, const ProgramSpec *spec) {
  for (int i = 0; i < spec->nparams; i++) {
    const ParamSpec *s = &spec->params[i];
    ProgramParam row = {.init = s->init, .init_a = s->init_a, .init_b = s->init_b, .decay = s->decay};
    row.moment1 = row.moment2 = row.grad = PROGRAM_NONE;
    if (!spec->serves && (!find_state(p, "", s->name, &row.buffer) || !find_state(p, "m.", s->name, &row.moment1) ||
                          !find_state(p, "v.", s->name, &row.moment2) || !find_state(p, "grad.", s->name, &row.grad)))
      return false;
    int buffers[] = {plan_find_buffer(p, s->name), plan_find_buffer(p, arena_printf(p->arena, "%s" PACKED, s->name))};
    row.piece = (uint32_t)w->pieces.n;
    row.npieces = (uint32_t)s->npieces;
    for (int k = 0; k < 2; k++) {
      if (buffers[k] < 0) continue;
      row.buffer = (uint32_t)buffers[k];
      *ROW(w, params, ProgramParam) = row;
    }
    for (int k = 0; k < s->npieces; k++) {
      const PieceSpec *c = &s->pieces[k];
      ProgramPiece *o = ROW(w, pieces, ProgramPiece);
      o->tensor = string_add(w, c->tensor);
      o->hf_rank = (uint32_t)c->hf_rank;
      o->rank = (uint32_t)c->rank;
      o->start = c->start;
      o->base = c->base;
      for (int d = 0; d < c->hf_rank; d++) o->hf_dim[d] = c->hf_dim[d];
      for (int d = 0; d < c->rank; d++) {
        o->dim[d] = c->dim[d];
        o->pstride[d] = c->pstride[d];
        o->stride[d] = c->stride[d];
      }
    }
  }
  return true;
}

static const Source *source_of(const Plan *p, Span at) {
  return at.file && (int)at.file <= p->diags->nsources ? &p->diags->sources[at.file - 1] : NULL;
}

static void write_kernels(Writer *w, const Plan *p, ProgramReport *r) {
  for (int i = 0; i < p->nkernels; i++) {
    const Lowered *l = &p->kernels[i].low;
    ProgramKernel *o = ROW(w, kernels, ProgramKernel);
    const Source *s = source_of(p, l->span);
    o->name = string_add(w, l->kernel->name);
    o->file = s ? string_share(w, s->path) : 0;
    o->line = l->span.line;
    o->outputs = (uint32_t)p->kernels[i].outputs;
    o->flops = l->flops;
    o->bytes = l->bytes;
    if (l->scratch > r->scratch) r->scratch = l->scratch;
  }
}

/* The text of the line, interned; NULL: the source does not have it. */
static const char *line_text(const Plan *p, Span at) {
  enum { LONGEST = 160 };
  const Source *s = source_of(p, at);
  const char *line = s && s->n ? s->text : NULL, *end = s ? s->text + s->n : NULL;
  for (uint32_t l = 1; line && l < at.line; l++) {
    line = memchr(line, '\n', (size_t)(end - line));
    if (line) line++;
  }
  if (!line || !at.line) return NULL;
  while (line < end && (*line == ' ' || *line == '\t')) line++;
  size_t n = strcspn(line, "\r\n");
  return n ? internn(line, n < LONGEST ? n : LONGEST) : NULL;
}

static void write_place(Writer *w, const Plan *p, Span at) {
  const Source *s = source_of(p, at);
  const char *text = line_text(p, at);
  ProgramPlace row = {.file = s ? string_share(w, s->path) : 0,
                      .line = at.line,
                      .in = at.in ? string_share(w, at.in) : 0,
                      .text = text ? string_share(w, text) : 0};
  *ROW(w, places, ProgramPlace) = row;
}

static void write_places(Writer *w, const Plan *p, const PlanStep *s, ProgramStep *o) {
  o->place = (uint32_t)w->places.n;
  write_place(w, p, s->span);
  for (int i = 0; s->kind == STEP_CALL && !s->places && i < p->kernels[s->kernel].outputs; i++)
    write_place(w, p, s->span);
  for (int i = 0; i < s->nplaces; i++) write_place(w, p, s->places[i]);
  o->nplaces = (uint32_t)w->places.n - o->place;
}

static bool write_steps(Writer *w, const Plan *p) {
  for (int i = 0; i < p->nlists; i++) {
    const PlanList *l = &p->lists[i];
    ProgramList *list = ROW(w, lists, ProgramList);
    list->name = string_add(w, l->name);
    list->step = (uint32_t)w->steps.n;
    list->nsteps = (uint32_t)l->nsteps;
    for (int s = 0; s < l->nsteps; s++) {
      const PlanStep *f = &l->steps[s];
      if (f->kernel > UINT16_MAX) return diag_error(p->diags, f->span, "more than %d kernels or lists", UINT16_MAX);
      ProgramStep o = {.kind = (uint8_t)f->kind,
                       .kernel = (uint16_t)f->kernel,
                       .args = (uint32_t)w->args.n,
                       .nargs = (uint32_t)f->nargs,
                       .ints = (uint32_t)w->ints.n,
                       .nints = (uint32_t)f->nsyms};
      for (int k = 0; k < f->nargs; k++) {
        const PlanArg *a = &f->args[k];
        *ROW(w, args, ProgramArg) =
            (ProgramArg){.buffer = (uint32_t)a->buffer, .offset = a->offset, .stride = a->stride};
      }
      for (int k = 0; k < f->nsyms; k++)
        *ROW(w, ints, ProgramInt) = (ProgramInt){.mul = 1, .sym = (uint32_t)f->syms[k]};
      if (f->kind == STEP_LIST) {
        o.count = (uint32_t)w->ints.n;
        *ROW(w, ints, ProgramInt) = (ProgramInt){.c = f->count};
      }
      write_places(w, p, f, &o);
      *ROW(w, steps, ProgramStep) = o;
    }
  }
  return true;
}

static void write_texts(Writer *w, const Plan *p, const ProgramSpec *spec) {
  for (int i = 0; i < p->nsymbols; i++)
    *ROW(w, symbols, ProgramSymbol) =
        (ProgramSymbol){.name = string_add(w, p->symbol_names[i]), .bound = p->symbols[i].bound};
  for (int i = 0; i < spec->nsettings; i++) {
    uint32_t key = string_add(w, spec->settings[i].name);
    *ROW(w, settings, ProgramSetting) = (ProgramSetting){key, string_add(w, spec->settings[i].text)};
  }
  for (int i = 0; i < spec->nfiles; i++) {
    if (!spec->files[i].text) continue;
    uint32_t name = string_add(w, spec->files[i].name);
    *ROW(w, files, ProgramFile) = (ProgramFile){name, string_add(w, spec->files[i].text)};
  }
}

/* ---- putting it together: header, strings, tables, constants */

static ProgramTable place(Text *blob, const Table *t) {
  static const char zeros[16];
  ProgramTable out = {(uint32_t)align_up(blob->n, 8), (uint32_t)t->n};
  text_write(blob, zeros, out.at - blob->n);
  if (t->n) text_write(blob, t->rows, t->size * (size_t)t->n);
  return out;
}

static bool assemble(Writer *w, Plan *p, ProgramHeader h, Text *blob, ProgramReport *r) {
  static const char zeros[MEMORY_ALIGN];
  text_write(blob, &h, sizeof h);
  text_write(blob, w->strings.s, w->strings.n);
  size_t consts = align_up(
      blob->n + 12 * 8 + w->buffers.n * sizeof(ProgramBuffer) + w->params.n * sizeof(ProgramParam) +
          w->pieces.n * sizeof(ProgramPiece) + w->kernels.n * sizeof(ProgramKernel) + w->steps.n * sizeof(ProgramStep) +
          w->args.n * sizeof(ProgramArg) + w->ints.n * sizeof(ProgramInt) + w->lists.n * sizeof(ProgramList) +
          w->symbols.n * sizeof(ProgramSymbol) + w->settings.n * sizeof(ProgramSetting) +
          w->files.n * sizeof(ProgramFile) + w->places.n * sizeof(ProgramPlace),
      MEMORY_ALIGN);
  if (consts + (size_t)r->consts > UINT32_MAX)
    return diag_error(p->diags, (Span){0}, "the program's tables pass 4 GiB");
  ProgramBuffer *rows = w->buffers.rows;
  for (int i = 0; i < p->nbuffers; i++)
    if (p->buffers[i].kind == BUF_CONST) rows[i].offset += consts;
  h.buffers = place(blob, &w->buffers);
  h.params = place(blob, &w->params);
  h.pieces = place(blob, &w->pieces);
  h.kernels = place(blob, &w->kernels);
  h.steps = place(blob, &w->steps);
  h.args = place(blob, &w->args);
  h.ints = place(blob, &w->ints);
  h.lists = place(blob, &w->lists);
  h.symbols = place(blob, &w->symbols);
  h.settings = place(blob, &w->settings);
  h.files = place(blob, &w->files);
  h.places = place(blob, &w->places);
  while (blob->n < consts) text_write(blob, zeros, consts - blob->n > sizeof zeros ? sizeof zeros : consts - blob->n);
  for (int i = 0; i < p->nbuffers; i++) {
    const PlanBuffer *b = &p->buffers[i];
    if (b->kind != BUF_CONST) continue;
    size_t room = align_up((size_t)b->bytes, MEMORY_ALIGN);
    void *bytes = arena_alloc(p->arena, room + 1);
    if (!table_eval(p, b, bytes)) return false;
    text_write(blob, bytes, room);
  }
  h.bytes = blob->n;
  memcpy(blob->s, &h, sizeof h);
  r->blob = (int64_t)blob->n;
  return true;
}

static ProgramHeader header(Writer *w, const Plan *p, const ProgramSpec *spec, const ProgramReport *r, double peak) {
  ProgramHeader h = {.version = PROGRAM_VERSION, .header_bytes = sizeof(ProgramHeader)};
  memcpy(h.magic, PROGRAM_MAGIC, sizeof h.magic);
  h.spec_hash = hash64(spec->text, strlen(spec->text));
  h.model = string_add(w, spec->model);
  h.target = string_add(w, p->target->name);
  h.cpu_features = string_add(w, p->target->require);
  h.spec = string_add(w, spec->text);
  h.skip = string_add(w, spec->skip);
  h.persistent_bytes = (uint64_t)r->persistent;
  h.arena_bytes = (uint64_t)r->arena;
  h.scratch_bytes = (uint64_t)r->scratch;
  h.sum_temp_bytes = (uint64_t)r->sum_temp;
  h.model_flops = spec->model_flops;
  h.model_params = spec->model_params;
  h.peak_flops = peak;
  h.batch = spec->batch;
  h.time = spec->time;
  return h;
}

int64_t program_memory(const ProgramReport *r, int threads) {
  return r->persistent + r->arena + r->scratch * threads + r->consts;
}

bool program_build(Module *m, const ProgramSpec *spec, const Target *t, const Lowering *lower, KModule *km, Diags *d,
                   Text *blob, ProgramReport *report) {
  Plan p = {.arena = m->arena, .diags = d, .mod = m, .target = t, .lower = lower, .km = km};
  ProgramReport r = {0};
  double peak = 0;
  for (int i = 0; i < m->ngraphs; i++)
    if (!m->graphs[i]->region && !plan_graph(&p, m->graphs[i], m->graphs[i]->name)) return false;
  if (lower->peak && !plan_peak(&p, &peak)) return false;
  for (int i = 0; i < spec->nsources; i++) {
    int b = plan_find_buffer(&p, spec->sources[i].name);
    if (b >= 0 && p.buffers[b].kind == BUF_DATA) p.buffers[b].source = spec->sources[i].text;
  }
  if (!lay_out(&p, spec->serves, &r)) return false;

  Writer w = {.arena = m->arena, .strings_at = sizeof(ProgramHeader)};
  text_write(&w.strings, "", 1);
  write_buffers(&w, &p);
  write_kernels(&w, &p, &r);
  bool ok = write_params(&w, &p, spec) && write_steps(&w, &p);
  if (ok) {
    write_texts(&w, &p, spec);
    ProgramHeader h = header(&w, &p, spec, &r, peak);
    blob->n = 0;
    ok = assemble(&w, &p, h, blob, &r);
  }
  text_free(&w.strings);
  r.kernels = p.nkernels;
  r.steps = w.steps.n;
  r.buffers = p.nbuffers;
  r.copies = p.copies;
  r.lists = p.nlists;
  *report = r;
  return ok;
}
