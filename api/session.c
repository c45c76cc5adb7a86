/* The C API's sessions: an engine, its buffers by name, and the steps of training as the runtime's trainer takes them.
 *
 * Must hold: every value that reaches a buffer by name is of its dtype and, where the buffer indexes something, below its
 * bound, so that no caller's mistake makes a kernel read past a table; results are those of the built program, bit for bit,
 * for the same values in the same buffers. */
#include "api/api.h"
#include "runtime/machine.h"
#include "runtime/random.h"
#include "runtime/weights.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static ink_context *begin(ink_session *s) {
  if (s) context_begin(s->model->context);
  return s ? s->model->context : NULL;
}

static bool open_session(ink_session *s, int threads, Report *err) {
  const Program *p = &s->model->program;
  Settings set;
  if (threads < 0) return report_add(err, "a session with %d threads", threads);
  s->engine = engine_new(p, threads ? threads : machine_cores(), err);
  return s->engine && settings_default(&set, p, err) && settings_check(&set, p, err) &&
         trainer_init(&s->trainer, s->engine, NULL, &set, err);
}

ink_session *ink_session_new(ink_model *m, int threads) {
  Report err = {0};
  if (!m) return NULL;
  context_begin(m->context);
  ink_session *s = calloc(1, sizeof *s);
  if (!s) {
    context_error(m->context, INK_FAILED, NULL, "out of memory");
    return NULL;
  }
  s->model = m;
  locale_t before = locale_enter();
  bool ok = open_session(s, threads, &err);
  locale_leave(before);
  context_report(m->context, INK_FAILED, &err);
  if (ok) return s;
  ink_session_free(s);
  return NULL;
}

void ink_session_free(ink_session *s) {
  if (!s) return;
  engine_free(s->engine);
  profile_free(s->profile);
  free(s);
}

int ink_session_threads(const ink_session *s) {
  return s ? pool_threads(engine_pool(s->engine)) : 0;
}

/* ---- values by name */

static int find_buffer(ink_context *c, const ink_model *m, const char *name) {
  const Program *p = &m->program;
  for (int i = 0; i < m->nbuffers; i++)
    if (!strcmp(program_string(p, p->buffers[m->buffer[i]].name), name)) return m->buffer[i];
  const char **names = NEW_ARRAY(c->arena, const char *, m->nbuffers + 1);
  for (int i = 0; i < m->nbuffers; i++) names[i] = program_string(p, p->buffers[m->buffer[i]].name);
  const char *near = near_miss(name, names, m->nbuffers);
  context_error(c, INK_MISUSE, near ? arena_printf(c->arena, "did you mean '%s'?", near) : NULL, "no buffer '%s'",
                name);
  return -1;
}

/* The buffer of a read or write that fits it, or -1. */
static int check_access(ink_context *c, const ink_session *s, const char *name, ink_dtype dtype, const void *values,
                        size_t count) {
  if (!name || !values) {
    context_error(c, INK_MISUSE, NULL, "a buffer's name or values are NULL");
    return -1;
  }
  int at = find_buffer(c, s->model, name);
  if (at < 0) return -1;
  const ProgramBuffer *b = &s->model->program.buffers[at];
  if ((int)dtype != b->dtype)
    context_error(c, INK_MISUSE, NULL, "buffer '%s' is %s, not %s", name, dtype_text(b->dtype), dtype_text((int)dtype));
  if (count != (size_t)buffer_elements(b))
    context_error(c, INK_MISUSE, NULL, "buffer '%s' has %" PRId64 " elements, not %zu", name, buffer_elements(b),
                  count);
  return c->diags->n ? -1 : at;
}

static bool is_target(const Program *p, const ProgramBuffer *b) {
  const char *source = program_string(p, b->source);
  return b->dtype == DTYPE_I32 && (!strcmp(source, "targets") || !strcmp(source, "labels"));
}

ink_status ink_write(ink_session *s, const char *buffer, ink_dtype dtype, const void *values, size_t count) {
  ink_context *c = begin(s);
  int at = c ? check_access(c, s, buffer, dtype, values, count) : -1;
  if (at < 0) return INK_MISUSE;
  const Program *p = &s->model->program;
  const ProgramBuffer *b = &p->buffers[at];
  const int32_t *v = values, least = is_target(p, b) ? -1 : 0;
  for (size_t i = 0; b->bound && i < count; i++)
    if (v[i] < least || (v[i] >= 0 && (uint32_t)v[i] >= b->bound))
      return context_error(c, INK_MISUSE, NULL, "buffer '%s': value %zu is %d, not from %d to %" PRIu32, buffer, i,
                           v[i], least, b->bound - 1);
  memcpy(engine_buffer(s->engine, at), values, count * (size_t)dtype_size(b->dtype));
  return INK_OK;
}

ink_status ink_read(ink_session *s, const char *buffer, ink_dtype dtype, void *values, size_t count) {
  ink_context *c = begin(s);
  int at = c ? check_access(c, s, buffer, dtype, values, count) : -1;
  if (at < 0) return INK_MISUSE;
  memcpy(values, engine_buffer(s->engine, at), count * (size_t)dtype_size((int)dtype));
  return INK_OK;
}

/* ---- parameters */

ink_status ink_init(ink_session *s, uint64_t seed) {
  if (!begin(s)) return INK_MISUSE;
  init_params(s->engine, seed);
  return INK_OK;
}

ink_status ink_load(ink_session *s, const char *path) {
  Report err = {0};
  ink_context *c = begin(s);
  if (!c) return INK_MISUSE;
  if (!path) return context_error(c, INK_MISUSE, NULL, "ink_load: no path");
  locale_t before = locale_enter();
  weights_load(s->engine, path, &err);
  locale_leave(before);
  return context_report(c, INK_FAILED, &err);
}

