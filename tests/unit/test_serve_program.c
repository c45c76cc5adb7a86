/* Programs that serve (passes serve and layout, list `serve`), run through serve/program_model.h: what comes out for a token is, bit for
 * bit, what the exact evaluator makes of its sequence alone in the forward graph; whatever runs beside it, in whatever chunks,
 * on whatever pages. */
#include "codegen/jit.h"
#include "driver/compile.h"
#include "ir/eval.h"
#include "serve/batch.h"
#include "serve/program_model.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SEQS = 4, LONGEST = 200, PAGES = 4 };

typedef struct Served {
  Arena *a;
  Compile whole, c; /* the forward graph; the program */
  Jit *jit;
  Program *p; /* the engine holds on to it */
  ServeModel *m;
  Tensor *param;  /* by input of the forward graph */
  int64_t length; /* that the forward graph was built for */
} Served;

static const char *text_of(Diags *d, const Report *r) {
  Text t = {0};
  diags_render(d, &t);
  text_add(&t, "%s", r && r->text ? r->text : "");
  return t.s;
}

static Compile compile(Arena *a, const char *model, const char **sets, int nsets, const char *target) {
  return (Compile){.arena = a,
                   .diags = diags_new(a),
                   .model_path = model,
                   .models = "models",
                   .target_name = target,
                   .sets = sets,
                   .nsets = nsets};
}

static uint64_t state = 7;
static double number(void) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return (double)(state >> 40) / (1 << 23) - 1;
}

static const Graph *forward(const Served *s) {
  return module_find(s->whole.module, "forward");
}

/* The same values for both: made by name in the forward graph's inputs, packed as the program has them. */
static void **fill(Served *s) {
  const Graph *g = forward(s);
  s->param = NEW_ARRAY(s->a, Tensor, g->ninputs);
  for (int i = 0; i < g->ninputs; i++) {
    if (g->inputs[i].kind != IN_PARAM) continue;
    Type t = val_type(g, g->inputs[i].val);
    s->param[i] = tensor_new(s->a, t, EVAL_EXACT);
    for (int64_t k = 0; k < type_elements(t); k++)
      tensor_set(&s->param[i], EVAL_EXACT, k, t.rank == 1 ? 1 + 0.3 * number() : 0.2 * number());
  }
  const Graph *serve = module_find(s->c.module, "serve");
  void **at = NEW_ARRAY(s->a, void *, s->p->nbuffers);
  for (int i = 0; i < serve->ninputs; i++) {
    const Input *in = &serve->inputs[i];
    if (in->kind != IN_PARAM) continue;
    Type t = val_type(serve, in->val);
    char name[128];
    snprintf(name, sizeof name, "%s", in->name);
    if (strlen(name) > strlen(PACKED) && !strcmp(name + strlen(name) - strlen(PACKED), PACKED))
      name[strlen(name) - strlen(PACKED)] = 0;
    const Input *from = graph_find_input(g, intern(name));
    cr_assert(from != NULL, "%s is no parameter", name);
    Tensor x = tensor_new(s->a, t, EVAL_EXACT);
    for (int64_t k = 0; k < type_elements(t); k++)
      tensor_set(&x, EVAL_EXACT, k, tensor_get(&s->param[from - g->inputs], EVAL_EXACT, k));
    int b = program_buffer(s->p, in->name);
    cr_assert(b >= 0 && s->p->buffers[b].bytes == (uint64_t)type_bytes(t), "%s", in->name);
    at[b] = arena_alloc(s->a, (size_t)type_bytes(t));
    tensor_write(&x, at[b]);
  }
  return at;
}

static Served start_with(const char *model, const char **sets, int nsets, const char *target, DType dtype, int threads,
                         int seqs) {
  Served s = {.a = arena_new(), .length = LONGEST};
  s.p = NEW(s.a, Program);
  Report err = {0};
  s.whole = compile(s.a, model, sets, nsets, target);
  s.whole.batch = 1, s.whole.time = LONGEST;
  bool ok = compile_run(&s.whole, STAGE_GRAPH);
  cr_assert(ok, "%s", text_of(s.whole.diags, NULL));
  if (dtype == DT_bf16) { /* what is computed in bf16 is said by the pass */
    s.whole.module->compute = dtype;
    s.whole.module = pass_precision(s.whole.module, &s.whole.target);
    cr_assert(s.whole.module != NULL);
  }
  s.c = compile(s.a, model, sets, nsets, target);
  s.c.infer = true;
  s.c.serve = (InferSpec){.seqs = seqs, .tokens = 150, .rows = seqs > 16 ? seqs : 16, .ctx = LONGEST, .dtype = dtype};
  ok = compile_run(&s.c, STAGE_OBJECT);
  cr_assert(ok, "%s", text_of(s.c.diags, NULL));
  s.jit = jit_load(s.c.diags, &s.c.object);
  cr_assert(s.jit != NULL, "%s", text_of(s.c.diags, NULL));
  ok =
      program_open(s.p, jit_symbol(s.jit, s.c.diags, "ink_program"), jit_symbol(s.jit, s.c.diags, "ink_kernels"), &err);
  cr_assert(ok, "%s", err.text);
  s.m = program_model_new(s.p, fill(&s), &(ProgramModelOptions){.threads = threads}, &err);
  cr_assert(s.m != NULL, "%s", err.text);
  return s;
}

