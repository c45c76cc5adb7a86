/* Filters of sequences. Where Jinja2 gives a generator, an iterator comes out, whose items are there already but can be had once. */
#include "text/jinja.h"

#include <string.h>

#define FILTER(name) static Value name(Run *r, Value v, const Value *a, const Args *all)

static bool given(Value v) {
  return v.kind != V_MISSING && v.kind != V_NONE;
}

/* An item's attribute by a path "a.b.0", or itself without a path. */
static Value pick(Run *r, Value v, Value path) {
  int64_t index;
  if (!given(path)) return v;
  if (jinja_whole(path, &index)) return jinja_item(r, v, path);
  if (path.kind != V_STRING) return jinja_fail(r, "an attribute is named by a string, not %s", jinja_type(path));
  for (size_t at = 0; at <= path.n && !r->failed;) {
    const char *dot = memchr(path.s + at, '.', path.n - at);
    Value part = jinja_string(path.s + at, (dot ? (size_t)(dot - path.s) : path.n) - at);
    at += part.n + 1;
    bool digits = part.n > 0 && part.n < 18;
    for (size_t i = 0; i < part.n; i++) digits = digits && part.s[i] >= '0' && part.s[i] <= '9';
    v = jinja_item(r, v, digits && jinja_parse_int(part, 10, &index) ? jinja_int(index) : part);
  }
  return v;
}

static Value no_case(Run *r, Value v, Value sensitive) {
  bool keep = sensitive.kind != V_MISSING && jinja_truth(sensitive);
  return v.kind == V_STRING && !keep ? jinja_case(r, v, CASE_LOWER) : v;
}

FILTER(first_) {
  List *l;
  if (v.kind == V_LIST && v.list->type == L_ITERATOR) {
    if (v.list->used < v.list->n) return v.list->v[v.list->used++];
  } else if ((l = jinja_items(r, v))->n) {
    return l->v[0];
  }
  return jinja_undefined(r, "no first item: the sequence is empty");
}

FILTER(last_) {
  bool ordered = v.kind == V_STRING || v.kind == V_DICT || (v.kind == V_LIST && v.list->type != L_ITERATOR);
  if (v.kind == V_UNDEFINED) return jinja_fail(r, "%.*s", (int)v.n, v.s);
  if (!ordered) return jinja_fail(r, "last: a value of type %s has no order", jinja_type(v));
  List *l = jinja_items(r, v);
  return l->n ? l->v[l->n - 1] : jinja_undefined(r, "no last item: the sequence is empty");
}

FILTER(list_) {
  List *l, *in = jinja_items(r, v);
  Value list = jinja_list(r, L_LIST, &l);
  for (int i = 0; i < in->n && jinja_step(r, 1); i++) jinja_push(r, l, in->v[i]);
  return list;
}

FILTER(reverse_) {
  List *l, *in = jinja_items(r, v);
  Value list = jinja_list(r, L_ITERATOR, &l);
  for (int i = in->n; i-- > 0 && jinja_step(r, 1);) jinja_push(r, l, in->v[i]);
  return v.kind == V_STRING ? jinja_join(r, jinja_string("", 0), l, false) : list;
}

FILTER(join_) {
  List *l, *in = jinja_items(r, v);
  Value by = a[0].kind == V_MISSING ? jinja_string("", 0) : jinja_text(r, a[0]);
  if (!given(a[1])) return jinja_join(r, by, in, false);
  jinja_list(r, L_LIST, &l);
  for (int i = 0; i < in->n && jinja_step(r, 1); i++) jinja_push(r, l, pick(r, in->v[i], a[1]));
  return jinja_join(r, by, l, false);
}

static Value pairs(Run *r, Value v, ListType type) {
  List *l, *pair;
  Value list = jinja_list(r, type, &l);
  for (int i = 0; i < v.dict->n && jinja_step(r, 1); i++) {
    Value both = jinja_list(r, L_TUPLE, &pair);
    jinja_push(r, pair, v.dict->v[i].key);
    jinja_push(r, pair, v.dict->v[i].value);
    jinja_push(r, l, both);
  }
  return list;
}

FILTER(items_) {
  Dict *empty;
  if (v.kind == V_UNDEFINED) v = jinja_dict(r, &empty);
  if (v.kind != V_DICT) return jinja_fail(r, "items: a value of type %s is no mapping", jinja_type(v));
  return pairs(r, v, L_ITERATOR);
}

/* ---- order */

typedef struct Keyed {
  Value key, v;
} Keyed;

