/* The command line of a training binary: one table names every option, parses it and writes the help. */
#include "runtime/options.h"
#include "ink/base.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum {
  O_DATA,
  O_VAL,
  O_RUN,
  O_STEPS,
  O_INIT,
  O_SEED,
  O_THREADS,
  O_SET,
  O_RESUME,
  O_SAMPLE,
  O_FORMAT,
  O_ORDER,
  O_GRADS,
  O_LOGITS,
  O_EVAL_ONLY,
  O_PROFILE,
  O_TRACE,
  O_TRACE_STEPS,
  O_CHECK_NAN,
  O_LICENSES,
  O_VERSION,
  O_HELP
} OptionId;

static const struct {
  OptionId id;
  const char *name, *value, *doc; /* value NULL: a flag */
} option_table[] = {
    {O_DATA, "--data", "DIR|GLOB",
     "training data: a folder of `ink data prepare`, token shards, or a folder of idx files"},
    {O_VAL, "--val", "GLOB", "validation data; default: what the folder of --data holds"},
    {O_RUN, "--run", "DIR", "run folder: metrics.jsonl and checkpoints/; must be new or empty without --resume"},
    {O_STEPS, "--steps", "N", "optimizer steps of the whole run; the same as --set steps=N"},
    {O_INIT, "--init", "FILE|DIR",
     "start from the weights of a safetensors file, an index folder or a checkpoint folder"},
    {O_SEED, "--seed", "S", "the same as --set seed=S"},
    {O_THREADS, "--threads", "N", "threads; default: one for each core this process may use"},
    {O_SET, "--set", "KEY=VALUE ...", "settings, listed below"},
    {O_RESUME, "--resume", NULL, "go on from the newest whole checkpoint of the run folder"},
    {O_SAMPLE, "--sample", "N", "write N tokens of text before and after training (sample-0.txt, sample-final.txt)"},
    {O_FORMAT, "--format", "llmc|nanogpt", "token files: llm.c shards (default) or headerless uint16"},
    {O_ORDER, "--order", "shuffled|sequential", "order of the training data; shuffled by the seed is the default"},
    {O_GRADS, "--grads", "FILE", "write the first step's gradients as safetensors; without --run, exit then"},
    {O_LOGITS, "--logits", "FILE", "write the logits of the first window as safetensors; without --run, exit then"},
    {O_EVAL_ONLY, "--eval-only", NULL, "print the validation loss of --init, or of the run with --resume, then exit"},
    {O_PROFILE, "--profile", NULL,
     "at the end print where the time went: kernels, YAML lines, share of the machine's limit (docs/profiling.md)"},
    {O_TRACE, "--trace", "FILE.json", "at the end write the last steps' kernels as a Chrome trace, for Perfetto"},
    {O_TRACE_STEPS, "--trace-steps", "N", "training steps in the trace; default: 3"},
    {O_CHECK_NAN, "--check-nan", NULL,
     "stop at the first NaN or infinity: names kernel, YAML line and layer, and what went in (docs/check-nan.md)"},
    {O_LICENSES, "--licenses", NULL, "print the licences of the software in this binary"},
    {O_VERSION, "--version", NULL, "print version, model and target"},
    {O_HELP, "--help", NULL, "print this help"},
};
enum { OPTIONS = sizeof(option_table) / sizeof(option_table[0]) };

static bool whole(const char *option, const char *text, long low, long high, int *out, Report *err) {
  char *end;
  long v = strtol(text, &end, 10);
  if (!*text || *end || v < low || v > high)
    return report_add(err, "%s wants a whole number from %ld to %ld, found '%s'", option, low, high, text);
  *out = (int)v;
  return true;
}

static bool add_set(Options *o, const char *assignment, Report *err) {
  if (o->nset == (int)(sizeof(o->set) / sizeof(o->set[0]))) return report_add(err, "too many settings");
  o->set[o->nset++] = assignment;
  return true;
}

/* --steps N and --seed S are settings in disguise; the last one given counts. */
static bool add_own(Options *o, int slot, const char *key, const char *value, Report *err) {
  if (snprintf(o->own[slot], sizeof(o->own[slot]), "%s=%s", key, value) >= (int)sizeof(o->own[slot]))
    return report_add(err, "--%s: '%s' is not a number", key, value);
  return add_set(o, o->own[slot], err);
}

