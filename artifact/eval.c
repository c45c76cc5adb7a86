/* eval: perplexity over token shards, or multiple choice over JSONL. */
#include "artifact/score.h"
#include "runtime/dataset.h"
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct Eval {
  OpenOptions open;
  const char *data, *task, *format;
  int stride, window, limit;
  bool json;
} Eval;

static void progress(void *ctx, int64_t done) {
  const int64_t *all = ctx;
  if (isatty(2) && (done == *all || done % 16 == 0))
    fprintf(stderr, "\r%" PRId64 " of %" PRId64 "%s", done, *all, done == *all ? "\n" : "");
}

/* ---- perplexity */

/* Shards in order: of a folder its validation data, else what the glob names. */
static bool find_shards(const char *data, FsList *files, Report *err) {
  static const char *const names[] = {"val_*.bin", "val.bin"};
  if (!fs_is_dir(data)) {
    if (!fs_list_glob(files, data, err)) return false;
  } else {
    for (int i = 0; i < LEN(names) && !files->n; i++) {
      char glob[FS_PATH];
      if (!fs_join(glob, data, names[i], err) || !fs_list_glob(files, glob, err)) return false;
    }
  }
  return files->n || report_add(err, "%s: there are no token shards (val_*.bin in a folder)", data);
}

typedef struct Shard {
  int32_t *ids;
  unsigned char *skip; /* tokens that a mask leaves out */
  int64_t n;
} Shard;

/* A whole shard, through the reader that training has. */
static bool read_shard(const char *path, TokenFormat format, int vocab, Shard *s, Report *err) {
  FsList one = {0};
  Dataset *d = fs_list_add(&one, path) ? tokens_open(&one, format, 1, vocab, err) : NULL;
  int64_t pairs = d ? (int64_t)d->begin(d, 0, -1) : 0;
  bool ok = d != NULL;
  s->n = pairs + 1;
  s->ids = ok ? malloc((size_t)s->n * sizeof(int32_t)) : NULL;
  s->skip = ok ? calloc((size_t)s->n, 1) : NULL;
  if (ok && (!s->ids || !s->skip)) ok = report_add(err, "out of memory for %s", path);
  for (int64_t i = 0; ok && i < pairs; i++) {
    int32_t id, next;
    Row row = {.tokens = &id, .targets = &next};
    ok = d->fill(d, (uint64_t)i, &row, err) >= 0;
    s->ids[i] = id;
    s->skip[i + 1] = next < 0;
    if (i == pairs - 1) s->ids[i + 1] = next < 0 ? id : next; /* it counts in no sum, and nothing comes behind it */
  }
  if (ok && !pairs) ok = report_add(err, "%s: there are no two tokens", path);
  if (d) d->close(d);
  fs_list_free(&one);
  return ok;
}

typedef struct Sum {
  double nll;
  int64_t tokens, windows;
} Sum;

/* Windows from the shard's start on, `stride` apart: each counts the tokens that no window before it did. */
static bool score_shard(Opened *o, const Shard *s, int window, int stride, int64_t limit, Sum *sum, Report *err) {
  int64_t n = s->n > window ? (s->n - window + stride - 1) / stride + 1 : 1;
  if (limit && n > limit - sum->windows) n = limit - sum->windows;
  Score *v = calloc((size_t)n + 1, sizeof(Score));
  if (!v) return report_add(err, "out of memory");
  for (int64_t i = 0, end = 0; i < n; i++) {
    int64_t at = i * stride;
    v[i].ids = s->ids + at;
    v[i].skip = s->skip + at;
    v[i].n = (int)(s->n - at < window ? s->n - at : window);
    v[i].from = (int)(end > at ? end - at : 0);
    end = at + v[i].n;
  }
  bool ok = score_all(o, v, n, progress, &n, err);
  for (int64_t i = 0; ok && i < n; i++) sum->nll -= v[i].sum, sum->tokens += v[i].count;
  sum->windows += n;
  free(v);
  return ok;
}

static bool perplexity(Opened *o, const Eval *e, Report *err) {
  FsList files = {0};
  Sum sum = {0};
  int ctx = o->model->limits.ctx, window = e->window ? e->window : ctx, stride = e->stride ? e->stride : window - 1;
  TokenFormat format = e->format && !strcmp(e->format, "nanogpt") ? FORMAT_NANOGPT : FORMAT_LLMC;
  if (window > ctx || window < 2) return report_add(err, "--window: the model's context has %d tokens", ctx);
  if (stride >= window) return report_add(err, "--stride must be below the window, %d tokens", window);
  bool ok = find_shards(e->data, &files, err);
  for (int i = 0; ok && i < files.n && (!e->limit || sum.windows < e->limit); i++) {
    Shard s = {0};
    ok = read_shard(files.name[i], format, o->model->limits.vocab, &s, err) &&
         score_shard(o, &s, window, stride, e->limit, &sum, err);
    free(s.ids), free(s.skip);
  }
  fs_list_free(&files);
  if (ok && !sum.tokens) ok = report_add(err, "no token of %s counts", e->data);
  if (!ok) return false;
  double nll = sum.nll / (double)sum.tokens;
  printf(e->json ? "{\"task\":\"perplexity\",\"perplexity\":%.9g,\"nll\":%.9g,\"tokens\":%" PRId64
                   ",\"windows\":%" PRId64 ",\"window\":%d,\"stride\":%d}\n"
                 : "perplexity %.6g, nll %.9g a token, %" PRId64 " tokens, %" PRId64 " windows of %d, stride %d\n",
         exp(nll), nll, sum.tokens, sum.windows, window, stride);
  return true;
}

