/* simplify, cse and dce on random graphs: every output keeps its value (in double, where associating anew does not show),
 * and each result is verified.
 *
 * The graphs are made to invite the rules: few distinct values, constants 0, 1 and -1, broadcasts of scalars and rows,
 * shapes that are reshaped back and forth, rows taken from what was computed row by row. */
#include "eval_help.h"
#include "passes/passes.h"

TestSuite(passes, .init = setup, .fini = teardown);

static uint64_t seed;
static int below(int n) {
  return (int)uniform(&seed, 0, n);
}

enum { ROWS = 6, COLS = 4, LAST = 3 };
static const int64_t shape3[] = {2, ROWS / 2, COLS};

/* The shapes that occur: scalars, rows [4], matrices [6, 4], blocks [2, 3, 4], a few rows [3, 4]. */
static Type shape(int kind) {
  switch (kind) {
  case 0: return type_scalar(DT_f32);
  case 1: return type_make(DT_f32, 1, (int64_t[]){COLS});
  case 2: return type_make(DT_f32, 2, (int64_t[]){ROWS, COLS});
  case 3: return type_make(DT_f32, 3, shape3);
  default: return type_make(DT_f32, 2, (int64_t[]){LAST, COLS});
  }
}

static Val pick_value(const Graph *g, int kind) {
  Val of[256];
  int n = 0;
  for (int v = 1; v < g->nvals && n < LEN(of); v++)
    if (type_eq(val_type(g, (Val)v), shape(kind))) of[n++] = (Val)v;
  return of[below(n)];
}

static void add_elementwise(Graph *g) {
  static const OpKind ops[] = {OP_add, OP_add, OP_sub, OP_mul,    OP_mul,  OP_neg,
                               OP_neg, OP_div, OP_max, OP_select, OP_tanh, OP_gt};
  OpKind op = ops[below(LEN(ops))];
  int kind = below(5);
  Val x[3];
  for (int i = 0; i < 3; i++) x[i] = pick_value(g, below(3) ? kind : 0);
  graph_ew(g, op, x[0], x[1], x[2], (Span){0});
}

static void add_other(Graph *g) {
  static const double constants[] = {0, 1, -1, 2};
  Span at = {0};
  Val x, t;
  switch (below(11)) {
  case 0: graph_const(g, constants[below(4)], at); return;
  case 1: graph_broadcast(g, pick_value(g, 0), shape(1 + below(4)), NULL, at); return;
  case 2: graph_broadcast(g, pick_value(g, 1), shape(2), (int64_t[]){1}, at); return;
  case 3: graph_broadcast(g, pick_value(g, 1), shape(3), (int64_t[]){2}, at); return;
  case 4:
  case 5: {
    int kind = 2 + below(2);
    Type to = shape(5 - kind);
    x = pick_value(g, kind);
    graph_add(g, OP_reshape, &x, 1, NULL, 0, &to, at);
    return;
  }
  case 6: {
    Attr perm = attr_ints("perm", 3, (int64_t[]){1, 0, 2});
    x = pick_value(g, 3);
    t = graph_add(g, OP_transpose, &x, 1, &perm, 1, NULL, at);
    graph_add(g, OP_transpose, &t, 1, &perm, 1, NULL, at);
    return;
  }
  case 7: graph_sum(g, pick_value(g, 2 + 2 * below(2)), 1, (int64_t[]){0}, at); return;
  case 8: graph_contract(g, "btd,cd->btc", pick_value(g, 3), graph_find_input(g, "square")->val, at); return;
  case 9: {
    Val args[] = {pick_value(g, 2), graph_find_input(g, "rows")->val};
    graph_add(g, OP_gather, args, 2, NULL, 0, NULL, at);
    return;
  }
  default: {
    Val args[] = {pick_value(g, 2), graph_find_input(g, "rows")->val, pick_value(g, 4)};
    graph_add(g, OP_scatter_add, args, 3, NULL, 0, NULL, at);
  }
  }
}

static Module *random_module(void) {
  static const char *const names[] = {"s", "row", "m", "block", "few"};
  Module *m = module_new(a, d, "random");
  Graph *g = graph_new(m, "g");
  for (int i = 0; i < LEN(names); i++) graph_input(g, names[i], IN_DATA, shape(i), (Span){0});
  graph_input(g, "square", IN_DATA, type_make(DT_f32, 2, (int64_t[]){COLS, COLS}), (Span){0});
  graph_input(g, "rows", IN_DATA, type_make(DT_i32, 1, (int64_t[]){LAST}), (Span){0});
  graph_input(g, "acc", IN_STATE, shape(2), (Span){0});
  for (int i = 4 + below(30); i > 0; i--) below(2) ? add_elementwise(g) : add_other(g);
  for (int i = 0; i < 4; i++) graph_output(g, (const char *[]){"a", "b", "c", "d"}[i], pick_value(g, below(5)));
  Val sum = graph_ew(g, OP_add, graph_find_input(g, "acc")->val, pick_value(g, 2), 0, (Span){0});
  graph_output(g, "acc", sum);
  return m;
}

static const char *text_of(const Module *m) {
  Text t = {0};
  module_print(m, false, &t);
  const char *s = arena_strdup(a, t.s);
  text_free(&t);
  return s;
}

static Module *run_pass(Module *m, const char *name) {
  Module *out = pass_find(name)->run(m, NULL);
  bool ok = out && module_verify(out);
  no_errors(text_of(m));
  cr_assert(ok);
  return out;
}

Test(passes, random_graphs_keep_their_values) {
  int shorter = 0;
  for (int i = 0; i < 400; i++) {
    seed = (uint64_t)i;
    Module *before = random_module(), *after = before;
    const char *const order[] = {"simplify", "cse", "dce"};
    for (int k = 0; k < LEN(order); k++) after = run_pass(after, order[k]);
    const Graph *g = before->graphs[0], *h = after->graphs[0];
    Tensor *in = random_inputs(g, EVAL_DOUBLE, (uint64_t)i, 0.5, 2), *x = run_graph(g, EVAL_DOUBLE, in);
    Tensor *y = run_graph(h, EVAL_DOUBLE, in);
    for (int o = 0; o < g->noutputs; o++)
      for (int64_t e = 0; e < type_elements(x[o].type); e++) {
        double p = tensor_get(&x[o], EVAL_DOUBLE, e), q = tensor_get(&y[o], EVAL_DOUBLE, e);
        /* 0 / 0 and what comes of it may be folded to another case of nothing */
        if (isfinite(p) && !(fabs(p - q) <= 1e-9 * (1 + fabs(p))))
          cr_fail("graph %d, output %s[%lld]: %.12g before, %.12g after\n%s\n%s", i, g->outputs[o].name, (long long)e,
                  p, q, text_of(before), text_of(after));
      }
    shorter += h->nnodes < g->nnodes;
  }
  cr_assert(shorter > 300); /* the graphs do meet the rules */
}

Test(passes, every_pass_is_in_the_table) {
  for (int i = 0; i < pass_count; i++) cr_assert(pass_find(pass_table[i].name) == &pass_table[i]);
  cr_assert(pass_find("no such pass") == NULL);
}