static bool apply(Options *o, OptionId id, const char *value, Report *err) {
  switch (id) {
  case O_DATA: o->data = value; return true;
  case O_VAL: o->val = value; return true;
  case O_RUN: o->run = value; return true;
  case O_INIT: o->init = value; return true;
  case O_GRADS: o->grads = value; return true;
  case O_LOGITS: o->logits = value; return true;
  case O_STEPS: return add_own(o, 0, "steps", value, err);
  case O_SEED: return add_own(o, 1, "seed", value, err);
  case O_THREADS: return whole("--threads", value, 1, 1024, &o->threads, err);
  case O_SAMPLE: return whole("--sample", value, 0, 1000000, &o->sample, err);
  case O_SET: return add_set(o, value, err);
  case O_FORMAT:
    o->format = strcmp(value, "nanogpt") ? FORMAT_LLMC : FORMAT_NANOGPT;
    return !strcmp(value, "llmc") || !strcmp(value, "nanogpt") ||
           report_add(err, "--format: '%s' is neither llmc nor nanogpt", value);
  case O_ORDER:
    o->order = strcmp(value, "sequential") ? ORDER_SHUFFLED : ORDER_SEQUENTIAL;
    return !strcmp(value, "shuffled") || !strcmp(value, "sequential") ||
           report_add(err, "--order: '%s' is neither shuffled nor sequential", value);
  case O_RESUME: return o->resume = true;
  case O_EVAL_ONLY: return o->eval_only = true;
  case O_PROFILE: return o->profile = true;
  case O_TRACE: o->trace = value; return true;
  case O_TRACE_STEPS: return whole("--trace-steps", value, 1, 10000, &o->trace_steps, err);
  case O_CHECK_NAN: return o->check_nan = true;
  case O_LICENSES: return o->licenses = true;
  case O_VERSION: return o->version = true;
  case O_HELP: return o->help = true;
  }
  return false;
}

static bool unknown(const char *word, Report *err) {
  const char *names[OPTIONS];
  for (int i = 0; i < OPTIONS; i++) names[i] = option_table[i].name;
  const char *near = report_suggest(word, names, OPTIONS);
  return near ? report_add(err, "unknown option '%s'; did you mean '%s'?", word, near)
              : report_add(err, "unknown option '%s'; --help lists them all", word);
}

bool options_parse(Options *o, int argc, char **argv, Report *err) {
  *o = (Options){0};
  bool ok = true;
  for (int i = 1; i < argc; i++) {
    const char *word = argv[i], *value = NULL;
    char name[64];
    const char *equal = !strncmp(word, "--", 2) ? strchr(word, '=') : NULL; /* --steps=10 */
    if (equal && (size_t)(equal - word) < sizeof(name)) {
      memcpy(name, word, (size_t)(equal - word));
      name[equal - word] = 0;
      word = name;
      value = equal + 1;
    }
    int k = 0;
    while (k < OPTIONS && strcmp(option_table[k].name, word)) k++;
    if (k == OPTIONS) {
      ok = word[0] == '-' ? unknown(word, err) : report_add(err, "'%s' stands alone; --help lists the options", word);
      continue;
    }
    if (!option_table[k].value) {
      ok = (!value || report_add(err, "%s takes no value", word)) && apply(o, option_table[k].id, NULL, err) && ok;
      continue;
    }
    if (!value && (i + 1 == argc || !strncmp(argv[i + 1], "--", 2))) {
      ok = report_add(err, "%s wants %s", word, option_table[k].value);
      continue;
    }
    if (!value) value = argv[++i];
    ok = apply(o, option_table[k].id, value, err) && ok;
    /* --set takes every key=value that follows */
    while (option_table[k].id == O_SET && i + 1 < argc && argv[i + 1][0] != '-' && strchr(argv[i + 1], '='))
      ok = apply(o, O_SET, argv[++i], err) && ok;
  }
  return ok;
}

void options_help(const Program *p, const char *name, Report *out) {
  report_add(out, "Trains the model '%s', built for %s by ink %s.", program_string(p, p->h->model),
             program_string(p, p->h->target), INK_VERSION);
  report_add(out, "\n  %s --data DIR --run DIR [options]\n\nOptions:", name);
  for (int i = 0; i < OPTIONS; i++) {
    char left[64];
    snprintf(left, sizeof(left), "%s%s%s", option_table[i].name, option_table[i].value ? " " : "",
             option_table[i].value ? option_table[i].value : "");
    report_add(out, "  %-29s %s", left, option_table[i].doc);
  }
  Report ignored = {0};
  Settings s;
  bool known = settings_default(&s, p, &ignored);
  report_free(&ignored);
  for (int build = 0; build < 2; build++) {
    report_add(out, build ? "\nFixed when this program was built (ink build --set KEY=VALUE):"
                          : "\nSettings (--set KEY=VALUE), with this program's defaults:");
    for (int i = 0; i < setting_count; i++) {
      const SettingInfo *k = &setting_table[i];
      char text[64];
      if (k->build != build) continue;
      const char *value = known ? settings_text(&s, i, text) : k->def;
      report_add(out, "  %-22s %-10s %s", k->key, value, k->doc);
    }
  }
}
