/* The C API, through libinkstone.so as any user has it: errors as values with their places, what a model tells of itself, values
 * by name, the built program's bits, two contexts in two threads, and nothing lost at the end (under ASan). */
#include "tests/unit/runtime_criterion.h"
#include "tests/unit/runtime_files.h"
#include <inkstone.h>
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/lsan_interface.h>
#endif

#define LEN(a) (sizeof(a) / sizeof((a)[0]))

static ink_context *c;
static void setup(void) {
  c = ink_context_new();
}
static void teardown(void) {
  ink_context_free(c);
}
TestSuite(api, .init = setup, .fini = teardown);

/* For conditions of several parts. */
static void check(bool ok, const char *what, int line) {
  if (!ok) cr_fail("line %d: %s\n%s", line, what, ink_diagnostic_text(c));
}
#define CHECK(x) check(x, #x, __LINE__)

/* The last call failed, and says so. */
static void check_says(const char *what, int line) {
  if (ink_diagnostic_count(c) < 1 || !strstr(ink_diagnostic_text(c), what))
    cr_fail("line %d: it does not say: %s\n%s", line, what, ink_diagnostic_text(c));
}
#define SAYS(what) check_says(what, __LINE__)

static ink_spec spec_of(const char *path) {
  ink_spec s;
  INK_INIT(s);
  s.path = path;
  return s;
}

/* Two models for the same data: attention and all, and one that compiles in a moment. */
enum { BATCH = 2, SEQ = 8, VOCAB = 48, COUNT = BATCH * SEQ };
static const char *const char_sets[] = {"dims.vocab=48", "dims.d=16", "dims.heads=2",     "dims.layers=2",
                                        "dims.ctx=8",    "lr=3e-3",   "schedule.warmup=2"};
static const char *const tiny_sets[] = {"lr=3e-3", "schedule.warmup=2"};
static const char tiny_text[] = "model: tiny\n"
                                "hf: {architectures: [Tiny], model_type: tiny}\n"
                                "dims: {vocab: 48, d: 16, ctx: 8}\n"
                                "inputs: {tokens: {from: tokens}, targets: {from: targets}}\n"
                                "params: {wte: {shape: [vocab, d], init: normal(0.5)}}\n"
                                "forward: |\n"
                                "  x = lookup(wte, tokens)\n"
                                "  logits = linear(x, wte)\n"
                                "loss: cross_entropy(logits, targets)\n";

static ink_spec small_spec(bool tiny) {
  ink_spec s = spec_of(tiny ? "tiny.yaml" : "char");
  s.text = tiny ? tiny_text : NULL;
  s.overrides = tiny ? tiny_sets : char_sets;
  s.override_count = tiny ? LEN(tiny_sets) : LEN(char_sets);
  s.batch = BATCH;
  s.seq = SEQ;
  return s;
}

static ink_spec dropping_spec(void) {
  static const char *sets[LEN(char_sets) + 1];
  ink_spec s = small_spec(false);
  memcpy(sets, char_sets, sizeof char_sets);
  sets[LEN(char_sets)] = "consts.dropout=0.5";
  s.overrides = sets;
  s.override_count = LEN(sets);
  return s;
}

static ink_model *compile(ink_context *in, ink_spec s) {
  ink_model *m = ink_compile(in, &s);
  if (!m) cr_fail("%s", ink_diagnostic_text(in));
  return m;
}
static ink_model *tiny_model(void) {
  return compile(c, small_spec(true));
}
static ink_model *char_model(void) {
  return compile(c, small_spec(false));
}

/* The token at a place of an endless text. */
static int32_t token(int64_t at) {
  return (int32_t)((at * at / 7 + at * 5) % VOCAB);
}

/* Windows of the text one behind the other, as a loader without shuffling deals them. */
static void feed(ink_session *s, int64_t step) {
  int32_t tokens[COUNT], targets[COUNT];
  for (int64_t i = 0; i < COUNT; i++) {
    tokens[i] = token(step * COUNT + i);
    targets[i] = token(step * COUNT + i + 1);
  }
  CHECK(!ink_write(s, "tokens", INK_I32, tokens, COUNT));
  CHECK(!ink_write(s, "targets", INK_I32, targets, COUNT));
}

