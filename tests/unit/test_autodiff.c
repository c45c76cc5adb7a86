/* Derivatives: every differentiable row of the op table, and whole composites, against central differences in double.
 *
 * The loss is a weighted sum of the results, so that no symmetry hides an error; inputs stay away from kinks. Central
 * differences with h = 1e-5 are good to about 1e-9 of the values here; a wrong formula is off by much more than 1e-6. */
#include "eval_help.h"
#include "passes/rewrite.h"

TestSuite(autodiff, .init = setup, .fini = teardown);

/* grad of output "loss" for every param, and the same by differences. Tries each element of each param. */
static void check(Graph *g, double lo, double hi) {
  Val wrt[16], grad[16];
  int n = 0, index[16];
  const Output *loss = graph_find_output(g, "loss");
  int before = g->noutputs;
  for (int i = 0; i < g->ninputs; i++)
    if (g->inputs[i].kind == IN_PARAM) {
      index[n] = i;
      wrt[n++] = g->inputs[i].val;
    }
  bool ok = autodiff(g, loss->val, graph_const(g, 1, (Span){0}), wrt, n, grad);
  no_errors(g->name);
  cr_assert(ok);
  cr_assert(module_verify(g->mod));
  for (int i = 0; i < n; i++) {
    cr_assert(grad[i] != 0, "@%s: no gradient for %s", g->name, g->inputs[index[i]].name);
    cr_assert(type_eq(val_type(g, grad[i]), val_type(g, wrt[i])), "@%s: gradient of %s has another type", g->name,
              g->inputs[index[i]].name);
    graph_output(g, arena_printf(a, "grad.%s", g->inputs[index[i]].name), grad[i]);
  }
  Tensor *in = random_inputs(g, EVAL_DOUBLE, 7, lo, hi), *out = run_graph(g, EVAL_DOUBLE, in);
  int at_loss = output_index(g, "loss");
  for (int i = 0; i < n; i++) {
    Tensor *x = &in[index[i]];
    for (int64_t k = 0; k < type_elements(x->type); k++) {
      double v = tensor_get(x, EVAL_DOUBLE, k), h = 1e-5;
      tensor_set(x, EVAL_DOUBLE, k, v + h);
      double up = tensor_get(&run_graph(g, EVAL_DOUBLE, in)[at_loss], EVAL_DOUBLE, 0);
      tensor_set(x, EVAL_DOUBLE, k, v - h);
      double down = tensor_get(&run_graph(g, EVAL_DOUBLE, in)[at_loss], EVAL_DOUBLE, 0);
      tensor_set(x, EVAL_DOUBLE, k, v);
      double want = (up - down) / (2 * h), got = tensor_get(&out[before + i], EVAL_DOUBLE, k);
      cr_assert(fabs(got - want) <= 1e-6 * (1 + fabs(want)), "@%s: d loss / d %s[%lld] is %.9g, by differences %.9g",
                g->name, g->inputs[index[i]].name, (long long)k, got, want);
    }
  }
}

static void check_text(const char *text) {
  check(parse_module(text)->graphs[0], -1.3, 1.4);
}

/* loss = sum(y * weights) */
static void weighted_loss(Graph *g, Val y) {
  Type t = val_type(g, y);
  Val w = graph_input(g, "weights", IN_DATA, t, (Span){0});
  int64_t axes[] = {0, 1, 2, 3, 4, 5};
  graph_output(g, "loss", graph_sum(g, graph_ew(g, OP_mul, y, w, 0, (Span){0}), t.rank, axes, (Span){0}));
}

Test(autodiff, every_elementwise_row) {
  Module *m = module_new(a, d, "rows");
  int64_t n[] = {2, 3};
  for (int op = 1; op < OP_COUNT; op++) {
    if (!op_info[op].ew || op == OP_gt || op == OP_lt) continue;
    for (int scalars = 0; scalars < (1 << op_info[op].nargs) - (op_info[op].nargs > 1); scalars++) {
      Graph *g = graph_new(m, arena_printf(a, "%s.%d", op_info[op].name, scalars));
      Val arg[3] = {0};
      for (int i = 0; i < op_info[op].nargs; i++) {
        InputKind kind = strcmp(op_info[op].d[i], "0.") == 0 ? IN_DATA : IN_PARAM;
        arg[i] = graph_input(g, (const char *[]){"a", "b", "c"}[i], kind,
                             type_make(DT_f32, scalars >> i & 1 ? 0 : 2, n), (Span){0});
      }
      weighted_loss(g, graph_ew(g, (OpKind)op, arg[0], arg[1], arg[2], (Span){0}));
      bool positive = op == OP_log || op == OP_sqrt || op == OP_rsqrt || op == OP_div;
      check(g, positive ? 0.4 : -1.5, 1.7);
    }
  }
}

