/* Expressions: parsing, inlining of math functions, evaluation in double.
 *
 * The parser is recursive descent over the grammar of ir/expr.h and writes steps as it goes. Equal steps become one, so
 * a text that repeats a subexpression costs nothing and a body of math.def, which names its intermediate values
 * ("n = ...; r = ...; p"), is a DAG. A step's operands always precede it; after a body is inlined the steps that the
 * value does not need are dropped, so the last step is the value.
 *
 * Texts may come from a stranger's file: nesting and length are bounded, and every error says where it is. */
#include "ir/expr.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 128, MAX_LOCALS = 48 };

typedef struct Fn {
  const char *name;
  ExprOp op; /* EX_CALL: n is the MathFn */
  int n, nargs;
} Fn;

static const Fn functions[] = {
    {"sqrt", EX_SQRT, 0, 1},         {"abs", EX_ABS, 0, 1},           {"fma", EX_FMA, 0, 3},
    {"round", EX_ROUND, 0, 1},       {"floor", EX_FLOOR, 0, 1},       {"pow2", EX_POW2, 0, 1},
    {"exponent", EX_EXPONENT, 0, 1}, {"mantissa", EX_MANTISSA, 0, 1},
#define FN(name, ...) {#name, EX_CALL, FN_##name, 1},
#include "ir/math.def"
    {"sin", EX_CALL, FN_sin, 1},     {"cos", EX_CALL, FN_cos, 1},
};

static const char *const bodies[FN_COUNT] = {
#define FN(name, body) [FN_##name] = body,
#include "ir/math.def"
};

/* ---- steps */

typedef struct Steps {
  Arena *arena;
  ExprStep *step;
  int n, cap;
} Steps;

int expr_arity(ExprOp op) {
  switch (op) {
  case EX_NUM:
  case EX_VAR: return 0;
  case EX_ADD:
  case EX_SUB:
  case EX_MUL:
  case EX_DIV:
  case EX_MOD:
  case EX_POW:
  case EX_LT:
  case EX_GT:
  case EX_LE:
  case EX_GE:
  case EX_EQ: return 2;
  case EX_SELECT:
  case EX_FMA: return 3;
  default: return 1;
  }
}

/* The index of an equal step, or of a new one; -1 when the expression is too long. */
static int step_add(Steps *s, ExprStep st) {
  if (st.op == EX_NEG && s->step[st.arg[0]].op == EX_NUM) /* exact in any precision */
    st = (ExprStep){.op = EX_NUM, .num = -s->step[st.arg[0]].num, .col = st.col};
  for (int i = 0; i < s->n; i++) {
    const ExprStep *o = &s->step[i];
    if (o->op == st.op && o->n == st.n && memcmp(&o->num, &st.num, sizeof st.num) == 0 &&
        memcmp(o->arg, st.arg, sizeof st.arg) == 0)
      return i;
  }
  if (s->n == EXPR_MAX_STEPS) return -1;
  PUSH(s->arena, s->step, s->n, s->cap, st);
  return s->n - 1;
}

/* Keeps only what the value at `root` needs, which thereby becomes the last step. */
static Expr steps_finish(Steps *s, int root) {
  int *to = NEW_ARRAY(s->arena, int, s->n);
  bool *used = NEW_ARRAY(s->arena, bool, s->n);
  used[root] = true;
  for (int i = root; i >= 0; i--)
    for (int k = 0; used[i] && k < expr_arity(s->step[i].op); k++) used[s->step[i].arg[k]] = true;
  int n = 0;
  for (int i = 0; i <= root; i++) {
    if (!used[i]) continue;
    ExprStep st = s->step[i];
    for (int k = 0; k < expr_arity(st.op); k++) st.arg[k] = to[st.arg[k]];
    to[i] = n;
    s->step[n++] = st;
  }
  return (Expr){s->step, n};
}

/* ---- parser */

typedef struct Parser {
  Steps out;
  const char *text, *p;
  const char *const *vars;
  int nvars;
  const char *local[MAX_LOCALS]; /* interned; names of a math.def body's intermediate values */
  int local_step[MAX_LOCALS], nlocals;
  int depth;
  const char *err;
  uint32_t err_col;
} Parser;

static int fail(Parser *p, const char *at, const char *text) {
  if (!p->err) {
    p->err = text;
    p->err_col = (uint32_t)(at - p->text);
  }
  return -1;
}

static void space(Parser *p) {
  while (*p->p == ' ' || *p->p == '\t' || *p->p == '\n' || *p->p == '\r') p->p++;
}

static bool accept(Parser *p, const char *token) {
  space(p);
  size_t n = strlen(token);
  if (strncmp(p->p, token, n) != 0) return false;
  p->p += n;
  return true;
}