static void train(ink_session *s, int64_t steps, double *losses) {
  for (int64_t i = 0; i < steps; i++) {
    feed(s, i);
    CHECK(!ink_gradients(s, 0, &losses[i]));
    CHECK(!ink_update(s, i, NULL));
  }
}

static const ink_buffer *find(const ink_model *m, const char *name) {
  static ink_buffer b;
  INK_INIT(b);
  for (size_t i = 0; i < ink_model_buffers(m); i++)
    if (!ink_model_buffer(m, i, &b) && !strcmp(b.name, name)) return &b;
  return NULL;
}

/* ---- errors */

Test(api, errors_in_models) {
  ink_spec s = spec_of("wrong.yaml");
  s.text = "model: wrong\n"
           "dims: {vocab: 8, ctx: 4}\n"
           "inputs: {tokens: {from: tokens}, targets: {from: targets}}\n"
           "params: {table: {shape: [vocab, vocab], init: zeros}}\n"
           "forward: |\n"
           "  logits = lookpu(table, tokens)\n"
           "loss: cross_entropy(logits, targets)\n";
  CHECK(ink_compile(c, &s) == NULL);
  ink_diagnostic d;
  INK_INIT(d);
  CHECK(ink_diagnostic_count(c) == 1);
  CHECK(ink_diagnostic_get(c, 0, &d) == INK_OK);
  cr_assert(eq(str, (char *)d.path, "wrong.yaml"));
  CHECK(d.line == 6 && d.column == 12);
  CHECK(strstr(d.message, "lookpu") && strstr(d.hint, "lookup"));
  SAYS("wrong.yaml:6:12: error: ");
  SAYS("\n      logits = lookpu(table, tokens)\n               ^\n");
  CHECK(ink_diagnostic_get(c, 1, &d) == INK_MISUSE);

  s = spec_of("there/is/no/such.yaml");
  CHECK(ink_compile(c, &s) == NULL);
  SAYS("there/is/no/such.yaml: error: cannot read");
  s = small_spec(true);
  s.train_text = "lr: fast\n";
  CHECK(ink_compile(c, &s) == NULL);
  SAYS("train:1:5: error: lr: expected a number");
  s = small_spec(true);
  s.target = "cpu:x86-64-v9";
  CHECK(ink_compile(c, &s) == NULL);
  SAYS("unknown target 'cpu:x86-64-v9'");
#if defined(__x86_64__)
  s.target = "cpu:aarch64";
  CHECK(ink_compile(c, &s) == NULL);
  SAYS("target cpu:aarch64 is of another architecture than this process");
#endif
  s.target = NULL;
  s.text = "base: char.yaml\nmodel: x\n";
  s.models = "/nowhere";
  CHECK(ink_compile(c, &s) == NULL);
  SAYS("base 'char.yaml' is neither in the folder given");

  ink_model *m = tiny_model(); /* after all that */
  CHECK(ink_diagnostic_count(c) == 0 && !*ink_diagnostic_text(c));
  ink_model_free(m);
}

Test(api, errors_in_calls) {
  ink_spec s = small_spec(true);
  char *text = NULL;
  CHECK(ink_compile(NULL, &s) == NULL && ink_build(NULL, &s, NULL, "x") == INK_MISUSE);
  CHECK(ink_compile(c, NULL) == NULL);
  SAYS("ink_spec without its size");
  s.path = s.text = NULL;
  CHECK(ink_dump(c, &s, INK_GRAPH, NULL, &text) == INK_MISUSE && !text);
  SAYS("neither path nor text");
  static const char *const wrong[] = {"dims.layers", "=3", NULL};
  for (size_t i = 0; i < LEN(wrong); i++) {
    s = small_spec(true);
    s.overrides = &wrong[i];
    s.override_count = 1;
    CHECK(ink_compile(c, &s) == NULL);
    SAYS("takes KEY=VALUE");
  }
  s = small_spec(true);
  s.batch = -1;
  CHECK(ink_compile(c, &s) == NULL);
  SAYS("out of range");
  s = small_spec(true);
  CHECK(ink_build(c, &s, NULL, NULL) == INK_MISUSE);
  CHECK(ink_build(c, &s, NULL, "/there/is/no/folder/x") == INK_FAILED);
  SAYS("cannot write beside");
  ink_linker l;
  INK_INIT(l);
  l.cc = "no-such-compiler";
  Dir dir = dir_new();
  CHECK(ink_build(c, &s, &l, in(&dir, "x")) == INK_FAILED);
  SAYS("cannot run the C compiler 'no-such-compiler'");
  l.cc = NULL;
  l.runtime = "/nowhere/libinkrt.a";
  CHECK(ink_build(c, &s, &l, in(&dir, "x")) == INK_FAILED);
  SAYS("failed to link");
  dir_free(&dir);
  CHECK(ink_session_new(NULL, 1) == NULL && ink_run(NULL, "micro") == INK_MISUSE);
  CHECK(ink_model_buffers(NULL) == 0 && ink_model_list(NULL, 0) == NULL && ink_diagnostic_count(NULL) == 0);
}

