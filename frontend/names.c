/* Named numbers: lookup, lazy evaluation with cycle detection, and expressions over them (names.h).
 *
 * Names in an expression are found by a scan of our own before ir/expr.c parses it, so that an unknown one is reported at
 * its column with a suggestion, and only the names that occur are computed. */
#include "frontend/names.h"
#include <ctype.h>
#include <math.h>
#include <string.h>

enum {
  VARS_LIMIT = 64,    /* distinct names in one expression */
  NAMES_LIMIT = 1000, /* names of a model */
  EXPR_LIMIT = 4096,  /* characters of an expression */
  TEXT_LIMIT = 65536, /* with the parts that its names stand for */
  CHAIN_LIMIT = 200,  /* names that one name depends on, one through the other */
};

Slice slice_all(YNode *scalar) {
  return slice_trim((Slice){scalar, 0, scalar->len});
}

Slice slice_trim(Slice s) {
  while (s.len && isspace((unsigned char)s.node->text[s.off])) s.off++, s.len--;
  while (s.len && isspace((unsigned char)s.node->text[s.off + s.len - 1])) s.len--;
  return s;
}

Span slice_span(const Names *nm, Slice s, size_t at) {
  return yaml_offset(nm->arena, nm->diags, s.node, s.off + at);
}

const char *slice_text(const Names *nm, Slice s) {
  return arena_strndup(nm->arena, s.node->text + s.off, s.len);
}

int slice_split(Arena *a, Slice s, Slice **parts) {
  int n = 0, cap = 0, depth = 0;
  size_t start = 0;
  *parts = NULL;
  if (!slice_trim(s).len) return 0;
  for (size_t i = 0; i <= s.len; i++) {
    char c = i < s.len ? s.node->text[s.off + i] : ',';
    depth += (c == '(' || c == '[') - (c == ')' || c == ']');
    if (i < s.len && (c != ',' || depth > 0)) continue;
    Slice part = slice_trim((Slice){s.node, s.off + start, i - start});
    PUSH(a, *parts, n, cap, part);
    start = i + 1;
  }
  return n;
}

Number *names_find(const Names *nm, const char *name) {
  name = intern(name);
  for (int i = 0; i < nm->n; i++)
    if (nm->list[i].name == name) return &nm->list[i];
  return NULL;
}

static bool is_name(const char *s) {
  if (!isalpha((unsigned char)*s) && *s != '_') return false;
  while (isalnum((unsigned char)*s) || *s == '_') s++;
  return !*s;
}

bool names_add(Names *nm, const char *name, YNode *text, Span at, bool dim) {
  const char *what = dim ? "dimension" : "constant";
  if (!is_name(name)) return diag_error(nm->diags, at, "'%s' is not a name: letters, digits and _ only", name);
  Number *old = names_find(nm, name);
  if (old && !old->text) return diag_error(nm->diags, at, "'%s' is built in and can't be redefined", name);
  if (old) return diag_error(nm->diags, at, "%s '%s' has the name of a dimension", what, name);
  if (!yaml_expect(nm->diags, text, Y_SCALAR, name)) return false;
  if (nm->n == NAMES_LIMIT) return diag_error(nm->diags, at, "more than %d dimensions and constants", (int)NAMES_LIMIT);
  Number num = {.name = intern(name), .text = text, .at = at, .dim = dim};
  PUSH(nm->arena, nm->list, nm->n, nm->cap, num);
  return true;
}

void names_builtin(Names *nm, const char *name, int64_t n, bool sym) {
  Number num = {.name = intern(name), .dim = true, .sym = sym, .state = NUM_DONE, .value = (double)n};
  PUSH(nm->arena, nm->list, nm->n, nm->cap, num);
}

static bool check_range(Names *nm, Slice s, const char *what, double v, int64_t lo, int64_t hi) {
  const char *text = slice_text(nm, s);
  Span at = slice_span(nm, s, 0);
  if (!(v >= (double)lo && v <= (double)hi))
    return diag_error(nm->diags, at, "%s: %.60s is %.17g, out of the range %lld to %lld", what, text, v, (long long)lo,
                      (long long)hi);
  if (v != floor(v)) return diag_error(nm->diags, at, "%s: %.60s is %.10g, not an integer", what, text, v);
  return true;
}

/* The chain of names that are being computed, for the message: "a -> b -> a". */
static bool report_cycle(Names *nm, Number *num) {
  Text chain = {0};
  for (int i = 0; i < nm->n && chain.n < 200; i++)
    if (nm->list[i].state == NUM_BUSY) text_add(&chain, "%s'%s'", chain.n ? ", " : "", nm->list[i].name);
  diag_error(nm->diags, num->at, "'%s' is defined by itself (in a cycle of %s)", num->name, chain.s);
  text_free(&chain);
  return false;
}

