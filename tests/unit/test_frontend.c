/* The frontend: the shipped models load, say what they must, and survive a round through their effective text; every
 * bad input of tests/frontend is refused with the diagnostics in its .txt file (INK_BLESS=1 writes them anew).
 *
 * Lines at the head of a bad input speak to this test: "# set: dims.layers=2", "# seq: 16". */
#include "frontend/build.h"
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <glob.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static Arena *a;
static Diags *d;
static void setup(void) {
  a = arena_new();
  d = diags_new(a);
}
static void teardown(void) {
  arena_free(a);
}
/* For conditions of several parts. */
static void check(bool ok, const char *what, int line) {
  if (!ok) cr_fail("line %d: %s", line, what);
}
#define CHECK(c) check(c, #c, __LINE__)

TestSuite(frontend, .init = setup, .fini = teardown);

static const char *rendered(void) {
  Text t = {0};
  diags_render(d, &t);
  const char *s = arena_strdup(a, t.n ? t.s : "");
  text_free(&t);
  return s;
}

static Model *load_with(const char *path, const ModelOptions *opt) {
  Model *m = model_load(a, d, path, opt);
  cr_assert(m != NULL, "%s:\n%s", path, rendered());
  return m;
}

static Model *load(const char *path, const char *const *sets, int nsets) {
  return load_with(path, &(ModelOptions){.sets = sets, .nsets = nsets, .batch = 2, .models = "models"});
}

static Model *load_one(const char *path, const char *set) {
  return load(path, &set, 1);
}

static const Graph *forward(const Model *m) {
  return module_find(m->mod, "forward");
}

static double elements(const Model *m) {
  const Graph *g = forward(m);
  double n = 0;
  for (int i = 0; i < g->ninputs; i++)
    if (g->inputs[i].kind == IN_PARAM) n += (double)type_elements(val_type(g, g->inputs[i].val));
  return n;
}

static const ModelParam *param(const Model *m, const char *name) {
  for (int i = 0; i < m->nparams; i++)
    if (!strcmp(m->params[i].name, name)) return &m->params[i];
  cr_fatal("no parameter %s", name);
  return NULL;
}

static int count_ops(const Graph *g, OpKind op) {
  int n = 0;
  for (int i = 0; i < g->nnodes; i++) n += g->nodes[i].op == op;
  return n;
}

static const char *module_text(const Module *m) {
  Text t = {0};
  module_print(m, false, &t);
  const char *s = arena_strdup(a, t.s);
  text_free(&t);
  return s;
}

/* ---- the shipped models */

typedef struct Shipped {
  const char *path;
  double elements;
} Shipped;

/* Parameter counts: those of the published checkpoints, tied heads counted once (all but llama2.c's small ones, char and mlp). */
static const Shipped shipped[] = {
    {"models/gpt2.yaml", 124439808},        {"models/gpt2.yaml:350M", 354823168},  {"models/gpt2.yaml:774M", 774030080},
    {"models/gpt2.yaml:1558M", 1557611200}, {"models/llama.yaml", 15191712},       {"models/llama.yaml:15M", 15191712},
    {"models/llama.yaml:42M", 41689600},    {"models/llama.yaml:110M", 109529856}, {"models/llama.yaml:1B", 1235814400},
    {"models/char.yaml", 804096},           {"models/mlp.yaml", 397510},           {"models/qwen2.yaml", 494032768},
    {"models/qwen3.yaml", 596049920},       {"models/mistral.yaml", 7248023552},   {"models/mixtral.yaml", 46702792704},
    {"models/internlm2.yaml", 1889110016},  {"models/internlm3.yaml", 8804241408},
};

