/* Filters of one value: text, numbers, JSON. Those of sequences: jinja_sequences.c. A row each, by Jinja2's names of arguments. */
#include "text/jinja.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILTER(name) static Value name(Run *r, Value v, const Value *a, const Args *all)

/* soft_str(): what is a string stays one, Markup too. */
static Value soft(Run *r, Value v) {
  return v.kind == V_STRING ? v : jinja_text(r, v);
}

static int64_t whole_or(Run *r, Value v, int64_t otherwise) {
  int64_t i = otherwise;
  if (v.kind == V_MISSING || v.kind == V_NONE) return otherwise;
  if (!jinja_whole(v, &i)) jinja_fail(r, "a whole number is asked for, not %s", jinja_type(v));
  return i;
}

FILTER(trim_) {
  if (a[0].kind != V_MISSING && a[0].kind != V_NONE && a[0].kind != V_STRING)
    return jinja_fail(r, "trim: the characters are %s, not str", jinja_type(a[0]));
  return jinja_strip(soft(r, v), a[0], STRIP_LEFT | STRIP_RIGHT);
}

static Value cased(Run *r, Value v, Case c) {
  v = soft(r, v);
  bool safe = v.safe;
  v = jinja_case(r, v, c);
  v.safe = safe;
  return v;
}
FILTER(upper_) {
  return cased(r, v, CASE_UPPER);
}
FILTER(lower_) {
  return cased(r, v, CASE_LOWER);
}
FILTER(capitalize_) {
  return cased(r, v, CASE_CAPITAL);
}
FILTER(title_) {
  v = soft(r, v);
  v.safe = false;
  return cased(r, v, CASE_WORDS);
}

FILTER(string_) {
  return soft(r, v);
}

FILTER(safe_) {
  v = jinja_text(r, v);
  v.safe = true;
  return v;
}

FILTER(escape_) {
  return jinja_escape(r, soft(r, v));
}

FILTER(replace_) {
  int64_t most = whole_or(r, a[2], -1);
  return jinja_replace(r, jinja_text(r, v), jinja_text(r, a[0]), jinja_text(r, a[1]), most);
}

FILTER(indent_) {
  Value width = a[0].kind == V_MISSING ? jinja_int(4) : a[0], by = width;
  bool first = a[1].kind != V_MISSING && jinja_truth(a[1]), blank = a[2].kind != V_MISSING && jinja_truth(a[2]);
  int64_t blanks;
  if (v.kind != V_STRING) return jinja_fail(r, "indent: %s is no text", jinja_type(v));
  if (v.safe) return jinja_fail(r, "indent: a safe string is not in the subset");
  if (jinja_whole(width, &blanks)) by = jinja_math(r, "*", jinja_string(" ", 1), jinja_int(blanks));
  if (by.kind != V_STRING) return jinja_fail(r, "indent: the width is %s", jinja_type(width));
  List *lines = jinja_lines(r, jinja_math(r, "+", v, jinja_string("\n", 1)), false).list;
  size_t start = r->tmp.n;
  for (int i = 0; i < lines->n && jinja_step(r, 1) && jinja_room(r, r->tmp.n - start + by.n, 1); i++) {
    if (i) text_write(&r->tmp, "\n", 1);
    if (i ? blank || lines->v[i].n : first) text_write(&r->tmp, by.s, by.n);
    text_write(&r->tmp, lines->v[i].s, lines->v[i].n);
  }
  return jinja_taken(r, start);
}

FILTER(default_) {
  bool falsy = a[1].kind != V_MISSING && jinja_truth(a[1]);
  if (v.kind != V_UNDEFINED && (!falsy || jinja_truth(v))) return v;
  return a[0].kind == V_MISSING ? jinja_string("", 0) : a[0];
}

FILTER(abs_) {
  int64_t i;
  if (v.kind == V_FLOAT) return jinja_float(fabs(v.f));
  if (!jinja_whole(v, &i)) return jinja_fail(r, "abs: %s is no number", jinja_type(v));
  return i < 0 ? jinja_math(r, "-", jinja_int(0), jinja_int(i)) : jinja_int(i);
}

static bool to_int(double f, int64_t *i) {
  if (!(f > -9.3e18 && f < 9.3e18)) return false;
  f = trunc(f);
  if (f < -0x1p63 || f >= 0x1p63) return false;
  *i = (int64_t)f;
  return true;
}

FILTER(int_) {
  int64_t i;
  double f;
  Value otherwise = a[0].kind == V_MISSING ? jinja_int(0) : a[0];
  if (v.kind == V_UNDEFINED) return jinja_fail(r, "%.*s", (int)v.n, v.s);
  if (jinja_whole(v, &i)) return jinja_int(i);
  if (v.kind == V_STRING) {
    int64_t base = whole_or(r, a[1], 10);
    bool known = base == 0 || (base >= 2 && base <= 36);
    if (known && jinja_parse_int(v, (int)base, &i)) return jinja_int(i);
    if (!jinja_parse_float(v, &f)) return otherwise;
  } else if (v.kind == V_FLOAT) {
    f = v.f;
  } else {
    return otherwise;
  }
  if (to_int(f, &i)) return jinja_int(i);
  return isfinite(f) ? jinja_fail(r, "a whole number beyond 64 bits") : otherwise;
}

FILTER(float_) {
  int64_t i;
  double f;
  if (v.kind == V_UNDEFINED) return jinja_fail(r, "%.*s", (int)v.n, v.s);
  if (jinja_number(v, &i, &f) || (v.kind == V_STRING && jinja_parse_float(v, &f))) return jinja_float(f);
  return a[0].kind == V_MISSING ? jinja_float(0) : a[0];
}