Test(api, errors_in_sessions) {
  ink_model *m = tiny_model();
  CHECK(ink_session_new(m, -1) == NULL);
  SAYS("-1 threads");
  CHECK(ink_session_new(m, 100000) == NULL);
  CHECK(ink_diagnostic_count(c) == 1);
  ink_session *s = ink_session_new(m, 1);
  int32_t ids[COUNT] = {0};
  float wte[VOCAB * 16];
  feed(s, 0);
  CHECK(ink_write(s, "token", INK_I32, ids, COUNT) == INK_MISUSE);
  SAYS("no buffer 'token'\n  did you mean 'tokens'?");
  CHECK(ink_write(s, "micro.%28", INK_F32, wte, 1) == INK_MISUSE); /* temporaries are nobody's business */
  SAYS("no buffer");
  CHECK(ink_write(s, "tokens", INK_F32, ids, COUNT) == INK_MISUSE);
  SAYS("buffer 'tokens' is i32, not f32");
  CHECK(ink_write(s, "tokens", (ink_dtype)77, ids, COUNT) == INK_MISUSE);
  CHECK(ink_read(s, "wte", INK_F32, wte, LEN(wte) - 1) == INK_MISUSE);
  SAYS("has 768 elements, not 767");
  CHECK(ink_write(s, "tokens", INK_I32, NULL, COUNT) == INK_MISUSE);
  CHECK(ink_write(s, NULL, INK_I32, ids, COUNT) == INK_MISUSE);

  /* Indices: a wrong one leaves the buffer as it was. */
  int32_t before[COUNT], after[COUNT];
  CHECK(!ink_read(s, "tokens", INK_I32, before, COUNT));
  static const int32_t bad[] = {VOCAB, -1, INT32_MIN, INT32_MAX};
  for (size_t i = 0; i < LEN(bad); i++) {
    ids[COUNT - 1] = bad[i];
    CHECK(ink_write(s, "tokens", INK_I32, ids, COUNT) == INK_MISUSE);
    SAYS("value 15 is ");
    SAYS("not from 0 to 47");
  }
  CHECK(!ink_read(s, "tokens", INK_I32, after, COUNT) && !memcmp(before, after, sizeof after));
  ids[COUNT - 1] = -1;
  CHECK(ink_write(s, "targets", INK_I32, ids, COUNT) == INK_OK);
  ids[COUNT - 1] = -2;
  CHECK(ink_write(s, "targets", INK_I32, ids, COUNT) == INK_MISUSE);
  int32_t position = COUNT;
  CHECK(ink_write(s, "position", INK_I32, &position, 1) == INK_MISUSE);

  CHECK(ink_set(s, "learning_rate", "1") == INK_MISUSE);
  SAYS("unknown setting 'learning_rate'");
  CHECK(ink_set(s, "seq", "4") == INK_MISUSE);
  SAYS("fixed when the program is built");
  CHECK(ink_set(s, "lr", "fast") == INK_MISUSE && ink_set(s, "global_batch", "3") == INK_MISUSE);
  CHECK(ink_run(s, "micros") == INK_MISUSE && ink_run(s, NULL) == INK_MISUSE);
  CHECK(ink_update(s, -1, NULL) == INK_MISUSE && ink_gradients(s, -1, NULL) == INK_MISUSE);
  CHECK(ink_load(s, "/there/is/no/checkpoint") == INK_FAILED);
  CHECK(ink_diagnostic_count(c) >= 1);
  CHECK(ink_save(s, "/proc/nothing/here") == INK_FAILED);
  ink_kernel_time t;
  INK_INIT(t);
  CHECK(ink_kernel_times(s, 100000, &t) == INK_MISUSE && ink_peak(s, -1, NULL) == INK_MISUSE);

  double loss; /* and everything still works */
  ids[COUNT - 1] = 0;
  CHECK(!ink_init(s, 1) && !ink_write(s, "targets", INK_I32, ids, COUNT) && !ink_gradients(s, 0, &loss));
  CHECK(ink_diagnostic_count(c) == 0 && fabs(loss - log(VOCAB)) < 2);
  ink_session_free(s);
  ink_model_free(m);
}