Test(frontend, shipped_models_load) {
  for (int i = 0; i < LEN(shipped); i++) {
    Model *m = load(shipped[i].path, NULL, 0);
    cr_assert(eq(dbl, elements(m), shipped[i].elements), "%s", shipped[i].path);
    cr_assert(module_verify(m->mod));
    const Graph *g = forward(m);
    int params = 0;
    for (int k = 0; k < g->ninputs; k++)
      if (g->inputs[k].kind == IN_PARAM)
        cr_assert(eq(ptr, (void *)g->inputs[k].name, (void *)m->params[params++].name));
    cr_assert(eq(int, params, m->nparams));
    CHECK(graph_find_output(g, "loss") && graph_find_output(g, "logits"));
  }
}

/* The effective text is itself a model: the same graph, and the same text again. */
Test(frontend, effective_text_is_a_fixed_point) {
  char path[] = "/tmp/ink_effective_XXXXXX";
  int fd = mkstemp(path);
  cr_assert(ge(int, fd, 0));
  close(fd);
  for (int i = 0; i < LEN(shipped); i++) {
    const char *sets[] = {"dims.d=33600", "dims.layers=2"}; /* a multiple of all numbers of heads */
    bool mlp = strstr(shipped[i].path, "mlp") != NULL;
    Model *m = load(shipped[i].path, sets, mlp ? 0 : 2);
    cr_assert(eq(int, file_write_atomic(path, m->effective, strlen(m->effective)), 1));
    Model *again = load(path, NULL, 0);
    cr_assert(eq(str, (char *)again->effective, (char *)m->effective));
    cr_assert(eq(str, (char *)module_text(again->mod), (char *)module_text(m->mod)));
  }
  remove(path);
}

Test(frontend, loading_twice_gives_the_same) {
  Model *m = load("models/gpt2.yaml", NULL, 0), *n = load("models/gpt2.yaml", NULL, 0);
  cr_assert(eq(str, (char *)module_text(m->mod), (char *)module_text(n->mod)));
  cr_assert(eq(str, (char *)m->config_json, (char *)n->config_json));
}

Test(frontend, overrides_and_variants) {
  const char *sets[] = {"variant=350M", "dims.layers=3", "consts.eps=1e-6", "hf.config.activation_function=relu"};
  Model *m = load("models/gpt2.yaml", sets, LEN(sets));
  cr_assert(eq(int, m->nparams, 4 + 3 * 16));
  cr_assert(eq(i64, val_type(forward(m), forward(m)->inputs[2].val).dim[1].n, 1024));
  cr_assert(strstr(m->config_json, "\"layer_norm_epsilon\": 1e-06") != NULL);
  cr_assert(strstr(m->config_json, "\"activation_function\": \"relu\"") != NULL);
  cr_assert(strstr(m->config_json, "\"n_layer\": 3") != NULL);
  cr_assert(strstr(m->effective, "variants") == NULL);
  Model *bare = load_one("gpt2:350M", "dims.layers=3"); /* a shipped model by its name alone */
  cr_assert(eq(int, bare->nparams, m->nparams));
}

Test(frontend, extents_of_a_micro_batch) {
  Model *m = load_with("models/char.yaml", &(ModelOptions){.batch = 3, .time = 16});
  CHECK(m->batch == 3 && m->time == 16);
  const Graph *g = forward(m);
  Type t = val_type(g, graph_find_output(g, "loss")->val);
  CHECK(t.rank == 2 && t.dim[0].n == 3 && t.dim[1].n == 16);
  CHECK(!strcmp(t.dim[0].name, "B") && !strcmp(t.dim[1].name, "T"));
  Model *mlp = load_with("models/mlp.yaml", &(ModelOptions){.batch = 5});
  cr_assert(eq(i64, mlp->time, 0));
  t = val_type(forward(mlp), graph_find_output(forward(mlp), "loss")->val);
  CHECK(t.rank == 1 && t.dim[0].n == 5);
}

