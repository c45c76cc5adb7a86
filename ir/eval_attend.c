/* Attention of the evaluator: q[b, t, h, e] over k, v[b, s, g, e], query heads h a multiple of key heads g.
 *
 * Exact: blocks of 64 keys with a running maximum, the very steps of docs/numerics.md. Double: the two-pass softmax of a
 * textbook, and the gradients as they follow from it, on purpose written in another way. */
#include "ir/eval_inner.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { KEYS = 64 };

typedef struct Shape {
  int64_t b, t, s, h, g, e;
  bool causal;
  double scale;
  int64_t window; /* query i sees keys i - window + 1 to i; 0: no window */
} Shape;

static Shape shape_of(const Eval *e) {
  const Dim *q = e->arg[0].type.dim, *k = e->arg[1].type.dim;
  const Attr *window = node_attr(e->n, "window");
  return (Shape){.b = q[0].n,
                 .t = q[1].n,
                 .s = k[1].n,
                 .h = q[2].n,
                 .g = k[2].n,
                 .e = q[3].n,
                 .causal = node_attr(e->n, "causal")->i != 0,
                 .scale = node_attr(e->n, "scale")->num,
                 .window = window ? window->i : 0};
}

/* The first key that query i sees. */
static int64_t first_key(const Shape *z, int64_t i) {
  return z->window && i >= z->window ? i - z->window + 1 : 0;
}

static bool masked(const Shape *z, int64_t i, int64_t j) {
  return j >= z->s || (z->causal && j > i) || j < first_key(z, i);
}

/* First element of row (b, i, head) of a [b, t, h, e] tensor. */
static int64_t row(int64_t b, int64_t i, int64_t head, int64_t t, int64_t h, int64_t e) {
  return ((b * t + i) * h + head) * e;
}

/* ---- exact */

static const Expr *function(const char *text) {
  static const char *const a[] = {"a"};
  return expr_exact(text, a, 1);
}

static void apply(const char *text, const float *x, int n, float *out) {
  exact_run(function(text), (const float *const[]){x}, (const int[]){1}, n, out);
}

static float tree_sum(const float *x) {
  float lane[KEYS];
  for (int j = 0; j < KEYS; j++) lane[j] = 0.f + x[j];
  for (int s = KEYS / 2; s > 0; s /= 2)
    for (int j = 0; j < s; j++) lane[j] = lane[j] + lane[j + s];
  return lane[0];
}

static float tree_max(const float *x) {
  float lane[KEYS];
  for (int j = 0; j < KEYS; j++) lane[j] = x[j] > -INFINITY ? x[j] : -INFINITY;
  for (int s = KEYS / 2; s > 0; s /= 2)
    for (int j = 0; j < s; j++) lane[j] = lane[j] > lane[j + s] ? lane[j] : lane[j + s];
  return lane[0];
}

/* out[j] = chain over e of x[e] * y_j[e], y_j the rows of [b, s, g, e] at keys j0 + j; 0 past the end. Restarts only where
 * `restart`: every 4096. */
static inline ALWAYS_INLINE void dots_body(const float *x, const float *y, int64_t stride, int keys, int64_t n,
                                           bool restart, float *out) {
  for (int j = 0; j < KEYS; j++) out[j] = 0;
  for (int j = 0; j < keys; j++) {
    const float *r = y + j * stride;
    float total = 0;
    for (int64_t e = 0; e < n;) {
      int64_t end = restart && n - e > 4096 ? e + 4096 : n, first = e;
      float acc = 0;
      for (; e < end; e++) acc = __builtin_fmaf(x[e], r[e], acc);
      total = first == 0 ? acc : total + acc;
    }
    out[j] = total;
  }
}
WITH_FMA(dots, dots_body,
         (const float *x, const float *y, int64_t stride, int keys, int64_t n, bool restart, float *out),
         (x, y, stride, keys, n, restart, out))

/* y[e] = fma(f, x[e], y[e]) */
static inline ALWAYS_INLINE void add_row_body(float f, const float *x, int64_t n, float *y) {
  for (int64_t e = 0; e < n; e++) y[e] = __builtin_fmaf(f, x[e], y[e]);
}
WITH_FMA(add_row, add_row_body, (float f, const float *x, int64_t n, float *y), (f, x, n, y))

/* Scores of one query row against keys j0 ...: step 1 of the page. */
static void scores(const Shape *z, const float *q, const float *k, int64_t i, int64_t j0, int keys, float *s) {
  float scale = (float)z->scale;
  dots(q, k, z->g * z->e, keys, z->e, true, s);
  for (int j = 0; j < KEYS; j++) {
    s[j] = s[j] * scale;
    if (masked(z, i, j0 + j)) s[j] = -INFINITY;
  }
}

