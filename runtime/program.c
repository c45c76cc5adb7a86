/* Opens a program blob: every offset, count and index is checked here, once, so that a broken or mismatched object file
 * is a message at start and not a wild pointer in step 1000.
 *
 * What must hold afterwards: tables lie inside the blob; strings end inside it; steps refer to existing kernels, lists,
 * args, ints and places, and have an argument and (if any) a place for every output of their kernel; args to existing buffers; lists nest without cycles (a LIST only runs lists that come before its own,
 * or deeper, checked by depth). */
#include "runtime/program.h"
#include <string.h>

enum { MAX_LIST_DEPTH = 8 };

int dtype_size(int dtype) {
  static const unsigned char bytes[] = {4, 2, 8, 4, 1, 1};
  return dtype >= 0 && dtype < (int)sizeof(bytes) ? bytes[dtype] : 0;
}

const char *dtype_text(int dtype) {
  static const char *const text[] = {"f32", "bf16", "f64", "i32", "i8", "f8e4m3"};
  return dtype >= 0 && dtype < (int)(sizeof(text) / sizeof(text[0])) ? text[dtype] : "?";
}

const char *program_string(const Program *p, uint32_t at) {
  return at ? (const char *)p->blob + at : "";
}

int program_buffer(const Program *p, const char *name) {
  for (int i = 0; i < p->nbuffers; i++)
    if (!strcmp(program_string(p, p->buffers[i].name), name)) return i;
  return -1;
}

int program_source(const Program *p, const char *source) {
  for (int i = 0; i < p->nbuffers; i++)
    if (p->buffers[i].kind == BUF_DATA && !strcmp(program_string(p, p->buffers[i].source), source)) return i;
  return -1;
}

int program_list(const Program *p, const char *name) {
  for (int i = 0; i < p->nlists; i++)
    if (!strcmp(program_string(p, p->lists[i].name), name)) return i;
  return -1;
}

int64_t buffer_elements(const ProgramBuffer *b) {
  int64_t n = 1;
  for (int i = 0; i < b->rank; i++) n *= b->dim[i];
  return n;
}

/* One table: inside the blob, aligned for its rows. */
static bool table(const Program *p, const char *name, ProgramTable t, size_t row, size_t align, const void **at, int *n,
                  Report *err) {
  if (t.n > 1u << 24 || t.at % align || t.at > p->h->bytes || (uint64_t)t.n * row > p->h->bytes - t.at)
    return report_add(err, "broken program: its table of %s does not lie inside it", name);
  *at = p->blob + t.at;
  *n = (int)t.n;
  return true;
}

static bool string_ok(const Program *p, uint32_t at) {
  return !at || (at < p->h->bytes && memchr(p->blob + at, 0, p->h->bytes - at));
}

static bool check_buffers(const Program *p, Report *err) {
  bool serves = program_list(p, "serve") >= 0;
  for (int i = 0; i < p->nbuffers; i++) {
    const ProgramBuffer *b = &p->buffers[i];
    if (!string_ok(p, b->name) || !string_ok(p, b->source) || b->rank > PROGRAM_RANK)
      return report_add(err, "broken program: buffer %d", i);
    const char *name = program_string(p, b->name);
    bool apart = serves && (b->kind == BUF_PARAM || b->kind == BUF_STATE); /* whoever runs it has them */
    uint64_t limit = b->kind == BUF_CONST  ? p->h->bytes
                     : apart               ? UINT64_C(1) << 46
                     : b->kind == BUF_TEMP ? p->h->arena_bytes
                                           : p->h->persistent_bytes;
    if (b->kind > BUF_CONST || !dtype_size(b->dtype) || b->offset > limit || b->bytes > limit - b->offset)
      return report_add(err, "broken program: buffer '%s' does not lie in its memory", name);
    uint64_t bytes = (uint64_t)dtype_size(b->dtype);
    for (int k = 0; k < b->rank; k++)
      if (b->dim[k] < 0 || __builtin_mul_overflow(bytes, (uint64_t)b->dim[k], &bytes))
        return report_add(err, "broken program: the shape of buffer '%s'", name);
    if (b->panel && (b->panel > 256 || b->split >= b->rank || !b->split))
      return report_add(err, "broken program: the panels of buffer '%s'", name);
    if (bytes > b->bytes) return report_add(err, "broken program: buffer '%s' is smaller than its shape", name);
  }
  return true;
}