/* With symbolic extents positions become data. */
Test(frontend, symbolic_extents) {
  const char *path[] = {"models/gpt2.yaml", "models/llama.yaml", "models/char.yaml"};
  for (int i = 0; i < LEN(path); i++) {
    const char *set = "dims.layers=2";
    Model *m = load_with(path[i], &(ModelOptions){.sets = &set, .nsets = 1, .batch = 4, .time = 64, .symbolic = true});
    const Graph *g = forward(m);
    Type t = val_type(g, graph_find_output(g, "loss")->val);
    CHECK(t.dim[0].sym && t.dim[1].sym);
    CHECK(t.dim[0].n == 4 && t.dim[1].n == 64);
    cr_assert(eq(int, m->ninputs, 3));
    cr_assert(eq(str, (char *)m->inputs[2].source, "positions"));
    cr_assert(graph_find_input(g, "positions") != NULL);
  }
}

/* Each place that drops has a stream of its own, in layers, too; a rate of 0 leaves nothing. */
Test(frontend, dropout) {
  const char *set[] = {"consts.dropout=0.2", "dims.layers=3"};
  const Graph *g = forward(load_with("models/char.yaml", &(ModelOptions){.sets = set, .nsets = 2}));
  uint32_t streams = 0;
  int n = 0;
  for (int i = 0; i < g->nnodes; i++) {
    const Node *drop = &g->nodes[i];
    if (drop->op != OP_dropout) continue;
    n++;
    cr_assert(eq(dbl, node_attr(drop, "rate")->num, 0.2));
    cr_assert(eq(str, (char *)val_input(g, drop->args[1])->name, "dropout.key0"));
    cr_assert(eq(str, (char *)val_input(g, drop->args[2])->name, "dropout.key1"));
    streams |= 1u << atoi(node_attr(val_node(g, drop->args[3]), "expr")->str);
  }
  cr_assert(eq(int, n, 7)); /* the embedding, and two in a layer */
  cr_assert(eq(u32, streams, 127));
  g = forward(load("models/char.yaml", NULL, 0));
  cr_assert(zero(ptr, (void *)graph_find_input(g, "dropout.key0")));
  for (int i = 0; i < g->nnodes; i++) CHECK(g->nodes[i].op != OP_dropout);
}

static int64_t window_of(const char *set) {
  const Graph *g = forward(load_with("tests/frontend/base/windowed.yaml", &(ModelOptions){.sets = &set, .nsets = 1}));
  for (int i = 0; i < g->nnodes; i++)
    if (g->nodes[i].op == OP_attend) {
      const Attr *w = node_attr(&g->nodes[i], "window");
      return w ? w->i : 0;
    }
  cr_fail("no attention");
  return -1;
}

Test(frontend, attention_windows) {
  cr_assert(eq(i64, window_of("consts.near=3"), 3));
  cr_assert(eq(i64, window_of("consts.near=4096"), 4096));
  cr_assert(eq(i64, window_of("consts.near=0"), 0));
}

Test(frontend, spans_name_the_line_of_the_model) {
  Model *m = load("models/char.yaml", NULL, 0);
  const Graph *g = forward(m);
  const Source *src = NULL;
  for (int i = 0; i < g->nnodes; i++) {
    const Node *n = &g->nodes[i];
    CHECK(n->span.file > 0 && n->span.line > 0);
    src = &d->sources[n->span.file - 1];
    cr_assert(eq(str, (char *)src->path, "models/char.yaml"));
    const char *line = src->text;
    for (uint32_t k = 1; k < n->span.line; k++) line = strchr(line, '\n') + 1;
    const char *at = line + n->span.col - 1;
    if (n->op == OP_attend) cr_assert(eq(int, strncmp(at, "attend(", 7), 0));
    if (n->op == OP_gelu) cr_assert(eq(int, strncmp(at, "gelu(", 5), 0));
    if (n->op == OP_pick) cr_assert(eq(int, strncmp(at, "cross_entropy(", 14), 0)); /* the caller of the prelude */
  }
}

/* ---- parameters */