static int emit(Parser *p, ExprOp op, int a, int b, int c, const char *at) {
  if (a < 0 || b < 0 || c < 0) return -1;
  int r = step_add(&p->out, (ExprStep){.op = op, .arg = {a, b, c}, .col = (uint32_t)(at - p->text)});
  return r >= 0 ? r : fail(p, at, "the expression is too long");
}

static bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}
static bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

static size_t name_length(const char *s) {
  size_t n = 0;
  if (is_letter(s[0]))
    while (is_letter(s[n]) || is_digit(s[n])) n++;
  return n;
}

static int parse_expr(Parser *p);

static int parse_number(Parser *p) {
  const char *s = p->p, *e = s;
  while (is_digit(*e)) e++;
  if (*e == '.')
    for (e++; is_digit(*e);) e++;
  if ((*e == 'e' || *e == 'E') && (is_digit(e[1]) || ((e[1] == '+' || e[1] == '-') && is_digit(e[2]))))
    for (e += 2; is_digit(*e);) e++;
  char digits[64];
  size_t n = (size_t)(e - s);
  if (n >= sizeof digits) return fail(p, s, "the number has too many digits");
  memcpy(digits, s, n);
  digits[n] = 0;
  double v = strtod(digits, NULL);
  if (!isfinite(v)) return fail(p, s, "the number is too large");
  if (is_letter(*e) || *e == '.') return fail(p, e, "unexpected text after a number");
  p->p = e;
  int r = step_add(&p->out, (ExprStep){.op = EX_NUM, .num = v, .col = (uint32_t)(s - p->text)});
  return r >= 0 ? r : fail(p, s, "the expression is too long");
}

static int unknown(Parser *p, const char *at, size_t n, bool call) {
  const char *word = arena_strndup(p->out.arena, at, n < 200 ? n : 200), *near = NULL;
  if (call) {
    const char *all[LEN(functions)];
    for (int i = 0; i < LEN(functions); i++) all[i] = functions[i].name;
    near = near_miss(word, all, LEN(all));
  } else {
    near = near_miss(word, p->vars, p->nvars);
  }
  return fail(
      p, at,
      near ? arena_printf(p->out.arena, "unknown %s '%s'; did you mean '%s'?", call ? "function" : "name", word, near)
           : arena_printf(p->out.arena, "unknown %s '%s'", call ? "function" : "name", word));
}

static int parse_call(Parser *p, const char *at, size_t n) {
  const Fn *f = NULL;
  for (int i = 0; i < LEN(functions); i++)
    if (strlen(functions[i].name) == n && memcmp(functions[i].name, at, n) == 0) f = &functions[i];
  if (!f) return unknown(p, at, n, true);
  int arg[3] = {0, 0, 0}, got = 0;
  if (!accept(p, ")")) {
    do {
      int v = parse_expr(p);
      if (v < 0) return -1;
      if (got < 3) arg[got] = v;
      got++;
    } while (accept(p, ","));
    if (!accept(p, ")")) return fail(p, p->p, "expected ',' or ')' after an argument");
  }
  if (got != f->nargs)
    return fail(
        p, at,
        arena_printf(p->out.arena, "%s takes %d argument%s, not %d", f->name, f->nargs, f->nargs == 1 ? "" : "s", got));
  ExprStep st = {.op = f->op, .arg = {arg[0], arg[1], arg[2]}, .n = f->n, .col = (uint32_t)(at - p->text)};
  int r = step_add(&p->out, st);
  return r >= 0 ? r : fail(p, at, "the expression is too long");
}

static int parse_atom(Parser *p) {
  space(p);
  const char *at = p->p;
  if (is_digit(*at) || (*at == '.' && is_digit(at[1]))) return parse_number(p);
  if (accept(p, "(")) {
    int v = parse_expr(p);
    if (v >= 0 && !accept(p, ")")) return fail(p, p->p, "expected ')'");
    return v;
  }
  size_t n = name_length(at);
  if (n == 0) return fail(p, at, *at ? "expected a number, a name or '('" : "the expression ends too early");
  p->p += n;
  if (accept(p, "(")) return parse_call(p, at, n);
  for (int i = p->nlocals - 1; i >= 0; i--)
    if (strlen(p->local[i]) == n && memcmp(p->local[i], at, n) == 0) return p->local_step[i];
  for (int i = 0; i < p->nvars; i++)
    if (strlen(p->vars[i]) == n && memcmp(p->vars[i], at, n) == 0) {
      int r = step_add(&p->out, (ExprStep){.op = EX_VAR, .n = i, .col = (uint32_t)(at - p->text)});
      return r >= 0 ? r : fail(p, at, "the expression is too long");
    }
  return unknown(p, at, n, false);
}