Test(autodiff, comparisons_stop) {
  Graph *g = parse_module("module \"m\"\ngraph @g(%x: f32[3] param, %y: f32[3] param) {\n"
                          "  %1 = gt %x, %y : f32[3]\n  %2 = sum %1 {axes=[0]} : f32\n  return loss=%2\n}\n")
                 ->graphs[0];
  Val grad[2], wrt[] = {g->inputs[0].val, g->inputs[1].val};
  cr_assert(autodiff(g, g->outputs[0].val, graph_const(g, 1, (Span){0}), wrt, 2, grad));
  cr_assert(grad[0] == 0 && grad[1] == 0);
}

Test(autodiff, shapes_and_sums) {
  check_text("module \"m\"\ngraph @shapes(%x: f32[2, 3, 4] param, %b: f32[4] param, %r: f32[2, 3] param, %s: f32 param,"
             " %w: f32[4, 6] data, %h: f32[4] data) {\n"
             "  %1 = broadcast %b {axes=[2]} : f32[2, 3, 4]\n"
             "  %2 = broadcast %r {axes=[0, 1]} : f32[2, 3, 4]\n"
             "  %3 = broadcast %s {axes=[]} : f32[2, 3, 4]\n"
             "  %4 = mul %x, %1 : f32[2, 3, 4]\n  %5 = mul %4, %2 : f32[2, 3, 4]\n  %6 = mul %5, %3 : f32[2, 3, 4]\n"
             "  %7 = transpose %6 {perm=[2, 0, 1]} : f32[4, 2, 3]\n"
             "  %8 = reshape %7 : f32[4, 6]\n  %9 = mul %8, %w : f32[4, 6]\n"
             "  %10 = sum %9 {axes=[1]} : f32[4]\n"
             "  %11 = sum %9 {axes=[0]} : f32[6]\n"
             "  %12 = mul %10, %h : f32[4]\n  %13 = sum %12 {axes=[0]} : f32\n"
             "  %14 = square %11 : f32[6]\n  %15 = sum %14 {axes=[0]} : f32\n"
             "  %16 = sum %6 {axes=[1, 2]} : f32[2]\n  %17 = square %16 : f32[2]\n  %18 = sum %17 {axes=[0]} : f32\n"
             "  %19 = add %13, %15 : f32\n  %20 = add %19, %18 : f32\n  return loss=%20\n}\n");
}

/* out, two operands; each rule's result goes through square, so that its own value matters. */
static void check_rule(const char *rule, const char *ta, const char *tb, const char *to, int rank) {
  static const char *const axes[] = {"", "0", "0, 1", "0, 1, 2", "0, 1, 2, 3"};
  check_text(arena_printf(a,
                          "module \"m\"\ngraph @g(%%x: %s param, %%y: %s param, %%z: %s param) {\n"
                          "  %%1 = contract %%x, %%y {rule=\"%s\"} : %s\n"
                          "  %%2 = contract_from %%x, %%y, %%z {rule=\"%s\"} : %s\n"
                          "  %%3 = square %%1 : %s\n  %%4 = mul %%3, %%2 : %s\n"
                          "  %%5 = sum %%4 {axes=[%s]} : f32\n  return loss=%%5\n}\n",
                          ta, tb, to, rule, to, rule, to, to, to, axes[rank]));
}