/* By merging, so that equal ones keep their order; backwards: the same with the order turned round. */
static void sort(Run *r, Keyed *v, Keyed *tmp, int n, bool backwards) {
  if (n < 2 || !jinja_step(r, (size_t)n)) return;
  int half = n / 2;
  sort(r, v, tmp, half, backwards);
  sort(r, v + half, tmp, n - half, backwards);
  memcpy(tmp, v, sizeof *v * (size_t)n);
  for (int i = 0, a = 0, b = half; i < n; i++) {
    int order = a == half || b == n ? 0 : jinja_order(r, tmp[b].key, tmp[a].key, "<");
    if (order == 2) order = 0; /* NaN is below nothing */
    bool right = a == half || (b < n && (backwards ? order > 0 : order < 0));
    v[i] = right ? tmp[b++] : tmp[a++];
  }
}

static Value sorted(Run *r, Keyed *keyed, int n, Value backwards) {
  List *l;
  Keyed *tmp = jinja_alloc(r, sizeof *tmp * (size_t)(n + 1));
  Value list = jinja_list(r, L_LIST, &l);
  sort(r, keyed, tmp, n, backwards.kind != V_MISSING && jinja_truth(backwards));
  for (int i = 0; i < n && jinja_step(r, 1); i++) jinja_push(r, l, keyed[i].v);
  return list;
}

/* The attributes of "a,b", as a list: of two that are equal the next decides, and what is undefined equals its like. */
static Value sort_key(Run *r, Value v, Value paths, Value sensitive) {
  List *l;
  Value key = jinja_list(r, L_LIST, &l);
  if (paths.kind != V_STRING) {
    jinja_push(r, l, no_case(r, pick(r, v, paths), sensitive));
    return key;
  }
  for (size_t at = 0; at <= paths.n && jinja_step(r, 1);) {
    const char *comma = memchr(paths.s + at, ',', paths.n - at);
    Value path = jinja_string(paths.s + at, (comma ? (size_t)(comma - paths.s) : paths.n) - at);
    jinja_push(r, l, no_case(r, pick(r, v, path), sensitive));
    at += path.n + 1;
  }
  return key;
}

FILTER(sort_) {
  List *in = jinja_items(r, v);
  Keyed *keyed = jinja_alloc(r, sizeof *keyed * (size_t)(in->n + 1));
  for (int i = 0; i < in->n && jinja_step(r, 1); i++) keyed[i] = (Keyed){sort_key(r, in->v[i], a[2], a[1]), in->v[i]};
  return r->failed ? v : sorted(r, keyed, in->n, a[0]);
}

FILTER(dictsort_) {
  bool value = jinja_is(a[1], "value");
  if (v.kind == V_UNDEFINED) return jinja_fail(r, "%.*s", (int)v.n, v.s);
  if (v.kind != V_DICT) return jinja_fail(r, "dictsort: a value of type %s is no mapping", jinja_type(v));
  if (a[1].kind != V_MISSING && !value && !jinja_is(a[1], "key"))
    return jinja_fail(r, "dictsort: by is 'key' or 'value'");
  List *in = pairs(r, v, L_LIST).list;
  Keyed *keyed = jinja_alloc(r, sizeof *keyed * (size_t)(in->n + 1));
  for (int i = 0; i < in->n && jinja_step(r, 1); i++)
    keyed[i] = (Keyed){no_case(r, in->v[i].list->v[value], a[0]), in->v[i]};
  return r->failed ? v : sorted(r, keyed, in->n, a[2]);
}

FILTER(unique_) {
  List *l, *keys, *in = jinja_items(r, v);
  Value list = jinja_list(r, L_ITERATOR, &l);
  jinja_list(r, L_LIST, &keys);
  for (int i = 0; i < in->n && jinja_step(r, 1); i++) {
    Value key = no_case(r, pick(r, in->v[i], a[1]), a[0]);
    bool seen = false;
    if (key.kind == V_DICT || (key.kind == V_LIST && key.list->type == L_LIST))
      jinja_fail(r, "unhashable type: '%s'", jinja_type(key));
    for (int k = 0; k < keys->n && !seen && jinja_step(r, 1); k++) seen = jinja_equal(r, keys->v[k], key);
    if (seen) continue;
    jinja_push(r, keys, key);
    jinja_push(r, l, in->v[i]);
  }
  return list;
}

static Value extreme(Run *r, Value v, const Value *a, int sign) {
  List *in = jinja_items(r, v);
  Value best = MISSING, best_key = MISSING;
  for (int i = 0; i < in->n && jinja_step(r, 1); i++) {
    Value key = no_case(r, pick(r, in->v[i], a[1]), a[0]);
    int order = i ? jinja_order(r, key, best_key, sign < 0 ? "<" : ">") : sign;
    if (order == 2 || order * sign <= 0) continue;
    best = in->v[i];
    best_key = key;
  }
  return in->n ? best : jinja_undefined(r, "no item: the sequence is empty");
}
FILTER(min_) {
  return extreme(r, v, a, -1);
}
FILTER(max_) {
  return extreme(r, v, a, 1);
}

