/* The evaluator: both modes agree on every op as far as f32 goes; the exact mode keeps the canonical orders of
 * docs/numerics.md, each of which is written out here once more, as plainly as the page says it; calls, symbolic extents,
 * bad data. */
#include "eval_help.h"
#include "ink/philox.h"

TestSuite(eval, .init = setup, .fini = teardown);

/* Runs g in both modes on the same data; every output within `tolerance` of its largest value. */
static void modes_agree(const Graph *g, double lo, double hi, double tolerance) {
  Tensor *in = random_inputs(g, EVAL_DOUBLE, 11, lo, hi), *fin = random_inputs(g, EVAL_EXACT, 11, lo, hi);
  Tensor *truth = run_graph(g, EVAL_DOUBLE, in), *exact = run_graph(g, EVAL_EXACT, fin);
  for (int o = 0; o < g->noutputs; o++) {
    int64_t n = type_elements(truth[o].type);
    double largest = 1e-3;
    for (int64_t i = 0; i < n; i++) largest = fmax(largest, fabs(tensor_get(&truth[o], EVAL_DOUBLE, i)));
    for (int64_t i = 0; i < n; i++) {
      double x = tensor_get(&truth[o], EVAL_DOUBLE, i), y = tensor_get(&exact[o], EVAL_EXACT, i);
      cr_assert(fabs(x - y) <= tolerance * largest, "@%s %s[%lld]: %.9g in double, %.9g exact", g->name,
                g->outputs[o].name, (long long)i, x, y);
    }
  }
}

Test(eval, modes_agree_on_every_elementwise_row) {
  Module *m = module_new(a, d, "rows");
  int64_t n[] = {7, 100};
  for (int op = 1; op < OP_COUNT; op++) {
    if (!op_info[op].ew) continue;
    Graph *g = graph_new(m, op_info[op].name);
    Val x[3];
    for (int i = 0; i < op_info[op].nargs; i++) /* the second operand a scalar */
      x[i] =
          graph_input(g, (const char *[]){"a", "b", "c"}[i], IN_DATA, type_make(DT_f32, i == 1 ? 0 : 2, n), (Span){0});
    graph_output(g, "y", graph_ew(g, (OpKind)op, x[0], x[1], x[2], (Span){0}));
    bool positive = op == OP_log || op == OP_sqrt || op == OP_rsqrt || op == OP_div;
    modes_agree(g, positive ? 0.1 : -4, 5, 1e-6);
  }
}

Test(eval, modes_agree_on_the_other_ops) {
  Module *m = parse_module(
      "module \"m\"\n"
      "graph @shapes(%x: f32[5, 6, 70] data, %w: f32[6, 70] data, %i: i32[5, 6] data, %rows: i32[4] data) {\n"
      "  %1 = table {expr=\"sin(i + 0.5) * cos(j)\"} : f32[6, 70]\n  %2 = broadcast %1 {axes=[1, 2]} : f32[5, 6, 70]\n"
      "  %3 = add %x, %2 : f32[5, 6, 70]\n  %4 = transpose %3 {perm=[2, 0, 1]} : f32[70, 5, 6]\n"
      "  %5 = reshape %4 : f32[7, 300]\n  %6 = sum %5 {axes=[0]} : f32[300]\n  %7 = sum %5 {axes=[1]} : f32[7]\n"
      "  %8 = sum %3 {axes=[0]} : f32[6, 70]\n  %9 = sum %3 {axes=[1, 2]} : f32[5]\n  %10 = rowmax %3 : f32[5, 6]\n"
      "  %11 = gather %w, %rows : f32[4, 70]\n  %12 = scatter_add %w, %rows, %11 : f32[6, 70]\n"
      "  %13 = pick %3, %i : f32[5, 6]\n  %14 = onehot %i : f32[5, 6, 4]\n  %15 = valid %i : f32[5, 6]\n"
      "  %16 = cast %3 : i32[5, 6, 70]\n  %17 = stop %3 : f32[5, 6, 70]\n"
      "  return a=%6, b=%7, c=%8, d=%9, e=%10, f=%12, g=%13, h=%14, l=%15, k=%17, j=%16\n}\n"
      "graph @contractions(%x: f32[3, 5, 70] data, %w: f32[33, 70] data, %z: f32[3, 5, 33] data) {\n"
      "  %1 = contract %x, %w {rule=\"btd,fd->btf\"} : f32[3, 5, 33]\n"
      "  %2 = contract %1, %x {rule=\"btf,btd->fd\"} : f32[33, 70]\n"
      "  %3 = contract_from %x, %w, %z {rule=\"btd,fd->btf\"} : f32[3, 5, 33]\n"
      "  %4 = contract %x, %x {rule=\"btd,bsd->bts\"} : f32[3, 5, 5]\n"
      "  %5 = contract %x, %w {rule=\"btd,fd->dfbt\"} : f32[70, 33, 3, 5]\n  return a=%2, b=%3, c=%4, d=%5\n}\n"
      "graph @rope(%x: f32[2, 3, 4, 8] data, %c: f32[9, 4] data, %s: f32[9, 4] data, %pos: i32[3] data) {\n"
      "  %1 = rope %x, %c, %s, %pos {style=\"half\"} : f32[2, 3, 4, 8]\n"
      "  %2 = rope %1, %c, %s, %pos {style=\"pairs\", inverse=1} : f32[2, 3, 4, 8]\n  return y=%2\n}\n");
  for (int i = 0; i < m->ngraphs; i++) modes_agree(m->graphs[i], -2, 3, 3e-6);
}