Test(frontend, initialisers_and_decay) {
  Model *m = load("models/gpt2.yaml", NULL, 0);
  const ModelParam *p = param(m, "layer.0.wo");
  cr_assert(eq(int, p->init, INIT_NORMAL));
  cr_assert(epsilon_eq(dbl, p->init_b, 0.02 / 4.898979485566356, 1e-12));
  cr_assert(p->decay);
  CHECK(!param(m, "layer.0.bq")->decay); /* rank 2 here, 1 in the checkpoint */
  CHECK(!param(m, "layer.11.norm1_w")->decay && param(m, "wpe")->decay);
  cr_assert(eq(int, param(m, "layer.11.norm1_w")->init, INIT_ONES));
  p = param(load("models/mlp.yaml", NULL, 0), "w1");
  cr_assert(eq(int, p->init, INIT_UNIFORM));
  CHECK(fabs(p->init_a - (-1. / 28)) < 1e-12 && fabs(p->init_b - (1. / 28)) < 1e-12);
}

/* Position in the checkpoint tensor of element (index...) of a parameter of shape `dim`. */
static int64_t place(const Piece *q, int rank, const int64_t *dim, const int64_t *index) {
  int64_t at = 0;
  for (int i = 0; i < rank; i++) at = at * dim[i] + index[i];
  at -= q->start;
  int64_t where = q->base;
  for (int i = 0; i < q->rank; i++) {
    int64_t k = at / q->pstride[i];
    cr_assert(k < q->dim[i]);
    at -= k * q->pstride[i];
    where += k * q->stride[i];
  }
  cr_assert(eq(i64, at, 0));
  return where;
}

Test(frontend, fused_and_transposed_views) {
  Model *m = load("models/gpt2.yaml", NULL, 0);
  const Piece *q = param(m, "layer.3.wk")->pieces;
  int64_t dim[] = {12, 64, 768}, index[] = {5, 7, 100};
  cr_assert(eq(str, (char *)q->tensor, "transformer.h.3.attn.c_attn.weight"));
  CHECK(q->hf_rank == 2 && q->hf_dim[0] == 768 && q->hf_dim[1] == 2304);
  cr_assert(eq(i64, place(q, 3, dim, index), 100 * 2304 + 768 + 5 * 64 + 7)); /* [in, out], k after q */
  q = param(m, "layer.3.wo")->pieces;
  int64_t odim[] = {768, 12, 64}, oindex[] = {9, 5, 7};
  cr_assert(eq(i64, place(q, 3, odim, oindex), (5 * 64 + 7) * 768 + 9));
}

static Model *load_text(const char *text) {
  char path[] = "/tmp/ink_model_XXXXXX";
  int fd = mkstemp(path);
  cr_assert(ge(int, fd, 0));
  close(fd);
  cr_assert(file_write_atomic(path, text, strlen(text)));
  Model *m = load(path, NULL, 0);
  remove(path);
  return m;
}

