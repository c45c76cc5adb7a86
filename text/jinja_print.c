/* Values as text: Python's str() and repr(), and JSON as json.dumps writes it. Recursion is counted as in jinja_value.c. */
#include "text/jinja.h"
#include "text/utf8.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* The shortest decimal number that reads back as f; scientific below 1e-4 and from 1e16 on. */
void jinja_print_float(Text *t, double f) {
  char s[40];
  if (isnan(f) || isinf(f)) {
    text_add(t, isnan(f) ? "nan" : f < 0 ? "-inf" : "inf");
    return;
  }
  int digits = 1;
  do snprintf(s, sizeof s, "%.*e", digits - 1, f);
  while (strtod(s, NULL) != f && digits++ < 17);
  const char *e = strchr(s, 'e');
  int exponent = atoi(e + 1);
  if (exponent < -4 || exponent >= 16) {
    text_add(t, "%.*se%c%02d", (int)(e - s), s, exponent < 0 ? '-' : '+', abs(exponent));
    return;
  }
  int after = digits - 1 - exponent;
  text_add(t, "%.*f", after > 1 ? after : 1, f);
}

static bool printable(uint32_t c) {
  if (c < 0x7f) return c >= 0x20;
  switch (utf8proc_category((utf8proc_int32_t)c)) {
  case UTF8PROC_CATEGORY_CC:
  case UTF8PROC_CATEGORY_CF:
  case UTF8PROC_CATEGORY_CS:
  case UTF8PROC_CATEGORY_CO:
  case UTF8PROC_CATEGORY_CN:
  case UTF8PROC_CATEGORY_ZL:
  case UTF8PROC_CATEGORY_ZP:
  case UTF8PROC_CATEGORY_ZS: return false;
  default: return true;
  }
}

static void repr_string(Text *t, Value v) {
  bool one = memchr(v.s, '\'', v.n) != NULL, two = memchr(v.s, '"', v.n) != NULL;
  char quote = one && !two ? '"' : '\'';
  text_write(t, &quote, 1);
  for (size_t i = 0; i < v.n;) {
    uint32_t cp = 0;
    int k = utf8_next((const unsigned char *)v.s + i, v.n - i, &cp);
    if (k <= 0) k = 1;
    if (cp == (unsigned char)quote || cp == '\\')
      text_add(t, "\\%c", (char)cp);
    else if (cp == '\n' || cp == '\r' || cp == '\t')
      text_add(t, "\\%c", cp == '\n' ? 'n' : cp == '\r' ? 'r' : 't');
    else if (printable(cp))
      text_write(t, v.s + i, (size_t)k);
    else
      text_add(t, cp < 0x100 ? "\\x%02x" : cp < 0x10000 ? "\\u%04x" : "\\U%08x", (unsigned)cp);
    i += (size_t)k;
  }
  text_write(t, &quote, 1);
}

static void print_pairs(Run *r, Text *t, const Dict *d) {
  text_write(t, "{", 1);
  for (int i = 0; i < d->n && jinja_step(r, 1); i++) {
    if (i) text_write(t, ", ", 2);
    jinja_repr(r, t, d->v[i].key);
    text_write(t, ": ", 2);
    jinja_repr(r, t, d->v[i].value);
  }
  text_write(t, "}", 1);
}

static void print_items(Run *r, Text *t, const List *l) {
  static const char *const open[] = {"[", "(", "", "dict_keys([", "dict_values([", "dict_items(["};
  static const char *const close[] = {"]", ")", "", "])", "])", "])"};
  if (l->type == L_ITERATOR || l->type == L_RANGE) {
    jinja_fail(r, "a value of type %s cannot be written; `| list` makes a list of it",
               l->type == L_RANGE ? "range" : "iterator");
    return;
  }
  text_add(t, "%s", open[l->type]);
  for (int i = 0; i < l->n && jinja_step(r, 1); i++) {
    if (i) text_write(t, ", ", 2);
    jinja_repr(r, t, l->v[i]);
  }
  text_add(t, "%s%s", l->type == L_TUPLE && l->n == 1 ? "," : "", close[l->type]);
}

void jinja_repr(Run *r, Text *t, Value v) {
  if (++r->values > JINJA_VALUES)
    jinja_fail(r, "lists are nested more than %d deep", JINJA_VALUES);
  else if (!jinja_room(r, t->n, 1))
    ;
  else if (v.kind == V_STRING && v.safe)
    jinja_fail(r, "a safe string within a list cannot be written");
  else if (v.kind == V_STRING)
    repr_string(t, v);
  else if (v.kind == V_UNDEFINED)
    text_add(t, "Undefined");
  else
    jinja_print(r, t, v);
  r->values--;
}

void jinja_print(Run *r, Text *t, Value v) {
  switch ((ValueKind)v.kind) {
  case V_MISSING:
  case V_UNDEFINED: break;
  case V_NONE: text_add(t, "None"); break;
  case V_BOOL: text_add(t, v.b ? "True" : "False"); break;
  case V_INT: text_add(t, "%" PRId64, v.i); break;
  case V_FLOAT: jinja_print_float(t, v.f); break;
  case V_STRING:
    if (jinja_step(r, v.n / 64) && jinja_room(r, t->n + v.n, 1)) text_write(t, v.s, v.n);
    break;
  case V_LIST: print_items(r, t, v.list); break;
  case V_DICT: print_pairs(r, t, v.dict); break;
  default: jinja_fail(r, "a %s cannot be written", jinja_type(v));
  }
}