static void attend_row(const Shape *z, const float *q, const float *k, const float *v, int64_t i, float *o,
                       float *lse) {
  float m = -INFINITY, l = 0;
  for (int64_t e = 0; e < z->e; e++) o[e] = 0;
  for (int64_t j0 = first_key(z, i) / KEYS * KEYS; j0 < z->s && !(z->causal && j0 > i); j0 += KEYS) {
    int keys = z->s - j0 < KEYS ? (int)(z->s - j0) : KEYS;
    int64_t at = j0 * z->g * z->e;
    float s[KEYS], x[KEYS], p[KEYS], c;
    scores(z, q, k + at, i, j0, keys, s);
    float bm = tree_max(s), next = bm > m ? bm : m, d = m - next;
    apply("exp(a)", &d, 1, &c);
    for (int j = 0; j < KEYS; j++) x[j] = s[j] - next;
    apply("exp(a)", x, KEYS, p);
    for (int j = 0; j < KEYS; j++)
      if (masked(z, i, j0 + j)) p[j] = 0;
    l = l * c;
    l = l + tree_sum(p);
    for (int64_t e = 0; e < z->e; e++) o[e] = o[e] * c;
    for (int j = 0; j < keys; j++) add_row(p[j], v + at + j * z->g * z->e, z->e, o);
    m = next;
  }
  float log_l;
  apply("log(a)", &l, 1, &log_l);
  for (int64_t e = 0; e < z->e; e++) o[e] = o[e] / l;
  *lse = m + log_l;
}

static void attend_exact(const Shape *z, const float *q, const float *k, const float *v, float *o, float *lse) {
  for (int64_t b = 0; b < z->b; b++)
    for (int64_t h = 0; h < z->h; h++)
      for (int64_t i = 0; i < z->t; i++) {
        int64_t at = row(b, i, h, z->t, z->h, z->e), kv = row(b, 0, h / (z->h / z->g), z->s, z->g, z->e);
        attend_row(z, q + at, k + kv, v + kv, i, o + at, &lse[(b * z->h + h) * z->t + i]);
      }
}

/* p and ds of one query row against the 64 keys from j0. */
static void grad_row(const Shape *z, const float *q, const float *k, const float *v, const float *dout, float lse,
                     float D, int64_t i, int64_t j0, int keys, float *p, float *ds) {
  float s[KEYS], x[KEYS], dp[KEYS], scale = (float)z->scale;
  scores(z, q, k, i, j0, keys, s);
  for (int j = 0; j < KEYS; j++) x[j] = s[j] - lse;
  apply("exp(a)", x, KEYS, p);
  dots(dout, v, z->g * z->e, keys, z->e, false, dp);
  for (int j = 0; j < KEYS; j++) {
    float t = dp[j] - D;
    t = p[j] * t;
    ds[j] = t * scale;
    if (masked(z, i, j0 + j)) p[j] = ds[j] = 0;
  }
}

static bool grad_exact(Eval *ev, const Shape *z) {
  const float *q = ev->arg[0].data, *k = ev->arg[1].data, *v = ev->arg[2].data, *o = ev->arg[3].data;
  const float *lse = ev->arg[4].data, *dout = ev->arg[5].data;
  float *dq = ev->out[0].data, *dk = ev->out[1].data, *dv = ev->out[2].data;
  float *D = malloc(sizeof(float) * (size_t)z->t + 1);
  if (!D) return eval_fail(ev, "out of memory");
  for (int64_t b = 0; b < z->b; b++)
    for (int64_t h = 0; h < z->h; h++) { /* heads of a group follow each other: dk and dv take them in order */
      for (int64_t i = 0; i < z->t; i++) {
        int64_t at = row(b, i, h, z->t, z->h, z->e);
        float lane[KEYS] = {0};
        for (int64_t e = 0; e < z->e; e++) {
          float x = dout[at + e] * o[at + e];
          lane[e % KEYS] = lane[e % KEYS] + x;
        }
        D[i] = tree_sum(lane);
      }
      for (int64_t i = 0; i < z->t; i++) /* the keys of a block of 64 queries begin where those of its first do */
        for (int64_t j0 = first_key(z, i / KEYS * KEYS) / KEYS * KEYS; j0 < z->s && !(z->causal && j0 > i);
             j0 += KEYS) {
          int keys = z->s - j0 < KEYS ? (int)(z->s - j0) : KEYS;
          int64_t at = row(b, i, h, z->t, z->h, z->e), kv = row(b, j0, h / (z->h / z->g), z->s, z->g, z->e);
          float p[KEYS], ds[KEYS];
          grad_row(z, q + at, k + kv, v + kv, dout + at, lse[(b * z->h + h) * z->t + i], D[i], i, j0, keys, p, ds);
          for (int j = 0; j < keys; j++) {
            int64_t key = kv + j * z->g * z->e;
            add_row(ds[j], k + key, z->e, dq + at);
            add_row(p[j], dout + at, z->e, dv + key);
            add_row(ds[j], q + at, z->e, dk + key);
          }
        }
    }
  free(D);
  return true;
}

