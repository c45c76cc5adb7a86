/* Operators on values, and what stands in dots and brackets behind them. All as Python has it; whole numbers are of 64 bits,
 * and one that would be larger is an error. */
#include "text/jinja.h"

#include <math.h>
#include <string.h>

static Value too_large(Run *r) {
  return jinja_fail(r, "a whole number beyond 64 bits");
}

static Value power(Run *r, int64_t a, int64_t b) {
  int64_t v = 1;
  if (b < 0) return a ? jinja_float(pow((double)a, (double)b)) : jinja_fail(r, "0 to a negative power");
  for (; b; b >>= 1) {
    if ((b & 1) && __builtin_mul_overflow(v, a, &v)) return too_large(r);
    if (b > 1 && __builtin_mul_overflow(a, a, &a)) return too_large(r);
  }
  return jinja_int(v);
}

/* The remainder has the divisor's sign, as the quotient is rounded down. */
static Value whole(Run *r, const char op[2], int64_t a, int64_t b) {
  int64_t v;
  switch (op[0]) {
  case '+': return __builtin_add_overflow(a, b, &v) ? too_large(r) : jinja_int(v);
  case '-': return __builtin_sub_overflow(a, b, &v) ? too_large(r) : jinja_int(v);
  case '*':
    if (op[1]) return power(r, a, b);
    return __builtin_mul_overflow(a, b, &v) ? too_large(r) : jinja_int(v);
  }
  if (!b) return jinja_fail(r, "division by zero");
  if (op[0] == '/' && !op[1]) return jinja_float((double)((long double)a / (long double)b));
  if (b == -1) return op[0] == '%' ? jinja_int(0) : __builtin_sub_overflow(0, a, &v) ? too_large(r) : jinja_int(v);
  int64_t q = a / b, m = a % b;
  if (m && (m < 0) != (b < 0)) q--, m += b;
  return jinja_int(op[0] == '%' ? m : q);
}

static Value real(Run *r, const char op[2], double a, double b) {
  double m;
  switch (op[0]) {
  case '+': return jinja_float(a + b);
  case '-': return jinja_float(a - b);
  case '*':
    if (!op[1]) return jinja_float(a * b);
    if (a == 0 && b < 0) return jinja_fail(r, "0 to a negative power");
    if (a < 0 && isfinite(a) && isfinite(b) && b != floor(b))
      return jinja_fail(r, "a complex number is not in the subset");
    m = pow(a, b);
    if (isinf(m) && isfinite(a) && isfinite(b)) return jinja_fail(r, "a number too large");
    return jinja_float(m);
  }
  if (b == 0) return jinja_fail(r, "division by zero");
  if (op[0] == '/' && !op[1]) return jinja_float(a / b);
  m = fmod(a, b);
  double q = (a - m) / b;
  if (m != 0 ? (b < 0) != (m < 0) : false) m += b, q -= 1;
  if (m == 0) m = copysign(0.0, b);
  if (op[0] == '%') return jinja_float(m);
  double down = floor(q);
  if (q - down > 0.5) down += 1;
  return jinja_float(q != 0 ? down : copysign(0.0, a / b));
}

static Value repeat(Run *r, Value v, int64_t times) {
  size_t start = r->tmp.n;
  List *out, *in = v.list;
  if (times < 0) times = 0;
  if (v.kind == V_STRING) {
    if (!jinja_room(r, v.n, (size_t)times) || !jinja_step(r, (v.n * (size_t)times) / 64)) return v;
    for (int64_t i = 0; i < times && v.n; i++) text_write(&r->tmp, v.s, v.n);
    bool safe = v.safe;
    v = jinja_taken(r, start);
    v.safe = safe;
    return v;
  }
  Value list = jinja_list(r, v.list->type, &out);
  for (int64_t i = 0; i < times && in->n; i++)
    for (int k = 0; k < in->n && jinja_step(r, 1); k++) jinja_push(r, out, in->v[k]);
  return list;
}

static bool is_row(Value v) {
  return v.kind == V_STRING || (v.kind == V_LIST && v.list->type <= L_TUPLE);
}

static Value join(Run *r, Value a, Value b) {
  size_t start = r->tmp.n;
  List *out;
  if (a.kind == V_STRING) {
    bool safe = a.safe || b.safe; /* Markup escapes what is added to it */
    if (safe) a = jinja_escape(r, a), b = jinja_escape(r, b);
    if (!jinja_room(r, a.n + b.n, 1) || !jinja_step(r, (a.n + b.n) / 64)) return a;
    text_write(&r->tmp, a.s, a.n);
    text_write(&r->tmp, b.s, b.n);
    Value v = jinja_taken(r, start);
    v.safe = safe;
    return v;
  }
  Value list = jinja_list(r, a.list->type, &out);
  for (int i = 0; i < a.list->n && jinja_step(r, 1); i++) jinja_push(r, out, a.list->v[i]);
  for (int i = 0; i < b.list->n && jinja_step(r, 1); i++) jinja_push(r, out, b.list->v[i]);
  return list;
}