static Served start(const char *model, const char **sets, int nsets, const char *target, DType dtype, int threads) {
  return start_with(model, sets, nsets, target, dtype, threads, SEQS);
}

static void stop(Served *s) {
  s->m->free(s->m);
  jit_free(s->jit);
  compile_free(&s->whole);
  compile_free(&s->c);
  arena_free(s->a);
}

/* The logits of all positions of a sequence, by the evaluator. */
static Tensor expect(Served *s, const int32_t *token, int n) {
  const Graph *g = forward(s);
  Tensor *in = NEW_ARRAY(s->a, Tensor, g->ninputs), *out = NEW_ARRAY(s->a, Tensor, g->noutputs);
  int logits = (int)(graph_find_output(g, intern("logits")) - g->outputs);
  for (int i = 0; i < g->ninputs; i++) {
    in[i] = s->param[i];
    if (g->inputs[i].kind == IN_PARAM) continue;
    in[i] = tensor_new(s->a, val_type(g, g->inputs[i].val), EVAL_EXACT);
    for (int k = 0; k < n && !strcmp(g->inputs[i].name, "tokens"); k++) ((int32_t *)in[i].data)[k] = token[k];
  }
  bool ok = graph_eval(g, EVAL_EXACT, in, NULL, 0, s->a, out, s->whole.diags);
  cr_assert(ok, "%s", text_of(s->whole.diags, NULL));
  return out[logits];
}

typedef struct Sequence {
  int32_t token[LONGEST], page[PAGES];
  int length, done;
  Tensor want;
} Sequence;

/* One batch: the next take[i] tokens of each sequence; the last `rows` tokens of each are asked about. */
static void step(Served *s, Sequence *q, const int *take, int rows) {
  ServeBatch *b = &s->m->batch;
  Report err = {0};
  int who[64], where[64], vocab = s->m->limits.vocab;
  b->n = b->s = b->r = 0;
  for (int i = 0; i < SEQS; i++) {
    if (!take[i]) continue;
    b->starts[b->s] = b->n;
    for (int j = 0; j < PAGES; j++) b->table[b->s * b->table_width + j] = q[i].page[j];
    for (int k = 0; k < take[i]; k++) {
      int at = q[i].done + k;
      b->tokens[b->n] = q[i].token[at];
      b->positions[b->n] = at;
      b->slots[b->n] = q[i].page[at / 64] * 64 + at % 64;
      if (k >= take[i] - rows) who[b->r] = i, where[b->r] = at, b->rows[b->r++] = b->n;
      b->n++;
    }
    q[i].done += take[i];
    b->s++;
  }
  b->starts[b->s] = b->n;
  bool ok = s->m->run(s->m, &err);
  cr_assert(ok, "%s", err.text);
  for (int r = 0; r < b->r; r++)
    for (int v = 0; v < vocab; v++) {
      float got = b->logits[(int64_t)r * vocab + v];
      float want = (float)tensor_get(&q[who[r]].want, EVAL_EXACT, (int64_t)where[r] * vocab + v);
      cr_assert(!memcmp(&got, &want, 4), "sequence %d, position %d, logit %d: %a, the forward graph's is %a", who[r],
                where[r], v, (double)got, (double)want);
    }
}

static void check(const char *model, const char **sets, int nsets, const char *target, DType dtype, int threads) {
  Served s = start(model, sets, nsets, target, dtype, threads);
  Sequence q[SEQS];
  int length[SEQS] = {199, 70, 5, 130}, next = 17;
  for (int i = 0; i < SEQS; i++) {
    q[i] = (Sequence){.length = length[i]};
    for (int k = 0; k < LONGEST; k++) q[i].token[k] = (int32_t)((number() + 1) / 2 * s.m->limits.vocab);
    for (int j = 0; j < PAGES; j++) q[i].page[j] = next--;
    q[i].want = expect(&s, q[i].token, length[i]);
  }
  step(&s, q, (int[]){100, 0, 0, 0}, 1); /* a prompt's chunk alone */
  step(&s, q, (int[]){1, 70, 4, 33}, 2); /* a decode beside prompts */
  step(&s, q, (int[]){1, 0, 1, 96}, 3);  /* decodes, and a chunk over a page's end */
  while (q[0].done < q[0].length) step(&s, q, (int[]){1, 0, 0, q[3].done < q[3].length}, 1);
  stop(&s);
}

static const char *tiny_llama[] = {"dims.vocab=61", "dims.ctx=256", "dims.d=48", "dims.layers=2",
                                   "dims.heads=6",  "dims.kv=2",    "dims.hd=8", "dims.ff=72"};
static const char *tiny_gpt2[] = {"dims.vocab=61", "dims.ctx=200", "dims.d=48", "dims.layers=2", "dims.heads=3"};

