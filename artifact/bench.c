/* bench: how fast prompts are read and tokens come, beside what the machine can do, measured in the same run.
 *
 * A step that only decodes reads all weights and the keys and values of its sequences. After each one the weights are read once
 * more, plainly: memory has fast and slow seconds, and a share of what it gave a minute ago says little. The share is the
 * median over the steps. */
#include "artifact/open.h"
#include "runtime/machine.h"
#include "runtime/roofline.h"
#include "serve/program_model.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Bench {
  OpenOptions open;
  const char *batch;
  int p, n, repeat;
  bool json;
} Bench;

enum { BATCHES = 16 };

/* ---- the machine: memory by runtime/roofline.h, arithmetic by the program's own list `peak` */

static bool measure(const Opened *o, Roofline *r, Report *err) {
  Engine *e = program_model_engine(o->model);
  r->threads = pool_threads(engine_pool(e));
  r->flops = engine_peak(e, 0.3);
  return roofline_memory(r, engine_pool(e), 0.5, err);
}

/* ---- the model */

/* What a step reads of the weights: all that is packed for products; and the multiply-adds of a prompt's token with them: all but
 * those of logits, which only its last token has. Tables that rows are taken from do not count; of experts all do, though a token
 * uses some. */
static void weights_of(const Opened *o, double *bytes, double *flops) {
  const Program *p = &o->program;
  *bytes = *flops = 0;
  for (int i = 0; i < p->nparams; i++) {
    const ProgramBuffer *b = &p->buffers[p->params[i].buffer];
    if (!b->panel) continue;
    *bytes += (double)b->bytes;
    if (b->dim[0] != o->model->limits.vocab) *flops += 2 * (double)buffer_elements(b);
  }
}

typedef struct Stream {
  double first; /* when its first token came */
  int tokens;
  bool over, failed;
} Stream;

static void on_event(void *ctx, const GenEvent *e) {
  Stream *s = ctx;
  if (e->kind == GEN_TOKEN) {
    if (!s->tokens++) s->first = machine_seconds();
  }
  if (e->kind == GEN_DONE) {
    s->over = true;
    s->failed = e->finish != GEN_LENGTH;
  }
}

typedef struct Figures {
  double prefill, decode, ttft; /* tokens/s of all; seconds, the mean */
  double reads, share; /* of decoding: B/s of weights, keys and values, and as a part of plain reading; medians */
} Figures;

/* The weights as blocks of memory, and what was timed. */
typedef struct Turns {
  const void **at;
  size_t *bytes;
  int n;
  double weights, position;       /* bytes of all; of the keys and values of a position */
  double *step, *rate, *of_plain; /* by step: seconds, B/s, its share */
  int steps;
} Turns;

static void turns_free(Turns *t) {
  free(t->at), free(t->bytes), free(t->step), free(t->rate), free(t->of_plain);
}

static bool turns_new(Turns *t, const Opened *o, int steps) {
  const Program *p = &o->program;
  *t = (Turns){.at = calloc((size_t)p->nparams + 1, sizeof(void *)),
               .bytes = calloc((size_t)p->nparams + 1, sizeof(size_t))};
  t->step = calloc((size_t)steps + 1, sizeof(double)), t->rate = calloc((size_t)steps + 1, sizeof(double));
  t->of_plain = calloc((size_t)steps + 1, sizeof(double));
  if (!t->at || !t->bytes || !t->step || !t->rate || !t->of_plain) return false;
  for (int i = 0; i < p->nparams; i++) {
    const ProgramBuffer *b = &p->buffers[p->params[i].buffer];
    if (!b->panel) continue;
    t->at[t->n] = engine_buffer(program_model_engine(o->model), (int)p->params[i].buffer);
    t->bytes[t->n++] = b->bytes;
    t->weights += (double)b->bytes;
  }
  t->position = (double)program_model_page_bytes(o->model) / PAGE_TOKENS;
  return true;
}

static int by_size(const void *x, const void *y) {
  double a = *(const double *)x, b = *(const double *)y;
  return (a > b) - (a < b);
}

