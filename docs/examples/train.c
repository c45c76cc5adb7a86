/* Trains a small model in this process: compiled to memory, fed with text, its losses, a parameter and the profile shown;
 * then a mistake, and how it is reported. C17 and C++17 alike. docs/c-api.md explains it. */
#include <inkstone.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 8, SEQ = 32, STEPS = 60 };

static const char model_text[] = "model: bigram\n"
                                 "dims:\n"
                                 "  vocab: 128\n"
                                 "  d: 32\n"
                                 "  ctx: 32\n"
                                 "inputs:\n"
                                 "  tokens: {from: tokens}\n"
                                 "  targets: {from: targets}\n"
                                 "params:\n"
                                 "  table: {shape: [vocab, d], init: normal(0.02)}\n"
                                 "  head: {shape: [vocab, d], init: normal(0.02)}\n"
                                 "forward: |\n"
                                 "  x = lookup(table, tokens)\n"
                                 "  logits = linear(x, head)\n"
                                 "loss: cross_entropy(logits, targets)\n";

static const char text[] = "the tide comes in, the tide goes out, and the boats lie on the sand until it comes again; ";

/* Shows why a call failed, and ends: what to do about an error is the program's own affair. */
static void fail(ink_context *c) {
  fprintf(stderr, "%s", ink_diagnostic_text(c));
  exit(1);
}

/* The next BATCH windows of the text, which repeats for ever; a target is the character that follows. */
static ink_status next_batch(ink_session *s, size_t *at) {
  int32_t tokens[BATCH * SEQ], targets[BATCH * SEQ];
  size_t n = sizeof text - 1;
  for (size_t i = 0; i < BATCH * SEQ; i++, ++*at) {
    tokens[i] = text[*at % n];
    targets[i] = text[(*at + 1) % n];
  }
  ink_status status = ink_write(s, "tokens", INK_I32, tokens, BATCH * SEQ);
  return status ? status : ink_write(s, "targets", INK_I32, targets, BATCH * SEQ);
}

static void train(ink_context *c, ink_session *s) {
  size_t at = 0;
  if (ink_init(s, 1) || ink_set(s, "lr", "0.03") || ink_profile(s, 1)) fail(c);
  for (int64_t step = 0; step < STEPS; step++) {
    double loss, norm;
    if (next_batch(s, &at) || ink_gradients(s, 0, &loss) || ink_update(s, step, &norm)) fail(c);
    if (step % 10 == 0 || step == STEPS - 1) printf("step %2d  loss %.4f  norm %.3f\n", (int)step, loss, norm);
  }
}

static void show_parameters(ink_context *c, ink_model *m, ink_session *s) {
  for (size_t i = 0; i < ink_model_buffers(m); i++) {
    ink_buffer b;
    INK_INIT(b);
    if (ink_model_buffer(m, i, &b)) fail(c);
    if (b.kind != INK_PARAM) continue;
    float *values = (float *)malloc((size_t)b.elements * sizeof(float));
    if (!values || ink_read(s, b.name, b.dtype, values, (size_t)b.elements)) fail(c);
    printf("parameter %-6s %d x %d, begins %.4f %.4f\n", b.name, (int)b.shape[0], (int)b.shape[1], values[0],
           values[1]);
    free(values);
  }
}

static void show_profile(ink_context *c, ink_model *m, ink_session *s) {
  for (size_t i = 0; i < ink_model_kernels(m); i++) {
    ink_kernel k;
    ink_kernel_time t;
    INK_INIT(k);
    INK_INIT(t);
    if (ink_model_kernel(m, i, &k) || ink_kernel_times(s, i, &t)) fail(c);
    if (t.calls && k.path)
      printf("%-12s %s:%-3d %4d calls %8.3f ms %6.2f GFLOP/s\n", k.name, k.path, k.line, (int)t.calls, 1e3 * t.seconds,
             t.seconds > 0 ? 1e-9 * k.flops * (double)t.calls / t.seconds : 0);
  }
}

/* A mistake in a model is a value like any other. */
static void show_error(ink_context *c, ink_spec spec) {
  char wrong[sizeof model_text];
  memcpy(wrong, model_text, sizeof wrong);
  memcpy(strstr(wrong, "lookup"), "lokoup", 6);
  spec.text = wrong;
  if (ink_compile(c, &spec)) exit(1);
  ink_diagnostic d;
  INK_INIT(d);
  if (ink_diagnostic_get(c, 0, &d)) exit(1);
  printf("as values: line %d, column %d: %s (%s)\nas text:\n%s", d.line, d.column, d.message, d.hint ? d.hint : "",
         ink_diagnostic_text(c));
}

int main(void) {
  ink_context *c = ink_context_new();
  if (!c) return 1;
  ink_spec spec;
  INK_INIT(spec);
  spec.path = "bigram.yaml"; /* only a name: the model is the text */
  spec.text = model_text;
  spec.train_text = "schedule: {kind: constant, warmup: 0}\n";
  spec.batch = BATCH;
  spec.seq = SEQ;
  ink_model *m = ink_compile(c, &spec);
  if (!m) fail(c);
  ink_session *s = ink_session_new(m, 2);
  if (!s) fail(c);
  train(c, s);
  show_parameters(c, m, s);
  show_profile(c, m, s);
  show_error(c, spec);
  ink_session_free(s);
  ink_model_free(m);
  ink_context_free(c);
  return 0;
}