static bool slice_ok(uint32_t at, uint32_t n, int size) {
  return at <= (uint32_t)size && n <= (uint32_t)size - at;
}

static bool outputs_ok(const Program *p, const ProgramStep *s) {
  uint32_t n = p->kernel_info[s->kernel].outputs;
  return n <= s->nargs && (!s->nplaces || n < s->nplaces);
}

static bool check_steps(const Program *p, Report *err) {
  for (int i = 0; i < p->nargs; i++)
    if (p->args[i].buffer >= (uint32_t)p->nbuffers) return report_add(err, "broken program: argument %d", i);
  for (int i = 0; i < p->nints; i++)
    if (p->ints[i].sym > (uint32_t)p->nsymbols) return report_add(err, "broken program: integer %d", i);
  for (int i = 0; i < p->nsteps; i++) {
    const ProgramStep *s = &p->steps[i];
    if (s->kind == STEP_COLL)
      return report_add(err, "this program communicates between processes (step %d); this runtime runs one process", i);
    bool ok = s->kind == STEP_CALL ? s->kernel < p->nkernels && slice_ok(s->args, s->nargs, p->nargs) &&
                                         slice_ok(s->ints, s->nints, p->nints) && outputs_ok(p, s)
              : s->kind == STEP_LIST ? s->kernel < p->nlists && s->count < (uint32_t)p->nints
                                     : false;
    ok = ok && slice_ok(s->place, s->nplaces, p->nplaces);
    /* Steps run in the order of the table, so a wait is kept when it points backwards. */
    for (int w = 0; w < 2; w++) ok = ok && s->wait[w] <= (uint32_t)i;
    if (!ok) return report_add(err, "broken program: step %d", i);
  }
  for (int i = 0; i < p->nlists; i++)
    if (!string_ok(p, p->lists[i].name) || !slice_ok(p->lists[i].step, p->lists[i].nsteps, p->nsteps))
      return report_add(err, "broken program: list %d", i);
  return true;
}

static bool depth_ok(const Program *p, int list, int depth) {
  if (depth > MAX_LIST_DEPTH) return false;
  const ProgramList *l = &p->lists[list];
  for (uint32_t i = l->step; i < l->step + l->nsteps; i++)
    if (p->steps[i].kind == STEP_LIST && !depth_ok(p, p->steps[i].kernel, depth + 1)) return false;
  return true;
}

/* A piece must stay inside its parameter and inside its checkpoint tensor; strides are not negative. */
static bool check_piece(const Program *p, const ProgramPiece *c, int64_t elements) {
  if (!string_ok(p, c->tensor) || c->hf_rank > PROGRAM_RANK || c->rank > PROGRAM_RANK) return false;
  int64_t whole = 1, last_param = c->start, last_tensor = c->base;
  for (uint32_t k = 0; k < c->hf_rank; k++)
    if (c->hf_dim[k] < 0 || __builtin_mul_overflow(whole, c->hf_dim[k], &whole)) return false;
  if (c->start < 0 || c->base < 0) return false;
  for (uint32_t k = 0; k < c->rank; k++) {
    int64_t a, b;
    if (c->dim[k] < 1 || c->pstride[k] < 0 || c->stride[k] < 0) return false;
    if (__builtin_mul_overflow(c->dim[k] - 1, c->pstride[k], &a) || __builtin_add_overflow(last_param, a, &last_param))
      return false;
    if (__builtin_mul_overflow(c->dim[k] - 1, c->stride[k], &b) || __builtin_add_overflow(last_tensor, b, &last_tensor))
      return false;
  }
  return last_param < elements && last_tensor < whole;
}