bool names_resolve(Names *nm, Number *num) {
  if (num->state == NUM_DONE) return true;
  if (num->state == NUM_FAILED) return false;
  if (num->state == NUM_BUSY) return report_cycle(nm, num);
  if (nm->busy == CHAIN_LIMIT)
    return diag_error(nm->diags, num->at, "'%s' depends on more than %d others in a chain", num->name,
                      (int)CHAIN_LIMIT);
  num->state = NUM_BUSY;
  nm->busy++;
  Slice s = slice_all(num->text);
  double v = 0;
  bool ok = names_number(nm, s, NULL, 0, &v);
  nm->busy--;
  if (ok && num->dim) ok = check_range(nm, s, num->name, v, 1, MAX_EXTENT);
  num->state = ok ? NUM_DONE : NUM_FAILED;
  num->value = v;
  return ok;
}

bool names_resolve_all(Names *nm) {
  bool ok = true;
  for (int i = 0; i < nm->n; i++) ok &= names_resolve(nm, &nm->list[i]);
  return ok;
}

static bool unknown_name(Names *nm, Span at, const char *name, const Local *locals, int nlocals) {
  if (nm->broken || nm->diags->n >= 100) return false; /* the list is full: no search for what nobody will read */
  const char **all = NEW_ARRAY(nm->arena, const char *, nm->n + nlocals + 1);
  int n = 0;
  for (int i = 0; i < nm->n; i++) all[n++] = nm->list[i].name;
  for (int i = 0; i < nlocals; i++) all[n++] = locals[i].name;
  const char *near = near_miss(name, all, n);
  return diag_hint(nm->diags, at, near ? arena_printf(nm->arena, "did you mean '%s'?", near) : NULL,
                   "unknown dimension or constant '%s'", name);
}

/* The next name in text[*at .. n): sets its bounds, skips numbers (the e of 1e5) and function names. */
static bool next_name(const char *text, size_t n, size_t *at, size_t *from, size_t *to) {
  size_t i = *at;
  while (i < n) {
    unsigned char c = (unsigned char)text[i];
    if (isdigit(c) || (c == '.' && i + 1 < n && isdigit((unsigned char)text[i + 1]))) {
      while (i < n && (isdigit((unsigned char)text[i]) || text[i] == '.')) i++;
      if (i < n && (text[i] == 'e' || text[i] == 'E')) {
        size_t e = i + 1;
        if (e < n && (text[e] == '+' || text[e] == '-')) e++;
        if (e < n && isdigit((unsigned char)text[e]))
          for (i = e; i < n && isdigit((unsigned char)text[i]);) i++;
      }
    } else if (isalpha(c) || c == '_') {
      *from = i;
      while (i < n && (isalnum((unsigned char)text[i]) || text[i] == '_')) i++;
      *to = i;
      size_t after = i;
      while (after < n && text[after] == ' ') after++;
      *at = i;
      if (after >= n || text[after] != '(') return true;
    } else
      i++;
  }
  *at = i;
  return false;
}

/* The number behind a name in an expression. */
static bool name_value(Names *nm, Slice s, size_t from, size_t to, const Local *locals, int nlocals, double *out) {
  const char *name = internn(s.node->text + s.off + from, to - from);
  for (int i = 0; i < nlocals; i++)
    if (!strcmp(locals[i].name, name)) {
      *out = locals[i].value;
      return true;
    }
  Number *num = names_find(nm, name);
  Span at = slice_span(nm, s, from);
  if (!num) return unknown_name(nm, at, name, locals, nlocals);
  if (num->sym)
    return diag_error(nm->diags, at, "'%s' is known only at run time here; an extent may be '%s' itself", name, name);
  if (!names_resolve(nm, num)) return false;
  *out = num->value;
  return true;
}