static Graph *windowed(int t, int s, int h, int g, int e, int causal, int window) {
  return parse_module(
             arena_printf(
                 a,
                 "module \"m\"\ngraph @attend(%%q: f32[2, %d, %d, %d] data, %%k: f32[2, %d, %d, %d] data,"
                 " %%v: f32[2, %d, %d, %d] data, %%do: f32[2, %d, %d, %d] data) {\n"
                 "  %%1, %%2 = attend %%q, %%k, %%v {causal=%d, scale=0.35, window=%d} : f32[2, %d, %d, %d], f32[2, "
                 "%d, %d]\n"
                 "  %%3, %%4, %%5 = attend_grad %%q, %%k, %%v, %%1, %%2, %%do {causal=%d, scale=0.35, window=%d} :"
                 " f32[2, %d, %d, %d], f32[2, %d, %d, %d], f32[2, %d, %d, %d]\n"
                 "  return o=%%1, lse=%%2, dq=%%3, dk=%%4, dv=%%5\n}\n",
                 t, h, e, s, g, e, s, g, e, t, h, e, causal, window, t, h, e, h, t, causal, window, t, h, e, s, g, e, s,
                 g, e))
      ->graphs[0];
}

static Graph *attention(int t, int s, int h, int g, int e, int causal) {
  return windowed(t, s, h, g, e, causal, 0);
}

Test(eval, attention_by_blocks_is_attention) {
  modes_agree(attention(130, 130, 4, 2, 16, 1), -2, 2, 1e-5);
  modes_agree(attention(3, 200, 2, 2, 7, 0), -2, 2, 1e-5);
  modes_agree(attention(64, 64, 3, 1, 8, 1), -2, 2, 1e-5);
  modes_agree(windowed(150, 150, 2, 1, 8, 1, 70), -2, 2, 1e-5);
  modes_agree(windowed(70, 70, 2, 2, 5, 1, 2), -2, 2, 1e-5);
}

/* A row with a window is a row over the keys of its window alone; in blocks of 64, so only where they begin at one are the bits
 * the same. */
static void window_is_a_slice(int t, int window) {
  enum { E = 8 };
  for (int double_mode = 0; double_mode < 2; double_mode++) {
    EvalMode mode = double_mode ? EVAL_DOUBLE : EVAL_EXACT;
    Graph *g = windowed(t, t, 1, 1, E, 1, window);
    Tensor *in = random_inputs(g, mode, 4, -2, 2), *out = run_graph(g, mode, in);
    for (int i = 0; i < t; i++) {
      int from = i < window ? 0 : i - window + 1, n = i + 1 - from;
      if (!double_mode && from % 64) continue;
      Graph *one = attention(1, n, 1, 1, E, 0);
      Tensor *part = random_inputs(one, mode, 5, 0, 0);
      for (int b = 0; b < 2; b++)
        for (int e = 0; e < E; e++) {
          tensor_set(&part[0], mode, b * E + e, tensor_get(&in[0], mode, (b * t + i) * E + e));
          for (int j = 0; j < n; j++)
            for (int k = 1; k < 3; k++)
              tensor_set(&part[k], mode, (b * n + j) * E + e, tensor_get(&in[k], mode, (b * t + from + j) * E + e));
        }
      Tensor *alone = run_graph(one, mode, part);
      double near = double_mode ? 1e-12 : 0;
      for (int b = 0; b < 2; b++) {
        cr_assert(epsilon_eq(dbl, tensor_get(&out[1], mode, b * t + i), tensor_get(&alone[1], mode, b), near));
        for (int e = 0; e < E; e++)
          cr_assert(epsilon_eq(dbl, tensor_get(&out[0], mode, (b * t + i) * E + e),
                               tensor_get(&alone[0], mode, b * E + e), near));
      }
    }
  }
}