static double median(double *v, int n) {
  qsort(v, (size_t)n, sizeof(*v), by_size);
  return n ? v[n / 2] : 0;
}

/* `batch` prompts at once, of tokens that no earlier prompt began with. */
static bool run_once(Opened *o, const Bench *b, int batch, uint32_t *random, Figures *f, Report *err) {
  Stream *v = calloc((size_t)batch, sizeof(Stream));
  int32_t *ids = malloc((size_t)b->p * sizeof(int32_t));
  bool ok = (v && ids) || report_add(err, "out of memory");
  double start = machine_seconds();
  for (int i = 0; ok && i < batch; i++) {
    for (int k = 0; k < b->p; k++) {
      *random = *random * 1664525u + 1013904223u;
      ids[k] = (int32_t)((uint64_t)(*random >> 8) * (uint64_t)o->model->limits.vocab >> 24);
    }
    GenRequest r = {.prompt = ids, .nprompt = b->p, .max_tokens = b->n, .top = -1, .sink = on_event, .ctx = &v[i]};
    r.sample = (SampleParams){.top_p = 1, .repetition = 1};
    bool full = false;
    ok = batcher_submit(o->batcher, &r, &full, err) || (full && report_add(err, "the queue is full"));
  }
  Turns t = {0};
  ok = ok && (turns_new(&t, o, b->n) || report_add(err, "out of memory"));
  bool decodes = false;
  for (double begin = machine_seconds(); ok && !interrupted() && batcher_step(o->batcher); begin = machine_seconds()) {
    double took = machine_seconds() - begin, seen = t.weights;
    bool all = true, over = false;
    for (int i = 0; i < batch; i++) {
      seen += t.position * (b->p + v[i].tokens);
      all &= v[i].tokens > 0, over |= v[i].over;
    }
    if (decodes && !over && t.steps < b->n) {
      double plain = roofline_read(engine_pool(program_model_engine(o->model)), t.at, t.bytes, t.n);
      t.step[t.steps] = took;
      t.rate[t.steps] = seen / took;
      t.of_plain[t.steps++] = seen / took / (t.weights / plain);
    }
    decodes = all;
  }
  double first = start;
  *f = (Figures){0};
  for (int i = 0; ok && i < batch; i++) {
    if (!v[i].over || v[i].failed) ok = report_add(err, interrupted() ? "stopped" : "the model failed");
    first = fmax(first, v[i].first);
    f->ttft += (v[i].first - start) / batch;
  }
  f->prefill = (double)batch * b->p / (first - start);
  if (ok && t.steps) f->decode = batch / median(t.step, t.steps);
  if (ok) f->reads = median(t.rate, t.steps), f->share = median(t.of_plain, t.steps);
  if (t.at) turns_free(&t);
  free(v), free(ids);
  return ok;
}

static double share(double x, double of) {
  return of > 0 ? 100 * x / of : 0;
}

static bool run_batch(Opened *o, const Bench *b, int batch, const Roofline *limit, Report *err) {
  Figures best = {0};
  uint32_t random = 1;
  double bytes, flops;
  weights_of(o, &bytes, &flops);
  for (int i = 0; i < b->repeat; i++) {
    Figures f;
    if (!run_once(o, b, batch, &random, &f, err)) return false;
    best.prefill = fmax(best.prefill, f.prefill);
    if (f.decode > best.decode) best.decode = f.decode, best.reads = f.reads, best.share = f.share;
    best.ttft = i ? fmin(best.ttft, f.ttft) : f.ttft;
  }
  double does = best.prefill * flops;
  if (b->json)
    printf("{\"batch\":%d,\"prompt\":%d,\"tokens\":%d,\"prefill_tokens_per_s\":%.6g,\"decode_tokens_per_s\":%.6g,"
           "\"time_to_first_token_ms\":%.6g,\"prefill_flops\":%.6g,\"decode_bytes_per_s\":%.6g,\"peak_flops\":%.6g,"
           "\"share_of_plain_reads\":%.4g}\n",
           batch, b->p, b->n, best.prefill, best.decode, 1e3 * best.ttft, does, best.reads, limit->flops, best.share);
  else
    printf("%5d %12.1f %6.1f%% %12.1f %6.1f %6.1f%% %12.1f\n", batch, best.prefill, share(does, limit->flops),
           best.decode, 1e-9 * best.reads, 100 * best.share, 1e3 * best.ttft);
  fflush(stdout);
  return true;
}

