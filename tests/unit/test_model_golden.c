/* The shipped GPT-2 and Llama against PyTorch (tests/golden): weights read through the `hf:` views, the graph evaluated,
 * logits and loss compared; weights written back through the views give the same bytes, tensor for tensor. */
#include "frontend/frontend.h"
#include "ir/eval.h"
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static Arena *a;
static Diags *d;
static void setup(void) {
  a = arena_new();
  d = diags_new(a);
}
static void teardown(void) {
  arena_free(a);
}
TestSuite(model_golden, .init = setup, .fini = teardown);

static const char *rendered(void) {
  Text t = {0};
  diags_render(d, &t);
  const char *s = arena_strdup(a, t.n ? t.s : "");
  text_free(&t);
  return s;
}

static unsigned char *read_bytes(const char *path, size_t *n) {
  FILE *f = fopen(path, "rb");
  cr_assert(f != NULL, "%s", path);
  fseek(f, 0, SEEK_END);
  *n = (size_t)ftell(f);
  rewind(f);
  unsigned char *p = arena_alloc(a, *n + 1);
  cr_assert(eq(sz, fread(p, 1, *n, f), *n));
  fclose(f);
  return p;
}

/* ---- safetensors: u64 header length, JSON, data */

typedef struct File {
  json_t *header;
  const unsigned char *data;
} File;

static File open_file(const char *path) {
  size_t n;
  unsigned char *p = read_bytes(path, &n);
  uint64_t len;
  memcpy(&len, p, 8);
  File f = {json_loadb((char *)p + 8, len, 0, NULL), p + 8 + len};
  cr_assert(f.header != NULL, "%s", path);
  json_object_del(f.header, "__metadata__");
  return f;
}

static const float *find_tensor(File f, const char *name, size_t *n) {
  json_t *t = json_object_get(f.header, name), *at = json_object_get(t, "data_offsets");
  if (!t) return NULL;
  json_int_t lo = json_integer_value(json_array_get(at, 0)), hi = json_integer_value(json_array_get(at, 1));
  *n = (size_t)(hi - lo) / sizeof(float);
  float *copy = NEW_ARRAY(a, float, *n);
  memcpy(copy, f.data + lo, (size_t)(hi - lo));
  return copy;
}

/* Visits the elements of a piece: their places in the parameter and in the checkpoint tensor. */
static void each(const Piece *q, void (*visit)(void *, int64_t, int64_t), void *ctx) {
  int64_t index[MAX_RANK] = {0};
  for (;;) {
    int64_t p = q->start, c = q->base;
    for (int i = 0; i < q->rank; i++) p += index[i] * q->pstride[i], c += index[i] * q->stride[i];
    visit(ctx, p, c);
    int i = q->rank - 1;
    while (i >= 0 && ++index[i] == q->dim[i]) index[i--] = 0;
    if (i < 0) return;
  }
}

typedef struct Copy {
  Tensor *param;
  const float *from;
  float *to;
} Copy;

static void load_element(void *ctx, int64_t p, int64_t c) {
  Copy *k = ctx;
  tensor_set(k->param, EVAL_DOUBLE, p, k->from[c]);
}

static void save_element(void *ctx, int64_t p, int64_t c) {
  Copy *k = ctx;
  k->to[c] = (float)tensor_get(k->param, EVAL_DOUBLE, p);
}

static Tensor load_param(File f, const ModelParam *p, Type t) {
  Tensor x = tensor_new(a, t, EVAL_DOUBLE);
  for (int i = 0; i < p->npieces; i++) {
    const Piece *q = &p->pieces[i];
    size_t n;
    Copy k = {&x, find_tensor(f, q->tensor, &n), NULL};
    cr_assert(k.from != NULL, "no tensor %s", q->tensor);
    json_t *shape = json_object_get(json_object_get(f.header, q->tensor), "shape");
    cr_assert(eq(sz, json_array_size(shape), (size_t)q->hf_rank));
    for (int j = 0; j < q->hf_rank; j++)
      cr_assert(eq(i64, json_integer_value(json_array_get(shape, (size_t)j)), q->hf_dim[j]), "%s", q->tensor);
    each(q, load_element, &k);
  }
  return x;
}