/* What an older or a newer header has for a struct. */
Test(api, struct_sizes) {
  struct {
    ink_spec spec;
    char more[16];
  } newer;
  memset(&newer, 0, sizeof newer);
  newer.spec = small_spec(true);
  newer.spec.size = sizeof newer;
  char *text = NULL;
  CHECK(ink_dump(c, &newer.spec, INK_SOURCE, NULL, &text) == INK_OK);
  ink_text_free(text);
  newer.more[9] = 1;
  CHECK(ink_dump(c, &newer.spec, INK_SOURCE, NULL, &text) == INK_MISUSE);
  SAYS("has fields that this library");
  ink_spec older = small_spec(true);
  older.size = offsetof(ink_spec, models);
  older.models = "/nowhere"; /* beyond its end */
  CHECK(ink_dump(c, &older, INK_SOURCE, NULL, &text) == INK_OK);
  ink_text_free(text);
  older.size = 0;
  CHECK(ink_dump(c, &older, INK_SOURCE, NULL, &text) == INK_MISUSE);

  ink_model *m = tiny_model();
  struct {
    ink_model_info info;
    char more[16];
  } room;
  memset(&room, 7, sizeof room);
  room.info.size = sizeof room;
  CHECK(ink_model_get(m, &room.info) == INK_OK && room.info.size == sizeof room && room.more[15] == 0);
  memset(&room, 7, sizeof room);
  room.info.size = offsetof(ink_model_info, spec);
  CHECK(ink_model_get(m, &room.info) == INK_OK && !strcmp(room.info.name, "tiny") && room.more[0] == 7);
  CHECK(*(const char *)&room.info.spec == 7);
  ink_model_free(m);
}

/* ---- what a model tells */

Test(api, facts) {
  CHECK(ink_abi_version() == INKSTONE_ABI && !strcmp(ink_version(), INKSTONE_VERSION));
  ink_model *m = char_model();
  ink_model_info info;
  INK_INIT(info);
  CHECK(!ink_model_get(m, &info));
  CHECK(!strcmp(info.name, "char") && !strcmp(info.target, "cpu:native"));
  CHECK(info.batch == BATCH && info.seq == SEQ && info.flops > 0 && info.session_bytes > 0);
  CHECK(strstr(info.spec, "layers: 2") && strstr(info.spec, "lr: 3e-3"));

  int64_t parameters = 0, states = 0;
  ink_buffer b;
  INK_INIT(b);
  for (size_t i = 0; i < ink_model_buffers(m); i++) {
    CHECK(!ink_model_buffer(m, i, &b));
    int64_t n = 1;
    for (int32_t k = 0; k < b.rank; k++) n *= b.shape[k];
    CHECK(n == b.elements && *b.name);
    if (b.kind == INK_PARAM) parameters += n;
    if (b.kind == INK_STATE) states += n;
  }
  CHECK(ink_model_buffer(m, ink_model_buffers(m), &b) == INK_MISUSE);
  CHECK(parameters == info.parameters &&
        states == 3 * parameters + 2); /* gradients, two moments, loss_sum, grad_norm */
  const ink_buffer *t = find(m, "tokens");
  CHECK(t && t->kind == INK_DATA && t->dtype == INK_I32 && t->rank == 2 && t->shape[0] == BATCH && t->shape[1] == SEQ);
  CHECK(!strcmp(t->source, "tokens") && t->bound == VOCAB);
  t = find(m, "lr");
  CHECK(t && t->kind == INK_DATA && t->elements == 1 && !t->source);
  t = find(m, "next_logits");
  CHECK(t && t->elements == VOCAB);

  static const char *const lists[] = {"micro", "update", "eval", "sample", "peak"};
  for (size_t i = 0; i < LEN(lists); i++) {
    bool found = false;
    for (size_t k = 0; k < ink_model_lists(m); k++) found = found || !strcmp(ink_model_list(m, k), lists[i]);
    cr_assert(found, "no list %s", lists[i]);
  }
  CHECK(ink_model_list(m, 99) == NULL);
  ink_kernel k;
  INK_INIT(k);
  int placed = 0;
  double flops = 0;
  for (size_t i = 0; i < ink_model_kernels(m); i++) {
    CHECK(!ink_model_kernel(m, i, &k));
    placed += k.path && strstr(k.path, "char.yaml") && k.line > 0;
    flops += k.flops;
  }
  CHECK(placed > 10 && flops > 0);
  ink_model_free(m);
}

