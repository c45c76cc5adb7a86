/* Values: made, compared, iterated over. All as Python has it, see text/jinja.h.
 *
 * Recursion follows lists within lists, and Run.values counts it: JINJA_VALUES at most. */
#include "text/jinja.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

Value jinja_bool(bool b) {
  return (Value){.kind = V_BOOL, .b = b};
}
Value jinja_int(int64_t i) {
  return (Value){.kind = V_INT, .i = i};
}
Value jinja_float(double f) {
  return (Value){.kind = V_FLOAT, .f = f};
}
Value jinja_string(const char *s, size_t n) {
  return (Value){.kind = V_STRING, .s = s, .n = n};
}

Value jinja_copy(Run *r, const char *s, size_t n) {
  char *to = jinja_alloc(r, n + 1);
  if (n) memcpy(to, s, n);
  return jinja_string(to, n);
}

Value jinja_taken(Run *r, size_t start) {
  Value v = jinja_copy(r, r->tmp.s ? r->tmp.s + start : "", r->tmp.n - start);
  r->tmp.n = start;
  return v;
}

Value jinja_undefined(Run *r, const char *fmt, ...) {
  char text[256];
  va_list ap;
  va_start(ap, fmt);
  int n = vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  Value v = jinja_copy(r, text, n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
  v.kind = V_UNDEFINED;
  return v;
}

Value jinja_list(Run *r, ListType type, List **list) {
  *list = jinja_alloc(r, sizeof **list);
  (*list)->type = type;
  return (Value){.kind = V_LIST, .list = *list};
}

/* Twice the room for n items of `item` bytes, moved. */
static void *grow(Run *r, void *old, int n, int *cap, size_t item) {
  *cap = *cap ? *cap * 2 : 8;
  void *to = jinja_alloc(r, (size_t)*cap * item);
  if (n) memcpy(to, old, (size_t)n * item);
  return to;
}

void jinja_push(Run *r, List *l, Value v) {
  if (r->failed) return; /* what is made without end ends here */
  if (l->n == l->cap) l->v = grow(r, l->v, l->n, &l->cap, sizeof *l->v);
  l->v[l->n++] = v;
}

Value jinja_dict(Run *r, Dict **d) {
  *d = jinja_alloc(r, sizeof **d);
  return (Value){.kind = V_DICT, .dict = *d};
}

static void add_pair(Run *r, Dict *d, Value key, Value v) {
  if (r->failed) return;
  if (d->n == d->cap) d->v = grow(r, d->v, d->n, &d->cap, sizeof *d->v);
  d->v[d->n++] = (Pair){key, v};
}

void jinja_put(Run *r, Dict *d, Value key, Value v) {
  if (key.kind == V_DICT || key.kind == V_NAMESPACE || (key.kind == V_LIST && key.list->type == L_LIST)) {
    jinja_fail(r, "a %s cannot be the key of a dict", jinja_type(key));
    return;
  }
  Value *old = (Value *)jinja_get(r, d, key);
  if (old)
    *old = v;
  else
    add_pair(r, d, key, v);
}

const Value *jinja_get(Run *r, const Dict *d, Value key) {
  jinja_step(r, (size_t)d->n / 16);
  for (int i = 0; i < d->n; i++) {
    const Value *k = &d->v[i].key;
    if (k->kind == V_STRING && key.kind == V_STRING) {
      if (k->n == key.n && !memcmp(k->s, key.s, key.n)) return &d->v[i].value;
    } else if ((k->kind == V_STRING) == (key.kind == V_STRING) && jinja_equal(r, *k, key)) {
      return &d->v[i].value;
    }
  }
  return NULL;
}

const Value *jinja_get_text(const Dict *d, const char *s) {
  for (int i = 0; i < d->n; i++)
    if (jinja_is(d->v[i].key, s)) return &d->v[i].value;
  return NULL;
}

Value jinja_from_json(Run *r, const json_t *j) {
  Value v = NONE;
  if (++r->values > JINJA_VALUES) {
    jinja_fail(r, "a value of the request is nested more than %d deep", JINJA_VALUES);
  } else if (jinja_step(r, 1)) {
    switch (json_typeof(j)) {
    case JSON_OBJECT: {
      Dict *d;
      const char *key;
      json_t *item;
      v = jinja_dict(r, &d);
      json_object_foreach((json_t *)j, key, item)
          add_pair(r, d, jinja_string(key, strlen(key)), jinja_from_json(r, item));
      break;
    }
    case JSON_ARRAY: {
      List *l;
      v = jinja_list(r, L_LIST, &l);
      for (size_t i = 0; i < json_array_size(j) && !r->failed; i++)
        jinja_push(r, l, jinja_from_json(r, json_array_get(j, i)));
      break;
    }
    case JSON_STRING: v = jinja_string(json_string_value(j), json_string_length(j)); break;
    case JSON_INTEGER: v = jinja_int(json_integer_value(j)); break;
    case JSON_REAL: v = jinja_float(json_real_value(j)); break;
    case JSON_TRUE: v = jinja_bool(true); break;
    case JSON_FALSE: v = jinja_bool(false); break;
    case JSON_NULL: break;
    }
  }
  r->values--;
  return v;
}

bool jinja_is(Value v, const char *text) {
  return v.kind == V_STRING && strlen(text) == v.n && !memcmp(v.s, text, v.n);
}

bool jinja_whole(Value v, int64_t *i) {
  *i = v.kind == V_BOOL ? v.b : v.i;
  return v.kind == V_BOOL || v.kind == V_INT;
}

bool jinja_number(Value v, int64_t *i, double *f) {
  if (jinja_whole(v, i)) return *f = (double)*i, true;
  *f = v.f;
  return v.kind == V_FLOAT;
}

bool jinja_truth(Value v) {
  switch ((ValueKind)v.kind) {
  case V_MISSING:
  case V_UNDEFINED:
  case V_NONE: return false;
  case V_BOOL: return v.b;
  case V_INT: return v.i != 0;
  case V_FLOAT: return v.f != 0; /* NaN is true */
  case V_STRING: return v.n > 0;
  case V_LIST: return v.list->type == L_ITERATOR || v.list->n > 0;
  case V_DICT: return v.dict->n > 0;
  default: return true;
  }
}

/* Below, at or above 0; 2: no order (NaN). The conversion to long double is exact. */
static int number_order(Value a, Value b) {
  int64_t ia, ib;
  double fa, fb;
  jinja_number(a, &ia, &fa);
  jinja_number(b, &ib, &fb);
  if (isnan(fa) || isnan(fb)) return 2;
  long double la = a.kind == V_FLOAT ? (long double)fa : (long double)ia;
  long double lb = b.kind == V_FLOAT ? (long double)fb : (long double)ib;
  return (la > lb) - (la < lb);
}

static bool is_number(Value v) {
  return v.kind == V_BOOL || v.kind == V_INT || v.kind == V_FLOAT;
}

static bool equal_lists(Run *r, const List *a, const List *b) {
  bool views = a->type == L_KEYS || a->type == L_ITEMS;
  if (a == b) return true;
  if (a->type != b->type || a->n != b->n || a->type == L_ITERATOR || a->type == L_VALUES) return false;
  for (int i = 0; i < a->n; i++) {
    bool same = false;
    for (int k = views ? 0 : i; k < (views ? a->n : i + 1) && !same && jinja_step(r, 1); k++)
      same = jinja_equal(r, a->v[i], b->v[k]);
    if (!same) return false;
  }
  return true;
}

static bool equal_dicts(Run *r, const Dict *a, const Dict *b) {
  if (a == b) return true;
  if (a->n != b->n) return false;
  for (int i = 0; i < a->n && jinja_step(r, 1); i++) {
    const Value *v = jinja_get(r, b, a->v[i].key);
    if (!v || !jinja_equal(r, a->v[i].value, *v)) return false;
  }
  return true;
}

bool jinja_equal(Run *r, Value a, Value b) {
  bool same = false;
  if (is_number(a) && is_number(b)) return number_order(a, b) == 0;
  if (a.kind != b.kind || r->failed) return false;
  if (++r->values > JINJA_VALUES) {
    jinja_fail(r, "lists are nested more than %d deep", JINJA_VALUES);
  } else {
    switch ((ValueKind)a.kind) {
    case V_MISSING:
    case V_UNDEFINED:
    case V_NONE: same = true; break;
    case V_STRING: same = jinja_step(r, a.n / 64) && a.n == b.n && !memcmp(a.s, b.s, a.n); break;
    case V_LIST: same = equal_lists(r, a.list, b.list); break;
    case V_DICT: same = equal_dicts(r, a.dict, b.dict); break;
    case V_METHOD:
      same = a.method->row == b.method->row && !strcmp(a.method->name, b.method->name) &&
             a.method->self.kind == b.method->self.kind && a.method->self.list == b.method->self.list;
      break;
    default: same = a.list == b.list; /* the same thing */
    }
  }
  r->values--;
  return same;
}

int jinja_order(Run *r, Value a, Value b, const char *op) {
  int order = 0;
  if (is_number(a) && is_number(b)) return number_order(a, b);
  if (a.kind == V_STRING && b.kind == V_STRING) {
    size_t n = a.n < b.n ? a.n : b.n;
    jinja_step(r, n / 64);
    order = n ? memcmp(a.s, b.s, n) : 0; /* bytes of UTF-8 are in the order of code points */
    return order ? (order > 0) - (order < 0) : (a.n > b.n) - (a.n < b.n);
  }
  if (a.kind == V_UNDEFINED || b.kind == V_UNDEFINED) {
    Value v = a.kind == V_UNDEFINED ? a : b;
    jinja_fail(r, "%.*s", (int)v.n, v.s);
    return 0;
  }
  if (a.kind != V_LIST || b.kind != V_LIST || a.list->type != b.list->type || a.list->type > L_TUPLE) {
    jinja_fail(r, "'%s' between %s and %s", op, jinja_type(a), jinja_type(b));
    return 0;
  }
  if (++r->values > JINJA_VALUES) jinja_fail(r, "lists are nested more than %d deep", JINJA_VALUES);
  const List *x = a.list, *y = b.list;
  int i = 0;
  while (i < x->n && i < y->n && jinja_step(r, 1) && jinja_equal(r, x->v[i], y->v[i])) i++;
  if (r->failed)
    order = 0;
  else
    order = i < x->n && i < y->n ? jinja_order(r, x->v[i], y->v[i], op) : (x->n > y->n) - (x->n < y->n);
  r->values--;
  return order;
}

const char *jinja_type(Value v) {
  static const char *const list[] = {"list", "tuple", "range", "dict_keys", "dict_values", "dict_items", "iterator"};
  switch ((ValueKind)v.kind) {
  case V_MISSING:
  case V_UNDEFINED: return "Undefined";
  case V_NONE: return "None";
  case V_BOOL: return "bool";
  case V_INT: return "int";
  case V_FLOAT: return "float";
  case V_STRING: return "str";
  case V_LIST: return list[v.list->type];
  case V_DICT: return "dict";
  case V_NAMESPACE: return "namespace";
  case V_LOOP: return "loop";
  case V_MACRO: return "macro";
  case V_FUNCTION: return "function";
  case V_METHOD: return "method";
  }
  return "?";
}

bool jinja_iterable(Value v) {
  return v.kind == V_UNDEFINED || v.kind == V_STRING || v.kind == V_LIST || v.kind == V_DICT;
}

int64_t jinja_length(Value v) {
  switch ((ValueKind)v.kind) {
  case V_UNDEFINED: return 0;
  case V_STRING: return jinja_chars(v.s, v.n);
  case V_LIST: return v.list->type == L_ITERATOR ? -1 : v.list->n;
  case V_DICT: return v.dict->n;
  default: return -1;
  }
}

List *jinja_items(Run *r, Value v) {
  List *out;
  if (v.kind == V_LIST && v.list->type != L_ITERATOR) return v.list;
  jinja_list(r, L_LIST, &out);
  switch ((ValueKind)v.kind) {
  case V_UNDEFINED: break;
  case V_STRING:
    for (size_t i = 0, len; i < v.n && jinja_step(r, 1); i += len) {
      len = jinja_offset(v.s + i, v.n - i, 1);
      jinja_push(r, out, jinja_string(v.s + i, len));
    }
    break;
  case V_LIST:
    out->n = out->cap = v.list->n - v.list->used;
    if (out->n) out->v = v.list->v + v.list->used;
    v.list->used = v.list->n;
    break;
  case V_DICT:
    for (int i = 0; i < v.dict->n && jinja_step(r, 1); i++) jinja_push(r, out, v.dict->v[i].key);
    break;
  default: jinja_fail(r, "'%s' is not iterable", jinja_type(v));
  }
  return out;
}
