/* A small program made by hand, for tests of the runtime: a bigram model with C kernels, in the format of ink/program.h.
 *
 * logits of a token = w[token] + b0 + b1, cross entropy, AdamW with clipping. In checkpoints w stands transposed under
 * "head.weight" and b0, b1 as halves of "head.bias", so views are exercised. Kernels divide rows among threads and
 * sum in a fixed order: results do not depend on the number of threads, as the runtime's law wants. */
#ifndef RUNTIME_FIXTURE_H
#define RUNTIME_FIXTURE_H
#include "ink/program.h"
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { FIX_VOCAB = 16, FIX_BATCH = 4, FIX_TIME = 8, FIX_ROWS = FIX_BATCH * FIX_TIME };

/* ---- kernels */

static void fix_range(int64_t n, int64_t thread, int64_t threads, int64_t *from, int64_t *to) {
  *from = n * thread / threads;
  *to = n * (thread + 1) / threads;
}

/* bufs: tokens, targets, w, b0, b1, p [rows, vocab], nll [rows] */
static void fix_forward(void *const *b, const int64_t *ints, int64_t thread, int64_t threads, void *scratch,
                        int64_t *dealt) {
  const int32_t *tokens = b[0], *targets = b[1];
  const float *w = b[2], *b0 = b[3], *b1 = b[4];
  float *p = b[5], *nll = b[6];
  int64_t from, to;
  fix_range(FIX_ROWS, thread, threads, &from, &to);
  for (int64_t r = from; r < to; r++) {
    float most = -INFINITY, sum = 0, *row = p + r * FIX_VOCAB;
    for (int v = 0; v < FIX_VOCAB; v++) {
      row[v] = w[tokens[r] * FIX_VOCAB + v] + b0[v] + b1[v];
      most = row[v] > most ? row[v] : most;
    }
    for (int v = 0; v < FIX_VOCAB; v++) sum += expf(row[v] - most);
    nll[r] = targets[r] < 0 ? 0 : most + logf(sum) - row[targets[r]];
    for (int v = 0; v < FIX_VOCAB; v++) row[v] = expf(row[v] - most) / sum;
  }
  (void)ints, (void)scratch, (void)dealt;
}

/* bufs: nll, loss_sum */
static void fix_sum(void *const *b, const int64_t *ints, int64_t thread, int64_t threads, void *scratch,
                    int64_t *dealt) {
  const float *nll = b[0];
  float *loss = b[1];
  for (int r = 0; !thread && r < FIX_ROWS; r++) *loss += nll[r];
  (void)ints, (void)threads, (void)scratch, (void)dealt;
}

/* bufs: tokens, targets, inv_count, p, grad.w, grad.b0, grad.b1. A thread owns columns. */
static void fix_backward(void *const *b, const int64_t *ints, int64_t thread, int64_t threads, void *scratch,
                         int64_t *dealt) {
  const int32_t *tokens = b[0], *targets = b[1];
  const float *inv = b[2], *p = b[3];
  float *gw = b[4], *g0 = b[5], *g1 = b[6];
  int64_t from, to;
  fix_range(FIX_VOCAB, thread, threads, &from, &to);
  for (int64_t v = from; v < to; v++)
    for (int r = 0; r < FIX_ROWS; r++) {
      if (targets[r] < 0) continue;
      float d = (p[r * FIX_VOCAB + v] - (targets[r] == v)) * *inv;
      gw[tokens[r] * FIX_VOCAB + v] += d;
      g0[v] += d;
      g1[v] += d;
    }
  (void)ints, (void)scratch, (void)dealt;
}

/* bufs: grad.w, grad.b0, grad.b1, grad_norm */
static void fix_norm(void *const *b, const int64_t *ints, int64_t thread, int64_t threads, void *scratch,
                     int64_t *dealt) {
  double sum = 0;
  for (int k = 0; k < 3; k++)
    for (int i = 0; i < (k ? FIX_VOCAB : FIX_VOCAB * FIX_VOCAB); i++)
      sum += (double)((float *)b[k])[i] * (double)((float *)b[k])[i];
  if (!thread) *(float *)b[3] = (float)sqrt(sum);
  (void)ints, (void)threads, (void)scratch, (void)dealt;
}