/* Interleaved groups (kv, g queries + key + value) and a stack of tensors over a leading axis. */
Test(frontend, interleaved_and_stacked_views) {
  Model *m =
      load_text("model: views\n"
                "dims: {in: 6, kv: 2, g: 3, hd: 4, experts: 5}\n"
                "inputs: {x: {shape: [B, in], from: images}, y: {from: labels}}\n"
                "params:\n"
                "  wq: {shape: [kv, g, hd, in], hf: \"wqkv as [kv*(g+2)*hd, in] view [kv, g+2, hd, in][:, 0:g]\"}\n"
                "  wk: {shape: [kv, hd, in], hf: \"wqkv as [kv*(g+2)*hd, in] view [kv, g+2, hd, in][:, g]\"}\n"
                "  wv: {shape: [kv, hd, in], hf: \"wqkv as [kv*(g+2)*hd, in] view [kv, g+2, hd, in][:, g+1]\"}\n"
                "  w1: {shape: [experts, in, hd], hf: \"experts.{e}.w1.weight.T\"}\n"
                "forward: |\n"
                "  a = einsum(\"bi,kghi->bkgh\", x, wq)\n"
                "  k = einsum(\"bi,khi->bkh\", x, wk)\n"
                "  v = einsum(\"bi,khi->bkh\", x, wv)\n"
                "  e = einsum(\"bi,eih->beh\", x, w1)\n"
                "loss: sum(a, [1, 2, 3]) + sum(k, [1, 2]) + sum(v, [1, 2]) + sum(e, [1, 2]) + valid(y)\n");
  int64_t qdim[] = {2, 3, 4, 6}, qindex[] = {1, 2, 3, 5}, kdim[] = {2, 4, 6}, kindex[] = {1, 3, 5};
  cr_assert(eq(i64, place(param(m, "wq")->pieces, 4, qdim, qindex), ((1 * 5 + 2) * 4 + 3) * 6 + 5));
  cr_assert(eq(i64, place(param(m, "wk")->pieces, 3, kdim, kindex), ((1 * 5 + 3) * 4 + 3) * 6 + 5));
  cr_assert(eq(i64, place(param(m, "wv")->pieces, 3, kdim, kindex), ((1 * 5 + 4) * 4 + 3) * 6 + 5));
  const ModelParam *p = param(m, "w1");
  cr_assert(eq(int, p->npieces, 5));
  cr_assert(eq(str, (char *)p->pieces[4].tensor, "experts.4.w1.weight"));
  cr_assert(eq(i64, p->pieces[4].start, 4 * 6 * 4));
  CHECK(p->pieces[4].hf_dim[0] == 4 && p->pieces[4].hf_dim[1] == 6);
  int64_t edim[] = {5, 6, 4}, eindex[] = {4, 2, 3};
  cr_assert(eq(i64, place(&p->pieces[4], 3, edim, eindex), 3 * 6 + 2));
}

/* Blocks within blocks, functions and the prelude called from them; parameters carry their own block's instance. */
Test(frontend, spans_name_the_block_instance) {
  Model *m = load_text("model: nest\n"
                       "dims: {d: 4, n: 2}\n"
                       "inputs: {x: {shape: [B, d], from: images}, y: {from: labels}}\n"
                       "params: {w: {shape: [d]}}\n"
                       "functions: |\n"
                       "  def bend(x): return tanh(x)\n"
                       "blocks:\n"
                       "  mlp:\n"
                       "    params: {s: {shape: [d]}}\n"
                       "    forward: |\n"
                       "      return exp(x) * s\n"
                       "  head:\n"
                       "    forward: |\n"
                       "      return abs(x)\n"
                       "  layer:\n"
                       "    forward: |\n"
                       "      x = bend(x)\n"
                       "      x = silu(mlp[i + 3](x))\n"
                       "      return softmax(x)\n"
                       "forward: |\n"
                       "  for i in n: x1 = layer[i](x)\n"
                       "  h = head(x1 + w)\n"
                       "loss: sum(h, [1]) + valid(y)\n");
  const Graph *g = forward(m);
  int seen = 0;
  for (int i = 0; i < g->nnodes; i++) {
    const Node *n = &g->nodes[i];
    const char *in = n->span.in;
    if (n->op == OP_tanh) CHECK(!strcmp(in, seen++ ? "layer.1" : "layer.0")); /* once in each layer */
    if (n->op == OP_exp && n->span.line == 11) CHECK(!strcmp(in, seen == 1 ? "layer.0/mlp.3" : "layer.1/mlp.4"));
    if (n->op == OP_exp && n->span.line != 11) CHECK(!strcmp(in, seen == 1 ? "layer.0" : "layer.1")); /* softmax */
    if (n->op == OP_silu) CHECK(!strcmp(in, seen == 1 ? "layer.0" : "layer.1"));
    if (n->op == OP_abs) CHECK(!strcmp(in, "head"));
    if (n->op == OP_valid) cr_assert(zero(ptr, (void *)in));
  }
  cr_assert(eq(int, seen, 2));
  cr_assert(eq(str, (char *)graph_find_input(g, "mlp.4.s")->span.in, "mlp.4"));
  cr_assert(zero(ptr, (void *)graph_find_input(g, "w")->span.in));
}