static int parse_unary(Parser *p) {
  space(p);
  const char *at = p->p;
  if (++p->depth > MAX_DEPTH) return fail(p, at, "the expression is nested too deeply");
  int v;
  if (accept(p, "-")) {
    v = emit(p, EX_NEG, parse_unary(p), 0, 0, at);
  } else {
    v = parse_atom(p);
    space(p);
    at = p->p;
    if (v >= 0 && accept(p, "^")) v = emit(p, EX_POW, v, parse_unary(p), 0, at);
  }
  p->depth--;
  return v;
}

static int parse_product(Parser *p) {
  int v = parse_unary(p);
  while (v >= 0) {
    space(p);
    const char *at = p->p;
    ExprOp op = *at == '*' ? EX_MUL : *at == '/' ? EX_DIV : *at == '%' ? EX_MOD : EX_NUM;
    if (op == EX_NUM) break;
    p->p++;
    v = emit(p, op, v, parse_unary(p), 0, at);
  }
  return v;
}

static int parse_sum(Parser *p) {
  int v = parse_product(p);
  while (v >= 0) {
    space(p);
    const char *at = p->p;
    if (*at != '+' && *at != '-') break;
    p->p++;
    v = emit(p, *at == '+' ? EX_ADD : EX_SUB, v, parse_product(p), 0, at);
  }
  return v;
}

static int parse_condition(Parser *p) {
  static const struct {
    const char *token;
    ExprOp op;
  } ops[] = {{"<=", EX_LE}, {">=", EX_GE}, {"==", EX_EQ}, {"<", EX_LT}, {">", EX_GT}};
  int v = parse_sum(p);
  space(p);
  const char *at = p->p;
  for (int i = 0; v >= 0 && i < LEN(ops); i++)
    if (accept(p, ops[i].token)) return emit(p, ops[i].op, v, parse_sum(p), 0, at);
  return v;
}

static int parse_expr(Parser *p) {
  space(p);
  const char *at = p->p;
  if (++p->depth > MAX_DEPTH) return fail(p, at, "the expression is nested too deeply");
  int c = parse_condition(p);
  if (c >= 0 && accept(p, "?")) {
    int a = parse_expr(p);
    if (a >= 0 && !accept(p, ":")) return fail(p, p->p, "expected ':' after '?'");
    int b = a >= 0 ? parse_expr(p) : -1;
    c = emit(p, EX_SELECT, c, a, b, at);
  }
  p->depth--;
  return c;
}

/* `name = expr; ... expr`: only bodies of math.def have the names. */
static int parse_body(Parser *p) {
  for (;;) {
    space(p);
    size_t n = name_length(p->p);
    const char *eq = p->p + n;
    while (*eq == ' ') eq++;
    if (n == 0 || eq[0] != '=' || eq[1] == '=') return parse_expr(p);
    if (p->nlocals == MAX_LOCALS) return fail(p, p->p, "too many names");
    p->local[p->nlocals] = internn(p->p, n);
    p->p = eq + 1;
    int v = parse_expr(p);
    if (v < 0) return -1;
    p->local_step[p->nlocals++] = v;
    if (!accept(p, ";")) return fail(p, p->p, "expected ';'");
  }
}

static bool parse(Arena *a, const char *text, const char *const *vars, int nvars, bool body, Expr *out,
                  uint32_t *err_col, const char **err) {
  Parser p = {.out = {.arena = a}, .text = text, .p = text, .vars = vars, .nvars = nvars};
  int v = body ? parse_body(&p) : parse_expr(&p);
  space(&p);
  if (v >= 0 && *p.p) v = fail(&p, p.p, "unexpected text after the expression");
  if (v < 0) {
    *err_col = p.err_col;
    *err = p.err;
    return false;
  }
  *out = steps_finish(&p.out, v);
  return true;
}

bool expr_parse(Arena *a, const char *text, const char *const *vars, int nvars, Expr *out, uint32_t *err_col,
                const char **err) {
  return parse(a, text, vars, nvars, false, out, err_col, err);
}

/* ---- evaluation in double */