/* bufs: x, grad, m, v, grad_norm, lr, beta1, beta2, eps, weight_decay, clip, bias1, bias2; ints: elements, decays */
static void fix_adamw(void *const *b, const int64_t *ints, int64_t thread, int64_t threads, void *scratch,
                      int64_t *dealt) {
  float *x = b[0], *g = b[1], *m = b[2], *v = b[3], s[9];
  for (int i = 0; i < 9; i++) s[i] = *(float *)b[4 + i];
  float norm = s[0], lr = s[1], beta1 = s[2], beta2 = s[3], eps = s[4], wd = ints[1] ? s[5] : 0, clip = s[6];
  float scale = clip > 0 && norm > clip ? clip / norm : 1;
  int64_t from, to;
  fix_range(ints[0], thread, threads, &from, &to);
  for (int64_t i = from; i < to; i++) {
    float d = g[i] * scale;
    m[i] = beta1 * m[i] + (1 - beta1) * d;
    v[i] = beta2 * v[i] + (1 - beta2) * d * d;
    x[i] -= lr * (m[i] / s[7] / (sqrtf(v[i] / s[8]) + eps) + wd * x[i]);
    g[i] = 0;
  }
  (void)scratch, (void)dealt;
}

/* bufs: tokens, position, w, b0, b1, next_logits */
static void fix_sample(void *const *b, const int64_t *ints, int64_t thread, int64_t threads, void *scratch,
                       int64_t *dealt) {
  int32_t token = ((int32_t *)b[0])[*(int32_t *)b[1]];
  for (int v = 0; !thread && v < FIX_VOCAB; v++)
    ((float *)b[5])[v] = ((float *)b[2])[token * FIX_VOCAB + v] + ((float *)b[3])[v] + ((float *)b[4])[v];
  (void)ints, (void)threads, (void)scratch, (void)dealt;
}

