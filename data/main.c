/* The command `ink data`: options in, data_prepare, a summary or the errors out. The only file here that prints.
 *
 * Ctrl-C and a polite kill set a flag that the work looks at between portions, so that nothing half-written stays. */
#include "data/data.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { DONE, FAILED, USAGE };

static const char help_data[] = "usage: ink data prepare INPUT... --out DIR [options]\n"
                                "\n"
                                "Turns text into token files to train on.\n"
                                "\n"
                                "  prepare   .txt and .jsonl files to token shards, a tokenizer and meta.json\n"
                                "\n"
                                "`ink data prepare --help` lists the options.\n";

static const char help_prepare[] =
    "usage: ink data prepare INPUT... --out DIR [options]\n"
    "\n"
    "Turns text into token files to train on. An INPUT is a .txt file (one document), a .jsonl file (each line\n"
    "{\"text\": ...} one document) or a folder, which is searched for both, sorted by name.\n"
    "\n"
    "DIR is written whole or not at all: train_000000.bin ..., val_000000.bin ..., tokenizer.json,\n"
    "tokenizer_config.json (Hugging Face's format) and meta.json.\n"
    "\n"
    "  --out DIR             the folder to make; refused when it is there and not empty\n"
    "  --tokenizer KIND      what a token is (default: char)\n"
    "                          char          a character; the vocabulary is what the text holds\n"
    "                          bytes         a byte\n"
    "                          gpt2:DIR      GPT-2's byte pairs, from encoder.json and vocab.bpe in DIR\n"
    "                          train:bpe:N   byte pairs trained on the training part, N ids altogether\n"
    "                          hf:DIR        a model's own: tokenizer.json, tokenizer.model, ... (docs/tokenizers.md)\n"
    "  --val SHARE           the last share of the text validates (default: 0.1; 0: none). A single document is cut\n"
    "                        there; of several, whole ones at the end are taken\n"
    "  --format llmc|nanogpt llm.c's shards (default), or train.bin and val.bin of bare 16-bit ids\n"
    "  --shard-tokens N      tokens a shard at most, 1 to 2147483647, also as 100M, 50k (default: 100M; llmc only)\n"
    "  --seed S              shuffle the documents by this seed before the split (default: as they come)\n"
    "  --force               replace DIR when an earlier `ink data prepare` wrote it\n"
    "  --help                this text\n"
    "\n"
    "An end-of-text token opens each document. With char and bytes there is one only when the input has more than one\n"
    "document, with hf:DIR it is the tokenizer's eos_token, if it names one.\n";

static volatile sig_atomic_t interrupted;

static void interrupt(int signal_number) {
  (void)signal_number;
  interrupted = 1;
}

static int usage(const char *fmt, ...) PRINTF(1, 2);
static int usage(const char *fmt, ...) {
  va_list ap;
  Arena *a = arena_new();
  Text t = {0};
  va_start(ap, fmt);
  const char *text = arena_vprintf(a, fmt, ap);
  va_end(ap);
  text_write_clean(&t, text, strlen(text));
  fprintf(stderr, "ink: data: %s\nsee: ink data prepare --help\n", t.s ? t.s : "");
  text_free(&t);
  arena_free(a);
  return USAGE;
}

static int not_one_of(const char *what, const char *word, const char *const *names, int n) {
  const char *near = near_miss(word, names, n);
  return near ? usage("unknown %s '%s'; did you mean '%s'?", what, word, near) : usage("unknown %s '%s'", what, word);
}

/* ---- options */

typedef struct Parse {
  PrepareOptions *o;
  bool shard_tokens; /* was given */
} Parse;

/* A whole number, k, M or G behind it. */
static bool parse_count(const char *s, uint64_t *out) {
  char *end;
  errno = 0;
  if (*s < '0' || *s > '9') return false;
  uint64_t v = strtoull(s, &end, 10), scale = 1;
  if (*end == 'k' || *end == 'K')
    scale = 1000, end++;
  else if (*end == 'M')
    scale = 1000000, end++;
  else if (*end == 'G')
    scale = 1000000000, end++;
  if (errno || *end || v > UINT64_MAX / scale) return false;
  *out = v * scale;
  return true;
}

static int set_out(Parse *p, const char *v) {
  p->o->out = v;
  return *v ? DONE : usage("--out wants a folder");
}

