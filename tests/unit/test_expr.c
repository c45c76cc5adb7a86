/* The expression language: precedence, errors with their place, limits, sharing of steps; and the functions of math.def,
 * whose errors in ulps the table's head states. */
#include "ir/expr.h"
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ir/eval_inner.h"

static Arena *a;
static void setup(void) {
  a = arena_new();
}
static void teardown(void) {
  arena_free(a);
}
TestSuite(expr, .init = setup, .fini = teardown);

static const char *const names[] = {"x", "y", "layers"};
static const double values[] = {3, 5, 12};

static double value(const char *text) {
  Expr e;
  uint32_t col;
  const char *err = "";
  cr_assert(expr_parse(a, text, names, 3, &e, &col, &err), "%s: %s", text, err);
  return expr_eval(&e, values);
}

Test(expr, precedence_and_associativity) {
  static const struct {
    const char *text;
    double want;
  } cases[] = {
      {"1 + 2 * 3", 7},
      {"(1 + 2) * 3", 9},
      {"10 - 4 - 3", 3},
      {"24 / 4 / 2", 3},
      {"2 ^ 3 ^ 2", 512},
      {"-x ^ 2", -9},
      {"2 ^ -1", 0.5},
      {"- -x", 3},
      {"17 % 5 * 2", 4},
      {"x < y ? x : y", 3},
      {"x > y ? 1 : x == 3 ? 2 : 4", 2},
      {"x <= 3", 1},
      {"y >= 6", 0},
      {"1 + (x < y)", 2},
      {"0.02 / sqrt(2*layers)", 0.02 / 4.898979485566356},
      {"fma(x, y, 1)", 16},
      {"round(2.5) + floor(-0.5)", 1},
      {"abs(-2)", 2},
      {"exp(0) + log(1) + tanh(0) + erf(0) + sin(0) + cos(0)", 2},
      {"1e3 + .5 + 5e-1 + 2.", 1003},
      {"exponent(12) + mantissa(12)", 4.5},
      {"pow2(5)", 32},
  };
  for (int i = 0; i < LEN(cases); i++)
    cr_assert(ieee_ulp_eq(dbl, value(cases[i].text), cases[i].want, 2), "%s", cases[i].text);
}

Test(expr, errors_say_where_and_what) {
  static const struct {
    const char *text, *what;
    uint32_t col;
  } cases[] = {
      {"", "the expression ends too early", 0},
      {"x +", "the expression ends too early", 3},
      {"x $ y", "unexpected text after the expression", 2},
      {"layer * 2", "unknown name 'layer'; did you mean 'layers'?", 0},
      {"sqr(x)", "unknown function 'sqr'; did you mean 'sqrt'?", 0},
      {"zzz(x)", "unknown function 'zzz'", 0},
      {"sqrt(x, y)", "sqrt takes 1 argument, not 2", 0},
      {"fma(x, y)", "fma takes 3 arguments, not 2", 0},
      {"(x", "expected ')'", 2},
      {"x ? y", "expected ':' after '?'", 5},
      {"sqrt(x", "expected ',' or ')' after an argument", 6},
      {"1e999", "the number is too large", 0},
      {"12ab", "unexpected text after a number", 2},
      {"1.2.3", "unexpected text after a number", 3},
      {"x = 3", "unexpected text after the expression", 2},
      {"x < y < 3", "unexpected text after the expression", 6},
  };
  for (int i = 0; i < LEN(cases); i++) {
    Expr e;
    uint32_t col = 99;
    const char *err = "";
    cr_assert(not(expr_parse(a, cases[i].text, names, 3, &e, &col, &err)), "%s", cases[i].text);
    cr_assert(eq(str, (char *)err, (char *)cases[i].what));
    cr_assert(eq(u32, col, cases[i].col), "%s", cases[i].text);
  }
}

Test(expr, long_and_deep_texts_are_refused) {
  char *deep = arena_alloc(a, 200001), *wide = arena_alloc(a, 200001);
  memset(deep, '(', 100000);
  memset(deep + 100000, '-', 100000);
  for (int i = 0; i < 20000; i++) memcpy(wide + 10 * i, "+123456789", 10);
  Expr e;
  uint32_t col;
  const char *err;
  cr_assert(not(expr_parse(a, deep, NULL, 0, &e, &col, &err)));
  cr_assert(eq(str, (char *)err, "the expression is nested too deeply"));
  cr_assert(not(expr_parse(a, wide + 1, NULL, 0, &e, &col, &err)));
  cr_assert(eq(str, (char *)err, "the expression is too long"));
}