static int parse_batches(const char *text, int *out, Report *err) {
  int n = 0;
  for (char *end; *text; text = *end ? end + 1 : end) {
    long v = strtol(text, &end, 10);
    if (end == text || v < 1 || v > 65536 || n == BATCHES || (*end && *end != ',')) {
      report_add(err, "--batch takes whole numbers with commas between them, at most %d: 1,4,16", BATCHES);
      return 0;
    }
    out[n++] = (int)v;
  }
  return n;
}

static bool bench(Opened *o, const Bench *b, const int *batch, int n, Report *err) {
  Roofline limit = {0};
  double bytes, flops;
  if (b->p + b->n > o->model->limits.ctx)
    return report_add(err, "-p %d and -n %d are more than the context of %d tokens", b->p, b->n, o->model->limits.ctx);
  if (!measure(o, &limit, err)) return false;
  weights_of(o, &bytes, &flops);
  Text t = {0};
  roofline_text(&limit, &t);
  fprintf(stderr, "%s\n", t.s);
  text_free(&t);
  if (!b->json)
    printf("%d tokens of prompt, %d generated; %d threads; products read %.3f GB of weights and do %.3f GFLOP a token "
           "of the prompt\n"
           "batch prefill tok/s of FMA decode tok/s   GB/s of DRAM first token ms\n",
           b->p, b->n, limit.threads, 1e-9 * bytes, 1e-9 * flops);
  for (int i = 0; i < n; i++)
    if (!run_batch(o, b, batch[i], &limit, err)) return false;
  return true;
}

static int run(const Call *c) {
  Bench b = {.p = 512, .n = 128, .batch = "1,4,16", .repeat = 3};
  Opened o = {0};
  Report err = {0}, notes = {0};
  int batch[BATCHES], n = 0;
  if (options_read(c, &b, NULL, NULL, &err)) n = parse_batches(b.batch, batch, &err);
  if (!n) return fail(&err, STATUS_USAGE);
  b.open.no_prefix_cache = true;
  b.open.max_queue = 65536;
  interrupts_catch();
  bool ok = opened_file(&o, c, &err) && opened_model(&o, &b.open, &notes, &err);
  say("note: ", &notes);
  ok = ok && bench(&o, &b, batch, n, &err);
  int status = ok ? STATUS_DONE : fail(&err, interrupted() ? STATUS_STOPPED : STATUS_FAILED);
  opened_close(&o);
  return status;
}

static const Opt opts[] = {
    {"-p", "N", OPT_INT, offsetof(Bench, p), 1, 1 << 30, "tokens of a prompt; default: 512"},
    {"-n", "N", OPT_INT, offsetof(Bench, n), 1, 1 << 30, "tokens generated; default: 128"},
    {"--batch", "N,...", OPT_TEXT, offsetof(Bench, batch), 0, 0, "sequences at once; default: 1,4,16"},
    {"--repeat", "N", OPT_INT, offsetof(Bench, repeat), 1, 1000, "the best of so many runs; default: 3"},
    {"--json", NULL, OPT_FLAG, offsetof(Bench, json), 0, 0, "a JSON object a line"},
    OPEN_OPTIONS(Bench),
};

const CommandInfo command_bench = {
    .name = "bench",
    .usage = "[-p N] [-n N] [--batch N,...] [options]",
    .summary = "tokens a second, beside the machine's limits",
    .doc = "Reads prompts of made-up tokens and generates, so many sequences at once: tokens/s of prefill and decode, "
           "and the time\n"
           "to the first token. Beside them the share of the machine's limits, measured in the same run: in prefill of "
           "its FMA\n"
           "rate in f32, for the products with weights (those of bf16 may pass it); in decode of plain reading, which "
           "is timed\n"
           "after each step, for the weights, keys and values that the step reads.",
    .opts = opts,
    .nopts = LEN(opts),
    .run = run,
};