/* ---- double */

/* Softmax weights of one query row into p[s]; returns the log-sum-exp. */
static double weights(const Shape *z, const double *q, const double *k, int64_t i, double *p) {
  int64_t from = first_key(z, i), n = z->causal && i + 1 < z->s ? i + 1 : z->s;
  double max = -INFINITY, sum = 0;
  for (int64_t j = from; j < n; j++) {
    double dot = 0;
    for (int64_t e = 0; e < z->e; e++) dot += q[e] * k[j * z->g * z->e + e];
    p[j] = dot * z->scale;
    max = fmax(max, p[j]);
  }
  for (int64_t j = from; j < n; j++) sum += p[j] = exp(p[j] - max);
  for (int64_t j = 0; j < z->s; j++) p[j] = j >= from && j < n ? p[j] / sum : 0;
  return max + log(sum);
}

static void attend_double(const Shape *z, const double *q, const double *k, const double *v, double *o, double *lse,
                          double *p) {
  for (int64_t b = 0; b < z->b; b++)
    for (int64_t h = 0; h < z->h; h++)
      for (int64_t i = 0; i < z->t; i++) {
        int64_t at = row(b, i, h, z->t, z->h, z->e), kv = row(b, 0, h / (z->h / z->g), z->s, z->g, z->e);
        lse[(b * z->h + h) * z->t + i] = weights(z, q + at, k + kv, i, p);
        for (int64_t j = 0; j < z->s; j++)
          for (int64_t e = 0; e < z->e; e++) o[at + e] += p[j] * v[kv + j * z->g * z->e + e];
      }
}

/* dv = P^T do; dP = do v^T; dS = P (dP - rowsum(P dP)); dq = dS k; dk = dS^T q. */
static void grad_double(Eval *ev, const Shape *z, double *p, double *dp) {
  const double *q = ev->arg[0].data, *k = ev->arg[1].data, *v = ev->arg[2].data, *dout = ev->arg[5].data;
  double *dq = ev->out[0].data, *dk = ev->out[1].data, *dv = ev->out[2].data;
  for (int64_t b = 0; b < z->b; b++)
    for (int64_t h = 0; h < z->h; h++)
      for (int64_t i = 0; i < z->t; i++) {
        int64_t at = row(b, i, h, z->t, z->h, z->e), kv = row(b, 0, h / (z->h / z->g), z->s, z->g, z->e);
        double mean = 0;
        weights(z, q + at, k + kv, i, p);
        for (int64_t j = 0; j < z->s; j++) {
          dp[j] = 0;
          for (int64_t e = 0; e < z->e; e++) dp[j] += dout[at + e] * v[kv + j * z->g * z->e + e];
          mean += p[j] * dp[j];
        }
        for (int64_t j = 0; j < z->s; j++) {
          double ds = p[j] * (dp[j] - mean) * z->scale;
          int64_t key = kv + j * z->g * z->e;
          for (int64_t e = 0; e < z->e; e++) {
            dv[key + e] += p[j] * dout[at + e];
            dq[at + e] += ds * k[key + e];
            dk[key + e] += ds * q[at + e];
          }
        }
      }
}

/* ---- pages: the same steps of the exact order, keys and values gathered through the table */

static bool to_pages(Eval *e, bool keys) {
  Type p = e->out->type, x = e->arg[2].type;
  const int32_t *slot = e->arg[1].data;
  int64_t t = x.dim[1].n, g = x.dim[2].n, width = x.dim[3].n;
  memcpy(e->out->data, e->arg[0].data, (size_t)type_elements(p) * tensor_size(p.dt, e->mode));
  for (int64_t i = 0; i < t; i++) {
    if (slot[i] < 0) continue;
    if (slot[i] >= p.dim[0].n * KEYS) return eval_fail(e, "slot %d is past the last page", slot[i]);
    for (int64_t h = 0; h < g; h++)
      for (int64_t k = 0; k < width; k++) {
        int64_t head = slot[i] / KEYS * g + h, in = slot[i] % KEYS;
        int64_t at = head * width * KEYS + (keys ? k * KEYS + in : in * width + k);
        tensor_set(e->out, e->mode, at, tensor_get(&e->arg[2], e->mode, (i * g + h) * width + k));
      }
  }
  return true;
}

