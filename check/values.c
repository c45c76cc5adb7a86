/* Inputs: given ones (given.c), else made up. Splitting is by hashing: seed, name and index give the bits, so order and neighbours do not matter. */
#include "check/check.h"
#include <math.h>
#include <string.h>

static void bind_dim(Dim d, uint64_t seed, Binding *out, int *n) {
  if (!d.sym || *n == CHECK_BINDINGS) return;
  for (int j = 0; j < *n; j++)
    if (!strcmp(out[j].name, d.name)) return;
  uint64_t key[2] = {seed, hash64(d.name, strlen(d.name))}, h = hash64(key, sizeof key);
  out[(*n)++] = (Binding){d.name, seed && h % 4 ? 1 + (int64_t)(h / 4 % (uint64_t)d.n) : d.n};
}

/* Callees' too: an extent may live in a region alone. */
static void bind_graph(const Graph *g, uint64_t seed, Binding *out, int *n) {
  for (int v = 1; v < g->nvals; v++)
    for (int k = 0; k < g->types[v].rank; k++) bind_dim(g->types[v].dim[k], seed, out, n);
  for (int i = 0; i < g->nnodes; i++) {
    const Graph *f = g->nodes[i].op == OP_call ? module_find(g->mod, node_attr(&g->nodes[i], "fn")->str) : NULL;
    if (f) bind_graph(f, seed, out, n);
  }
}

int values_bind(const Graph *g, uint64_t seed, Binding out[CHECK_BINDINGS]) {
  int n = 0;
  bind_graph(g, seed, out, &n);
  return n;
}

Type values_type(Type t, const Binding *bind, int nbind) {
  for (int i = 0; i < t.rank; i++) {
    t.dim[i].seg = 0;
    for (int b = 0; b < nbind && t.dim[i].sym; b++)
      if (!strcmp(t.dim[i].name, bind[b].name)) {
        t.dim[i].n = bind[b].n;
        t.dim[i].sym = false;
      }
  }
  return t;
}

static double number(uint64_t h, const Values *v) {
  static const float special[] = {0.f,     -0.f, INFINITY, -INFINITY, NAN,   1.f,   -1.f, 1e-40f, -1e-45f,
                                  3.4e38f, 88.f, -88.f,    -103.5f,   0.92f, 4.01f, 10.f, 0.625f, 1.17549435e-38f};
  if (!v->seed) return ((double)(h % 512) - 256) / 256;
  if (v->special && h % 16 == 0) return (double)special[h / 16 % LEN(special)];
  double x = (double)(float)((double)(int32_t)(uint32_t)(h >> 32) * 0x1p-30); /* [-2, 2) */
  return v->special ? ldexp(x, (int)(h % 24) - 12) : x;
}

/* A pass may take uses away, and with them bounds: the values must be those of the module before. */
static IndexUse index_use(const Graph *g, const Input *in, const Values *v) {
  const Graph *of = v->bounds ? module_find(v->bounds, g->name) : NULL;
  const Input *same = of ? graph_find_input(of, in->name) : NULL;
  return same ? graph_index_use(of, same->val) : graph_index_use(g, in->val);
}

static void make(const Graph *g, int input, const Values *v, EvalMode mode, Tensor *t) {
  const Input *in = &g->inputs[input];
  bool whole = t->type.dt == DT_i32 || t->type.dt == DT_i8;
  IndexUse use = whole ? index_use(g, in, v) : (IndexUse){0};
  uint64_t seed = hash64(in->name, strlen(in->name)) + v->seed * 0x9E3779B97F4A7C15u;
  for (int64_t x = 0, n = type_elements(t->type); x < n; x++) {
    uint64_t key[2] = {seed, (uint64_t)x}, h = hash64(key, sizeof key);
    double y = whole ? (double)(h % (uint64_t)(use.bound ? use.bound : 4)) : number(h, v);
    if (whole && v->seed && use.negative && h >> 60 == 0) y = -1 - (double)(h >> 58 & 1);
    tensor_set(t, mode, x, !whole && v->seed && in->kind == IN_STATE ? fabs(y) : y);
  }
}

bool values_input(const Graph *g, int input, const Values *v, const Binding *bind, int nbind, EvalMode mode, Arena *a,
                  Diags *d, Tensor *out) {
  int errors = d->n;
  *out = tensor_new(a, values_type(val_type(g, g->inputs[input].val), bind, nbind), mode);
  if (v->given && given_read(v->given, &g->inputs[input], mode, d, out)) return true;
  if (d->n != errors) return false;
  make(g, input, v, mode, out);
  return true;
}

int64_t values_differ(const Tensor *got, const Tensor *want, int64_t *first) {
  int64_t n = type_elements(want->type), bad = 0;
  bool whole = want->type.dt == DT_i32 || want->type.dt == DT_i8;
  const float *x = got->data, *y = want->data;
  for (int64_t i = n - 1; i >= 0; i--)
    if (memcmp(&x[i], &y[i], 4) && (whole || !(isnan(x[i]) && isnan(y[i])))) bad++, *first = i;
  return bad;
}
