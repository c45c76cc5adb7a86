/* chat: a conversation on the terminal. */
#include "artifact/speak.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct Chat {
  OpenOptions open;
  SampleOptions sample;
  const char *system;
  int n;
} Chat;

static void add(json_t *messages, const char *role, const char *text, size_t n) {
  json_array_append_new(messages, json_pack("{s:s, s:o}", "role", role, "content", json_stringn_nocheck(text, n)));
}

static json_t *beginning(const Chat *h) {
  json_t *messages = json_array();
  if (h->system) add(messages, "system", h->system, strlen(h->system));
  return messages;
}

/* Bytes that are no UTF-8, and NULs, become '?': templates work on text. */
static void clean(char *line, ssize_t n) {
  for (ssize_t i = 0; i < n;) {
    int k = line[i] == '\t' ? 1 : text_printable(line + i, (size_t)(n - i));
    if (!k) line[i] = '?';
    i += k ? k : 1;
  }
}

/* The next thing that the user says; false: there is no more. */
static bool ask(char **line, size_t *cap, size_t *n, bool terminal) {
  for (;;) {
    if (terminal) fputs("> ", stderr);
    errno = 0;
    ssize_t got = getline(line, cap, stdin);
    if (got < 0 && errno == EINTR) { /* Ctrl-C while nothing runs */
      clearerr(stdin);
      interrupts_clear();
      fputs("\n(Ctrl-D leaves)\n", stderr);
      continue;
    }
    if (got < 0) return false;
    while (got && ((*line)[got - 1] == '\n' || (*line)[got - 1] == '\r')) (*line)[--got] = 0;
    if (!got) continue;
    clean(*line, got);
    *n = (size_t)got;
    return true;
  }
}

/* The answer to the messages, which joins them; what Ctrl-C left of it, too. */
static bool answer(Opened *o, const Chat *h, json_t *messages, Report *err) {
  Text prompt = {0};
  Ids ids = {0};
  Speech s = {.out = stdout};
  Arena *arena = arena_new();
  Diags *d = diags_new(arena);
  bool ok = chat_render(o->chat, messages, NULL, o->chat_variables, true, &prompt, d);
  if (!ok) report_diags(d, "the chat template: ", err);
  arena_free(arena);
  ok = ok && opened_encode(o, prompt.s ? prompt.s : "", prompt.n, CODEC_SPECIAL, &ids, err);
  int room = o->model->limits.ctx - (int)ids.n;
  if (ok && (room < 1 || !ids.n))
    ok = report_add(err, "the conversation has %zu tokens; the context holds %d: /reset begins a new one", ids.n,
                    o->model->limits.ctx);
  CompleteRequest r = {.prompt = (const int32_t *)ids.v,
                       .nprompt = (int)ids.n,
                       .max_tokens = h->n && h->n < room ? h->n : room,
                       .n = 1,
                       .sample = sample_params(&h->sample, &o->served.defaults),
                       .top = -1,
                       .stop = h->sample.stop.v,
                       .nstop = h->sample.stop.n};
  ok = ok && speak(o, &r, &s, err);
  if (ok) {
    putchar('\n');
    fflush(stdout);
    add(messages, "assistant", s.text.s ? s.text.s : "", s.text.n);
    if (!strcmp(s.finish, "length")) fprintf(stderr, "(the answer is cut: %d tokens)\n", s.generated);
  }
  text_free(&s.text);
  text_free(&prompt);
  free(ids.v);
  return ok;
}

static void converse(Opened *o, const Chat *h) {
  bool terminal = isatty(0);
  json_t *messages = beginning(h);
  char *line = NULL;
  size_t cap = 0, n;
  Report err = {0};
  if (terminal) fprintf(stderr, "%s. /reset begins anew, Ctrl-C stops an answer, Ctrl-D leaves.\n", o->served.name);
  interrupts_catch();
  for (; ask(&line, &cap, &n, terminal); interrupts_clear()) {
    if (!strcmp(line, "/reset")) {
      json_decref(messages);
      messages = beginning(h);
      continue;
    }
    add(messages, "user", line, n);
    if (answer(o, h, messages, &err)) continue;
    json_array_remove(messages, json_array_size(messages) - 1);
    say("error: ", &err);
  }
  if (terminal) fputc('\n', stderr);
  free(line);
  json_decref(messages);
}

static int run(const Call *c) {
  Chat h = {.sample = SAMPLE_DEFAULTS};
  Opened o = {0};
  Report err = {0}, notes = {0};
  if (!options_read(c, &h, NULL, NULL, &err)) return fail(&err, STATUS_USAGE);
  bool ok = opened_file(&o, c, &err) && opened_model(&o, &h.open, &notes, &err);
  say("note: ", &notes);
  if (ok && !o.chat) ok = report_add(&err, "this model has no chat template: generate continues texts");
  if (ok) converse(&o, &h);
  int status = ok ? STATUS_DONE : fail(&err, STATUS_FAILED);
  opened_close(&o);
  return status;
}

static const Opt opts[] = {
    {"--system", "TEXT", OPT_TEXT, offsetof(Chat, system), 0, 0, "what the conversation begins with, as the system"},
    {"-n", "N", OPT_INT, offsetof(Chat, n), 1, 1 << 30, "tokens of an answer at most; default: what the context holds"},
    SAMPLE_OPTIONS(Chat),
    OPEN_OPTIONS(Chat),
};

const CommandInfo command_chat = {
    .name = "chat",
    .usage = "[options]",
    .summary = "a conversation on the terminal",
    .doc = "Each line is said to the model, whose answer goes to standard output as it comes; by the model's own chat "
           "template.\n"
           "/reset begins a new conversation, Ctrl-C stops an answer, Ctrl-D leaves.",
    .opts = opts,
    .nopts = LEN(opts),
    .run = run,
};