Test(eval, a_window_is_a_slice_of_the_keys) {
  window_is_a_slice(150, 64);
  window_is_a_slice(140, 65);
  window_is_a_slice(70, 1);
  window_is_a_slice(20, 7);
}

Test(eval, a_window_of_all_keys_is_none) {
  Graph *g = windowed(130, 130, 2, 1, 8, 1, 130), *none = attention(130, 130, 2, 1, 8, 1);
  Tensor *in = random_inputs(g, EVAL_EXACT, 1, -2, 2), *x = run_graph(g, EVAL_EXACT, in);
  Tensor *y = run_graph(none, EVAL_EXACT, in);
  for (int i = 0; i < g->noutputs; i++)
    cr_assert(memcmp(x[i].data, y[i].data, sizeof(float) * (size_t)type_elements(x[i].type)) == 0);
}

/* Blocks of which a row sees no key leave it alone, whatever is in them. */
Test(eval, keys_before_the_window_change_nothing) {
  Graph *g = windowed(200, 200, 2, 1, 8, 1, 70);
  Tensor *in = random_inputs(g, EVAL_EXACT, 1, -2, 2), *before = run_graph(g, EVAL_EXACT, in);
  float *k = in[1].data, *v = in[2].data;
  for (int i = 0; i < 64 * 8; i++) k[i] = v[i] = i % 2 ? NAN : INFINITY; /* keys 0 to 63 of batch 0 */
  Tensor *after = run_graph(g, EVAL_EXACT, in);
  int64_t from = 133 * 2 * 8, n = (int64_t)(200 - 133) * 2 * 8; /* query 133 is the first whose keys begin at 64 */
  cr_assert(memcmp((float *)before[0].data + from, (float *)after[0].data + from, sizeof(float) * (size_t)n) == 0);
  cr_assert(isnan(((float *)after[0].data)[132 * 2 * 8]));
}

/* ---- dropout */

static Graph *dropped(int n, double rate) {
  return parse_module(arena_printf(a,
                                   "module \"m\"\ngraph @g(%%x: f32[%d] data, %%k0: i32 data, %%k1: i32 data,"
                                   " %%id: i32 data) {\n  %%1 = dropout %%x, %%k0, %%k1, %%id {rate=%g} : f32[%d]\n"
                                   "  return y=%%1\n}\n",
                                   n, rate, n))
      ->graphs[0];
}

Test(eval, dropout_is_philox_of_key_stream_and_place) {
  static const int32_t key[] = {INT32_MIN + 5, -2}, stream = -7;
  Graph *g = dropped(300, 0.3);
  Tensor *in = random_inputs(g, EVAL_EXACT, 1, 1, 2);
  memcpy(in[1].data, &key[0], 4), memcpy(in[2].data, &key[1], 4), memcpy(in[3].data, &stream, 4);
  float *x = in[0].data, *y = run_graph(g, EVAL_EXACT, in)[0].data;
  uint64_t seed = (uint64_t)(uint32_t)key[1] << 32 | (uint32_t)key[0];
  x[0] = NAN;
  for (int i = 0; i < 300; i++) {
    bool kept = philox(seed, (uint32_t)stream, (uint64_t)i).v[0] / 4294967296. >= 0.3;
    cr_assert(eq(flt, y[i], kept ? x[i] * (float)(1 / 0.7) : 0), "element %d", i);
  }
}