static bool file_done(void *ctx, const char *file, uint64_t hash) {
  return true; /* nobody asks for the hashes */
}

static bool save_files(const Program *p, const char *folder, Report *err) {
  for (int i = 0; i < p->nfiles; i++) {
    const char *text = program_string(p, p->files[i].text);
    FsWriter *w = fs_writer_open(folder, program_string(p, p->files[i].name), err);
    if (!w) return false;
    fs_writer_add(w, text, strlen(text));
    if (!fs_writer_close(w, NULL, err)) return false;
  }
  return true;
}

ink_status ink_save(ink_session *s, const char *folder) {
  Report err = {0};
  ink_context *c = begin(s);
  if (!c) return INK_MISUSE;
  if (!folder || !*folder) return context_error(c, INK_MISUSE, NULL, "ink_save: no folder");
  locale_t before = locale_enter();
  if (fs_mkdirs(folder, &err) && weights_save(s->engine, folder, 0, file_done, NULL, &err))
    save_files(&s->model->program, folder, &err);
  locale_leave(before);
  return context_report(c, INK_FAILED, &err);
}

/* ---- steps */

ink_status ink_set(ink_session *s, const char *key, const char *value) {
  Report err = {0};
  ink_context *c = begin(s);
  if (!c) return INK_MISUSE;
  if (!key || !value) return context_error(c, INK_MISUSE, NULL, "ink_set: key or value is NULL");
  Settings set = s->trainer.set;
  locale_t before = locale_enter();
  if (settings_set(&set, key, value, &err) && settings_check(&set, &s->model->program, &err)) s->trainer.set = set;
  locale_leave(before);
  return context_report(c, INK_MISUSE, &err);
}

/* Targets of this micro-batch that count; -1: the model has none to count. */
static int64_t count_targets(const ink_session *s) {
  const Program *p = &s->model->program;
  for (int i = 0; i < p->nbuffers; i++) {
    const ProgramBuffer *b = &p->buffers[i];
    if (b->kind != BUF_DATA || !is_target(p, b)) continue;
    const int32_t *v = engine_buffer(s->engine, i);
    int64_t n = 0;
    for (int64_t k = 0, all = buffer_elements(b); k < all; k++) n += v[k] >= 0;
    return n;
  }
  return -1;
}

static ink_status run_loss(ink_session *s, int list, const char *what, int64_t targets, double *loss) {
  ink_context *c = begin(s);
  if (!c) return INK_MISUSE;
  if (list < 0) return context_error(c, INK_MISUSE, NULL, "%s: this program has no such list", what);
  int64_t count = targets ? targets : count_targets(s);
  if (count < 0)
    return context_error(c, INK_MISUSE, NULL, "%s: %s", what,
                         targets ? "fewer than no targets"
                                 : "this model has no targets to count: say how many there are");
  double inv = count ? 1.0 / (double)count : 0;
  engine_set_scalar(s->engine, "inv_count", inv);
  engine_set_scalar(s->engine, "loss_sum", 0);
  if (list == s->trainer.micro) trainer_dropout(&s->trainer, s->micro_batch++);
  engine_run(s->engine, list);
  if (loss) *loss = engine_scalar(s->engine, "loss_sum") * inv;
  return INK_OK;
}

ink_status ink_gradients(ink_session *s, int64_t targets, double *loss) {
  return run_loss(s, s ? s->trainer.micro : -1, "ink_gradients", targets, loss);
}

ink_status ink_evaluate(ink_session *s, int64_t targets, double *loss) {
  return run_loss(s, s ? s->trainer.eval : -1, "ink_evaluate", targets, loss);
}

ink_status ink_update(ink_session *s, int64_t step, double *norm) {
  ink_context *c = begin(s);
  if (!c) return INK_MISUSE;
  if (step < 0) return context_error(c, INK_MISUSE, NULL, "ink_update: step %" PRId64, step);
  s->trainer.step = step;
  s->micro_batch = 0;
  Report err = {0};
  if (!trainer_update(&s->trainer, &err)) return context_report(c, INK_FAILED, &err);
  if (norm) *norm = engine_scalar(s->engine, "grad_norm");
  return INK_OK;
}

ink_status ink_run(ink_session *s, const char *list) {
  ink_context *c = begin(s);
  if (!c) return INK_MISUSE;
  int at = list ? program_list(&s->model->program, list) : -1;
  if (at < 0) return context_error(c, INK_MISUSE, NULL, "no list '%s'", list ? list : "NULL");
  engine_run(s->engine, at);
  return INK_OK;
}

/* ---- time */

ink_status ink_profile(ink_session *s, int on) {
  ink_context *c = begin(s);
  if (!c) return INK_MISUSE;
  Report err = {0};
  if (on && !s->profile) s->profile = profile_new(&s->model->program, ink_session_threads(s), &err);
  engine_set_profile(s->engine, on ? s->profile : NULL);
  return context_report(c, INK_FAILED, &err);
}

ink_status ink_kernel_times(ink_session *s, size_t index, ink_kernel_time *out) {
  if (!s || !out || index >= (size_t)s->model->program.nkernels) return INK_MISUSE;
  ink_kernel_time o = {0};
  if (s->profile) o.calls = profile_kernel(s->profile, (int)index, &o.seconds);
  return struct_give(out, &o, sizeof o);
}

ink_status ink_peak(ink_session *s, double seconds, double *flops) {
  ink_context *c = begin(s);
  if (!c) return INK_MISUSE;
  if (!flops || !(seconds >= 0 && seconds <= 3600))
    return context_error(c, INK_MISUSE, NULL, "ink_peak: %s", flops ? "seconds out of range" : "nowhere to put it");
  *flops = engine_peak(s->engine, seconds);
  return INK_OK;
}
