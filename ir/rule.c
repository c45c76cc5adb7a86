/* Parsing of index rules (ir/rule.h says what must hold of one). */
#include "ir/rule.h"

#include <string.h>

int rule_find(const char *letters, int n, char c) {
  for (int i = 0; i < n; i++)
    if (letters[i] == c) return i;
  return -1;
}

bool rule_summed(const Rule *r, char c) {
  return rule_find(r->a, r->na, c) >= 0 && rule_find(r->b, r->nb, c) >= 0 && rule_find(r->out, r->no, c) < 0;
}

static const char *letters(const char **s, char *out, int *n) {
  for (*n = 0; **s >= 'a' && **s <= 'z'; (*s)++) {
    if (*n == MAX_RANK) return "more letters than a tensor has dims";
    if (rule_find(out, *n, **s) >= 0) return "a letter stands twice in one operand";
    out[(*n)++] = **s;
  }
  return NULL;
}

static const char *parse(const char *s, Rule *r) {
  const char *err;
  if ((err = letters(&s, r->a, &r->na))) return err;
  if (*s++ != ',') return "expected ',' after the letters (a to z) of the first operand";
  if ((err = letters(&s, r->b, &r->nb))) return err;
  if (s[0] != '-' || s[1] != '>') return "expected '->' after the letters (a to z) of the second operand";
  s += 2;
  if ((err = letters(&s, r->out, &r->no))) return err;
  if (*s) return "only letters a to z may follow '->'";
  for (int i = 0; i < r->no; i++)
    if (rule_find(r->a, r->na, r->out[i]) < 0 && rule_find(r->b, r->nb, r->out[i]) < 0)
      return "a letter of the result is in no operand";
  for (int i = 0; i < r->na; i++)
    if (rule_find(r->b, r->nb, r->a[i]) < 0 && rule_find(r->out, r->no, r->a[i]) < 0)
      return "a letter stands in the first operand alone: sum it first";
  for (int i = 0; i < r->nb; i++)
    if (rule_find(r->a, r->na, r->b[i]) < 0 && rule_find(r->out, r->no, r->b[i]) < 0)
      return "a letter stands in the second operand alone: sum it first";
  return NULL;
}

bool rule_parse(const char *text, Rule *r, const char **err) {
  *r = (Rule){0};
  *err = parse(text, r);
  return *err == NULL;
}

void rule_text(const Rule *r, char *out) {
  memcpy(out, r->a, (size_t)r->na);
  out += r->na;
  *out++ = ',';
  memcpy(out, r->b, (size_t)r->nb);
  out += r->nb;
  memcpy(out, "->", 2);
  out += 2;
  memcpy(out, r->out, (size_t)r->no);
  out[r->no] = 0;
}