/* Shares of kept and dropped within five deviations; another key or stream, another mask; NaN does not outlive a drop. */
Test(eval, dropout_drops_as_often_as_it_says) {
  enum { N = 20000 };
  static const double rate[] = {0, 0.1, 0.5, 0.9};
  int masks[3][N], same[3] = {0};
  for (int r = 0; r < LEN(rate); r++) {
    Graph *g = dropped(N, rate[r]);
    Tensor *in = random_inputs(g, EVAL_EXACT, 1, 1, 2);
    int dropped_ones = 0;
    for (int m = 0; m < 3; m++) {
      int32_t key = m == 1, stream = m == 2;
      memcpy(in[1].data, &key, 4), memcpy(in[3].data, &stream, 4);
      float *y = run_graph(g, EVAL_EXACT, in)[0].data;
      for (int i = 0; i < N; i++) masks[m][i] = y[i] == 0, dropped_ones += y[i] == 0;
    }
    cr_assert(le(dbl, fabs(dropped_ones / (3. * N) - rate[r]), 5 * sqrt(rate[r] * (1 - rate[r]) / (3. * N))));
    for (int m = 0; m < 3 && rate[r] == 0.5; m++)
      for (int i = 0; i < N; i++) same[m] += masks[m][i] == masks[(m + 1) % 3][i];
  }
  for (int m = 0; m < 3; m++) cr_assert(le(dbl, fabs(same[m] / (double)N - 0.5), 5 * sqrt(0.25 / N)));
  Graph *g = dropped(200, 0.5);
  Tensor *in = random_inputs(g, EVAL_EXACT, 1, 1, 2);
  float *x = in[0].data;
  for (int i = 0; i < 200; i++) x[i] = NAN;
  float *y = run_graph(g, EVAL_EXACT, in)[0].data;
  int zeros = 0;
  for (int i = 0; i < 200; i++) zeros += y[i] == 0;
  cr_assert(gt(int, zeros, 50));
  modes_agree(dropped(1000, 0.4), -2, 2, 1e-6);
}

/* ---- canonical orders */

static float *f32_data(const Graph *g, Tensor *in, const char *name) {
  return in[input_index(g, name)].data;
}

Test(eval, contractions_keep_one_chain_restarted_every_4096) {
  Graph *g =
      parse_module("module \"m\"\ngraph @g(%x: f32[5, 3, 3000] data, %w: f32[7, 3000, 3] data, %z: f32[5, 7] data,"
                   " %x2: f32[5, 4096] data, %w2: f32[4096, 7] data) {\n"
                   "  %1 = contract %x, %w {rule=\"mak,nka->mn\"} : f32[5, 7]\n"
                   "  %2 = contract_from %x2, %w2, %z {rule=\"mk,kn->mn\"} : f32[5, 7]\n  return a=%1, b=%2\n}\n")
          ->graphs[0];
  Tensor *in = random_inputs(g, EVAL_EXACT, 3, -1, 1), *out = run_graph(g, EVAL_EXACT, in);
  float *x = f32_data(g, in, "x"), *w = f32_data(g, in, "w"), *z = f32_data(g, in, "z");
  float *x2 = f32_data(g, in, "x2"), *w2 = f32_data(g, in, "w2");
  for (int m = 0; m < 5; m++)
    for (int n = 0; n < 7; n++) {
      float total = 0, acc = 0;
      for (int i = 0; i < 9000; i++) { /* a slow, k fast: the first operand's order */
        if (i > 0 && i % 4096 == 0) {
          total = i == 4096 ? acc : total + acc;
          acc = 0;
        }
        acc = fmaf(x[m * 9000 + i], w[n * 9000 + i % 3000 * 3 + i / 3000], acc);
      }
      total = total + acc;
      cr_assert(eq(flt, ((float *)out[0].data)[m * 7 + n], total));
      acc = z[m * 7 + n];
      for (int k = 0; k < 4096; k++) acc = fmaf(x2[m * 4096 + k], w2[k * 7 + n], acc);
      cr_assert(eq(flt, ((float *)out[1].data)[m * 7 + n], acc));
    }
}

Test(eval, sums_over_rows_take_64_lanes_and_a_tree) {
  Graph *g = parse_module("module \"m\"\ngraph @g(%x: f32[3, 5, 77] data) {\n"
                          "  %1 = sum %x {axes=[1, 2]} : f32[3]\n  return y=%1\n}\n")
                 ->graphs[0];
  Tensor *in = random_inputs(g, EVAL_EXACT, 5, -1, 1), *out = run_graph(g, EVAL_EXACT, in);
  for (int r = 0; r < 3; r++) {
    float lane[64] = {0};
    for (int i = 0; i < 385; i++) lane[i % 64] += ((float *)in[0].data)[r * 385 + i];
    for (int s = 32; s; s /= 2)
      for (int j = 0; j < s; j++) lane[j] += lane[j + s];
    cr_assert(eq(flt, ((float *)out[0].data)[r], lane[0]));
  }
}