Test(api, dumps) {
  ink_spec s = small_spec(false);
  static const char *const has[] = {"model: char", "graph @forward", "call",  "kernel @",
                                    "list micro",  "define",         "vfmadd"};
  s.target = "cpu:x86-64-v3";
  for (int i = INK_SOURCE; i <= INK_ASM; i++) {
    char *text = NULL;
    CHECK(ink_dump(c, &s, (ink_stage)i, NULL, &text) == INK_OK);
    cr_assert(text && strstr(text, has[i]), "stage %d has no '%s'", i, has[i]);
    ink_text_free(text);
  }
  char *text = NULL;
  CHECK(ink_dump(c, &s, INK_KERNELS, "contract.0", &text) == INK_OK && strstr(text, "kernel @contract.0"));
  CHECK(strstr(text, "contract.1") == NULL);
  ink_text_free(text);
  CHECK(ink_dump(c, &s, INK_ASM, "contrat.0", &text) == INK_FAILED && !text);
  SAYS("did you mean 'contract.0'?");
  CHECK(ink_dump(c, &s, INK_GRAPH, "contract.0", &text) == INK_MISUSE);
  CHECK(ink_dump(c, &s, (ink_stage)7, NULL, &text) == INK_MISUSE);
}

/* ---- numbers */

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* their libinkrt.a links into no plain program */
/* Losses and parameters are those of the program that ink_build makes of the same specification, bit for bit. */
Test(api, bits_of_the_program) {
  enum { STEPS = 6, WINDOWS = STEPS * BATCH };
  Dir d = dir_new();
  uint16_t ids[WINDOWS * SEQ + 1];
  for (int64_t i = 0; i < (int64_t)LEN(ids); i++) ids[i] = (uint16_t)token(i);
  file_put(in(&d, "train.bin"), ids, sizeof ids);
  ink_spec spec = dropping_spec();
  CHECK(ink_build(c, &spec, NULL, in(&d, "program")) == INK_OK);
  char command[2048];
  snprintf(command, sizeof command,
           "'%s' --data '%s' --format nanogpt --order sequential --run '%s' --steps %d --seed 7 --threads 1 >'%s' 2>&1",
           in(&d, "program"), in(&d, "train.bin"), in(&d, "run"), STEPS, in(&d, "log"));
  if (system(command)) cr_fail("%s\n%s", command, file_get(in(&d, "log"), NULL));

  ink_model *m = compile(c, spec);
  ink_session *s = ink_session_new(m, 2);
  double losses[STEPS];
  char steps[16];
  snprintf(steps, sizeof steps, "%d", STEPS);
  CHECK(!ink_init(s, 7) && !ink_set(s, "steps", steps) && !ink_set(s, "seed", "7"));
  train(s, STEPS, losses);
  char *metrics = file_get(in(&d, "run/metrics.jsonl"), NULL);
  const char *at = metrics;
  for (int i = 0; i < STEPS; i++) {
    char want[64];
    snprintf(want, sizeof want, "\"loss\": %.9g,", (double)(float)losses[i]);
    at = strstr(at, "\"loss\"");
    cr_assert(at && !strncmp(at, want, strlen(want)), "step %d is %s: %s", i, want, metrics);
    at++;
  }
  free(metrics);
  CHECK(!ink_save(s, in(&d, "saved")));
  CHECK(file_same(in(&d, "saved/model.safetensors"), in(&d, "run/checkpoints/step-6/model.safetensors")));
  ink_session_free(s);
  ink_model_free(m);
  dir_free(&d);
}
#endif