/* ---- multiple choice, as the lm-evaluation-harness has it */

enum { ENDINGS = 16 };

typedef struct Item {
  int first, n, label; /* its scores */
  int length[ENDINGS]; /* characters of an ending */
} Item;

typedef struct Choices {
  Item *item;
  int n, cap;
  Score *score;
  int nscores, cap_scores, cut;
} Choices;

static int characters(const char *s) {
  int n = 0;
  for (; *s; s++) n += ((unsigned char)*s & 0xc0) != 0x80;
  return n;
}

/* The ending behind its context: encoded together, and the context alone says where the ending begins. */
static bool add_ending(Opened *o, Choices *c, const char *ctx, const char *ending, Report *err) {
  Ids before = {0}, all = {0};
  Text text = {0};
  text_add(&text, "%s %s", ctx, ending);
  bool ok = opened_encode(o, ctx, strlen(ctx), CODEC_ADD, &before, err) &&
            opened_encode(o, text.s, text.n, CODEC_ADD, &all, err);
  text_free(&text);
  if (c->nscores == c->cap_scores) {
    c->cap_scores = c->cap_scores ? 2 * c->cap_scores : 1024;
    c->score = memory_resize(c->score, (size_t)c->cap_scores, sizeof(Score));
  }
  int most = o->model->limits.ctx, cut = (int)all.n > most ? (int)all.n - most : 0;
  if (ok && all.n <= before.n) ok = report_add(err, "an ending has no token of its own");
  c->cut += cut > 0;
  if (ok) {
    int from = (int)before.n - cut;
    c->score[c->nscores++] = (Score){.ids = (int32_t *)all.v, .n = (int)all.n - cut, .from = from > 0 ? from : 0};
    memmove(all.v, all.v + cut, (all.n - (size_t)cut) * sizeof(uint32_t));
  } else {
    free(all.v);
  }
  free(before.v);
  return ok;
}

static bool add_item(Opened *o, Choices *c, const json_t *v, Report *err) {
  const char *ctx = json_string_value(json_object_get(v, "ctx"));
  const json_t *endings = json_object_get(v, "endings"), *label = json_object_get(v, "label");
  size_t n = json_array_size(endings);
  if (!ctx || n < 2 || n > ENDINGS) return report_add(err, "it has no ctx, or not 2 to %d endings", ENDINGS);
  if (c->n == c->cap) {
    c->cap = c->cap ? 2 * c->cap : 256;
    c->item = memory_resize(c->item, (size_t)c->cap, sizeof(Item));
  }
  Item *item = &c->item[c->n];
  *item = (Item){.first = c->nscores, .n = (int)n, .label = -1};
  if (json_is_integer(label)) item->label = (int)json_integer_value(label);
  if (json_is_string(label)) item->label = atoi(json_string_value(label));
  if (item->label < 0 || item->label >= (int)n) return report_add(err, "its label is the number of no ending");
  for (size_t i = 0; i < n; i++) {
    const char *ending = json_string_value(json_array_get(endings, i));
    if (!ending || !*ending) return report_add(err, "an ending is no text");
    item->length[i] = characters(ending);
    if (!add_ending(o, c, ctx, ending, err)) return false;
  }
  c->n++;
  return true;
}

static bool read_items(Opened *o, const Eval *e, Choices *c, Report *err) {
  FILE *f = fopen(e->data, "re");
  char *line = NULL;
  size_t cap = 0;
  ssize_t n;
  int number = 0;
  bool ok = f || fs_failed(err, "read", e->data, errno);
  while (ok && (!e->limit || c->n < e->limit) && (n = getline(&line, &cap, f)) > 0) {
    json_error_t why;
    Report wrong = {0};
    number++;
    if (strspn(line, " \t\r\n") == (size_t)n) continue;
    json_t *v = json_loadb(line, (size_t)n, JSON_REJECT_DUPLICATES, &why);
    if (!v)
      ok = report_add(err, "%s:%d: %s", e->data, number, why.text);
    else if (!add_item(o, c, v, &wrong))
      ok = report_add(err, "%s:%d: %.*s", e->data, number, (int)wrong.n - 1, wrong.text);
    report_free(&wrong);
    json_decref(v);
  }
  free(line);
  if (f) fclose(f);
  return ok && (c->n || report_add(err, "%s holds no question", e->data));
}