/* ---- the language */

Test(frontend, language) {
  Model *m = load_text("model: words\n"
                       "dims: {in: 6, out: in / 2, n: 3}\n"
                       "consts: {half: 1 / 2, half_root: sqrt(half)}\n"
                       "inputs: {x: {shape: [B, in], from: images}, y: {from: labels}}\n"
                       "tables: {ramp: {shape: [in], value: \"i * half + n\"}}\n"
                       "params: {w: {shape: [out, in]}, bias: {shape: [out]}}\n"
                       "functions: |\n"
                       "  def shrink(x, by): return x * (by / size(x))   # a comment\n"
                       "  def twice(x):\n"
                       "    for k in 2:\n"
                       "      x = x + x\n"
                       "    return x\n"
                       "blocks:\n"
                       "  head: {args: [a, b], forward: \"return linear(a, w, bias) * b\"}\n"
                       "forward: |\n"
                       "  h = shrink(x * ramp, by: half * 3)\n"
                       "  for i in n: h = twice(h) - -h\n"
                       "  z = head(h,\n"
                       "           half_root)  # over two lines\n"
                       "  p = softmax(z)\n"
                       "  logits = log(p)\n"
                       "loss: |\n  cross_entropy(logits, y) + 0 * mean(z, axis: out)\n");
  const Graph *g = forward(m);
  cr_assert(eq(int, count_ops(g, OP_table), 1));
  cr_assert(eq(int, count_ops(g, OP_contract), 1));
  cr_assert(eq(int, count_ops(g, OP_neg), 3));
  cr_assert(eq(int, count_ops(g, OP_rowmax), 2));
  bool found = false;
  for (int i = 0; i < g->nnodes; i++)
    if (g->nodes[i].op == OP_const && node_attr(&g->nodes[i], "value")->num == 0.5 * 3 / 6) found = true;
  cr_assert(found, "numbers are computed at build time");
}

Test(frontend, config_json) {
  Model *m = load("models/llama.yaml:1B", NULL, 0);
  static const char *const lines[] = {"\"architectures\": [\n    \"LlamaForCausalLM\"\n  ]",
                                      "\"model_type\": \"llama\"",
                                      "\"hidden_size\": 2048",
                                      "\"num_key_value_heads\": 8",
                                      "\"rope_theta\": 500000",
                                      "\"rms_norm_eps\": 1e-05",
                                      "\"tie_word_embeddings\": true",
                                      "\"torch_dtype\": \"float32\"",
                                      "\"eos_token_id\": 128001"};
  for (int i = 0; i < LEN(lines); i++)
    cr_assert(strstr(m->config_json, lines[i]) != NULL, "%s in\n%s", lines[i], m->config_json);
  cr_assert(
      eq(str, (char *)m->generation_config_json, "{\n  \"bos_token_id\": 128000,\n  \"eos_token_id\": 128001\n}\n"));
  m = load("models/char.yaml", NULL, 0);
  CHECK(m->config_json == NULL && m->generation_config_json == NULL);
}

/* ---- bad inputs */

static void read_directives(const char *path, const char **sets, int *nsets, int64_t *seq) {
  FILE *f = fopen(path, "r");
  char line[256];
  *nsets = 0;
  *seq = 0;
  while (f && fgets(line, sizeof line, f) && line[0] == '#') {
    line[strcspn(line, "\n")] = 0;
    if (!strncmp(line, "# set: ", 7) && *nsets < 8) sets[(*nsets)++] = arena_strdup(a, line + 7);
    if (!strncmp(line, "# seq: ", 7)) *seq = atoll(line + 7);
  }
  if (f) fclose(f);
}

