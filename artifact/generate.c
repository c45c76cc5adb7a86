/* generate: a prompt goes on. */
#include "artifact/speak.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Generate {
  OpenOptions open;
  SampleOptions sample;
  const char *prompt;
  int n;
  bool json, ignore_eos;
} Generate;

/* All of standard input. */
static char *read_input(size_t *n, Report *err) {
  Text t = {0};
  char part[65536];
  for (size_t got; (got = fread(part, 1, sizeof(part), stdin));) text_write(&t, part, got);
  if (ferror(stdin) || !t.s) {
    report_add(err, "standard input holds no prompt");
    text_free(&t);
    return NULL;
  }
  *n = t.n;
  return t.s;
}

static void print_json(const Generate *g, const Opened *o, const CompleteRequest *r, const Speech *s,
                       const char *prompt, size_t n) {
  json_t *v = json_pack(
      "{s:s, s:o, s:o, s:s, s:i, s:i, s:I}", "model", o->served.name, "prompt", json_stringn_nocheck(prompt, n), "text",
      json_stringn_nocheck(s->text.s ? s->text.s : "", s->text.n), "finish_reason", s->finish, "prompt_tokens",
      r->nprompt, "completion_tokens", s->generated, "seed", (json_int_t)r->sample.seed);
  (void)g;
  json_dumpf(v, stdout, JSON_COMPACT);
  putchar('\n');
  json_decref(v);
}

static int generate(Opened *o, const Generate *g, const char *prompt, size_t n, Report *err) {
  Ids ids = {0};
  Speech s = {.out = g->json ? NULL : stdout};
  if (!opened_encode(o, prompt, n, CODEC_SPECIAL | CODEC_ADD, &ids, err)) {
    free(ids.v);
    return fail(err, STATUS_FAILED);
  }
  int room = o->model->limits.ctx - (int)ids.n;
  CompleteRequest r = {.prompt = (const int32_t *)ids.v,
                       .nprompt = (int)ids.n,
                       .max_tokens = g->n < room ? g->n : room,
                       .n = 1,
                       .sample = sample_params(&g->sample, &o->served.defaults),
                       .top = -1,
                       .ignore_eos = g->ignore_eos,
                       .stop = g->sample.stop.v,
                       .nstop = g->sample.stop.n};
  bool ok = ids.n > 0 || report_add(err, "the prompt is empty: it has no token");
  if (ok && room < 1)
    ok = report_add(err, "the prompt has %zu tokens; the context holds %d", ids.n, o->model->limits.ctx);
  interrupts_catch();
  ok = ok && speak(o, &r, &s, err);
  if (ok && g->json)
    print_json(g, o, &r, &s, prompt, n);
  else if (ok)
    putchar('\n');
  int status = !ok ? fail(err, STATUS_FAILED) : strcmp(s.finish, "cancelled") ? STATUS_DONE : STATUS_STOPPED;
  text_free(&s.text);
  free(ids.v);
  return status;
}

static int run(const Call *c) {
  Generate g = {.sample = SAMPLE_DEFAULTS, .n = 128};
  Opened o = {0};
  Report err = {0}, notes = {0};
  if (options_read(c, &g, NULL, NULL, &err) && !g.prompt) report_add(&err, "-p is missing: what is to go on?");
  if (err.lines) return fail(&err, STATUS_USAGE);
  size_t n = strlen(g.prompt);
  char *input = strcmp(g.prompt, "-") ? NULL : read_input(&n, &err);
  int status = STATUS_FAILED;
  bool ok = !err.lines && opened_file(&o, c, &err) && opened_model(&o, &g.open, &notes, &err);
  say("note: ", &notes);
  status = ok ? generate(&o, &g, input ? input : g.prompt, n, &err) : fail(&err, STATUS_FAILED);
  free(input);
  opened_close(&o);
  return status;
}

static const Opt opts[] = {
    {"-p", "TEXT", OPT_TEXT, offsetof(Generate, prompt), 0, 0, "the prompt; -: standard input"},
    {"-n", "N", OPT_INT, offsetof(Generate, n), 1, 1 << 30, "tokens at most; default: 128"},
    {"--json", NULL, OPT_FLAG, offsetof(Generate, json), 0, 0,
     "one JSON object with the text and the counts, at the end"},
    {"--ignore-eos", NULL, OPT_FLAG, offsetof(Generate, ignore_eos), 0, 0, "go on past the end of the text"},
    SAMPLE_OPTIONS(Generate),
    OPEN_OPTIONS(Generate),
};

const CommandInfo command_generate = {
    .name = "generate",
    .usage = "-p \"PROMPT\" [-n N] [options]",
    .summary = "a prompt goes on",
    .doc = "The model's text goes to standard output as it comes. Ctrl-C ends it.",
    .opts = opts,
    .nopts = LEN(opts),
    .run = run,
};