/* To a multiple of 10^n, half to even. */
static Value round_whole(Run *r, int64_t i, int64_t n) {
  int64_t unit = 1;
  for (; n > 0 && unit < INT64_MAX / 10; n--) unit *= 10;
  if (n > 0) return jinja_int(0);
  int64_t down = i / unit * unit - (i % unit < 0 ? unit : 0), rest = i - down;
  bool up = rest > unit - rest || (rest == unit - rest && (down / unit) % 2);
  return jinja_math(r, "+", jinja_int(down), jinja_int(up ? unit : 0));
}

FILTER(round_) {
  int64_t places = whole_or(r, a[0], 0), i;
  double f;
  char text[700];
  Value method = a[1].kind == V_MISSING ? jinja_string("common", 6) : a[1];
  bool common = jinja_is(method, "common");
  if (v.kind == V_UNDEFINED) return jinja_fail(r, "%.*s", (int)v.n, v.s);
  if (!jinja_number(v, &i, &f)) return jinja_fail(r, "round: %s is no number", jinja_type(v));
  if (!common && !jinja_is(method, "ceil") && !jinja_is(method, "floor"))
    return jinja_fail(r, "round: the method must be common, ceil or floor");
  if (places > 300 || places < -300) return jinja_fail(r, "round: a precision of %lld", (long long)places);
  if (common && v.kind != V_FLOAT) return places >= 0 ? jinja_int(i) : round_whole(r, i, -places);
  if (common && a[0].kind == V_NONE) return float_(r, round_(r, v, (Value[]){MISSING, MISSING}, all), a, all);
  if (common && places >= 0) { /* the C library rounds the exact value, half to even */
    if (!isfinite(f)) return v;
    snprintf(text, sizeof text, "%.*f", (int)places, f);
    return jinja_float(strtod(text, NULL));
  }
  if (common) return jinja_fail(r, "round: a negative precision of a float is not in the subset");
  double unit = pow(10, (double)places);
  f = jinja_is(method, "ceil") ? ceil(f * unit) : floor(f * unit);
  if (!isfinite(f)) return jinja_fail(r, "round: not a finite number");
  return jinja_float(f / unit);
}

FILTER(tojson_) {
  JsonStyle style = {.item = jinja_string(", ", 2), .colon = jinja_string(": ", 2)};
  int64_t blanks;
  bool lines = a[1].kind != V_MISSING && a[1].kind != V_NONE;
  style.ascii = a[0].kind != V_MISSING && jinja_truth(a[0]);
  style.sort = a[3].kind != V_MISSING && jinja_truth(a[3]);
  if (lines) {
    style.indent = a[1];
    if (jinja_whole(a[1], &blanks)) style.indent = jinja_math(r, "*", jinja_string(" ", 1), jinja_int(blanks));
    if (style.indent.kind != V_STRING) return jinja_fail(r, "tojson: the indent is %s", jinja_type(a[1]));
    style.item.n = 1;
  }
  if (a[2].kind != V_MISSING && a[2].kind != V_NONE) {
    List *l = jinja_items(r, a[2]);
    if (r->failed || l->n != 2 || l->v[0].kind != V_STRING || l->v[1].kind != V_STRING)
      return jinja_fail(r, "tojson: the separators are two strings");
    style.item = l->v[0];
    style.colon = l->v[1];
  }
  size_t start = r->tmp.n;
  jinja_json(r, &r->tmp, v, &style, 0);
  return jinja_taken(r, start);
}

FILTER(attr_) {
  Value name = jinja_text(r, a[0]);
  if (v.kind == V_DICT) { /* attributes alone, not items */
    Value found = jinja_method(r, v, name);
    return found.kind == V_MISSING
               ? jinja_undefined(r, "dict has no attribute '%.*s'", (int)(name.n < 80 ? name.n : 80), name.s)
               : found;
  }
  return jinja_attr(r, v, name);
}

FILTER(length_) {
  int64_t n = jinja_length(v);
  return n < 0 ? jinja_fail(r, "a value of type %s has no length", jinja_type(v)) : jinja_int(n);
}

const Row jinja_text_filters[] = {
    {"abs", abs_, "", 0},
    {"attr", attr_, "name", 1},
    {"capitalize", capitalize_, "", 0},
    {"count", length_, "", 0},
    {"d", default_, "default_value boolean", 0},
    {"default", default_, "default_value boolean", 0},
    {"e", escape_, "", 0},
    {"escape", escape_, "", 0},
    {"float", float_, "default", 0},
    {"indent", indent_, "width first blank", 0},
    {"int", int_, "default base", 0},
    {"length", length_, "", 0},
    {"lower", lower_, "", 0},
    {"replace", replace_, "old new count", 2},
    {"round", round_, "precision method", 0},
    {"safe", safe_, "", 0},
    {"string", string_, "", 0},
    {"title", title_, "", 0},
    {"tojson", tojson_, "ensure_ascii indent separators sort_keys", 0},
    {"trim", trim_, "chars", 0},
    {"upper", upper_, "", 0},
    {NULL},
};

const Row *jinja_row(const Row *rows, const char *s, size_t n) {
  for (; rows->name; rows++)
    if (strlen(rows->name) == n && !memcmp(rows->name, s, n)) return rows;
  return NULL;
}

const Row *jinja_filter(const char *s, size_t n) {
  const Row *row = jinja_row(jinja_text_filters, s, n);
  return row ? row : jinja_row(jinja_sequence_filters, s, n);
}