Test(autodiff, contractions) {
  check_rule("btd,fd->btf", "f32[2, 3, 4]", "f32[2, 4]", "f32[2, 3, 2]", 3);
  check_rule("md,df->mf", "f32[3, 4]", "f32[4, 2]", "f32[3, 2]", 2);
  check_rule("btd,hed->bthe", "f32[2, 2, 3]", "f32[2, 2, 3]", "f32[2, 2, 2, 2]", 4);
  check_rule("bthe,dhe->btd", "f32[2, 2, 2, 3]", "f32[2, 2, 3]", "f32[2, 2, 2]", 3);
  check_rule("bhts,bshe->bthe", "f32[2, 2, 2, 3]", "f32[2, 3, 2, 2]", "f32[2, 2, 2, 2]", 4);
  check_rule("kf,kn->fn", "f32[4, 3]", "f32[4, 2]", "f32[3, 2]", 2);
  check_rule("m,n->nm", "f32[3]", "f32[2]", "f32[2, 3]", 2);
}

Test(autodiff, indices) {
  check_text("module \"m\"\ngraph @indices(%wte: f32[3, 4] param, %rows: i32[2, 3] data, %target: i32[2, 3] data,"
             " %base: f32[3, 4] param, %u: f32[2, 3, 4] data) {\n"
             "  %1 = gather %wte, %rows : f32[2, 3, 4]\n  %2 = square %1 : f32[2, 3, 4]\n"
             "  %3 = pick %2, %target : f32[2, 3]\n"
             "  %4 = scatter_add %base, %target, %u : f32[3, 4]\n  %5 = mul %4, %base : f32[3, 4]\n"
             "  %6 = mul %2, %u : f32[2, 3, 4]\n  %7 = sum %6 {axes=[0, 1, 2]} : f32\n"
             "  %8 = square %3 : f32[2, 3]\n  %9 = sum %8 {axes=[0, 1]} : f32\n"
             "  %10 = sum %5 {axes=[0, 1]} : f32\n"
             "  %11 = add %7, %9 : f32\n  %12 = add %11, %10 : f32\n  return loss=%12\n}\n");
}

Test(autodiff, layer_norm) {
  check_text("module \"m\"\ngraph @layernorm(%x: f32[2, 3, 5] param, %g: f32[5] param, %b: f32[5] param,"
             " %w: f32[2, 3, 5] data) {\n"
             "  %n = const {value=0.2} : f32\n  %eps = const {value=1e-05} : f32\n"
             "  %1 = sum %x {axes=[2]} : f32[2, 3]\n  %2 = mul %1, %n : f32[2, 3]\n"
             "  %3 = broadcast %2 {axes=[0, 1]} : f32[2, 3, 5]\n  %4 = sub %x, %3 : f32[2, 3, 5]\n"
             "  %5 = square %4 : f32[2, 3, 5]\n  %6 = sum %5 {axes=[2]} : f32[2, 3]\n  %7 = mul %6, %n : f32[2, 3]\n"
             "  %8 = add %7, %eps : f32[2, 3]\n  %9 = rsqrt %8 : f32[2, 3]\n"
             "  %10 = broadcast %9 {axes=[0, 1]} : f32[2, 3, 5]\n  %11 = mul %4, %10 : f32[2, 3, 5]\n"
             "  %12 = broadcast %g {axes=[2]} : f32[2, 3, 5]\n  %13 = mul %11, %12 : f32[2, 3, 5]\n"
             "  %14 = broadcast %b {axes=[2]} : f32[2, 3, 5]\n  %15 = add %13, %14 : f32[2, 3, 5]\n"
             "  %16 = mul %15, %w : f32[2, 3, 5]\n  %17 = sum %16 {axes=[0, 1, 2]} : f32\n  return loss=%17\n}\n");
}

/* Rows whose target is negative count for nothing; the maximum is there for range only, so no gradient goes through it. */
Test(autodiff, cross_entropy_with_ignored_rows) {
  check_text("module \"m\"\ngraph @cross_entropy(%x: f32[4, 3, 5] param, %target: i32[4, 3] data) {\n"
             "  %1 = rowmax %x : f32[4, 3]\n  %2 = broadcast %1 {axes=[0, 1]} : f32[4, 3, 5]\n"
             "  %3 = sub %x, %2 : f32[4, 3, 5]\n  %4 = exp %3 : f32[4, 3, 5]\n  %5 = sum %4 {axes=[2]} : f32[4, 3]\n"
             "  %6 = log %5 : f32[4, 3]\n  %7 = add %6, %1 : f32[4, 3]\n  %8 = pick %x, %target : f32[4, 3]\n"
             "  %9 = sub %7, %8 : f32[4, 3]\n  %10 = valid %target : f32[4, 3]\n  %11 = mul %9, %10 : f32[4, 3]\n"
             "  %12 = sum %11 {axes=[0, 1]} : f32\n  return loss=%12\n}\n");
}

