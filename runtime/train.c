/* Steps. A global batch is global_batch / batch micro-batches: each adds its share to the gradients, scaled by
 * inv_count = 1 / (targets that count in the whole global batch), so its division into micro-batches changes nothing but
 * the order of sums. Losses are summed in double over micro-batches; loss_sum itself is the program's.
 *
 * What must hold: nothing here reads a clock or a thread number into a result. */
#include "runtime/train.h"
#include "runtime/check_nan.h"
#include "runtime/machine.h"
#include "runtime/profile.h"
#include "runtime/random.h"
#include "runtime/weights.h"
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool trainer_init(Trainer *t, Engine *e, Loader *data, const Settings *set, Report *err) {
  const Program *p = engine_program(e);
  *t = (Trainer){.e = e, .data = data, .set = *set};
  t->micro = program_list(p, "micro");
  t->update = program_list(p, "update");
  t->eval = program_list(p, "eval");
  if (t->micro < 0 || t->update < 0 || program_buffer(p, "loss_sum") < 0)
    return report_add(err, "this program was not built for training");
  return true;
}

/* base^n by squaring: the same bits on every machine, which pow() does not promise. */
static double power(double base, int64_t n) {
  double r = 1;
  for (; n > 0; n >>= 1, base *= base)
    if (n & 1) r *= base;
  return r;
}

/* Runs a list; where: what a find of --check-nan says of the moment. */
static bool run(Trainer *t, int list, Report *err, const char *where, ...) __attribute__((format(printf, 4, 5)));
static bool run(Trainer *t, int list, Report *err, const char *where, ...) {
  if (engine_run(t->e, list)) return true;
  char text[128];
  va_list ap;
  va_start(ap, where);
  vsnprintf(text, sizeof(text), where, ap);
  va_end(ap);
  return nan_tell(engine_check(t->e), t->e, text, err);
}

void trainer_dropout(Trainer *t, int64_t micro_batch) {
  int32_t key[2];
  random_dropout_key((uint64_t)t->set.seed, t->step, micro_batch, key);
  engine_set_scalar(t->e, "dropout.key0", key[0]);
  engine_set_scalar(t->e, "dropout.key1", key[1]);
}

bool trainer_gradients(Trainer *t, double *loss, Report *err) {
  int64_t micro_batches = t->set.global_batch / engine_program(t->e)->h->batch;
  int64_t from = profile_from(t->profile), count = loader_draw(t->data, micro_batches, err);
  profile_to(t->profile, PROFILE_DATA, -1, from);
  if (count < 0) return false;
  double inv = count ? 1.0 / (double)count : 0, sum = 0;
  engine_set_scalar(t->e, "inv_count", inv);
  for (int64_t m = 0; m < micro_batches; m++) {
    from = profile_from(t->profile);
    bool ok = loader_fill(t->data, m, err);
    profile_to(t->profile, PROFILE_DATA, -1, from);
    if (!ok) return false;
    engine_set_scalar(t->e, "loss_sum", 0);
    trainer_dropout(t, m);
    from = profile_from(t->profile);
    ok = run(t, t->micro, err, "step %" PRId64 ", micro-batch %" PRId64 " of %" PRId64, t->step + 1, m + 1,
             micro_batches);
    profile_to(t->profile, PROFILE_MICRO, m + 1, from);
    if (!ok) return false;
    sum += engine_scalar(t->e, "loss_sum");
  }
  *loss = sum * inv;
  return true;
}

bool trainer_update(Trainer *t, Report *err) {
  const Settings *s = &t->set;
  int64_t n = t->step + 1;
  engine_set_scalar(t->e, "lr", settings_lr(s, t->step));
  engine_set_scalar(t->e, "beta1", s->beta1);
  engine_set_scalar(t->e, "beta2", s->beta2);
  engine_set_scalar(t->e, "eps", s->eps);
  engine_set_scalar(t->e, "weight_decay", s->weight_decay);
  engine_set_scalar(t->e, "clip", s->clip);
  engine_set_scalar(t->e, "bias1", 1 - power(s->beta1, n));
  engine_set_scalar(t->e, "bias2", 1 - power(s->beta2, n));
  int64_t from = profile_from(t->profile);
  bool ok = run(t, t->update, err, "step %" PRId64, n);
  profile_to(t->profile, PROFILE_UPDATE, -1, from);
  if (!ok) return false;
  t->step = n;
  return true;
}