static int set_tokenizer(Parse *p, const char *v) {
  static const char *const kinds[] = {"char", "bytes", "gpt2:DIR", "train:bpe:N", "hf:DIR"};
  uint64_t n;
  if (!strcmp(v, "char")) {
    p->o->tokenizer = PREPARE_CHAR;
  } else if (!strcmp(v, "bytes")) {
    p->o->tokenizer = PREPARE_BYTES;
  } else if (!strncmp(v, "gpt2:", 5) && v[5]) {
    p->o->tokenizer = PREPARE_GPT2;
    p->o->gpt2 = v + 5;
  } else if (!strncmp(v, "hf:", 3) && v[3]) {
    p->o->tokenizer = PREPARE_MODEL;
    p->o->model = v + 3;
  } else if (!strncmp(v, "train:bpe:", 10)) {
    p->o->tokenizer = PREPARE_TRAIN_BPE;
    if (!parse_count(v + 10, &n) || n < BPE_LEAST_VOCAB || n > BPE_MOST_TOKENS)
      return usage("--tokenizer train:bpe:N takes %d to %d ids, not '%s'", BPE_LEAST_VOCAB, BPE_MOST_TOKENS, v + 10);
    p->o->vocab = (uint32_t)n;
  } else if (!strcmp(v, "gpt2") || !strcmp(v, "gpt2:")) {
    return usage("--tokenizer gpt2 wants the folder of its files: gpt2:DIR");
  } else if (!strcmp(v, "hf") || !strcmp(v, "hf:")) {
    return usage("--tokenizer hf wants the folder of a model's tokenizer: hf:DIR");
  } else if (!strcmp(v, "train") || !strcmp(v, "train:") || !strcmp(v, "train:bpe")) {
    return usage("--tokenizer train wants a kind and a number of ids: train:bpe:2048");
  } else {
    return not_one_of("tokenizer", v, kinds, LEN(kinds));
  }
  return DONE;
}

static int set_val(Parse *p, const char *v) {
  char *end;
  double x = strtod(v, &end);
  if (!*v || *end || !isfinite(x) || x < 0 || x >= 1)
    return usage("--val takes a share from 0 to below 1, not '%s'", v);
  p->o->val = x;
  return DONE;
}

static int set_format(Parse *p, const char *v) {
  static const char *const formats[] = {"llmc", "nanogpt"};
  if (strcmp(v, formats[0]) && strcmp(v, formats[1])) return not_one_of("format", v, formats, LEN(formats));
  p->o->format = !strcmp(v, formats[0]) ? SHARDS_LLMC : SHARDS_NANOGPT;
  return DONE;
}

static int set_shard_tokens(Parse *p, const char *v) {
  p->shard_tokens = true;
  if (!parse_count(v, &p->o->shard_tokens) || p->o->shard_tokens < 1 || p->o->shard_tokens > INT32_MAX)
    return usage("--shard-tokens takes 1 to %d, not '%s'", INT32_MAX, v);
  return DONE;
}

static int set_seed(Parse *p, const char *v) {
  p->o->shuffle = true;
  return parse_count(v, &p->o->seed) ? DONE : usage("--seed takes a whole number, not '%s'", v);
}

static int set_force(Parse *p, const char *v) {
  (void)v;
  p->o->force = true;
  return DONE;
}

static const struct Option {
  const char *name;
  bool value;
  int (*set)(Parse *p, const char *v);
} options[] = {
    {"--out", true, set_out},
    {"--tokenizer", true, set_tokenizer},
    {"--val", true, set_val},
    {"--format", true, set_format},
    {"--shard-tokens", true, set_shard_tokens},
    {"--seed", true, set_seed},
    {"--force", false, set_force},
    {"--help", false, NULL},
};

static int unknown_option(const char *word, size_t n) {
  const char *names[LEN(options)];
  char name[64];
  snprintf(name, sizeof name, "%.*s", (int)(n < sizeof name ? n : sizeof name - 1), word);
  for (int i = 0; i < LEN(options); i++) names[i] = options[i].name;
  return not_one_of("option", name, names, LEN(options));
}

/* One option at argv[*i]; moves on past its value. */
static int parse_option(Parse *p, int argc, char **argv, int *i, bool *given) {
  const char *word = argv[*i], *eq = strchr(word, '='), *v = NULL;
  size_t n = eq ? (size_t)(eq - word) : strlen(word);
  for (int k = 0; k < LEN(options); k++) {
    const struct Option *o = &options[k];
    if (strlen(o->name) != n || memcmp(o->name, word, n)) continue;
    if (given[k]) return usage("%s is given twice", o->name);
    given[k] = true;
    if (!o->value && eq) return usage("%s takes no value", o->name);
    if (o->value) v = eq ? eq + 1 : ++*i < argc ? argv[*i] : NULL;
    if (o->value && !v) return usage("a value is missing after %s", o->name);
    return o->set(p, v);
  }
  return unknown_option(word, n);
}

