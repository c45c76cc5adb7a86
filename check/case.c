/* A case: a module as text, below comment lines that say what is wrong with it and how to ask again.
 *
 *   # pass simplify: @micro, output grad.w: element 3 is 0.25 (0x1p-2), was 0.5 (0x1p-1)
 *   # target: cpu:x86-64-v3
 *   # seed: 7 special
 *   # only: pass simplify
 *   # input: bisect.safetensors
 *   module "gpt2"
 *   ...
 *
 * What `ink bisect` and the tests of random programs write, `ink bisect FILE.ir` reads back. A module without such lines is
 * a case, too: of everything, with seed 1. Only lines above the module count. */
#include "check/check.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { LIMIT = 256 << 20, TARGETS = 16 };

/* The next line that starts with "# KEY: " and stands at *at or below, among the leading comments; NULL if there is none. */
static const char *line_of(Arena *a, const char **at, const char *key) {
  for (const char *p = *at; *p == '#' || *p == '\n' || *p == ' ';) {
    size_t n = strcspn(p, "\n"), k = strlen(key);
    const char *next = p + n + (p[n] == '\n');
    *at = next;
    if (n > k + 4 && !strncmp(p, "# ", 2) && !strncmp(p + 2, key, k) && !strncmp(p + 2 + k, ": ", 2))
      return arena_strndup(a, p + k + 4, n - k - 4);
    p = next;
  }
  return NULL;
}

static bool read_input(Arena *a, Diags *d, const char *path, const char *name, Case *c) {
  const char *slash = strrchr(path, '/');
  if (name[0] != '/' && slash) name = arena_printf(a, "%.*s/%s", (int)(slash - path), path, name);
  c->given = given_open(a, d, name, NULL);
  c->check.values.given = c->given;
  return c->given != NULL;
}

bool case_read(Arena *a, Diags *d, const char *path, Case *c) {
  uint32_t file;
  *c = (Case){.check = {.values = {.seed = 1}, .gradients = true, .round = true}};
  if (!diags_read(d, path, LIMIT, &file)) return false;
  const char *text = d->sources[file - 1].text, *at = text, *line;
  const char **targets = NEW_ARRAY(a, const char *, TARGETS);
  while (c->check.ntargets < TARGETS && (line = line_of(a, &at, "target"))) targets[c->check.ntargets++] = line;
  c->check.targets = targets;
  if ((at = text, line = line_of(a, &at, "seed"))) {
    char *end;
    c->check.values.seed = strtoull(line, &end, 10);
    c->check.values.special = !strcmp(end, " special");
    c->asks = true;
  }
  if ((at = text, line = line_of(a, &at, "only"))) c->check.only = line, c->asks = true;
  c->mod = module_parse(a, d, file);
  if (!c->mod || !module_verify(c->mod)) return false;
  at = text;
  return !(line = line_of(a, &at, "input")) || read_input(a, d, path, line, c);
}

void case_print(const Module *m, const Check *c, const Fault *f, const char *input, Text *out) {
  text_add(out, "# %s %s: %.*s\n", fault_name[f->kind], f->where, (int)strcspn(f->text, "\n"), f->text);
  for (int i = 0; i < c->ntargets; i++) text_add(out, "# target: %s\n", c->targets[i]);
  text_add(out, "# seed: %" PRIu64 "%s\n", c->values.seed, c->values.special ? " special" : "");
  if (c->only) text_add(out, "# only: %s\n", c->only);
  if (input) text_add(out, "# input: %s\n", input);
  module_print(m, true, out);
}