Test(eval, sums_over_columns_are_chains_restarted_every_4096) {
  Graph *g = parse_module("module \"m\"\ngraph @g(%x: f32[70, 3, 60] data) {\n"
                          "  %1 = transpose %x {perm=[0, 2, 1]} : f32[70, 60, 3]\n"
                          "  %2 = sum %1 {axes=[0, 1]} : f32[3]\n  return z=%2\n}\n")
                 ->graphs[0];
  Graph *big = parse_module("module \"m\"\ngraph @g(%x: f32[9000, 3] data) {\n"
                            "  %1 = sum %x {axes=[0]} : f32[3]\n  return y=%1\n}\n")
                   ->graphs[0];
  Tensor *in = random_inputs(big, EVAL_EXACT, 5, -1, 1), *out = run_graph(big, EVAL_EXACT, in);
  for (int c = 0; c < 3; c++) {
    float part[3] = {0};
    for (int i = 0; i < 9000; i++) part[i / 4096] += ((float *)in[0].data)[i * 3 + c];
    cr_assert(eq(flt, ((float *)out[0].data)[c], part[0] + part[1] + part[2]));
  }
  in = random_inputs(g, EVAL_EXACT, 5, -1, 1);
  float y[3] = {0}, first[3] = {0};
  float *x = in[0].data;
  for (int c = 0; c < 3; c++)
    for (int i = 0; i < 4200; i++) {
      if (i == 4096) {
        first[c] = y[c];
        y[c] = 0;
      }
      y[c] += x[i / 60 * 180 + c * 60 + i % 60];
    }
  out = run_graph(g, EVAL_EXACT, in);
  for (int c = 0; c < 3; c++) cr_assert(eq(flt, ((float *)out[0].data)[c], first[c] + y[c]));
}

Test(eval, maxima_pass_over_nan) {
  Graph *g = parse_module("module \"m\"\ngraph @g(%x: f32[2, 3] data) {\n  %1 = rowmax %x : f32[2]\n  return y=%1\n}\n")
                 ->graphs[0];
  float x[] = {NAN, -2, -1, NAN, NAN, NAN};
  Tensor in = {val_type(g, g->inputs[0].val), x}, *out = run_graph(g, EVAL_EXACT, &in);
  cr_assert(eq(flt, ((float *)out[0].data)[0], -1.f));
  cr_assert(eq(flt, ((float *)out[0].data)[1], -INFINITY));
}

/* One row, written out: 70 keys are a block of 64 and one of 6. */
Test(eval, attention_steps) {
  Graph *g =
      parse_module("module \"m\"\ngraph @g(%q: f32[1, 1, 1, 5] data, %k: f32[1, 70, 1, 5] data, %v: f32[1, 70, 1, 5]"
                   " data, %a: f32[70] data) {\n"
                   "  %1, %2 = attend %q, %k, %v {causal=0, scale=0.3} : f32[1, 1, 1, 5], f32[1, 1, 1]\n"
                   "  %3 = exp %a : f32[70]\n  %4 = log %a : f32[70]\n  return o=%1, lse=%2, e=%3, l=%4\n}\n")
          ->graphs[0];
  Tensor *in = random_inputs(g, EVAL_EXACT, 9, -2, 2);
  float *q = in[0].data, *k = in[1].data, *v = in[2].data, *arg = in[3].data, o[5] = {0}, m = -INFINITY, l = 0;
  for (int j0 = 0; j0 < 70; j0 += 64) {
    int keys = 70 - j0 < 64 ? 70 - j0 : 64;
    float s[64], bm = -INFINITY, p[64] = {0};
    for (int j = 0; j < keys; j++) {
      s[j] = 0;
      for (int e = 0; e < 5; e++) s[j] = fmaf(q[e], k[(j0 + j) * 5 + e], s[j]);
      s[j] = s[j] * 0.3f;
      bm = fmaxf(bm, s[j]);
    }
    float next = fmaxf(bm, m);
    for (int j = 0; j < keys; j++) arg[j] = s[j] - next;
    arg[64] = m - next;
    float *e = run_graph(g, EVAL_EXACT, in)[2].data, c = e[64];
    for (int j = 0; j < keys; j++) p[j] = e[j];
    l = l * c;
    for (int x = 0; x < 5; x++) {
      o[x] = o[x] * c;
      for (int j = 0; j < keys; j++) o[x] = fmaf(p[j], v[(j0 + j) * 5 + x], o[x]);
    }
    for (int t = 32; t; t /= 2)
      for (int j = 0; j < t; j++) p[j] += p[j + t];
    l = l + p[0];
    m = next;
  }
  arg[0] = l;
  Tensor *out = run_graph(g, EVAL_EXACT, in);
  for (int e = 0; e < 5; e++) cr_assert(eq(flt, ((float *)out[0].data)[e], o[e] / l));
  cr_assert(eq(flt, ((float *)out[1].data)[0], m + ((float *)out[3].data)[0]));
}