static int parse(PrepareOptions *o, const char **inputs, int argc, char **argv) {
  Parse p = {.o = o};
  bool given[LEN(options)] = {false}, plain = false;
  for (int i = 0; i < argc; i++) {
    bool dashed = !plain && argv[i][0] == '-' && argv[i][1];
    if (dashed && !strcmp(argv[i], "--")) {
      plain = true;
    } else if (dashed) {
      int status = parse_option(&p, argc, argv, &i, given);
      if (status) return status;
    } else {
      inputs[o->ninputs++] = argv[i];
    }
  }
  if (!o->ninputs) return usage("no INPUT: give .txt files, .jsonl files or folders");
  if (!o->out) return usage("no --out: which folder shall it be?");
  if (p.shard_tokens && o->format == SHARDS_NANOGPT) return usage("--format nanogpt has no shards: no --shard-tokens");
  return DONE;
}

/* ---- output */

static const char *grouped(uint64_t v, char text[32]) {
  char digits[24];
  int n = snprintf(digits, sizeof digits, "%" PRIu64, v), k = 0;
  for (int i = 0; i < n; i++) {
    if (i && (n - i) % 3 == 0) text[k++] = ',';
    text[k++] = digits[i];
  }
  text[k] = 0;
  return text;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void show_progress(const char *what, uint64_t done, uint64_t of) {
  static double shown;
  double t = now();
  if (t - shown < 0.2 && done < of) return;
  shown = t;
  fprintf(stderr, "\r\033[K%s: %.0f of %.0f MB", what, (double)done / 1e6, (double)of / 1e6);
}

static void summary(const PrepareOptions *o, const PrepareResult *r, double seconds) {
  static const char *const part[2] = {"train", "val"};
  char a[32], b[32];
  printf("%s: %s token ids", o->out, grouped(r->vocab, a));
  if (r->eot >= 0) printf(", end-of-text %" PRId64, r->eot);
  printf("\n");
  bool several = r->documents[0] + r->documents[1] > 1;
  for (int i = 0; i < 2 && r->files[i]; i++) {
    printf("  %-6s%16s tokens, %d file%s", part[i], grouped(r->tokens[i], a), r->files[i], r->files[i] == 1 ? "" : "s");
    if (several) printf(", %s document%s", grouped(r->documents[i], b), r->documents[i] == 1 ? "" : "s");
    printf("\n");
  }
  if (*r->note) printf("  note: %s\n", r->note);
  if (r->empty) printf("  %s without text left out\n", grouped(r->empty, a));
  if (o->tokenizer == PREPARE_TRAIN_BPE && r->vocab < o->vocab)
    printf("  no pair of tokens occurs twice any more: %s ids instead of %" PRIu32 "\n", grouped(r->vocab, a),
           o->vocab);
  printf("  %.1f MB of text in %.1f s\n", (double)r->text / 1e6, seconds);
}

static void show_errors(const Diags *err) {
  Text t = {0};
  diags_render(err, &t);
  fwrite(t.s, 1, t.n, stderr);
  text_free(&t);
}

static int prepare(int argc, char **argv) {
  for (int i = 0; i < argc && strcmp(argv[i], "--"); i++) {
    if (strcmp(argv[i], "--help") && strcmp(argv[i], "-h")) continue;
    fputs(help_prepare, stdout);
    return DONE;
  }
  const char **inputs = calloc((size_t)argc + 1, sizeof *inputs);
  if (!inputs) abort();
  PrepareOptions o = {.inputs = inputs, .val = 0.1, .shard_tokens = 100000000, .stop = &interrupted};
  PrepareResult r;
  if (isatty(STDERR_FILENO)) o.progress = show_progress;
  int status = parse(&o, inputs, argc, argv);
  if (status == DONE) {
    struct sigaction act = {.sa_handler = interrupt}, old[2];
    sigaction(SIGINT, &act, &old[0]);
    sigaction(SIGTERM, &act, &old[1]);
    Arena *arena = arena_new();
    Diags *err = diags_new(arena);
    double start = now();
    interrupted = 0;
    bool ok = data_prepare(&o, &r, err);
    if (o.progress) fputs("\r\033[K", stderr);
    if (ok)
      summary(&o, &r, now() - start);
    else
      show_errors(err);
    arena_free(arena);
    sigaction(SIGINT, &old[0], NULL);
    sigaction(SIGTERM, &old[1], NULL);
    status = ok ? DONE : FAILED;
  }
  free(inputs);
  return status;
}

int data_main(int argc, char **argv) {
  static const char *const names[] = {"prepare"};
  const char *word = argc > 1 ? argv[1] : NULL;
  if (!word) {
    fputs(help_data, stderr);
    return USAGE;
  }
  if (!strcmp(word, "prepare")) return prepare(argc - 2, argv + 2);
  if (!strcmp(word, "--help") || !strcmp(word, "-h") || !strcmp(word, "help")) {
    fputs(help_data, stdout);
    return DONE;
  }
  return not_one_of("command", word, names, LEN(names));
}