Value jinja_math(Run *r, const char op[2], Value a, Value b) {
  int64_t ia, ib;
  double fa, fb;
  for (int i = 0; i < 2; i++) {
    Value v = i ? b : a;
    if (v.kind == V_UNDEFINED) return jinja_fail(r, "%.*s", (int)v.n, v.s);
  }
  if (jinja_whole(a, &ia) && jinja_whole(b, &ib)) return whole(r, op, ia, ib);
  if (jinja_number(a, &ia, &fa) && jinja_number(b, &ib, &fb)) return real(r, op, fa, fb);
  if (op[0] == '%' && a.kind == V_STRING) return jinja_fail(r, "formatting by '%%' is not in the subset");
  if (op[0] == '+' && is_row(a) && is_row(b) && a.kind == b.kind &&
      (a.kind == V_STRING || a.list->type == b.list->type))
    return join(r, a, b);
  if (op[0] == '*' && !op[1] && is_row(a) && jinja_whole(b, &ib)) return repeat(r, a, ib);
  if (op[0] == '*' && !op[1] && is_row(b) && jinja_whole(a, &ia)) return repeat(r, b, ia);
  return jinja_fail(r, "'%.2s' between %s and %s", op, jinja_type(a), jinja_type(b));
}

bool jinja_compare(Run *r, const char op[2], Value a, Value b) {
  if (op[0] == 'i') return jinja_in(r, a, b);
  if (op[0] == 'n') return !jinja_in(r, a, b);
  if (op[0] == '=') return jinja_equal(r, a, b);
  if (op[0] == '!') return !jinja_equal(r, a, b);
  int order = jinja_order(r, a, b, op[1] ? (op[0] == '<' ? "<=" : ">=") : (op[0] == '<' ? "<" : ">"));
  if (order == 2 || r->failed) return false;
  return op[0] == '<' ? order < (op[1] != 0) : order > -(op[1] != 0);
}

bool jinja_in(Run *r, Value a, Value b) {
  if (b.kind == V_STRING) {
    if (a.kind != V_STRING) return jinja_fail(r, "'in <string>' asks for a string, not %s", jinja_type(a)), false;
    return jinja_step(r, b.n / 64) && jinja_find(b, a) != NULL;
  }
  if (b.kind == V_DICT) {
    if (a.kind == V_DICT || (a.kind == V_LIST && a.list->type == L_LIST))
      jinja_fail(r, "unhashable type: '%s'", jinja_type(a));
    return jinja_get(r, b.dict, a) != NULL;
  }
  if (!jinja_iterable(b)) return jinja_fail(r, "'in' a value of type %s", jinja_type(b)), false;
  bool iterator = b.kind == V_LIST && b.list->type == L_ITERATOR;
  int used = iterator ? b.list->used : 0;
  List *l = jinja_items(r, b);
  for (int i = 0; i < l->n && jinja_step(r, 1); i++)
    if (jinja_equal(r, l->v[i], a)) {
      if (iterator) b.list->used = used + i + 1; /* the rest is still to come */
      return true;
    }
  return false;
}

/* ---- attributes and items */

static Value absent(Run *r, Value v, Value name) {
  if (name.kind == V_STRING)
    return jinja_undefined(r, "a value of type %s has no attribute '%.*s'", jinja_type(v),
                           (int)(name.n < 80 ? name.n : 80), name.s);
  if (name.kind == V_INT)
    return jinja_undefined(r, "a value of type %s has no item %lld", jinja_type(v), (long long)name.i);
  return jinja_undefined(r, "a value of type %s has no such item", jinja_type(v));
}