/* Weights to a folder and back, in the checkpoint's form. */
Test(api, checkpoints) {
  Dir d = dir_new();
  ink_model *m = tiny_model();
  ink_session *s = ink_session_new(m, 1), *other = ink_session_new(m, 1);
  float a[VOCAB * 16], b[VOCAB * 16];
  CHECK(!ink_init(s, 1) && !ink_read(s, "wte", INK_F32, a, LEN(a)));
  CHECK(!ink_save(s, in(&d, "new/folder")));
  char *config = file_get(in(&d, "new/folder/config.json"), NULL);
  CHECK(config && strstr(config, "\"model_type\": \"tiny\""));
  free(config);
  CHECK(!ink_load(other, in(&d, "new/folder")) && !ink_read(other, "wte", INK_F32, b, LEN(b)));
  CHECK(!memcmp(a, b, sizeof a));
  CHECK(ink_save(s, in(&d, "new/folder")) == INK_FAILED); /* nothing is overwritten */
  SAYS("model.safetensors");
  file_put(in(&d, "bad.safetensors"), "nonsense", 8);
  CHECK(ink_load(other, in(&d, "bad.safetensors")) == INK_FAILED);
  SAYS("bad.safetensors");
  CHECK(!ink_read(other, "wte", INK_F32, b, LEN(b)) && !memcmp(a, b, sizeof a));
  ink_session_free(other);
  ink_session_free(s);
  ink_model_free(m);
  dir_free(&d);
}

Test(api, threads_change_nothing) {
  ink_model *m = tiny_model();
  double one[4], three[4];
  ink_session *s = ink_session_new(m, 1), *t = ink_session_new(m, 3);
  CHECK(ink_session_threads(s) == 1 && ink_session_threads(t) == 3);
  CHECK(!ink_init(s, 5) && !ink_init(t, 5));
  train(s, 4, one);
  train(t, 4, three);
  CHECK(!memcmp(one, three, sizeof one) && one[3] != one[0]);
  ink_session_free(t);
  ink_session_free(s);
  ink_model_free(m);
}

/* Gradients of a step in two parts are those of one, and evaluation sees the loss that training sees. */
Test(api, accumulation) {
  ink_model *m = char_model();
  ink_session *s = ink_session_new(m, 1);
  float g[VOCAB * 16], zero[VOCAB * 16] = {0}, half[VOCAB * 16];
  double loss, first, second, eval;
  CHECK(!ink_init(s, 5));
  feed(s, 0);
  CHECK(!ink_gradients(s, 0, &loss) && !ink_evaluate(s, 0, &eval) && loss == eval);
  CHECK(!ink_read(s, "grad.wte", INK_F32, g, LEN(g)));
  CHECK(!ink_write(s, "grad.wte", INK_F32, zero, LEN(zero)));
  CHECK(!ink_gradients(s, 2 * COUNT, &first) && !ink_gradients(s, 2 * COUNT, &second));
  CHECK(!ink_read(s, "grad.wte", INK_F32, half, LEN(half)));
  CHECK(first == second && first + second == loss);
  double most = 0;
  for (size_t i = 0; i < LEN(g); i++) most = fmax(most, fabs((double)g[i] - (double)half[i]));
  CHECK(most < 1e-7);

  /* Targets of -1 do not count. */
  int32_t none[COUNT];
  for (int i = 0; i < COUNT; i++) none[i] = -1;
  CHECK(!ink_write(s, "targets", INK_I32, none, COUNT) && !ink_evaluate(s, 0, &eval) && eval == 0);

  /* A step clears the gradients and moves the parameters. */
  double norm;
  CHECK(!ink_update(s, 0, &norm) && norm > 0);
  CHECK(!ink_read(s, "grad.wte", INK_F32, g, LEN(g)) && !memcmp(g, zero, sizeof g));
  ink_session_free(s);
  ink_model_free(m);
}