Test(eval, later_tokens_change_nothing_earlier) { /* bit for bit: what lets a batch be any size */
  Graph *g = attention(130, 130, 2, 1, 8, 1);
  Tensor *in = random_inputs(g, EVAL_EXACT, 1, -2, 2), *before = run_graph(g, EVAL_EXACT, in);
  float *k = in[1].data, *v = in[2].data;
  for (int i = 100 * 8; i < 130 * 8; i++) k[i] = v[i] = 3; /* keys 100 and later of batch 0 */
  Tensor *after = run_graph(g, EVAL_EXACT, in);
  cr_assert(memcmp(before[0].data, after[0].data, sizeof(float) * 100 * 2 * 8) == 0);
  cr_assert(memcmp(before[0].data, after[0].data, sizeof(float) * 130 * 2 * 8) != 0);
}

/* ---- dtypes, calls, symbols */

Test(eval, bf16_is_rounded_to_nearest_even) {
  Graph *g =
      parse_module("module \"m\"\ngraph @g(%x: f32[6] data) {\n  %1 = cast %x : bf16[6]\n  %2 = add %1, %1 : bf16[6]\n"
                   "  return y=%1, z=%2\n}\n")
          ->graphs[0];
  float x[] = {1, 1.00390625f, 1.01171875f, 1.004f, NAN, -INFINITY};
  Tensor in = {val_type(g, g->inputs[0].val), x}, *out = run_graph(g, EVAL_EXACT, &in);
  float *y = out[0].data, *z = out[1].data;
  cr_assert(eq(flt, y[0], 1.f));
  cr_assert(eq(flt, y[1], 1.f));        /* a tie, to even */
  cr_assert(eq(flt, y[2], 1.015625f));  /* a tie, to even: up */
  cr_assert(eq(flt, y[3], 1.0078125f)); /* just over the tie */
  cr_assert(isnan(y[4]));
  cr_assert(eq(flt, y[5], -INFINITY));
  cr_assert(eq(flt, z[2], 2.03125f));
}

/* The law of bf16 contractions, written once more: by pairs, the odd one first, each step flushed. */
static float flushed(float x) {
  return fabsf(x) < 0x1p-126f ? copysignf(0, x) : x;
}

static float pair(float acc, const float p[2], const float q[2]) {
  for (int i = 1; i >= 0; i--) {
    /* 2^64 times as large there are no subnormals: what is below 2^-126 once rounded shows */
    float x = flushed(p[i]), y = flushed(q[i]), r = fmaf(x, y, acc), s = fmaf(x * 0x1p64f, y, acc * 0x1p64f);
    acc = fabsf(s) < 0x1p-62f ? copysignf(0, r) : r;
  }
  return acc;
}

#if defined(__x86_64__)
#include <immintrin.h>
static uint32_t bits(float x) {
  uint32_t u;
  memcpy(&u, &x, 4);
  return u;
}
__attribute__((target("avx512f,avx512bf16"))) static float machine(float acc, const float p[2], const float q[2]) {
  uint32_t x = (bits(p[1]) & 0xffff0000u) | bits(p[0]) >> 16, y = (bits(q[1]) & 0xffff0000u) | bits(q[0]) >> 16;
  __m512bh v = (__m512bh)_mm512_set1_epi32((int)x), w = (__m512bh)_mm512_set1_epi32((int)y);
  return _mm512_cvtss_f32(_mm512_dpbf16_ps(_mm512_set1_ps(acc), v, w));
}
static bool has_machine(void) {
  return __builtin_cpu_supports("avx512bf16");
}
#else
static float machine(float acc, const float p[2], const float q[2]) {
  return 0;
}
static bool has_machine(void) {
  return false;
}
#endif

static bool alike(float x, float y) {
  return memcmp(&x, &y, 4) == 0 || (isnan(x) && isnan(y));
}