static char *read_text(const char *path) {
  FILE *f = fopen(path, "rb");
  if (!f) return NULL;
  static char buf[1 << 16];
  size_t n = fread(buf, 1, sizeof buf - 1, f);
  fclose(f);
  return arena_strndup(a, buf, n);
}

Test(frontend, bad_inputs) {
  glob_t g;
  cr_assert(eq(int, glob("tests/frontend/*.yaml", 0, NULL, &g), 0));
  cr_assert(ge(sz, g.gl_pathc, 45));
  bool bless = getenv("INK_BLESS") != NULL;
  int failed = 0;
  for (size_t i = 0; i < g.gl_pathc; i++) {
    teardown();
    setup();
    const char *path = g.gl_pathv[i], *sets[8];
    ModelOptions opt = {.sets = sets, .batch = 8, .models = "models"};
    read_directives(path, sets, &opt.nsets, &opt.time);
    bool refused = strstr(path, ".train.yaml") ? !train_load(a, d, path) : !model_load(a, d, path, &opt);
    const char *got = rendered();
    const char *golden = arena_printf(a, "%.*s.txt", (int)strlen(path) - 5, path);
    if (bless) file_write_atomic(golden, got, strlen(got));
    const char *want = read_text(golden);
    if (!refused || !*got)
      failed++, cr_log_error("%s was accepted", path);
    else if (!want)
      failed++, cr_log_error("%s has no .txt file", path);
    else if (strcmp(want, got))
      failed++, cr_log_error("%s: expected\n%s\nfound\n%s", path, want, got);
  }
  globfree(&g);
  cr_assert(eq(int, failed, 0));
}

/* Files too large for the repository: refused by a limit, quickly. */
Test(frontend, limits) {
  Text t = {0};
  text_add(&t, "model: big\ndims:\n");
  for (int i = 0; i < 60000; i++) text_add(&t, "  d%d: 1\n", i);
  char path[] = "/tmp/ink_big_XXXXXX";
  close(mkstemp(path));
  file_write_atomic(path, t.s, t.n);
  cr_assert(model_load(a, d, path, &(ModelOptions){0}) == NULL);
  cr_assert(strstr(rendered(), "more than 100000 values") != NULL);
  teardown();
  setup();
  while (t.n < ((size_t)4 << 20)) text_add(&t, "# %*s\n", 1000, "");
  file_write_atomic(path, t.s, t.n);
  cr_assert(model_load(a, d, path, &(ModelOptions){0}) == NULL);
  cr_assert(d->n == 1, "%s", rendered());
  text_free(&t);
  remove(path);
  teardown();
  setup();
  cr_assert(model_load(a, d, "/tmp/there/is/no/such.yaml", &(ModelOptions){0}) == NULL);
  cr_assert(eq(int, d->n, 1));
}

/* Text in memory is what the same text in a file is; a name is only a name. */
Test(frontend, text_in_memory) {
  const char *effective = arena_strdup(a, load("models/char.yaml", NULL, 0)->effective);
  ModelOptions opt = {.text = read_text("models/char.yaml"), .batch = 2};
  Model *m = load_with("models/gpt2.yaml:350M", &opt);
  CHECK(!strcmp(m->effective, effective));
  const char *variant = "variant=350M";
  opt = (ModelOptions){.text = read_text("models/gpt2.yaml"), .sets = &variant, .nsets = 1, .batch = 1};
  CHECK(load_with("memory", &opt)->nparams > load("models/gpt2.yaml", NULL, 0)->nparams);
  opt = (ModelOptions){.text = "model: x\ndims: !tag\n"};
  CHECK(model_load(a, d, "memory", &opt) == NULL);
  CHECK(strstr(rendered(), "memory:2:7: error: ") != NULL);
  Text big = {0};
  while (big.n <= (size_t)4 << 20) text_add(&big, "# %*s\n", 1000, "");
  opt.text = big.s;
  CHECK(model_load(a, d, "memory", &opt) == NULL);
  CHECK(d->n == 2 && strstr(rendered(), "memory: error: larger than the limit") != NULL);
  text_free(&big);
}

