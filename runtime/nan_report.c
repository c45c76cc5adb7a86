/* What --check-nan says (check_nan.h): the value, its place in the model, and what the step read.
 *
 *     gpt2.yaml:64 in layer.2: kernel contract.3 stored inf, the first value that is not finite (list micro, step 1, ...)
 *       q = project(h, wq, bq)
 *       stored  micro.%86: f32[4, 64, 4, 32], inf at [0, 3, 1, 7]; 12 NaN and 40 infinities in 32768
 *       read    micro.%85: f32[4, 64, 128], -2.1 to 2.4, mean 0.01; there [0, 3]: -1.9 to 2.2, mean 0.02
 *               layer.2.wq: f32[4, 32, 128], ...
 *
 * "there" is what of an argument belongs to the value that was found: the value at the same index where the shapes are the
 * same, where its shape is the front or the back of the other's; else the row that the axes in common name. */
#include "runtime/check_nan.h"
#include "runtime/inkrt.h"
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { TOLD_PLACES = 12, TOLD_BUFFERS = 20 };

/* ---- pieces of text: cut rather than overrun */

typedef struct Line {
  char text[2048];
  size_t n;
} Line;

static void add(Line *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add(Line *l, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  int k = vsnprintf(l->text + l->n, sizeof l->text - l->n, fmt, ap);
  va_end(ap);
  if (k > 0) l->n += (size_t)k < sizeof l->text - l->n ? (size_t)k : sizeof l->text - l->n - 1;
}

static void add_index(Line *l, const int64_t *index, int n) {
  add(l, "[");
  for (int i = 0; i < n; i++) add(l, "%s%" PRId64, i ? ", " : "", index[i]);
  add(l, "]");
}

static void add_type(Line *l, const ProgramBuffer *b) {
  add(l, "%s", dtype_text(b->dtype));
  if (b->rank) add_index(l, b->dim, b->rank);
}

static void add_value(Line *l, double v) {
  if (isnan(v))
    add(l, "NaN");
  else
    add(l, "%.6g", v);
}

static void add_place(Line *l, const Program *p, const ProgramPlace *a) {
  add(l, "%s:%u", program_string(p, a->file), a->line);
  if (a->in) add(l, " in %s", program_string(p, a->in));
}

static void unravel(const ProgramBuffer *b, int64_t element, int64_t *index) {
  for (int k = b->rank - 1; k >= 0; k--) {
    index[k] = b->dim[k] ? element % b->dim[k] : 0;
    element = b->dim[k] ? element / b->dim[k] : 0;
  }
}

/* ---- figures */

static double value_at(const void *at, int dtype, int64_t i) {
  switch (dtype) {
  case DTYPE_F32: return (double)((const float *)at)[i];
  case DTYPE_F64: return ((const double *)at)[i];
  case DTYPE_I32: return ((const int32_t *)at)[i];
  case DTYPE_I8: return ((const int8_t *)at)[i];
  case DTYPE_BF16: {
    uint32_t bits = (uint32_t)((const uint16_t *)at)[i] << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return (double)f;
  }
  default: return 0; /* f8e4m3: not read */
  }
}

typedef struct Figures {
  int64_t n, nans, infinities;
  double min, max, sum; /* of the finite ones */
} Figures;

static Figures figures(const void *at, int dtype, int64_t from, int64_t to) {
  Figures f = {.n = to - from, .min = INFINITY, .max = -INFINITY};
  for (int64_t i = from; i < to; i++) {
    double v = value_at(at, dtype, i);
    if (isnan(v))
      f.nans++;
    else if (isinf(v))
      f.infinities++;
    else {
      f.min = v < f.min ? v : f.min;
      f.max = v > f.max ? v : f.max;
      f.sum += v;
    }
  }
  return f;
}

static void add_bad(Line *l, const Figures *f) {
  add(l, "%" PRId64 " NaN and %" PRId64 " infinit%s in %" PRId64, f->nans, f->infinities,
      f->infinities == 1 ? "y" : "ies", f->n);
}

static void add_figures(Line *l, const Figures *f) {
  int64_t finite = f->n - f->nans - f->infinities;
  if (finite < f->n) add_bad(l, f);
  if (finite)
    add(l, "%s%.6g to %.6g, mean %.6g", finite < f->n ? ", the others " : "", f->min, f->max, f->sum / (double)finite);
}

/* ---- what a step read */

/* The part of an argument that belongs to `index` of the output: [*from, *to), named by the first *axes axes or, where that is
 * less than `rank`, by the last ones. False: nothing does. */
static bool belongs(const ProgramBuffer *out, const int64_t *index, const ProgramBuffer *in, int64_t *from, int64_t *to,
                    int *axes, bool *back) {
  int front = 0;
  *back = false;
  while (front < out->rank && front < in->rank && out->dim[front] == in->dim[front]) front++;
  if (front < in->rank && in->rank < out->rank) { /* the back: a bias */
    int shift = out->rank - in->rank;
    bool all = true;
    for (int k = 0; k < in->rank; k++) all = all && in->dim[k] == out->dim[shift + k];
    if (all) {
      *from = 0;
      for (int k = 0; k < in->rank; k++) *from = *from * in->dim[k] + index[shift + k];
      *to = *from + 1;
      *axes = in->rank;
      return *back = true;
    }
  }
  if (!front) return false;
  int64_t row = 1;
  for (int k = front; k < in->rank; k++) row *= in->dim[k];
  *from = 0;
  for (int k = 0; k < front; k++) *from = *from * in->dim[k] + index[k];
  *from *= row;
  *to = *from + row;
  *axes = front;
  return true;
}

static void add_argument(Line *l, const NanCheck *n, uint32_t k, const ProgramBuffer *out, const int64_t *index) {
  const Program *p = n->p;
  const ProgramArg *a = &p->args[p->steps[n->at.step].args + k];
  const ProgramBuffer *b = &p->buffers[a->buffer];
  const void *at = nan_before_step(n, &n->at, k);
  int64_t count = nan_elements(p, a, n->at.turn), whole = buffer_elements(b);
  add(l, "%s: ", program_string(p, b->name));
  add_type(l, b);
  if (whole == 1) {
    add(l, " = ");
    add_value(l, value_at(at, b->dtype, 0));
    return;
  }
  if (count < whole) add(l, ", turn %" PRId64 "'s %" PRId64 " of them", n->at.turn, count);
  Figures f = figures(at, b->dtype, 0, count);
  add(l, ", ");
  add_figures(l, &f);
  int64_t from, to;
  int axes;
  bool back;
  if (count < whole || !belongs(out, index, b, &from, &to, &axes, &back)) return;
  add(l, "; there ");
  add_index(l, back ? index + out->rank - axes : index, axes);
  add(l, ": ");
  if (to - from == 1) {
    add_value(l, value_at(at, b->dtype, from));
  } else {
    Figures row = figures(at, b->dtype, from, to);
    add_figures(l, &row);
  }
}

/* ---- a find */

static void add_where(Line *l, const Program *p, const NanStep *s, const char *where) {
  add(l, "list %s", program_string(p, p->lists[s->run].name));
  if (s->step >= 0 && s->list != s->run)
    add(l, ", turn %" PRId64 " of %s", s->turn, program_string(p, p->lists[s->list].name));
  add(l, ", %s", where);
}

static void tell_data(NanCheck *n, struct Engine *e, const char *where, Report *err) {
  const ProgramBuffer *b = &n->p->buffers[n->what.output];
  const char *source = program_string(n->p, b->source);
  const void *at = engine_buffer(e, n->what.output);
  int64_t index[PROGRAM_RANK];
  Line head = {0}, figs = {0};
  add(&head, "'%s'%s%s holds ", program_string(n->p, b->name), *source ? ", which is fed from " : "", source);
  add_value(&head, value_at(at, b->dtype, n->what.element));
  if (b->rank) {
    add(&head, " at ");
    unravel(b, n->what.element, index);
    add_index(&head, index, b->rank);
  }
  add(&head, " before anything is computed (");
  add_where(&head, n->p, &n->at, where);
  report_add(err, "%s)", head.text);
  Figures f = figures(at, b->dtype, 0, buffer_elements(b));
  add_type(&figs, b);
  add(&figs, ", ");
  add_figures(&figs, &f);
  report_add(&n->text, "  %s", figs.text);
}

static void tell_places(NanCheck *n, const ProgramStep *s, const ProgramPlace *own) {
  const ProgramPlace *all = &n->p->places[s->place];
  Line others = {0};
  int told = 0;
  for (uint32_t i = 0; i < s->nplaces; i++) {
    bool said = !all[i].line || (own && all[i].file == own->file && all[i].line == own->line && all[i].in == own->in);
    for (uint32_t k = 0; k < i && !said; k++)
      said = all[k].file == all[i].file && all[k].line == all[i].line && all[k].in == all[i].in;
    if (said || told++ >= TOLD_PLACES) continue;
    add(&others, "%s", others.n ? "; " : "");
    add_place(&others, n->p, &all[i]);
  }
  if (told > TOLD_PLACES) add(&others, "; and %d more", told - TOLD_PLACES);
  if (told)
    report_add(&n->text, "  the kernel also computes %s (built with --target %s,fuse=0, each op is a kernel)",
               others.text, program_string(n->p, n->p->h->target));
}

bool nan_tell(NanCheck *n, struct Engine *e, const char *where, Report *err) {
  const Program *p = n->p;
  if (n->at.step < 0) {
    tell_data(n, e, where, err);
    return false;
  }
  const ProgramStep *s = &p->steps[n->at.step];
  uint32_t first = nan_outputs(p, s), k = first + (uint32_t)n->what.output;
  const ProgramArg *a = &p->args[s->args + k];
  const ProgramBuffer *b = &p->buffers[a->buffer];
  const ProgramPlace *own = s->nplaces ? &p->places[s->place + 1 + (uint32_t)n->what.output] : NULL;
  if (own && !own->line) own = &p->places[s->place];
  if (own && !own->line) own = NULL;
  const void *at = n->at.buf[k];
  int64_t index[PROGRAM_RANK], count = nan_elements(p, a, n->at.turn);
  int64_t element = (a->offset + a->stride * n->at.turn) / dtype_size(b->dtype) + n->what.element;
  unravel(b, element, index);

  Line head = {0}, out = {0};
  if (own)
    add_place(&head, p, own);
  else
    add(&head, "the optimizer or the program itself");
  add(&head, ": kernel %s stored ", program_string(p, p->kernel_info[s->kernel].name));
  add_value(&head, value_at(at, b->dtype, n->what.element));
  add(&head, ", the first value that is not finite (");
  add_where(&head, p, &n->at, where);
  report_add(err, "%s)", head.text);

  if (own && own->text) report_add(&n->text, "  %s", program_string(p, own->text));
  tell_places(n, s, own);
  add(&out, "%s: ", program_string(p, b->name));
  add_type(&out, b);
  add(&out, " (output %d of %u), ", n->what.output + 1, p->kernel_info[s->kernel].outputs);
  add_value(&out, value_at(at, b->dtype, n->what.element));
  if (b->rank) {
    add(&out, " at ");
    add_index(&out, index, b->rank);
    add(&out, ", element %" PRId64, element);
  }
  add(&out, "; ");
  Figures f = figures(at, b->dtype, 0, count);
  add_figures(&out, &f);
  report_add(&n->text, "  stored  %s", out.text);
  for (uint32_t i = 0; i < first && i < TOLD_BUFFERS; i++) {
    Line in = {0};
    add_argument(&in, n, i, b, index);
    report_add(&n->text, "  %s  %s", i ? "    " : "read", in.text);
  }
  if (first > TOLD_BUFFERS) report_add(&n->text, "        and %u more", first - TOLD_BUFFERS);
  if (!first) report_add(&n->text, "  it reads nothing");
  return false;
}

/* ---- what was loaded */

bool nan_loaded(struct Engine *e, const char *origin, Report *err) {
  const Program *p = engine_program(e);
  int bad = 0;
  for (int i = 0; i < p->nbuffers; i++) {
    const ProgramBuffer *b = &p->buffers[i];
    if ((b->kind != BUF_PARAM && b->kind != BUF_STATE) || !nan_is_float(b->dtype)) continue;
    const void *at = engine_buffer(e, i);
    int64_t n = buffer_elements(b), first = nan_first(at, b->dtype, 0, n, true), index[PROGRAM_RANK];
    if (first < 0 || bad++ >= TOLD_BUFFERS) continue;
    Figures f = figures(at, b->dtype, 0, n);
    Line line = {0};
    add(&line, "%s '%s' holds ", b->kind == BUF_PARAM ? "parameter" : "state", program_string(p, b->name));
    add_value(&line, value_at(at, b->dtype, first));
    if (b->rank) {
      unravel(b, first, index);
      add(&line, " at ");
      add_index(&line, index, b->rank);
    }
    add(&line, " in %s (", origin);
    add_bad(&line, &f);
    report_add(err, "%s)", line.text);
  }
  if (bad > TOLD_BUFFERS) report_add(err, "and %d more", bad - TOLD_BUFFERS);
  return !bad;
}