bool names_number(Names *nm, Slice s, const Local *locals, int nlocals, double *out) {
  if (!s.len) return diag_error(nm->diags, slice_span(nm, s, 0), "expected an expression, found nothing");
  if (s.len > EXPR_LIMIT)
    return diag_error(nm->diags, slice_span(nm, s, 0), "an expression of more than %d characters", (int)EXPR_LIMIT);
  const char *text = slice_text(nm, s);
  const char *vars[VARS_LIMIT];
  double values[VARS_LIMIT];
  int nvars = 0;
  size_t at = 0, from = 0, to = 0;
  bool ok = true;
  while (next_name(text, s.len, &at, &from, &to)) {
    const char *name = internn(text + from, to - from);
    bool seen = false;
    for (int i = 0; i < nvars && !seen; i++) seen = vars[i] == name;
    if (seen) continue;
    if (nvars == VARS_LIMIT)
      return diag_error(nm->diags, slice_span(nm, s, from), "more than %d names in one expression", (int)VARS_LIMIT);
    vars[nvars] = name;
    values[nvars] = 0;
    ok &= name_value(nm, s, from, to, locals, nlocals, &values[nvars]);
    nvars++;
  }
  if (!ok) return false;
  Expr e;
  uint32_t col = 0;
  const char *err = NULL;
  if (!expr_parse(nm->arena, text, vars, nvars, &e, &col, &err))
    return diag_error(nm->diags, slice_span(nm, s, col), "%s", err);
  *out = expr_eval(&e, values);
  if (!isfinite(*out)) return diag_error(nm->diags, slice_span(nm, s, 0), "%.60s is not a finite number", text);
  return true;
}

bool names_integer(Names *nm, Slice s, const char *what, const Local *locals, int nlocals, int64_t lo, int64_t hi,
                   int64_t *out) {
  double v;
  if (!names_number(nm, s, locals, nlocals, &v) || !check_range(nm, s, what, v, lo, hi)) return false;
  *out = (int64_t)v;
  return true;
}

bool names_dim(Names *nm, Slice s, const Local *locals, int nlocals, Dim *out) {
  int64_t n;
  const char *text = slice_text(nm, s);
  bool plain = is_name(text);
  Number *num = plain ? names_find(nm, text) : NULL;
  if (num && num->sym) {
    *out = (Dim){.n = (int64_t)num->value, .name = num->name, .sym = true};
    return true;
  }
  if (!names_integer(nm, s, "extent", locals, nlocals, 1, MAX_EXTENT, &n)) return false;
  *out = dim_const(n);
  num = plain ? names_find(nm, text) : NULL;
  if (num && num->dim) out->name = num->name;
  return true;
}

bool names_when(Names *nm, YNode *when, bool *ok) {
  double v = 1;
  if (when && !(yaml_expect(nm->diags, when, Y_SCALAR, "when") && names_number(nm, slice_all(when), NULL, 0, &v)))
    *ok = false, v = 1;
  return v != 0;
}

bool names_substitute(Names *nm, Slice s, const char *const *keep, int nkeep, const TextPart *part, int nparts,
                      const char **out) {
  if (s.len > EXPR_LIMIT)
    return diag_error(nm->diags, slice_span(nm, s, 0), "an expression of more than %d characters", (int)EXPR_LIMIT);
  const char *text = slice_text(nm, s);
  Text t = {0};
  size_t at = 0, from = 0, to = 0, done = 0;
  bool ok = true;
  while (next_name(text, s.len, &at, &from, &to)) {
    const char *name = internn(text + from, to - from);
    bool kept = false;
    for (int i = 0; i < nkeep && !kept; i++) kept = !strcmp(keep[i], name);
    if (kept) continue;
    const char *stands = NULL;
    for (int i = 0; i < nparts; i++)
      if (part[i].name == name) stands = part[i].text;
    if (stands) {
      text_write(&t, text + done, from - done);
      text_add(&t, "(%s)", stands);
      done = to;
      if (t.n > TEXT_LIMIT) break;
      continue;
    }
    double v;
    if (!name_value(nm, s, from, to, NULL, 0, &v)) {
      ok = false;
      continue;
    }
    text_write(&t, text + done, from - done);
    if (v < 0)
      text_add(&t, "(%.17g)", v);
    else
      text_add(&t, "%.17g", v);
    done = to;
  }
  text_write(&t, text + done, s.len - done);
  if (t.n > TEXT_LIMIT) {
    text_free(&t);
    return diag_error(nm->diags, slice_span(nm, s, 0), "an expression of more than %d characters with its parts",
                      (int)TEXT_LIMIT);
  }
  Expr e;
  uint32_t col = 0;
  const char *err = NULL;
  *out = arena_strndup(nm->arena, t.n ? t.s : "", t.n);
  text_free(&t);
  if (!ok) return false;
  /* Columns of the substituted text are not those of the file: errors point at the start. */
  if (!expr_parse(nm->arena, *out, keep, nkeep, &e, &col, &err))
    return diag_error(nm->diags, slice_span(nm, s, 0), "%s", err);
  return true;
}