Value jinja_text(Run *r, Value v) {
  if (v.kind == V_STRING) return v.safe ? jinja_string(v.s, v.n) : v;
  size_t start = r->tmp.n;
  jinja_print(r, &r->tmp, v);
  return jinja_taken(r, start);
}

/* ---- JSON */

static void json_string_to(Text *t, const char *s, size_t n, bool ascii) {
  static const char from[] = "\"\\\n\r\t\f\b", to[] = "\"\\nrtfb";
  text_write(t, "\"", 1);
  for (size_t i = 0; i < n;) {
    uint32_t cp = 0;
    int k = utf8_next((const unsigned char *)s + i, n - i, &cp);
    if (k <= 0) k = 1;
    const char *known = cp && cp < 0x80 ? strchr(from, (int)cp) : NULL;
    if (known)
      text_add(t, "\\%c", to[known - from]);
    else if (cp < 0x20 || (ascii && cp >= 0x7f && cp < 0x10000))
      text_add(t, "\\u%04x", (unsigned)cp);
    else if (ascii && cp >= 0x10000)
      text_add(t, "\\u%04x\\u%04x", (unsigned)(0xd800 + ((cp - 0x10000) >> 10)),
               (unsigned)(0xdc00 + ((cp - 0x10000) & 0x3ff)));
    else
      text_write(t, s + i, (size_t)k);
    i += (size_t)k;
  }
  text_write(t, "\"", 1);
}

static void json_scalar(Run *r, Text *t, Value v, const JsonStyle *style) {
  switch ((ValueKind)v.kind) {
  case V_NONE: text_add(t, "null"); break;
  case V_BOOL: text_add(t, v.b ? "true" : "false"); break;
  case V_INT: text_add(t, "%" PRId64, v.i); break;
  case V_FLOAT:
    if (isfinite(v.f))
      jinja_print_float(t, v.f);
    else
      text_add(t, isnan(v.f) ? "NaN" : v.f < 0 ? "-Infinity" : "Infinity");
    break;
  case V_STRING: json_string_to(t, v.s, v.n, style->ascii); break;
  default: jinja_fail(r, "tojson: a value of type %s is no JSON", jinja_type(v));
  }
}

static void json_line(Run *r, Text *t, const JsonStyle *style, int level) {
  if (style->indent.kind != V_STRING) return;
  text_write(t, "\n", 1);
  for (int i = 0; i < level; i++) text_write(t, style->indent.s, style->indent.n);
  jinja_room(r, t->n, 1);
}

static void json_key(Run *r, Text *t, Value key, const JsonStyle *style) {
  bool quoted = key.kind != V_STRING && key.kind >= V_NONE && key.kind <= V_FLOAT;
  if (!quoted && key.kind != V_STRING) jinja_fail(r, "tojson: a key of type %s", jinja_type(key));
  if (quoted) text_write(t, "\"", 1);
  json_scalar(r, t, key, style);
  if (quoted) text_write(t, "\"", 1);
}

static int by_key(Run *r, const Pair *a, const Pair *b) {
  return jinja_order(r, a->key, b->key, "<");
}

/* A copy in the order of the keys. */
static const Dict *sorted(Run *r, const Dict *d) {
  Dict *out;
  jinja_dict(r, &out);
  out->v = jinja_alloc(r, sizeof *out->v * (size_t)(d->n ? d->n : 1));
  for (; out->n < d->n && jinja_step(r, 1 + (size_t)out->n / 8); out->n++) {
    int at = out->n;
    while (at && by_key(r, &d->v[out->n], &out->v[at - 1]) < 0) out->v[at] = out->v[at - 1], at--;
    out->v[at] = d->v[out->n];
  }
  return out;
}

void jinja_json(Run *r, Text *t, Value v, const JsonStyle *style, int level) {
  bool dict = v.kind == V_DICT, list = v.kind == V_LIST && v.list->type <= L_TUPLE;
  if (!jinja_step(r, 1) || !jinja_room(r, t->n + (v.kind == V_STRING ? v.n : 0), 1)) return;
  if (!dict && !list) {
    json_scalar(r, t, v, style);
    return;
  }
  if (level >= JINJA_VALUES) {
    jinja_fail(r, "tojson: lists are nested more than %d deep", JINJA_VALUES);
    return;
  }
  const Dict *d = !dict ? NULL : style->sort ? sorted(r, v.dict) : v.dict;
  int n = dict ? d->n : v.list->n;
  text_write(t, dict ? "{" : "[", 1);
  for (int i = 0; i < n && !r->failed; i++) {
    if (i) text_write(t, style->item.s, style->item.n);
    json_line(r, t, style, level + 1);
    if (dict) {
      json_key(r, t, d->v[i].key, style);
      text_write(t, style->colon.s, style->colon.n);
    }
    jinja_json(r, t, dict ? d->v[i].value : v.list->v[i], style, level + 1);
  }
  if (n) json_line(r, t, style, level);
  text_write(t, dict ? "}" : "]", 1);
}