/* Every micro-batch and every step has masks of its own, the same in another session; evaluation has none. */
Test(api, dropout) {
  ink_model *m = compile(c, dropping_spec());
  double loss[2][4], eval[2];
  for (int k = 0; k < 2; k++) {
    ink_session *s = ink_session_new(m, 1 + k);
    CHECK(!ink_init(s, 5));
    feed(s, 0);
    CHECK(!ink_evaluate(s, 0, &eval[0]));
    for (int i = 0; i < 2; i++) CHECK(!ink_gradients(s, 0, &loss[k][i]));
    CHECK(!ink_evaluate(s, 0, &eval[1]) && eval[0] == eval[1]);
    CHECK(!ink_set(s, "lr", "0") && !ink_update(s, 0, NULL));
    for (int i = 2; i < 4; i++) CHECK(!ink_gradients(s, 0, &loss[k][i]));
    ink_session_free(s);
  }
  CHECK(!memcmp(loss[0], loss[1], sizeof loss[0]));
  for (int i = 0; i < 4; i++)
    for (int j = 0; j < i; j++) CHECK(loss[0][i] != loss[0][j]);
  ink_model_free(m);
}

/* Logits of a place: as after evaluation of tokens whose tail differs, for a place sees only what is before it. */
Test(api, sampling) {
  ink_model *m = char_model();
  ink_session *s = ink_session_new(m, 2);
  float a[VOCAB], b[VOCAB], later[VOCAB];
  int32_t ids[COUNT] = {3, 1, 4, 1}, position = 3;
  CHECK(!ink_init(s, 2));
  CHECK(!ink_write(s, "tokens", INK_I32, ids, COUNT) && !ink_write(s, "position", INK_I32, &position, 1));
  CHECK(!ink_run(s, "sample") && !ink_read(s, "next_logits", INK_F32, a, VOCAB));
  ids[4] = 9;
  CHECK(!ink_write(s, "tokens", INK_I32, ids, COUNT) && !ink_run(s, "sample"));
  CHECK(!ink_read(s, "next_logits", INK_F32, b, VOCAB) && !memcmp(a, b, sizeof a));
  position = 4;
  CHECK(!ink_write(s, "position", INK_I32, &position, 1) && !ink_run(s, "sample"));
  CHECK(!ink_read(s, "next_logits", INK_F32, later, VOCAB) && memcmp(a, later, sizeof a));
  ink_session_free(s);
  ink_model_free(m);
}

Test(api, profile) {
  ink_model *m = tiny_model();
  ink_session *s = ink_session_new(m, 1);
  double losses[3], seconds = 0, peak;
  int64_t calls = 0;
  ink_kernel_time t;
  INK_INIT(t);
  for (int on = 0; on < 2; on++) {
    CHECK(!ink_init(s, 1) && !ink_profile(s, on));
    train(s, 3, losses);
    for (size_t i = 0; i < ink_model_kernels(m); i++) {
      CHECK(!ink_kernel_times(s, i, &t));
      calls += t.calls;
      seconds += t.seconds;
    }
    CHECK(on ? calls > 30 && seconds > 0 : !calls);
  }
  CHECK(!ink_peak(s, 0.01, &peak) && peak > 1e8);
  ink_session_free(s);
  ink_model_free(m);
}

/* ---- the process around it */

enum { RUNS = 3, STEPS = 3 };
typedef struct Job {
  pthread_barrier_t *start;
  const char *set;
  double losses[RUNS][STEPS];
  char said[RUNS][512];
} Job;

/* Compiles, trains and errs, all in a context of its own. */
static void *work(void *ctx) {
  Job *j = ctx;
  for (int r = 0; r < RUNS; r++) {
    ink_context *own = ink_context_new();
    ink_spec s = small_spec(true);
    s.overrides = &j->set;
    s.override_count = 1;
    pthread_barrier_wait(j->start);
    ink_model *m = ink_compile(own, &s);
    ink_session *t = m ? ink_session_new(m, 2) : NULL;
    if (t && !ink_init(t, 3)) train(t, STEPS, j->losses[r]);
    ink_session_free(t);
    ink_model_free(m);
    s.train_text = j->set; /* no mapping: an error */
    ink_compile(own, &s);
    snprintf(j->said[r], sizeof j->said[r], "%s", ink_diagnostic_text(own));
    ink_context_free(own);
  }
  return NULL;
}

