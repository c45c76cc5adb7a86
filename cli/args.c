/* Command lines by table: `--name value`, `--name=value`, `-o FILE`, flags, operands. Unknown options are refused with the
 * nearest known one, except by commands that pass words on to another program. */
#include "cli/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const Option *option_find(const Command *c, const char *name, size_t n) {
  for (int i = 0; i < c->noptions; i++)
    if (strlen(c->options[i].name) == n && !memcmp(c->options[i].name, name, n)) return &c->options[i];
  return NULL;
}

static bool usage_error(const Command *c, const char *what, const char *word, const char *hint) {
  cli_error("%s: %s '%s'%s%s%s", c->name, what, word, hint ? "; did you mean '" : "", hint ? hint : "",
            hint ? "'?" : "");
  fprintf(stderr, "usage: ink %s %s\nsee: ink help %s\n", c->name, c->usage, c->name);
  return false;
}

static bool given_add(Args *a, const Option *o, const char *value) {
  if (!o->many && args_get(a, o->name)) return usage_error(a->command, "given twice:", o->name, NULL);
  if (a->ngiven == a->cap_given) a->given = arena_grow(a->arena, a->given, sizeof(*a->given), a->ngiven, &a->cap_given);
  a->given[a->ngiven].option = o;
  a->given[a->ngiven++].value = value;
  return true;
}

static bool unknown(const Command *c, const char *word) {
  const char *names[64];
  int n = 0;
  for (int i = 0; i < c->noptions && n < LEN(names); i++) names[n++] = c->options[i].name;
  return usage_error(c, "unknown option", word, near_miss(word, names, n));
}

bool args_parse(Arena *arena, const Command *c, int argc, char **argv, Args *out) {
  *out = (Args){.arena = arena, .command = c};
  for (int i = 0; i < argc; i++) {
    const char *word = argv[i], *eq = strchr(word, '=');
    bool dashed = word[0] == '-' && word[1];
    const Option *o = dashed ? option_find(c, word, eq ? (size_t)(eq - word) : strlen(word)) : NULL;
    if (o) {
      const char *value = "";
      if (!o->arg && eq) return usage_error(c, "no value belongs to", o->name, NULL);
      if (o->arg && !eq && i + 1 == argc) return usage_error(c, "a value is missing after", o->name, NULL);
      if (o->arg) value = eq ? eq + 1 : argv[++i];
      if (!given_add(out, o, value)) return false;
    } else if (!dashed && out->noperands < c->operands) {
      out->operand[out->noperands++] = word;
    } else if (c->pass_on && out->noperands == c->operands) {
      PUSH(arena, out->rest, out->nrest, out->cap_rest, word);
    } else if (dashed) {
      return unknown(c, arena_strndup(arena, word, eq ? (size_t)(eq - word) : strlen(word)));
    } else {
      return usage_error(c, "what is", word, NULL);
    }
  }
  return true;
}

const char *args_get(const Args *a, const char *option) {
  for (int i = a->ngiven - 1; i >= 0; i--)
    if (!strcmp(a->given[i].option->name, option)) return a->given[i].value;
  return NULL;
}

const char *args_at(const Args *a, const char *option, int index) {
  for (int i = 0; i < a->ngiven; i++)
    if (!strcmp(a->given[i].option->name, option) && index-- == 0) return a->given[i].value;
  return NULL;
}

bool args_count(const Args *a, const char *option, int64_t high, int64_t missing, int64_t *out) {
  const char *text = args_get(a, option);
  char *end;
  *out = missing;
  if (!text) return true;
  errno = 0;
  long long v = strtoll(text, &end, 10);
  if (!*text || *end || errno || v < 1 || v > high) {
    cli_error("%s: %s takes a whole number from 1 to %" PRId64 ", not '%s'", a->command->name, option, high, text);
    return false;
  }
  *out = v;
  return true;
}

void help_command(const Command *c) {
  printf("usage: ink %s %s\n\n%s\n", c->name, c->usage, c->doc);
  if (c->noptions) printf("\noptions\n");
  for (int i = 0; i < c->noptions; i++) {
    const Option *o = &c->options[i];
    char left[64];
    snprintf(left, sizeof left, "%s%s%s%s", o->name, o->arg ? " " : "", o->arg ? o->arg : "", o->many ? " ..." : "");
    printf("  %-26s %s\n", left, o->doc);
  }
}
