/* Sampling: the last `time` tokens stand at the start of the window, `position` is the last one's place, and `next_logits`
 * are the scores of what follows. The whole window is computed for each token: this shows what a model in training has
 * learned; it is no server.
 *
 * The choice is by inverse distribution in double, its random number a function of (seed, number of the token). */
#include "runtime/sampler.h"
#include "runtime/check_nan.h"
#include "runtime/exact.h"
#include "runtime/random.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

bool sampler_possible(const Program *p) {
  int logits = program_buffer(p, "next_logits");
  return program_list(p, "sample") >= 0 && logits >= 0 && p->buffers[logits].dtype == DTYPE_F32 &&
         p->buffers[logits].rank > 0 && program_source(p, "tokens") >= 0 && p->h->time > 0;
}

static int32_t choose(const float *logits, int64_t n, double temperature, double u) {
  double most = -INFINITY, sum = 0;
  for (int64_t i = 0; i < n; i++)
    if ((double)logits[i] > most) most = (double)logits[i];
  for (int64_t i = 0; i < n; i++) sum += exact_exp(((double)logits[i] - most) / temperature);
  double left = u * sum;
  int64_t last = 0;
  for (int64_t i = 0; i < n; i++) {
    double p = exact_exp(((double)logits[i] - most) / temperature);
    if (p > 0) last = i;
    if (p > 0 && (left -= p) < 0) return (int32_t)i;
  }
  return (int32_t)last; /* rounding at the end of the sum, or scores that are NaN */
}

/* The token that opens a text: an end-of-text or begin mark of the vocabulary, else a line's end, else 0. */
static int32_t first_token(const Detokenizer *names, int64_t vocab) {
  static const char *const marks[] = {"<|endoftext|>", "<s>", "<|begin_of_text|>", "<|im_start|>", "\n", "\xC4\x8A"};
  for (size_t i = 0; names && i < sizeof(marks) / sizeof(marks[0]); i++) {
    int32_t id = detokenizer_find(names, marks[i]);
    if (id >= 0 && id < vocab) return id;
  }
  return 0;
}

/* Every buffer fed by tokens gets the window in its first row; other rows are computed for nothing. */
static void put_window(Engine *e, const int32_t *window, int64_t n) {
  const Program *p = engine_program(e);
  for (int i = 0; i < p->nbuffers; i++) {
    const ProgramBuffer *b = &p->buffers[i];
    if (b->kind != BUF_DATA || b->dtype != DTYPE_I32 || strcmp(program_string(p, b->source), "tokens")) continue;
    int32_t *at = engine_buffer(e, i);
    int64_t all = buffer_elements(b);
    memset(at, 0, (size_t)all * sizeof(int32_t));
    memcpy(at, window, (size_t)(n < all ? n : all) * sizeof(int32_t));
  }
}

bool sampler_run(Engine *e, const Detokenizer *names, int n, double temperature, uint64_t seed, FILE *out,
                 Report *err) {
  const Program *p = engine_program(e);
  const ProgramBuffer *logits = &p->buffers[program_buffer(p, "next_logits")];
  int64_t vocab = logits->dim[logits->rank - 1], time = p->h->time, used = 1;
  int32_t *window = calloc((size_t)time, sizeof(int32_t));
  if (!window) return report_add(err, "out of memory");
  window[0] = first_token(names, vocab);
  uint64_t stream = random_stream("sample");
  int list = program_list(p, "sample");
  bool ok = true;
  for (int k = 0; k < n && ok; k++) {
    put_window(e, window, used);
    engine_set_scalar(e, "position", (double)(used - 1));
    if (!engine_run(e, list)) {
      char where[64];
      snprintf(where, sizeof(where), "token %d of the sample", k + 1);
      ok = nan_tell(engine_check(e), e, where, err);
      break;
    }
    int32_t id = choose(engine_named(e, "next_logits"), vocab, temperature, random_uniform(seed, stream, (uint64_t)k));
    if (names)
      detokenizer_write(names, id, out);
    else
      fprintf(out, "%s%d", k ? " " : "", id);
    if (used == time)
      memmove(window, window + 1, (size_t)(time - 1) * sizeof(int32_t));
    else
      used++;
    window[used - 1] = id;
  }
  fputc('\n', out);
  free(window);
  return ok;
}