static int best(const Choices *c, const Item *item, bool by_length) {
  int at = 0;
  double most = -INFINITY;
  for (int i = 0; i < item->n; i++) {
    double x = c->score[item->first + i].sum / (by_length ? item->length[i] : 1);
    if (x > most) most = x, at = i;
  }
  return at;
}

static bool choice(Opened *o, const Eval *e, Report *err) {
  Choices c = {0};
  bool ok = read_items(o, e, &c, err);
  int64_t n = c.nscores;
  ok = ok && score_all(o, c.score, n, progress, &n, err);
  int right = 0, right_norm = 0;
  for (int i = 0; ok && i < c.n; i++) {
    right += best(&c, &c.item[i], false) == c.item[i].label;
    right_norm += best(&c, &c.item[i], true) == c.item[i].label;
  }
  double acc = (double)right / c.n, norm = (double)right_norm / c.n;
  if (ok)
    printf(e->json ? "{\"task\":\"choice\",\"acc\":%.6g,\"acc_norm\":%.6g,\"items\":%d,\"acc_stderr\":%.6g,\"acc_norm_"
                     "stderr\":%.6g}\n"
                   : "acc %.4f, acc_norm %.4f, %d questions (standard errors %.4f, %.4f)\n",
           acc, norm, c.n, c.n > 1 ? sqrt(acc * (1 - acc) / (c.n - 1)) : 0,
           c.n > 1 ? sqrt(norm * (1 - norm) / (c.n - 1)) : 0);
  if (ok && c.cut)
    fprintf(stderr, "note: %d texts were longer than the context: their beginnings were left out\n", c.cut);
  for (int i = 0; i < c.nscores; i++) free((void *)(uintptr_t)c.score[i].ids);
  free(c.item), free(c.score);
  return ok;
}

static int run(const Call *c) {
  Eval e = {.task = "perplexity"};
  Opened o = {0};
  Report err = {0}, notes = {0};
  if (options_read(c, &e, NULL, NULL, &err) && !e.data) report_add(&err, "--data is missing: what is to be read?");
  bool choices = !strcmp(e.task, "choice");
  if (!choices && strcmp(e.task, "perplexity"))
    report_add(&err, "--task: '%s' is neither perplexity nor choice", e.task);
  if (e.format && strcmp(e.format, "llmc") && strcmp(e.format, "nanogpt"))
    report_add(&err, "--format: '%s' is neither llmc nor nanogpt", e.format);
  if (err.lines) return fail(&err, STATUS_USAGE);
  interrupts_catch();
  bool ok = opened_file(&o, c, &err) && opened_model(&o, &e.open, &notes, &err);
  say("note: ", &notes);
  ok = ok && (choices ? choice(&o, &e, &err) : perplexity(&o, &e, &err));
  int status = ok ? STATUS_DONE : fail(&err, interrupted() ? STATUS_STOPPED : STATUS_FAILED);
  opened_close(&o);
  return status;
}

static const Opt opts[] = {
    {"--data", "DIR|GLOB|FILE", OPT_TEXT, offsetof(Eval, data), 0, 0,
     "token shards, or a folder with val_*.bin; for choice a file of JSON lines"},
    {"--task", "perplexity|choice", OPT_TEXT, offsetof(Eval, task), 0, 0, "default: perplexity"},
    {"--window", "N", OPT_INT, offsetof(Eval, window), 2, 1 << 30, "tokens of a window; default: the context"},
    {"--stride", "N", OPT_INT, offsetof(Eval, stride), 1, 1 << 30,
     "from window to window; default: the window less one, so that every token but a shard's first counts once"},
    {"--format", "llmc|nanogpt", OPT_TEXT, offsetof(Eval, format), 0, 0, "of the shards; default: llmc"},
    {"--limit", "N", OPT_INT, offsetof(Eval, limit), 1, 1 << 30, "windows or questions at most"},
    {"--json", NULL, OPT_FLAG, offsetof(Eval, json), 0, 0, "the result as one JSON object"},
    OPEN_OPTIONS(Eval),
};

const CommandInfo command_eval = {
    .name = "eval",
    .usage = "--data DIR|GLOB|FILE.jsonl [--task perplexity|choice] [options]",
    .summary = "perplexity over token shards, accuracy of multiple choice",
    .doc = "perplexity: the exponential of the mean negative log likelihood, over the token shards of `ink data "
           "prepare`.\n"
           "choice: JSON lines in HellaSwag's form, ctx, endings and label; acc takes the likeliest ending, acc_norm "
           "the likeliest\n"
           "by its number of characters. Ending and context are encoded together, with a space between them.",
    .opts = opts,
    .nopts = LEN(opts),
    .run = run,
};