Test(expr, equal_steps_are_one) {
  Expr e;
  uint32_t col;
  const char *err;
  cr_assert(expr_parse(a, "(x + y) * (x + y) + sqrt(x + y)", names, 3, &e, &col, &err));
  cr_assert(eq(int, e.n, 6)); /* x y + * sqrt + */
  for (int i = 0; i < e.n; i++)
    for (int k = 0; k < expr_arity(e.step[i].op); k++) cr_assert(lt(int, e.step[i].arg[k], i));
}

Test(expr, exact_expressions_hold_no_calls) {
  static const char *const v[] = {"a"};
  const Expr *e = expr_exact("0.5 * a * (1. + erf(a * 0.7071067811865476))", v, 1);
  for (int i = 0; i < e->n; i++) cr_assert(e->step[i].op != EX_CALL && e->step[i].op != EX_POW);
  cr_assert(eq(ptr, (void *)e, (void *)expr_exact("0.5 * a * (1. + erf(a * 0.7071067811865476))", v, 1)));
}

/* ---- math.def */

static float from_bits(uint32_t u) {
  float f;
  memcpy(&f, &u, 4);
  return f;
}

static void run(const char *name, const float *x, int n, float *y) {
  static const char *const v[] = {"a"};
  exact_run(expr_exact(arena_printf(a, "%s(a)", name), v, 1), (const float *const[]){x}, (const int[]){1}, n, y);
}

static float at(const char *name, float x) {
  float y;
  run(name, &x, 1, &y);
  return y;
}

/* Largest error over every `every`th float of [lo, hi] in ulps of the true value. */
static double worst_ulps(const char *name, double (*f)(double), float lo, float hi, uint32_t every) {
  enum { N = 4096 };
  float x[N], y[N];
  double worst = 0;
  int n = 0;
  for (uint64_t u = 0; u <= 0xff800000u; u += every) {
    float v = from_bits((uint32_t)u);
    if (v >= lo && v <= hi) x[n++] = v;
    if (n < N && u + every <= 0xff800000u) continue;
    run(name, x, n, y);
    for (int i = 0; i < n; i++) {
      double want = f(x[i]), ulp = fabs(want) < 0x1p-126 ? 0x1p-149 : ldexp(1, ilogb(want) - 23);
      double error = want == y[i] ? 0 : fabs(y[i] - want) / ulp;
      if (!(error <= worst)) worst = error;
    }
    n = 0;
  }
  return worst;
}

Test(expr, functions_are_as_exact_as_their_table_says) {
  cr_assert(le(dbl, worst_ulps("exp", exp, -87.3f, 88.72f, 1009), 0.98));
  cr_assert(le(dbl, worst_ulps("exp", exp, -110, -87.3f, 101), 0.98)); /* into the subnormals */
  cr_assert(le(dbl, worst_ulps("exp_core", exp, -87, 87, 1009), 0.98));
  cr_assert(le(dbl, worst_ulps("log", log, 0x1p-149f, 3.4e38f, 1009), 0.81));
  cr_assert(le(dbl, worst_ulps("log", log, 0.5f, 2, 61), 0.81));
  cr_assert(le(dbl, worst_ulps("tanh", tanh, -100, 100, 1009), 1.32));
  cr_assert(le(dbl, worst_ulps("tanh", tanh, 0.5f, 1, 61), 1.32));
  cr_assert(le(dbl, worst_ulps("erf", erf, -100, 100, 1009), 1.03));
  cr_assert(le(dbl, worst_ulps("erf", erf, 0.5f, 2, 61), 1.03));
}

Test(expr, functions_at_their_edges) {
  float inf = INFINITY;
  cr_assert(eq(flt, at("exp", 0), 1.f));
  cr_assert(eq(flt, at("exp", -inf), 0.f));
  cr_assert(eq(flt, at("exp", -1e30f), 0.f));
  cr_assert(eq(flt, at("exp", inf), inf));
  cr_assert(eq(flt, at("exp", 89), inf));
  cr_assert(at("exp", -103) > 0.f);
  cr_assert(eq(flt, at("log", 1), 0.f));
  cr_assert(eq(flt, at("log", 0), -inf));
  cr_assert(eq(flt, at("log", inf), inf));
  cr_assert(isnan(at("log", -1)));
  cr_assert(eq(flt, at("tanh", inf), 1.f));
  cr_assert(eq(flt, at("tanh", -inf), -1.f));
  cr_assert(eq(flt, at("erf", inf), 1.f));
  cr_assert(eq(flt, at("erf", -inf), -1.f));
  cr_assert(eq(flt, at("erf", -0.5f), -at("erf", 0.5f)));
  static const char *const all[] = {"exp", "log", "tanh", "erf", "exp_core"};
  for (int i = 0; i < LEN(all); i++) cr_assert(isnan(at(all[i], NAN)), "%s(NaN)", all[i]);
}