bool eval_page_keys(Eval *e) {
  return to_pages(e, true);
}

bool eval_page_values(Eval *e) {
  return to_pages(e, false);
}

/* Rows of keys and values [j, g, e] of a sequence, from its pages. */
static bool gather_pages(Eval *e, const int32_t *table, int64_t n, Tensor *k, Tensor *v) {
  Type p = e->arg[1].type;
  int64_t g = p.dim[1].n, width = p.dim[2].n;
  for (int64_t j = 0; j < n; j++) {
    int32_t page = table[j / KEYS];
    if (page < 0 || page >= p.dim[0].n) return eval_fail(e, "page %d of %lld", page, (long long)p.dim[0].n);
    for (int64_t h = 0; h < g; h++)
      for (int64_t i = 0; i < width; i++) {
        int64_t head = (page * g + h) * width * KEYS, to = (j * g + h) * width + i;
        tensor_set(k, e->mode, to, tensor_get(&e->arg[1], e->mode, head + i * KEYS + j % KEYS));
        tensor_set(v, e->mode, to, tensor_get(&e->arg[2], e->mode, head + j % KEYS * width + i));
      }
  }
  return true;
}

/* One query row over n keys, all of which it sees, from the window's first key on. */
static void paged_row(Eval *e, Shape z, int64_t i, int64_t head, int64_t n, const Tensor *k, const Tensor *v) {
  int64_t at = row(0, i, head, z.t, z.h, z.e), kv = head / (z.h / z.g) * z.e;
  z.s = n;
  if (e->mode == EVAL_EXACT) {
    float lse;
    attend_row(&z, (const float *)e->arg[0].data + at, (const float *)k->data + kv, (const float *)v->data + kv, n - 1,
               (float *)e->out->data + at, &lse);
    return;
  }
  double *p = malloc(sizeof(double) * (size_t)n), *o = (double *)e->out->data + at;
  if (!p) abort();
  weights(&z, (const double *)e->arg[0].data + at, (const double *)k->data + kv, n - 1, p);
  for (int64_t j = 0; j < n; j++)
    for (int64_t w = 0; w < z.e; w++) o[w] += p[j] * ((const double *)v->data)[kv + j * z.g * z.e + w];
  free(p);
}

bool eval_attend_pages(Eval *e) {
  const Dim *q = e->arg[0].type.dim, *p = e->arg[1].type.dim, *table = e->arg[5].type.dim;
  const int32_t *position = e->arg[3].data, *start = e->arg[4].data, *pages = e->arg[5].data;
  const Attr *window = node_attr(e->n, "window");
  Shape z = {1, q[1].n, 0, q[2].n, p[1].n, q[3].n, true, node_attr(e->n, "scale")->num, window ? window->i : 0};
  Arena *a = arena_new();
  Type whole = type_make(DT_f32, 3, (int64_t[]){table[1].n * KEYS, z.g, z.e});
  Tensor k = tensor_new(a, whole, e->mode), v = tensor_new(a, whole, e->mode);
  bool ok = e->arg[4].type.dim[0].n == table[0].n + 1 || eval_fail(e, "starts and the table don't agree");
  for (int64_t s = 0; ok && s < table[0].n; s++)
    for (int64_t i = start[s]; ok && i < start[s + 1]; i++) {
      int64_t n = position[i] + 1;
      if (i < 0 || i >= z.t || n < 1 || n > table[1].n * KEYS)
        ok = eval_fail(e, "row %lld at position %d", (long long)i, position[i]);
      ok = ok && gather_pages(e, pages + s * table[1].n, n, &k, &v);
      for (int64_t h = 0; ok && h < z.h; h++) paged_row(e, z, i, h, n, &k, &v);
    }
  arena_free(a);
  return ok;
}

bool eval_attend(Eval *e) {
  Shape z = shape_of(e);
  if (e->mode == EVAL_EXACT) {
    attend_exact(&z, e->arg[0].data, e->arg[1].data, e->arg[2].data, e->out[0].data, e->out[1].data);
    return true;
  }
  double *p = malloc(sizeof(double) * (size_t)z.s + 1);
  if (!p) return eval_fail(e, "out of memory");
  attend_double(&z, e->arg[0].data, e->arg[1].data, e->arg[2].data, e->out[0].data, e->out[1].data, p);
  free(p);
  return true;
}

bool eval_attend_grad(Eval *e) {
  Shape z = shape_of(e);
  if (e->mode == EVAL_EXACT) return grad_exact(e, &z);
  double *p = malloc(2 * sizeof(double) * (size_t)z.s + 1);
  if (!p) return eval_fail(e, "out of memory");
  grad_double(e, &z, p, p + z.s);
  free(p);
  return true;
}