Test(serve_program, llama) {
  check("models/llama.yaml", tiny_llama, LEN(tiny_llama), "cpu:native", DT_f32, 2);
}

Test(serve_program, gpt2) {
  check("models/gpt2.yaml", tiny_gpt2, LEN(tiny_gpt2), "cpu:native", DT_f32, 1);
}

Test(serve_program, bf16) {
  check("models/llama.yaml", tiny_llama, LEN(tiny_llama), "cpu:native", DT_bf16, 2);
  check("models/gpt2.yaml", tiny_gpt2, LEN(tiny_gpt2), "cpu:native", DT_bf16, 3);
}

Test(serve_program, narrow_vectors) {
  check("models/llama.yaml", tiny_llama, LEN(tiny_llama), "cpu:x86-64-v3", DT_f32, 2);
}

/* What is served of a model with dropout is what is served of it without. */
Test(serve_program, dropout_is_the_identity) {
  const char *sets[] = {"dims.d=32", "dims.layers=2", "dims.heads=2", "dims.vocab=70", "consts.dropout=0.3"};
  Arena *a = arena_new();
  Text text[2] = {0};
  for (int k = 0; k < 2; k++) {
    Compile c = compile(a, "models/gpt2.yaml", sets, LEN(sets) - k, "cpu:x86-64-v3");
    c.infer = true;
    c.serve = (InferSpec){.seqs = SEQS, .tokens = 150, .rows = 16, .ctx = LONGEST, .dtype = DT_f32};
    cr_assert(compile_run(&c, STAGE_FUSED), "%s", text_of(c.diags, NULL));
    module_print(c.module, false, &text[k]);
  }
  cr_assert(strstr(text[0].s, "graph @serve") != NULL);
  cr_assert(!strcmp(text[0].s, text[1].s), "%s\n%s", text[0].s, text[1].s);
  text_free(&text[0]), text_free(&text[1]);
  arena_free(a);
}

/* ---- through the batcher: 32 prompts at once, each as alone */

enum { ASKED = 32, ANSWER = 30 };

typedef struct Heard {
  int32_t token[ANSWER];
  float logprob[ANSWER];
  int n;
  bool done;
} Heard;

static void hear(void *ctx, const GenEvent *e) {
  Heard *h = ctx;
  if (e->kind == GEN_TOKEN) h->token[h->n] = e->token, h->logprob[h->n++] = e->logprob;
  if (e->kind == GEN_DONE) h->done = e->finish == GEN_LENGTH;
}

static void ask(Batcher *b, int which, const int32_t *prompt, Heard *h) {
  bool full = false;
  Report err = {0};
  *h = (Heard){0};
  GenRequest r = {.prompt = prompt, .nprompt = 1 + which * 5, .max_tokens = ANSWER, .top = 0, .sink = hear, .ctx = h};
  r.sample =
      (SampleParams){.temperature = which % 3 ? 0.8f : 0, .top_p = which % 2 ? 0.9f : 1, .repetition = 1, .seed = 5};
  cr_assert(batcher_submit(b, &r, &full, &err), "%s", err.text);
}

static Batcher *batcher(Served *s, bool prefixes) {
  Report err = {0};
  Batcher *b = batcher_new(s->m, &(BatchOptions){.max_queue = ASKED, .no_prefix_cache = !prefixes}, &err);
  cr_assert(b != NULL, "%s", err.text);
  return b;
}

Test(serve_program, many_at_once_are_as_alone) {
  static Heard together[2][ASKED], alone[ASKED];
  static int32_t prompt[ASKED][LONGEST];
  for (int dtype = 0; dtype < 2; dtype++) {
    Served s =
        start_with("models/llama.yaml", tiny_llama, LEN(tiny_llama), "cpu:native", dtype ? DT_bf16 : DT_f32, 2, ASKED);
    for (int i = 0; i < ASKED; i++) /* the first half of each second prompt is the one before */
      for (int k = 0; k < LONGEST; k++)
        prompt[i][k] = i % 2 && k < 70 ? prompt[i - 1][k] : (int32_t)((number() + 1) / 2 * s.m->limits.vocab);
    for (int prefixes = 0; prefixes < 2; prefixes++) {
      Batcher *b = batcher(&s, prefixes);
      for (int i = 0; i < ASKED; i++) ask(b, i, prompt[i], &together[prefixes][i]);
      while (batcher_step(b)) {
      }
      batcher_free(b);
    }
    for (int i = 0; i < ASKED; i++) {
      Batcher *b = batcher(&s, false);
      ask(b, i, prompt[i], &alone[i]);
      while (batcher_step(b)) {
      }
      batcher_free(b);
      cr_assert(alone[i].done && alone[i].n == ANSWER);
      for (int prefixes = 0; prefixes < 2; prefixes++)
        cr_assert(!memcmp(&together[prefixes][i], &alone[i], sizeof(Heard)), "prompt %d, %s prefixes", i,
                  prefixes ? "with" : "without");
    }
    stop(&s);
  }
}
