/* Functions that every template has: Jinja2's range, dict and namespace, transformers' raise_exception and strftime_now. */
#include "text/jinja.h"

#include <string.h>
#include <time.h>

#define FUNCTION(name) static Value name(Run *r, Value v, const Value *a, const Args *all)

FUNCTION(range_) {
  int64_t part[3] = {0, 0, 1};
  List *l;
  for (int i = 0; i < 3 && a[i].kind != V_MISSING; i++)
    if (!jinja_whole(a[i], &part[i])) return jinja_fail(r, "range: %s is no whole number", jinja_type(a[i]));
  if (a[1].kind == V_MISSING) part[1] = part[0], part[0] = 0;
  int64_t from = part[0], to = part[1], by = part[2], last;
  if (!by) return jinja_fail(r, "range: the step is 0");
  /* one beyond the limit, or anything less than to, is enough to tell */
  if (__builtin_mul_overflow(by, (int64_t)JINJA_RANGE, &last) || __builtin_add_overflow(last, from, &last))
    last = by > 0 ? INT64_MAX : INT64_MIN;
  if (by > 0 ? last < to : last > to) return jinja_fail(r, "range: more than %d numbers", JINJA_RANGE);
  Value list = jinja_list(r, L_RANGE, &l);
  while ((by > 0 ? from < to : from > to) && jinja_step(r, 1)) {
    jinja_push(r, l, jinja_int(from));
    if (__builtin_add_overflow(from, by, &from)) break;
  }
  return list;
}

/* A mapping, or pairs, and names. */
static Value make_dict(Run *r, const Args *all, bool namespace) {
  Dict *d;
  Value v = jinja_dict(r, &d);
  if (all->n > 1) return jinja_fail(r, "one value at most becomes a dict, not %d", all->n);
  if (all->n && all->v[0].kind == V_DICT) {
    for (int i = 0; i < all->v[0].dict->n; i++) jinja_put(r, d, all->v[0].dict->v[i].key, all->v[0].dict->v[i].value);
  } else if (all->n) {
    List *pairs = jinja_items(r, all->v[0]);
    for (int i = 0; i < pairs->n && jinja_step(r, 1); i++) {
      List *pair = jinja_items(r, pairs->v[i]);
      if (!r->failed && pair->n != 2) jinja_fail(r, "a dict is made of pairs, not of %d items", pair->n);
      if (!r->failed) jinja_put(r, d, pair->v[0], pair->v[1]);
    }
  }
  for (int i = 0; i < all->nnamed && jinja_step(r, 1); i++) jinja_put(r, d, all->named[i].key, all->named[i].value);
  for (int i = 0; namespace && i < d->n; i++)
    if (d->v[i].key.kind == V_STRING && d->v[i].key.n && d->v[i].key.s[0] == '_')
      return jinja_fail(r, "attributes of a namespace cannot begin with '_'");
  if (namespace) v.kind = V_NAMESPACE;
  return v;
}

FUNCTION(dict_) {
  return make_dict(r, all, false);
}
FUNCTION(namespace_) {
  return make_dict(r, all, true);
}

FUNCTION(raise_exception_) {
  Value text = jinja_text(r, a[0]);
  return jinja_fail(r, "%.*s", (int)(text.n < 4096 ? text.n : 4096), text.s);
}

FUNCTION(strftime_now_) {
  static const char known[] = "aAbBcdDeFgGhHIjmMnpRStTuUVwWxXyYC%";
  char format[256], text[1024];
  if (a[0].kind != V_STRING || a[0].n >= sizeof format)
    return jinja_fail(r, "strftime_now: a format of at most 255 bytes is asked for");
  memcpy(format, a[0].s, a[0].n);
  format[a[0].n] = 0;
  for (const char *c = format; *c; c++) {
    if (*c != '%') continue;
    c++;
    if (*c == '-') c++; /* without its leading zero */
    if (!*c || !strchr(known, *c)) return jinja_fail(r, "strftime_now: the format is not in the subset");
  }
  time_t now = time(NULL);
  struct tm tm;
  localtime_r(&now, &tm);
  return jinja_copy(r, text, strftime(text, sizeof text, format, &tm));
}

static const Row functions[] = {
    {"dict", dict_, NULL, 0},
    {"namespace", namespace_, NULL, 0},
    {"raise_exception", raise_exception_, "message", 1},
    {"range", range_, "- - -", 1},
    {"strftime_now", strftime_now_, "format", 1},
    {NULL},
};

const Row *jinja_function(const char *s, size_t n) {
  return jinja_row(functions, s, n);
}