static void check_attention(int heads, int kv, int keys, int causal, int window, const char *style) {
  check_text(
      arena_printf(a,
                   "module \"m\"\ngraph @attention(%%q: f32[2, 3, %d, 4] param, %%k: f32[2, %d, %d, 4] param,"
                   " %%v: f32[2, %d, %d, 4] param, %%cos: f32[5, 2] data, %%sin: f32[5, 2] data,"
                   " %%pos: i32[3] data, %%w: f32[2, 3, %d, 4] data) {\n"
                   "  %%1 = rope %%q, %%cos, %%sin, %%pos {style=\"%s\"} : f32[2, 3, %d, 4]\n"
                   "  %%2, %%3 = attend %%1, %%k, %%v {causal=%d, scale=0.5%s} : f32[2, 3, %d, 4], f32[2, %d, 3]\n"
                   "  %%4 = rope %%2, %%cos, %%sin, %%pos {style=\"%s\", inverse=1} : f32[2, 3, %d, 4]\n"
                   "  %%5 = mul %%4, %%w : f32[2, 3, %d, 4]\n  %%6 = sum %%5 {axes=[0, 1, 2, 3]} : f32\n"
                   "  return loss=%%6\n}\n",
                   heads, keys, kv, keys, kv, heads, style, heads, causal,
                   window ? arena_printf(a, ", window=%d", window) : "", heads, heads, style, heads, heads));
}

Test(autodiff, attention_with_grouped_heads_and_rope) {
  check_attention(4, 2, 3, 1, 0, "half");
  check_attention(2, 2, 3, 1, 0, "pairs");
  check_attention(3, 1, 5, 0, 0, "half");
  check_attention(4, 2, 3, 1, 2, "half");
  check_attention(2, 1, 3, 1, 1, "half");
}

Test(autodiff, dropout_and_its_gradient_have_one_mask) {
  check_text("module \"m\"\ngraph @dropout(%x: f32[3, 20] param, %k0: i32 data, %k1: i32 data, %id: i32 data,"
             " %w: f32[3, 20] data) {\n"
             "  %1 = tanh %x : f32[3, 20]\n  %2 = dropout %1, %k0, %k1, %id {rate=0.4} : f32[3, 20]\n"
             "  %3 = square %2 : f32[3, 20]\n  %4 = mul %3, %w : f32[3, 20]\n"
             "  %5 = dropout %4, %k1, %k0, %id {rate=0.2} : f32[3, 20]\n  %6 = sum %5 {axes=[0, 1]} : f32\n"
             "  return loss=%6\n}\n");
}

static void refused(const char *text, const char *what) {
  Graph *g = parse_module(text)->graphs[0];
  Val grad[4], wrt[4];
  int n = 0;
  for (int i = 0; i < g->ninputs; i++)
    if (g->inputs[i].kind == IN_PARAM) wrt[n++] = g->inputs[i].val;
  cr_assert(not(autodiff(g, g->outputs[0].val, graph_const(g, 1, (Span){0}), wrt, n, grad)));
  cr_assert(d->n == 1 && strstr(d->list[0].text, what), "found: %s", d->n ? d->list[0].text : "nothing");
  d->n = 0;
}

Test(autodiff, no_gradient_is_an_error) {
  refused("module \"m\"\ngraph @g(%x: f32[2] param) {\n  return loss=%x\n}\n", "only an f32 scalar");
  refused("module \"m\"\ngraph @g(%q: f32[1, 2, 1, 2] param) {\n"
          "  %1, %2 = attend %q, %q, %q {causal=1, scale=1.0} : f32[1, 2, 1, 2], f32[1, 1, 2]\n"
          "  %3 = sum %2 {axes=[0, 1, 2]} : f32\n  return loss=%3\n}\n",
          "log-sum-exp");
  refused("module \"m\"\ngraph @g(%b: f32[2] data, %i: i32[3] data, %u: f32[3] param) {\n"
          "  %1 = scatter_add %b, %i, %u : f32[2]\n  %2 = sum %1 {axes=[0]} : f32\n  return loss=%2\n}\n",
          "of the updates");
}