double expr_step(const ExprStep *s, double a, double b, double c) {
  switch (s->op) {
  case EX_NUM: return s->num;
  case EX_VAR: return a;
  case EX_ADD: return a + b;
  case EX_SUB: return a - b;
  case EX_MUL: return a * b;
  case EX_DIV: return a / b;
  case EX_MOD: return fmod(a, b);
  case EX_POW: return pow(a, b);
  case EX_NEG: return -a;
  case EX_LT: return a < b;
  case EX_GT: return a > b;
  case EX_LE: return a <= b;
  case EX_GE: return a >= b;
  case EX_EQ: return a == b;
  case EX_SELECT: return a != 0 ? b : c;
  case EX_SQRT: return sqrt(a);
  case EX_ABS: return fabs(a);
  case EX_FMA: return fma(a, b, c);
  case EX_ROUND: return rint(a);
  case EX_FLOOR: return floor(a);
  case EX_POW2: return exp2(a);
  case EX_EXPONENT: return floor(log2(a));
  case EX_MANTISSA: return a / exp2(floor(log2(a)));
  case EX_CALL: break;
  }
  switch ((MathFn)s->n) {
  case FN_exp_core:
  case FN_exp: return exp(a);
  case FN_log: return log(a);
  case FN_tanh: return tanh(a);
  case FN_erf: return erf(a);
  case FN_sin: return sin(a);
  case FN_cos: return cos(a);
  case FN_COUNT: break;
  }
  abort(); /* a row of math.def without its function here: gcc -Wswitch names it */
}

double expr_eval(const Expr *e, const double *vars) {
  double v[EXPR_MAX_STEPS];
  for (int i = 0; i < e->n; i++) {
    const ExprStep *s = &e->step[i];
    v[i] = s->op == EX_VAR ? vars[s->n] : expr_step(s, v[s->arg[0]], v[s->arg[1]], v[s->arg[2]]);
  }
  return v[e->n - 1];
}

/* ---- tables' texts: parsed once for the process */

static void *fatal(const char *text, uint32_t col, const char *err) {
  fprintf(stderr, "expression of a table, column %u: %s\n  %s\n", col + 1, err, text);
  abort();
}

/* Appends e with its variables bound to `bound`; calls become their bodies. Returns the step of the value. */
static int inline_steps(Steps *out, const Expr *e, const int *bound, const char *text) {
  int at[EXPR_MAX_STEPS];
  for (int i = 0; i < e->n; i++) {
    ExprStep st = e->step[i];
    if (st.op == EX_VAR && bound) {
      at[i] = bound[st.n];
      continue;
    }
    for (int k = 0; k < expr_arity(st.op); k++) st.arg[k] = at[st.arg[k]];
    if (st.op == EX_CALL) {
      static const char *const a[] = {"a"};
      Expr body;
      uint32_t col;
      const char *err;
      if (!bodies[st.n]) fatal(text, st.col, "a build-time function in a kernel");
      if (!parse(out->arena, bodies[st.n], a, 1, true, &body, &col, &err)) fatal(bodies[st.n], col, err);
      at[i] = inline_steps(out, &body, st.arg, bodies[st.n]);
      continue;
    }
    if (st.op == EX_MOD || st.op == EX_POW) fatal(text, st.col, "not an exactly rounded operation");
    at[i] = step_add(out, st);
    if (at[i] < 0) fatal(text, st.col, "too long");
  }
  return at[e->n - 1];
}

typedef struct Cached {
  struct Cached *next;
  const char *text;
  const char **vars;
  int nvars;
  Expr plain, exact;
} Cached;

static const Cached *cached(const char *text, const char *const *vars, int nvars) {
  static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  static Arena *arena;
  static Cached *all;
  pthread_mutex_lock(&lock);
  Cached *c = all;
  for (; c; c = c->next) {
    bool same = c->nvars == nvars && strcmp(c->text, text) == 0;
    for (int i = 0; same && i < nvars; i++) same = strcmp(c->vars[i], vars[i]) == 0;
    if (same) break;
  }
  if (!c) {
    if (!arena) arena = arena_new();
    c = NEW(arena, Cached);
    c->text = arena_strdup(arena, text);
    c->vars = NEW_ARRAY(arena, const char *, nvars);
    for (int i = 0; i < nvars; i++) c->vars[i] = arena_strdup(arena, vars[i]);
    c->nvars = nvars;
    uint32_t col;
    const char *err;
    if (!parse(arena, text, vars, nvars, false, &c->plain, &col, &err)) fatal(text, col, err);
    Steps s = {.arena = arena};
    int root = inline_steps(&s, &c->plain, NULL, text);
    c->exact = steps_finish(&s, root);
    c->next = all;
    all = c;
  }
  pthread_mutex_unlock(&lock);
  return c;
}

const Expr *expr_exact(const char *text, const char *const *vars, int nvars) {
  return &cached(text, vars, nvars)->exact;
}

const Expr *expr_table(const char *text, const char *const *vars, int nvars) {
  return &cached(text, vars, nvars)->plain;
}