/* Every tensor of the file, written from the parameters, has its old bytes. */
static void check_save(File f, const Model *m, Tensor *param) {
  const char *name;
  json_t *unused;
  json_object_foreach(f.header, name, unused) {
    size_t n;
    const float *want = find_tensor(f, name, &n);
    Copy k = {.to = NEW_ARRAY(a, float, n)};
    for (size_t i = 0; i < n; i++) k.to[i] = -12345;
    for (int i = 0; i < m->nparams; i++)
      for (int j = 0; j < m->params[i].npieces; j++)
        if (!strcmp(m->params[i].pieces[j].tensor, name))
          k.param = &param[i], each(&m->params[i].pieces[j], save_element, &k);
    cr_assert(eq(int, memcmp(want, k.to, n * sizeof *want), 0), "%s", name);
  }
}

enum { TIME = 16, VOCAB = 64 };

static void run(const char *folder, const char *model, const char *const *sets, int nsets) {
  Model *m = model_load(a, d, model, &(ModelOptions){.sets = sets, .nsets = nsets, .batch = 1, .time = TIME});
  cr_assert(m != NULL, "%s", rendered());
  const Graph *g = module_find(m->mod, "forward");
  File weights = open_file(arena_printf(a, "%s/init/model.safetensors", folder));
  size_t n;
  const unsigned char *shard = read_bytes(arena_printf(a, "%s/tokens.bin", folder), &n);
  Tensor *in = NEW_ARRAY(a, Tensor, g->ninputs), *out = NEW_ARRAY(a, Tensor, g->noutputs),
         *param = NEW_ARRAY(a, Tensor, m->nparams);
  for (int i = 0, p = 0; i < g->ninputs; i++) {
    Type t = val_type(g, g->inputs[i].val);
    if (g->inputs[i].kind == IN_PARAM) {
      in[i] = param[p] = load_param(weights, &m->params[p], t);
      p++;
      continue;
    }
    in[i] = tensor_new(a, t, EVAL_DOUBLE);
    for (int k = 0; k < TIME; k++) {
      uint16_t token;
      memcpy(&token, shard + 1024 + 2 * (k + !strcmp(g->inputs[i].name, "targets")), 2);
      tensor_set(&in[i], EVAL_DOUBLE, k, token);
    }
  }
  check_save(weights, m, param);
  cr_assert(graph_eval(g, EVAL_DOUBLE, in, NULL, 0, a, out, d), "%s", rendered());
  const Tensor *logits = &out[graph_find_output(g, "logits") - g->outputs];
  File golden = open_file(arena_printf(a, "%s/logits.safetensors", folder));
  const float *want = find_tensor(golden, "logits", &n);
  cr_assert(eq(sz, n, (size_t)(TIME * VOCAB)));
  double largest = 0, worst = 0;
  for (size_t i = 0; i < n; i++) {
    largest = fmax(largest, fabs((double)want[i]));
    worst = fmax(worst, fabs(want[i] - tensor_get(logits, EVAL_DOUBLE, (int64_t)i)));
  }
  cr_assert(lt(dbl, worst, 1e-5 * largest));
  /* The loss, by its definition from the golden logits. */
  const Tensor *loss = &out[graph_find_output(g, "loss") - g->outputs];
  for (int t = 0; t < TIME; t++) {
    uint16_t target;
    memcpy(&target, shard + 1024 + 2 * (t + 1), 2);
    double sum = 0;
    for (int v = 0; v < VOCAB; v++) sum += exp((double)want[t * VOCAB + v]);
    double l = log(sum) - want[t * VOCAB + target];
    cr_assert(lt(dbl, fabs(l - tensor_get(loss, EVAL_DOUBLE, t)), 1e-4));
  }
  json_decref(weights.header);
  json_decref(golden.header);
}

Test(model_golden, gpt2) {
  static const char *const sets[] = {"dims.d=32", "dims.layers=2", "dims.heads=2", "dims.ctx=16", "dims.vocab=64"};
  run("tests/golden/gpt2", "models/gpt2.yaml", sets, LEN(sets));
}

Test(model_golden, llama) {
  static const char *const sets[] = {"dims.d=32",  "dims.layers=2", "dims.heads=4", "dims.kv=2",
                                     "dims.ff=48", "dims.ctx=16",   "dims.vocab=64"};
  run("tests/golden/llama", "models/llama.yaml", sets, LEN(sets));
}