/* What `base:` of a text may mean: a shipped model or a file of the folder given, and nothing near the process. */
Test(frontend, base_of_text) {
  ModelOptions opt = {.text = "base: char.yaml\nmodel: mine\n", .models = "models", .batch = 1};
  CHECK(!strcmp(load_with("memory", &opt)->name, "mine"));
  opt.models = NULL;
  CHECK(model_load(a, d, "models/memory", &opt) == NULL);
  CHECK(strstr(rendered(), "models/memory:1:7: error: base 'char.yaml' is neither in the folder given") != NULL);
  opt.folder = "models";
  CHECK(!strcmp(load_with("memory", &opt)->name, "mine"));
  opt.folder = NULL;
  opt.text = "base: models/char.yaml\nmodel: mine\n"; /* there, seen from the folder this test runs in */
  CHECK(model_load(a, d, "memory", &opt) == NULL);
}

/* Every prefix of a model, and every model with one byte changed, is refused or accepted, but never crashes. */
Test(frontend, damaged_models) {
  char *text = read_text("models/llama.yaml");
  size_t n = strlen(text);
  char path[] = "/tmp/ink_damaged_XXXXXX";
  close(mkstemp(path));
  const char *set = "dims.layers=1";
  uint32_t random = 1;
  for (int i = 0; i < 300; i++) {
    Arena *own = arena_new();
    Diags *dd = diags_new(own);
    char *copy = arena_strndup(own, text, n);
    random = random * 1664525 + 1013904223;
    size_t at = random % n;
    if (i % 3 == 0)
      copy[at] = 0;
    else
      copy[at] = "[]{}()\"':,*&#|\n-+ x0"[random >> 8 & 15];
    file_write_atomic(path, copy, strlen(copy));
    Model *m = model_load(own, dd, path, &(ModelOptions){.sets = &set, .nsets = 1, .batch = 1});
    CHECK((m == NULL) == (dd->n > 0)); /* an error is a refusal, and a refusal has an error */
    arena_free(own);
  }
  remove(path);
}

/* ---- documentation */

/* The complete models in the documentation load. */
Test(frontend, documented_models_load) {
  static const char *const page[] = {"docs/model-language.md", "docs/add-a-model.md"};
  for (int i = 0; i < LEN(page); i++) {
    char *text = read_text(page[i]);
    int models = 0;
    for (const char *p = text; p && (p = strstr(p, "```yaml\n"));) {
      p += 8;
      const char *end = strstr(p, "```");
      cr_assert(end != NULL);
      load_text(arena_strndup(a, p, (size_t)(end - p)));
      models++;
      p = end + 3;
    }
    cr_assert(ge(int, models, 1), "%s", page[i]);
  }
}

/* Every built-in function has its row in the documentation. */
Test(frontend, functions_are_documented) {
  char *text = read_text("docs/model-language.md");
  for (int i = 0; i < builtin_count; i++)
    cr_assert(strstr(text, arena_printf(a, "| `%s(", builtin_table[i].name)) != NULL, "%s", builtin_table[i].name);
  const char *ops = strstr(text, "`add sub");
  for (int i = 1; i < OP_COUNT; i++)
    if (op_info[i].ew) cr_assert(strstr(ops, op_info[i].name) != NULL, "%s", op_info[i].name);
  char *prelude = read_text("frontend/prelude.def");
  for (const char *p = prelude; (p = strstr(p, "\"def ")); p += 5) {
    const char *name = arena_strndup(a, p + 5, strcspn(p + 5, ":")); /* with its arguments */
    cr_assert(strstr(text, arena_printf(a, "`%s`", name)) != NULL, "%s", name);
  }
}