static bool check_params(const Program *p, Report *err) {
  bool serves = program_list(p, "serve") >= 0;
  for (int i = 0; i < p->nparams; i++) {
    const ProgramParam *q = &p->params[i];
    uint32_t n = (uint32_t)p->nbuffers;
    bool trains = q->moment1 < n && q->moment2 < n && q->grad < n;
    bool none = q->moment1 == PROGRAM_NONE && q->moment2 == PROGRAM_NONE && q->grad == PROGRAM_NONE;
    if (q->buffer >= n || !(serves ? none : trains) || q->init > INIT_UNIFORM ||
        !slice_ok(q->piece, q->npieces, p->npieces))
      return report_add(err, "broken program: parameter %d", i);
    const char *name = program_string(p, p->buffers[q->buffer].name);
    if (!serves && p->buffers[q->buffer].dtype != DTYPE_F32)
      return report_add(err, "parameter '%s' is %s; this runtime keeps parameters in f32", name,
                        dtype_text(p->buffers[q->buffer].dtype));
    for (uint32_t k = q->piece; k < q->piece + q->npieces; k++)
      if (!check_piece(p, &p->pieces[k], buffer_elements(&p->buffers[q->buffer])))
        return report_add(err, "broken program: the checkpoint view of parameter '%s'", name);
  }
  return true;
}

bool program_open(Program *p, const unsigned char *blob, const KernelFn *kernels, Report *err) {
  const ProgramHeader *h = (const ProgramHeader *)(const void *)blob;
  *p = (Program){.blob = blob, .h = h, .kernels = kernels};
  if (memcmp(h->magic, PROGRAM_MAGIC, sizeof(PROGRAM_MAGIC))) return report_add(err, "this binary holds no program");
  if (h->version != PROGRAM_VERSION || h->header_bytes != sizeof(ProgramHeader))
    return report_add(err,
                      "the program has format version %u (header of %u bytes); this runtime reads version %d (%zu)",
                      h->version, h->header_bytes, PROGRAM_VERSION, sizeof(ProgramHeader));
#define TABLE(field, to, n)                                                                                            \
  table(p, #field, h->field, sizeof(*p->to), __alignof__(*p->to), (const void **)&p->to, &p->n, err)
  bool ok = TABLE(buffers, buffers, nbuffers) && TABLE(params, params, nparams) && TABLE(pieces, pieces, npieces) &&
            TABLE(kernels, kernel_info, nkernels) && TABLE(steps, steps, nsteps) && TABLE(args, args, nargs) &&
            TABLE(ints, ints, nints) && TABLE(lists, lists, nlists) && TABLE(symbols, symbols, nsymbols) &&
            TABLE(settings, settings, nsettings) && TABLE(files, files, nfiles) && TABLE(places, places, nplaces);
#undef TABLE
  if (!ok) return false;
  uint32_t strings[] = {h->model, h->target, h->cpu_features, h->spec, h->skip};
  for (int i = 0; i < 5; i++)
    if (!string_ok(p, strings[i])) return report_add(err, "broken program: its names");
  for (int i = 0; i < p->nkernels; i++)
    if (!string_ok(p, p->kernel_info[i].name) || !string_ok(p, p->kernel_info[i].file))
      return report_add(err, "broken program: kernel %d", i);
  for (int i = 0; i < p->nplaces; i++)
    if (!string_ok(p, p->places[i].file) || !string_ok(p, p->places[i].in) || !string_ok(p, p->places[i].text))
      return report_add(err, "broken program: place %d", i);
  for (int i = 0; i < p->nsymbols; i++)
    if (!string_ok(p, p->symbols[i].name)) return report_add(err, "broken program: symbol %d", i);
  for (int i = 0; i < p->nsettings; i++)
    if (!string_ok(p, p->settings[i].key) || !string_ok(p, p->settings[i].value))
      return report_add(err, "broken program: setting %d", i);
  for (int i = 0; i < p->nfiles; i++)
    if (!string_ok(p, p->files[i].name) || !string_ok(p, p->files[i].text))
      return report_add(err, "broken program: file %d", i);
  for (int i = 0; i < p->nlists; i++)
    if (!string_ok(p, p->lists[i].name)) return report_add(err, "broken program: list %d", i);
  if (!check_buffers(p, err) || !check_steps(p, err)) return false;
  for (int i = 0; i < p->nlists; i++)
    if (!depth_ok(p, i, 0)) return report_add(err, "broken program: its lists run each other too deeply");
  return check_params(p, err);
}