FILTER(sum_) {
  List *in = jinja_items(r, v);
  Value sum = a[1].kind == V_MISSING ? jinja_int(0) : a[1];
  if (sum.kind == V_STRING) return jinja_fail(r, "sum: strings are joined by join");
  for (int i = 0; i < in->n && jinja_step(r, 1); i++) sum = jinja_math(r, "+", sum, pick(r, in->v[i], a[0]));
  return sum;
}

/* ---- with a filter or a test by its name */

static Args rest(const Args *all, int from) {
  return (Args){all->v + from, all->n - from, all->named, all->nnamed};
}

/* What is false has none, whatever it is. */
static List *some_items(Run *r, Value v) {
  return jinja_items(r, jinja_truth(v) ? v : (Value){.kind = V_UNDEFINED, .s = ""});
}

FILTER(map_) {
  List *l, *in;
  Value path = MISSING, otherwise = MISSING;
  const Row *row = NULL;
  Args args = {0};
  if (!all->n) {
    for (int i = 0; i < all->nnamed; i++) {
      Value name = all->named[i].key;
      if (jinja_is(name, "attribute"))
        path = all->named[i].value;
      else if (jinja_is(name, "default"))
        otherwise = all->named[i].value;
      else
        return jinja_fail(r, "map has no argument '%.*s'", (int)(name.n < 80 ? name.n : 80), name.s);
    }
    if (path.kind == V_MISSING) return jinja_fail(r, "map asks for a filter or an attribute");
  } else {
    Value name = all->v[0];
    row = name.kind == V_STRING ? jinja_filter(name.s, name.n) : NULL;
    if (!row)
      return jinja_fail(r, "map: the filter '%.*s' is not in the subset",
                        name.kind == V_STRING && name.n < 80 ? (int)name.n : 0, name.kind == V_STRING ? name.s : "");
    args = rest(all, 1);
  }
  in = some_items(r, v);
  Value list = jinja_list(r, L_ITERATOR, &l);
  for (int i = 0; i < in->n && jinja_step(r, 1); i++) {
    Value item = row ? jinja_call_row(r, row, "filter", in->v[i], &args) : pick(r, in->v[i], path);
    jinja_push(r, l, item.kind == V_UNDEFINED && !row && given(otherwise) ? otherwise : item);
  }
  return list;
}

/* Items for which a test holds, or not. attr: of an attribute, whose name comes first. */
static Value chosen(Run *r, Value v, const Args *all, bool attr, bool want) {
  List *l, *in;
  const Row *row = NULL;
  Args args = {0};
  if (attr && !all->n) return jinja_fail(r, "the attribute is not named");
  if (all->n > attr) {
    Value name = all->v[attr];
    row = name.kind == V_STRING ? jinja_test(name.s, name.n) : NULL;
    if (!row)
      return jinja_fail(r, "the test '%.*s' is not in the subset",
                        name.kind == V_STRING && name.n < 80 ? (int)name.n : 0, name.kind == V_STRING ? name.s : "");
    args = rest(all, attr + 1);
  }
  in = some_items(r, v);
  Value list = jinja_list(r, L_ITERATOR, &l);
  for (int i = 0; i < in->n && jinja_step(r, 1); i++) {
    Value item = attr ? pick(r, in->v[i], all->v[0]) : in->v[i];
    bool holds = jinja_truth(row && !r->failed ? jinja_call_row(r, row, "test", item, &args) : item);
    if (holds == want) jinja_push(r, l, in->v[i]);
  }
  return list;
}
FILTER(select_) {
  return chosen(r, v, all, false, true);
}
FILTER(reject_) {
  return chosen(r, v, all, false, false);
}
FILTER(selectattr_) {
  return chosen(r, v, all, true, true);
}
FILTER(rejectattr_) {
  return chosen(r, v, all, true, false);
}

const Row jinja_sequence_filters[] = {
    {"dictsort", dictsort_, "case_sensitive by reverse", 0},
    {"first", first_, "", 0},
    {"items", items_, "", 0},
    {"join", join_, "d attribute", 0},
    {"last", last_, "", 0},
    {"list", list_, "", 0},
    {"map", map_, NULL, 0},
    {"max", max_, "case_sensitive attribute", 0},
    {"min", min_, "case_sensitive attribute", 0},
    {"reject", reject_, NULL, 0},
    {"rejectattr", rejectattr_, NULL, 0},
    {"reverse", reverse_, "", 0},
    {"select", select_, NULL, 0},
    {"selectattr", selectattr_, NULL, 0},
    {"sort", sort_, "reverse case_sensitive attribute", 0},
    {"sum", sum_, "attribute start", 0},
    {"unique", unique_, "case_sensitive attribute", 0},
    {NULL},
};