bool trainer_step(Trainer *t, StepMetrics *m, Report *err) {
  const ProgramHeader *h = engine_program(t->e)->h;
  profile_step(t->profile, t->step + 1);
  engine_set_profile(t->e, t->profile);
  int64_t from = profile_from(t->profile);
  double start = machine_seconds(), lr = settings_lr(&t->set, t->step), loss;
  bool ok = trainer_gradients(t, &loss, err) && trainer_update(t, err);
  double seconds = machine_seconds() - start, micro_batches = (double)(t->set.global_batch / h->batch);
  profile_to(t->profile, PROFILE_STEP, t->step + !ok, from); /* asks the system, which may take the core just then */
  engine_set_profile(t->e, NULL);
  if (!ok) return false;
  *m = (StepMetrics){
      .step = t->step, .loss = (double)(float)loss, .grad_norm = engine_scalar(t->e, "grad_norm"), .lr = lr};
  if (seconds <= 0) seconds = 1e-9;
  m->per_second = (double)t->set.global_batch * (double)(h->time ? h->time : 1) / seconds;
  m->ms = 1e3 * seconds;
  if (t->peak > 0) m->mfu = h->model_flops * micro_batches / seconds / t->peak;
  if (!isfinite(m->loss) || !isfinite(m->grad_norm))
    return report_add(err,
                      "step %" PRId64
                      ": the loss is %g and the gradients' norm %g; a lower lr, a longer warm-up or clipping may help\n"
                      "--check-nan names the first kernel, line and layer that made a NaN or an infinity",
                      t->step, m->loss, m->grad_norm);
  return true;
}

bool trainer_evaluate(Trainer *t, double *loss, Report *err) {
  int64_t n = loader_val_batches(t->data), counted = 0;
  if (t->eval < 0 || !n) return report_add(err, "there is no validation data");
  if (t->set.eval_batches && t->set.eval_batches < n) n = t->set.eval_batches;
  double sum = 0;
  for (int64_t b = 0; b < n; b++) {
    int64_t count = loader_fill_val(t->data, b, err);
    if (count < 0) return false;
    counted += count;
    engine_set_scalar(t->e, "inv_count", count ? 1.0 / (double)count : 0);
    engine_set_scalar(t->e, "loss_sum", 0);
    if (!run(t, t->eval, err, "after step %" PRId64 ", batch %" PRId64 " of %" PRId64, t->step, b + 1, n)) return false;
    sum += engine_scalar(t->e, "loss_sum");
  }
  *loss = counted ? (double)(float)(sum / (double)counted) : 0;
  return true;
}

/* ---- for checks against other implementations */

bool trainer_save_gradients(Trainer *t, double loss, const char *path, Report *err) {
  char dir[FS_PATH];
  const char *name = fs_split(path, dir, err);
  return name && weights_save_gradients(t->e, dir, name, loss, err);
}

bool trainer_save_logits(Trainer *t, const char *path, Report *err) {
  const Program *p = engine_program(t->e);
  int list = program_list(p, "sample"), at = program_buffer(p, "next_logits");
  if (list < 0 || at < 0 || p->h->time < 1)
    return report_add(err, "--logits: this program has no logits of one position");
  LoaderState before = loader_state(t->data);
  if (loader_draw(t->data, 1, err) < 0 || !loader_fill(t->data, 0, err) || !loader_seek(t->data, before)) return false;
  int64_t vocab = p->buffers[at].dim[p->buffers[at].rank - 1], time = p->h->time, dim[2] = {time, vocab};
  float *all = malloc((size_t)time * (size_t)vocab * sizeof(float));
  if (!all) return report_add(err, "out of memory");
  bool ran = true;
  for (int64_t i = 0; i < time && ran; i++) {
    engine_set_scalar(t->e, "position", (double)i);
    ran = run(t, list, err, "logits of position %" PRId64, i);
    memcpy(all + i * vocab, engine_buffer(t->e, at), (size_t)vocab * sizeof(float));
  }
  char dir[FS_PATH];
  const char *name = ran ? fs_split(path, dir, err) : NULL;
  FsWriter *w = name ? fs_writer_replace(dir, name, err) : NULL;
  bool ok = w && safe_write_header(w, &(SafeItem){"logits", 2, dim}, 1, NULL, NULL, err);
  if (ok) fs_writer_add(w, all, (size_t)(time * vocab) * sizeof(float));
  if (w) ok = fs_writer_close(w, NULL, err) && ok;
  free(all);
  return ok;
}