/* What Python finds by getattr(); V_MISSING: nothing. */
static Value own(Run *r, Value v, Value name) {
  if (name.n >= 2 && !memcmp(name.s, "__", 2)) return jinja_fail(r, "names that begin with '__' are not in the subset");
  if (v.kind == V_LOOP) {
    char text[32];
    if (name.n >= sizeof text) return MISSING;
    memcpy(text, name.s, name.n);
    text[name.n] = 0;
    Value found = jinja_loop_attr(r, v.loop, text);
    if (found.kind != V_MISSING) return found;
  }
  if (v.kind == V_NAMESPACE) {
    const Value *found = jinja_get(r, v.dict, name);
    return found ? *found : MISSING;
  }
  if (v.kind == V_MACRO) {
    if (jinja_is(name, "name")) return jinja_string(v.macro->name, strlen(v.macro->name));
    if (jinja_is(name, "arguments") || jinja_is(name, "caller") || jinja_is(name, "catch_kwargs") ||
        jinja_is(name, "catch_varargs"))
      return jinja_fail(r, "attributes of macros but 'name' are not in the subset");
  }
  return jinja_method(r, v, name);
}

Value jinja_attr(Run *r, Value v, Value name) {
  if (v.kind == V_UNDEFINED) return jinja_fail(r, "%.*s", (int)v.n, v.s);
  Value found = own(r, v, name);
  if (found.kind == V_MISSING && v.kind == V_DICT) {
    const Value *item = jinja_get(r, v.dict, name);
    if (item) return *item;
  }
  return found.kind == V_MISSING ? absent(r, v, name) : found;
}

Value jinja_item(Run *r, Value v, Value key) {
  int64_t at, n;
  if (v.kind == V_UNDEFINED) return jinja_fail(r, "%.*s", (int)v.n, v.s);
  if (v.kind == V_DICT) {
    const Value *item = jinja_get(r, v.dict, key);
    if (item) return *item;
  }
  bool row = v.kind == V_STRING || (v.kind == V_LIST && v.list->type <= L_RANGE);
  if (row && jinja_whole(key, &at)) {
    n = jinja_length(v);
    if (at < 0) at += n;
    if (at < 0 || at >= n) return absent(r, v, key);
    if (v.kind == V_LIST) return v.list->v[at];
    size_t from = jinja_offset(v.s, v.n, at), len = jinja_offset(v.s + from, v.n - from, 1);
    jinja_step(r, v.n / 64);
    Value c = jinja_string(v.s + from, len);
    c.safe = v.safe;
    return c;
  }
  if (key.kind == V_STRING) {
    Value found = own(r, v, key);
    if (found.kind != V_MISSING) return found;
  }
  return absent(r, v, key);
}

static bool bound(Value v, int64_t *to, bool *given) {
  *given = v.kind != V_MISSING && v.kind != V_NONE;
  return !*given || jinja_whole(v, to);
}

static int64_t clamp(int64_t v, int64_t low, int64_t high) {
  return v < low ? low : v > high ? high : v;
}

Value jinja_slice(Run *r, Value v, Value start, Value stop, Value step) {
  int64_t from = 0, to = 0, by = 1;
  bool has_from, has_to, has_by;
  List *out;
  if (v.kind == V_UNDEFINED) return jinja_fail(r, "%.*s", (int)v.n, v.s);
  bool row = v.kind == V_STRING || (v.kind == V_LIST && v.list->type <= L_RANGE);
  if (!row) return jinja_fail(r, "a value of type %s cannot be sliced", jinja_type(v));
  if (!bound(start, &from, &has_from) || !bound(stop, &to, &has_to) || !bound(step, &by, &has_by))
    return jinja_fail(r, "the bounds of a slice are whole numbers");
  int64_t n = jinja_length(v);
  if (has_by && !by) return jinja_fail(r, "a slice's step is 0");
  if (has_from && from < 0) from = from < -n ? -1 : from + n; /* -1: before the first */
  if (has_to && to < 0) to = to < -n ? -1 : to + n;
  from = has_from ? clamp(from, by < 0 ? -1 : 0, by < 0 ? n - 1 : n) : by < 0 ? n - 1 : 0;
  to = has_to ? clamp(to, by < 0 ? -1 : 0, by < 0 ? n - 1 : n) : by < 0 ? -1 : n;
  by = clamp(by, -n - 1, n + 1);
  if (v.kind == V_STRING && by == 1) {
    size_t a = jinja_offset(v.s, v.n, from), b = to > from ? jinja_offset(v.s + a, v.n - a, to - from) : 0;
    jinja_step(r, v.n / 64);
    Value s = jinja_string(v.s + a, b);
    s.safe = v.safe;
    return s;
  }
  Value list = jinja_list(r, v.kind == V_LIST ? v.list->type : L_LIST, &out);
  List *in = jinja_items(r, v);
  for (int64_t i = from; (by > 0 ? i < to : i > to) && jinja_step(r, 1); i += by) jinja_push(r, out, in->v[i]);
  return v.kind == V_STRING ? jinja_join(r, jinja_string("", 0), out, false) : list;
}