/* Sums of all sizes; around the smallest normal; specials. */
static float bf16_value(uint64_t *seed, int kind) {
  static const float special[] = {0, -0.f, INFINITY, -INFINITY, NAN, 0x1p-126f, 0x1p-130f, -0x1p-133f, 0x1.fep127f};
  float x = (float)uniform(seed, -2, 2);
  if (uniform(seed, 0, 1) < 0.1) x = special[(int)uniform(seed, 0, kind == 2 ? LEN(special) : 2)];
  x = ldexpf(x, (int)uniform(seed, -4, 4) - (kind == 1 ? 64 : 0));
  uint32_t u;
  memcpy(&u, &x, 4);
  u &= isnan(x) ? 0xffc00000u : 0xffff0000u;
  memcpy(&x, &u, 4);
  return x;
}

Test(eval, bf16_contraction_is_what_the_instruction_computes) {
  static const char text[] = "module \"m\"\ngraph @g(%x: bf16[N<=4096] data, %y: bf16[N<=4096] data, %z: f32 data) {\n"
                             "  %1 = contract %x, %y {rule=\"k,k->\"} : f32\n"
                             "  %2 = contract_from %x, %y, %z {rule=\"k,k->\"} : f32\n  return a=%1, b=%2\n}\n";
  bool hard = has_machine();
  if (!hard) fprintf(stderr, "this machine has no vdpbf16ps: held to the text of the law alone\n");
  uint64_t seed = 1;
  Graph *g = parse_module(text)->graphs[0];
  for (int round = 0; round < 6000; round++) {
    int kind = round % 3, n = round % 50 == 0 ? 4000 + round % 97 : 1 + round % 9;
    Tensor in[3], out[2];
    for (int i = 0; i < 3; i++)
      in[i] = tensor_new(a, i < 2 ? type_make(DT_bf16, 1, (int64_t[]){n}) : type_scalar(DT_f32), EVAL_EXACT);
    float *x = in[0].data, *y = in[1].data, *z = in[2].data, plain = 0, from;
    for (int k = 0; k < n; k++) x[k] = bf16_value(&seed, kind), y[k] = bf16_value(&seed, kind);
    *z = ldexpf((float)uniform(&seed, -2, 2), kind == 1 ? -126 : 0);
    from = flushed(*z);
    Binding bind = {intern("N"), n};
    cr_assert(graph_eval(g, EVAL_EXACT, in, &bind, 1, a, out, d));
    for (int k = 0; k < n; k += 2) {
      float p[2] = {x[k], k + 1 < n ? x[k + 1] : 0}, q[2] = {y[k], k + 1 < n ? y[k + 1] : 0};
      float next = pair(plain, p, q), other = pair(from, p, q);
      if (hard) {
        float m = machine(plain, p, q), o = machine(from, p, q);
        cr_assert(alike(m, next), "%a by %a, %a by %a on %a: %a, not %a", (double)p[0], (double)q[0], (double)p[1],
                  (double)q[1], (double)plain, (double)m, (double)next);
        cr_assert(alike(o, other));
      }
      plain = next, from = other;
    }
    float *e0 = out[0].data, *e1 = out[1].data;
    cr_assert(alike(*e0, plain), "%d: %a, not %a", n, (double)*e0, (double)plain);
    cr_assert(alike(*e1, from), "%d, from: %a, not %a", n, (double)*e1, (double)from);
  }
}

Test(eval, casts_to_integers) {
  Graph *g =
      parse_module("module \"m\"\ngraph @g(%x: f32[6] data) {\n  %1 = cast %x : i32[6]\n  return y=%1\n}\n")->graphs[0];
  float x[] = {2.5f, 3.5f, -2.5f, 1e20f, -1e20f, NAN};
  int32_t want[] = {2, 4, -2, INT32_MAX, INT32_MIN, 0};
  Tensor in = {val_type(g, g->inputs[0].val), x}, *out = run_graph(g, EVAL_EXACT, &in);
  cr_assert(memcmp(out[0].data, want, sizeof want) == 0);
}