static void fix_peak(void *const *b, const int64_t *ints, int64_t thread, int64_t threads, void *scratch,
                     int64_t *dealt) {
  float x[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  for (int k = 0; k < 10000; k++)
    for (int i = 0; i < 8; i++) x[i] = x[i] * 0.5f + 1;
  if (!thread) ((float *)b[0])[0] = x[0] + x[7];
  (void)ints, (void)threads, (void)scratch, (void)dealt;
}

static const KernelFn fix_kernels[] = {fix_forward, fix_sum, fix_backward, fix_norm, fix_adamw, fix_sample, fix_peak};
enum { FIX_FORWARD, FIX_SUM, FIX_BACKWARD, FIX_NORM, FIX_ADAMW, FIX_SAMPLE, FIX_PEAK, FIX_KERNELS };

/* ---- the blob */

typedef struct Fixture {
  unsigned char *blob; /* free with fixture_free */
  size_t n;
  ProgramHeader h;
  ProgramBuffer buffers[48];
  ProgramStep steps[32];
  ProgramArg args[160];
  ProgramInt ints[32];
  ProgramList lists[8];
  uint64_t persistent;
} Fixture;

static uint32_t fix_put(Fixture *f, const void *bytes, size_t n) {
  size_t at = (f->n + 7) / 8 * 8;
  f->blob = realloc(f->blob, at + n + 64);
  memset(f->blob + f->n, 0, at - f->n);
  memcpy(f->blob + at, bytes, n);
  f->n = at + n;
  return (uint32_t)at;
}

static uint32_t fix_text(Fixture *f, const char *s) {
  return fix_put(f, s, strlen(s) + 1);
}

static int fix_buffer(Fixture *f, const char *name, BufferKind kind, int dtype, int64_t d0, int64_t d1,
                      const char *source) {
  ProgramBuffer *b = &f->buffers[f->h.buffers.n];
  *b = (ProgramBuffer){.name = fix_text(f, name), .dtype = (uint8_t)dtype, .kind = (uint8_t)kind};
  b->rank = (uint8_t)((d0 > 0) + (d1 > 0));
  b->dim[0] = d0;
  b->dim[1] = d1;
  b->bytes = (uint64_t)(4 * (d0 ? d0 : 1) * (d1 ? d1 : 1));
  if (source) b->source = fix_text(f, source);
  uint64_t *top = kind == BUF_TEMP ? &f->h.arena_bytes : &f->persistent;
  b->offset = *top;
  *top = (*top + b->bytes + 63) / 64 * 64;
  return (int)f->h.buffers.n++;
}

static int fix_find(const Fixture *f, const char *name) {
  for (uint32_t i = 0; i < f->h.buffers.n; i++)
    if (!strcmp((const char *)f->blob + f->buffers[i].name, name)) return (int)i;
  abort();
}

static void fix_list(Fixture *f, const char *name) {
  f->lists[f->h.lists.n++] = (ProgramList){.name = fix_text(f, name), .step = f->h.steps.n};
}

/* A call with the buffers named in `names` (space-separated) and up to two integers. */
static void fix_call(Fixture *f, int kernel, const char *names, int nints, int64_t a, int64_t b) {
  ProgramStep *s = &f->steps[f->h.steps.n++];
  *s = (ProgramStep){.kind = STEP_CALL, .kernel = (uint16_t)kernel, .args = f->h.args.n, .ints = f->h.ints.n};
  char text[256];
  strcpy(text, names);
  for (char *save, *w = strtok_r(text, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
    f->args[f->h.args.n++] = (ProgramArg){.buffer = (uint32_t)fix_find(f, w)};
    s->nargs++;
  }
  int64_t v[2] = {a, b};
  for (int i = 0; i < nints; i++) f->ints[f->h.ints.n++] = (ProgramInt){.c = v[i]};
  s->nints = (uint32_t)nints;
  f->lists[f->h.lists.n - 1].nsteps++;
}

static ProgramTable fix_table(Fixture *f, const void *rows, uint32_t n, size_t size) {
  return (ProgramTable){fix_put(f, rows, n * size), n};
}

static void fix_buffers(Fixture *f) {
  static const char *const scalars[] = {"inv_count",    "lr",   "beta1", "beta2", "eps",
                                        "weight_decay", "clip", "bias1", "bias2"};
  fix_buffer(f, "tokens", BUF_DATA, 3, FIX_BATCH, FIX_TIME, "tokens");
  fix_buffer(f, "targets", BUF_DATA, 3, FIX_BATCH, FIX_TIME, "targets");
  f->buffers[0].bound = f->buffers[1].bound = FIX_VOCAB;
  fix_buffer(f, "position", BUF_DATA, 3, 1, 0, "position");
  for (int i = 0; i < 9; i++) fix_buffer(f, scalars[i], BUF_DATA, 0, 0, 0, NULL);
  fix_buffer(f, "w", BUF_PARAM, 0, FIX_VOCAB, FIX_VOCAB, NULL);
  fix_buffer(f, "b0", BUF_PARAM, 0, FIX_VOCAB, 0, NULL);
  fix_buffer(f, "b1", BUF_PARAM, 0, FIX_VOCAB, 0, NULL);
  static const char *const prefix[] = {"grad.", "m.", "v."};
  static const char *const names[] = {"w", "b0", "b1"};
  for (int i = 0; i < 3; i++)
    for (int k = 0; k < 3; k++) {
      char name[32];
      strcpy(name, prefix[i]);
      strcat(name, names[k]);
      fix_buffer(f, name, BUF_STATE, 0, FIX_VOCAB, k ? 0 : FIX_VOCAB, NULL);
    }
  fix_buffer(f, "loss_sum", BUF_STATE, 0, 0, 0, NULL);
  fix_buffer(f, "grad_norm", BUF_STATE, 0, 0, 0, NULL);
  fix_buffer(f, "p", BUF_TEMP, 0, FIX_ROWS, FIX_VOCAB, NULL);
  fix_buffer(f, "nll", BUF_TEMP, 0, FIX_ROWS, 0, NULL);
  fix_buffer(f, "next_logits", BUF_DATA, 0, FIX_VOCAB, 0, NULL);
  fix_buffer(f, "peak_out", BUF_DATA, 0, 64, 0, NULL);
}

static void fix_lists(Fixture *f) {
  fix_list(f, "micro");
  fix_call(f, FIX_FORWARD, "tokens targets w b0 b1 p nll", 0, 0, 0);
  fix_call(f, FIX_SUM, "nll loss_sum", 0, 0, 0);
  fix_call(f, FIX_BACKWARD, "tokens targets inv_count p grad.w grad.b0 grad.b1", 0, 0, 0);
  fix_list(f, "update");
  fix_call(f, FIX_NORM, "grad.w grad.b0 grad.b1 grad_norm", 0, 0, 0);
#define SCALARS " grad_norm lr beta1 beta2 eps weight_decay clip bias1 bias2"
  fix_call(f, FIX_ADAMW, "w grad.w m.w v.w" SCALARS, 2, FIX_VOCAB * FIX_VOCAB, 1);
  fix_call(f, FIX_ADAMW, "b0 grad.b0 m.b0 v.b0" SCALARS, 2, FIX_VOCAB, 0);
  fix_call(f, FIX_ADAMW, "b1 grad.b1 m.b1 v.b1" SCALARS, 2, FIX_VOCAB, 0);
  fix_list(f, "eval");
  fix_call(f, FIX_FORWARD, "tokens targets w b0 b1 p nll", 0, 0, 0);
  fix_call(f, FIX_SUM, "nll loss_sum", 0, 0, 0);
  fix_list(f, "sample");
  fix_call(f, FIX_SAMPLE, "tokens position w b0 b1 next_logits", 0, 0, 0);
  fix_list(f, "peak");
  fix_call(f, FIX_PEAK, "peak_out", 0, 0, 0);
}

static void fix_params(Fixture *f) {
  ProgramParam q[3] = {0};
  ProgramPiece c[3] = {0};
  static const char *const names[][4] = {
      {"w", "grad.w", "m.w", "v.w"}, {"b0", "grad.b0", "m.b0", "v.b0"}, {"b1", "grad.b1", "m.b1", "v.b1"}};
  uint32_t weight = fix_text(f, "head.weight"), bias = fix_text(f, "head.bias");
  for (uint32_t i = 0; i < 3; i++)
    q[i] = (ProgramParam){.buffer = (uint32_t)fix_find(f, names[i][0]),
                          .init = i ? INIT_ZEROS : INIT_NORMAL,
                          .init_b = 0.1,
                          .piece = i,
                          .npieces = 1,
                          .grad = (uint32_t)fix_find(f, names[i][1]),
                          .moment1 = (uint32_t)fix_find(f, names[i][2]),
                          .moment2 = (uint32_t)fix_find(f, names[i][3]),
                          .decay = !i};
  c[0] = (ProgramPiece){.tensor = weight,
                        .hf_rank = 2,
                        .hf_dim = {FIX_VOCAB, FIX_VOCAB},
                        .dim = {FIX_VOCAB, FIX_VOCAB},
                        .pstride = {FIX_VOCAB, 1},
                        .stride = {1, FIX_VOCAB},
                        .rank = 2};
  for (int i = 0; i < 2; i++)
    c[1 + i] = (ProgramPiece){.tensor = bias,
                              .hf_rank = 1,
                              .hf_dim = {2 * FIX_VOCAB},
                              .base = i * FIX_VOCAB,
                              .dim = {FIX_VOCAB},
                              .pstride = {1},
                              .stride = {1},
                              .rank = 1};
  f->h.params = fix_table(f, q, 3, sizeof(*q));
  f->h.pieces = fix_table(f, c, 3, sizeof(*c));
}

/* Writes the header again after a test has changed f->h. */
static void fixture_seal(Fixture *f) {
  memcpy(f->blob, &f->h, sizeof(f->h));
}

static Fixture *fixture_new(void) {
  Fixture *f = calloc(1, sizeof(Fixture));
  f->h = (ProgramHeader){.magic = PROGRAM_MAGIC,
                         .version = PROGRAM_VERSION,
                         .header_bytes = sizeof(ProgramHeader),
                         .spec_hash = 0x1234abcd,
                         .batch = FIX_BATCH,
                         .time = FIX_TIME};
  fix_put(f, &f->h, sizeof(f->h));
  f->h.model = fix_text(f, "bigram");
  f->h.target = fix_text(f, "x86-64");
  f->h.scratch_bytes = 128;
  f->h.model_flops = 1e6;
  f->h.model_params = FIX_VOCAB * FIX_VOCAB + 2 * FIX_VOCAB;
  f->h.peak_flops = 160000;
  fix_buffers(f);
  fix_lists(f);
  fix_params(f);
  f->h.persistent_bytes = f->persistent;
  f->h.sum_temp_bytes = f->h.arena_bytes;
  ProgramKernel k[FIX_KERNELS];
  static const char *const names[] = {"forward", "sum", "backward", "norm", "adamw", "sample", "peak"};
  static const uint32_t outputs[] = {2, 1, 3, 1, 0, 1, 1}; /* adamw's stand in front: none is said */
  for (int i = 0; i < FIX_KERNELS; i++)
    k[i] = (ProgramKernel){.name = fix_text(f, names[i]),
                           .file = fix_text(f, "bigram.yaml"),
                           .line = (uint32_t)i + 1,
                           .outputs = outputs[i],
                           .flops = 1000,
                           .bytes = 100};
  ProgramSetting s[] = {{fix_text(f, "lr"), fix_text(f, "0.05")},
                        {fix_text(f, "steps"), fix_text(f, "40")},
                        {fix_text(f, "schedule.warmup"), fix_text(f, "4")},
                        {fix_text(f, "eval.every"), fix_text(f, "10")},
                        {fix_text(f, "micro_batch"), fix_text(f, "4")}};
  ProgramFile files[] = {{fix_text(f, "config.json"), fix_text(f, "{\n  \"model_type\": \"bigram\"\n}\n")}};
  f->h.kernels = fix_table(f, k, FIX_KERNELS, sizeof(*k));
  f->h.buffers.at = fix_put(f, f->buffers, f->h.buffers.n * sizeof(*f->buffers));
  f->h.steps.at = fix_put(f, f->steps, f->h.steps.n * sizeof(*f->steps));
  f->h.args.at = fix_put(f, f->args, f->h.args.n * sizeof(*f->args));
  f->h.ints.at = fix_put(f, f->ints, f->h.ints.n * sizeof(*f->ints));
  f->h.lists.at = fix_put(f, f->lists, f->h.lists.n * sizeof(*f->lists));
  f->h.settings = fix_table(f, s, sizeof(s) / sizeof(*s), sizeof(*s));
  f->h.files = fix_table(f, files, 1, sizeof(*files));
  f->h.bytes = f->n;
  fixture_seal(f);
  return f;
}

__attribute__((unused)) static void fixture_free(Fixture *f) {
  free(f->blob);
  free(f);
}

/* A Markov chain's tokens: learnable, reproducible. */
__attribute__((unused)) static void fixture_tokens(uint16_t *t, size_t n, uint32_t seed) {
  uint32_t x = seed * 2654435761u + 1, at = 0;
  for (size_t i = 0; i < n; i++) {
    x = x * 1664525u + 1013904223u;
    at = (x >> 24) % 4 ? (at * 5 + 3) % FIX_VOCAB : (x >> 16) % FIX_VOCAB;
    t[i] = (uint16_t)at;
  }
}
#endif