Test(api, two_contexts_at_once) {
  pthread_barrier_t alone, both;
  pthread_barrier_init(&alone, NULL, 1);
  pthread_barrier_init(&both, NULL, 2);
  Job before[2] = {{&alone, "dims.d=8", {{0}}, {{0}}}, {&alone, "dims.d=40", {{0}}, {{0}}}};
  Job now[2] = {{&both, "dims.d=8", {{0}}, {{0}}}, {&both, "dims.d=40", {{0}}, {{0}}}};
  pthread_t thread[2];
  for (int i = 0; i < 2; i++) work(&before[i]);
  for (int i = 0; i < 2; i++) CHECK(!pthread_create(&thread[i], NULL, work, &now[i]));
  for (int i = 0; i < 2; i++) pthread_join(thread[i], NULL);
  for (int i = 0; i < 2; i++) {
    CHECK(before[i].losses[0][0] > 0 && !memcmp(before[i].losses, now[i].losses, sizeof now[i].losses));
    CHECK(strstr(now[i].said[0], "a training file: expected") != NULL);
    CHECK(!memcmp(before[i].said, now[i].said, sizeof now[i].said));
  }
  pthread_barrier_destroy(&alone);
  pthread_barrier_destroy(&both);
}

/* A process whose decimal point is a comma reads models as any other, and keeps its comma. */
Test(api, locale) {
  Dir d = dir_new();
  char command[256], text[16];
  snprintf(command, sizeof command, "localedef -i de_DE -f UTF-8 '%s'", in(&d, "de_DE"));
  CHECK(!system(command));
  double plain[2], comma[2];
  for (int i = 0; i < 2; i++) {
    if (i) CHECK(!setenv("LOCPATH", d.path, 1) && setlocale(LC_ALL, "de_DE"));
    snprintf(text, sizeof text, "%.1f", 0.5);
    cr_assert(eq(str, text, i ? "0,5" : "0.5"));
    ink_model *m = tiny_model();
    ink_session *s = ink_session_new(m, 1);
    CHECK(!ink_init(s, 1) && !ink_set(s, "adamw.beta1", "0.8") && !ink_set(s, "clip", "0.5"));
    train(s, 2, i ? comma : plain);
    ink_session_free(s);
    ink_model_free(m);
    snprintf(text, sizeof text, "%.1f", 0.5);
    cr_assert(eq(str, text, i ? "0,5" : "0.5"));
  }
  CHECK(!memcmp(plain, comma, sizeof plain));
  dir_free(&d);
}

#if defined(__SANITIZE_ADDRESS__)
/* Memory that nothing points to: what the check must see. */
__attribute__((noinline)) static uintptr_t lose(void) {
  return ~(uintptr_t)malloc(77);
}

/* Everything that was made is given back; names that were interned stay reachable. */
Test(api, nothing_leaks) {
  ink_context *own = ink_context_new();
  ink_model *m = compile(own, small_spec(true));
  ink_session *s = ink_session_new(m, 3);
  double losses[2];
  Dir d = dir_new();
  CHECK(!ink_init(s, 1));
  train(s, 2, losses);
  CHECK(!ink_profile(s, 1) && !ink_run(s, "eval") && !ink_save(s, in(&d, "saved")) && !ink_load(s, in(&d, "saved")));
  CHECK(ink_write(s, "none", INK_F32, losses, 1) == INK_MISUSE && ink_load(s, "/none") == INK_FAILED);
  ink_session_free(s);
  ink_model_free(m);
  ink_spec spec = small_spec(true);
  char *text = NULL;
  CHECK(!ink_dump(own, &spec, INK_ASM, NULL, &text));
  ink_text_free(text);
  spec.train_text = "lr: no\n";
  CHECK(ink_compile(own, &spec) == NULL && *ink_diagnostic_text(own));
  ink_context_free(own);
  own = NULL, m = NULL, s = NULL, text = NULL;
  CHECK(!__lsan_do_recoverable_leak_check());
  uintptr_t hidden = lose();
  cr_assert(__lsan_do_recoverable_leak_check());
  free((void *)~hidden);
  dir_free(&d);
}
#endif