Test(eval, calls_slice_and_carry) {
  Module *m =
      parse_module("module \"m\"\n"
                   "graph @main(%x: f32[6, 2] data, %w: f32[2] data, %total: f32[2] state) {\n"
                   "  %1, %2 = call %x, %w, %total {fn=\"turn\", count=3} : f32[6, 2], f32[2]\n"
                   "  %3 = call %2 {fn=\"twice\"} : f32[2]\n  return y=%1, total=%2, z=%3\n}\n"
                   "graph @turn(%x: f32[2, 2] data, %w: f32[2] data, %total: f32[2] state) {\n"
                   "  %1 = broadcast %w {axes=[1]} : f32[2, 2]\n  %2 = mul %x, %1 : f32[2, 2]\n"
                   "  %3 = sum %2 {axes=[0]} : f32[2]\n  %4 = add %total, %3 : f32[2]\n  return y=%2, total=%4\n}\n"
                   "graph @twice(%x: f32[2] data) {\n  %1 = add %x, %x : f32[2]\n  return y=%1\n}\n");
  Graph *g = m->graphs[0];
  for (int mode = 0; mode < 2; mode++) {
    Tensor *in = random_inputs(g, mode, 2, 0, 0);
    for (int i = 0; i < 12; i++) tensor_set(&in[0], mode, i, i);
    for (int i = 0; i < 2; i++) tensor_set(&in[1], mode, i, i ? 10 : 1), tensor_set(&in[2], mode, i, 100);
    Tensor *out = run_graph(g, mode, in);
    for (int i = 0; i < 12; i++) cr_assert(eq(dbl, tensor_get(&out[0], mode, i), i % 2 ? i * 10 : i));
    cr_assert(eq(dbl, tensor_get(&out[1], mode, 0), 130));
    cr_assert(eq(dbl, tensor_get(&out[1], mode, 1), 460));
    cr_assert(eq(dbl, tensor_get(&out[2], mode, 1), 920));
    cr_assert(eq(dbl, tensor_get(&in[2], mode, 0), 100)); /* the caller's data stays */
  }
}

Test(eval, symbolic_extents_take_their_values) {
  Graph *g = parse_module("module \"m\"\ngraph @g(%x: f32[B<=8, 3] data) {\n  %1 = sum %x {axes=[1]} : f32[B<=8]\n"
                          "  return y=%1\n}\n")
                 ->graphs[0];
  float x[] = {1, 2, 3, 4, 5, 6};
  Tensor in = {type_make(DT_f32, 2, (int64_t[]){2, 3}), x}, out;
  Binding b = {"B", 2};
  cr_assert(graph_eval(g, EVAL_EXACT, &in, &b, 1, a, &out, d));
  cr_assert(eq(i64, type_elements(out.type), 2));
  cr_assert(eq(flt, ((float *)out.data)[1], 15.f));
}

/* ---- bad data: a diagnostic, and no result */

static void fails(const Graph *g, const Tensor *in, const Binding *b, int nb, const char *what) {
  Tensor out[8];
  cr_assert(not(graph_eval(g, EVAL_EXACT, in, b, nb, a, out, d)));
  cr_assert(d->n == 1 && strstr(d->list[0].text, what), "expected '%s', found '%s'", what,
            d->n ? d->list[0].text : "nothing");
  d->n = 0;
}

Test(eval, bad_data_is_told) {
  Graph *g = parse_module("module \"m\"\ngraph @g(%x: f32[3, 2] data, %i: i32[2] data) {\n"
                          "  %1 = gather %x, %i : f32[2, 2]\n  return y=%1\n}\n")
                 ->graphs[0];
  Tensor *in = random_inputs(g, EVAL_EXACT, 1, 0, 1);
  int32_t *i = in[1].data;
  i[0] = 0;
  i[1] = 3;
  fails(g, in, NULL, 0, "gather: index 3 (element 1 of the indices) is not in [0, 3)");
  i[1] = -1;
  fails(g, in, NULL, 0, "gather: index -1");
  in[1].type = type_make(DT_i32, 1, (int64_t[]){3});
  fails(g, in, NULL, 0, "the data given for input i has another type");
  g = parse_module(
          "module \"m\"\ngraph @g(%x: f32[3, 2] data, %i: i32[3] data, %z: f32[3, 2] data) {\n"
          "  %1 = pick %x, %i : f32[3]\n  %2 = onehot %i : f32[3, 2]\n  %3 = scatter_add %x, %i, %z : f32[3, 2]\n"
          "  return a=%1, b=%2, c=%3\n}\n")
          ->graphs[0];
  in = random_inputs(g, EVAL_EXACT, 1, 0, 1);
  ((int32_t *)in[1].data)[2] = 2;
  fails(g, in, NULL, 0, "pick: index 2");
  g = parse_module("module \"m\"\ngraph @g(%x: f32[B<=8] data) {\n  %1 = neg %x : f32[B<=8]\n  return y=%1\n}\n")
          ->graphs[0];
  in = random_inputs(g, EVAL_EXACT, 1, 0, 1);
  fails(g, in, NULL, 0, "the extent B has no value");
  fails(g, in, &(Binding){"B", 9}, 1, "the extent B is 9, its bound is 8");
}
