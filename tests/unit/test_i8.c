/* Kernels of i8, bit for bit against the exact evaluator: contractions of all rules and odd sizes with the epilogues and operands
 * that quantized layers have, casts, moves; on machines with and without instructions for it. Kernel IR of each, printed and
 * parsed, is the same. And what the evaluator and fusion make of i8. */
#include "kernel_test.h"
#include "passes/passes.h"
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Without the instruction and with it, in vectors of each width. */
enum { V3 = 1, WIDE = 2, NARROW = 4, NATIVE = 8, HALF = 16, V4 = 32, ALL = 63 };
static const char *const targets[] = {"cpu:x86-64-v3", "cpu:x86-64-v3,lanes=16", "cpu:x86-64-v3,lanes=4,l3=0",
                                      "cpu:native",    "cpu:native,lanes=8",     "cpu:x86-64-v4"};

static void check_text(KernelSet *s) {
  Text once = {0}, twice = {0};
  kmodule_print(s->km, NULL, &once);
  KModule *back = kmodule_parse(s->arena, s->diags, diags_source(s->diags, "kernels.kir", once.s, once.n));
  if (back) kmodule_print(back, NULL, &twice);
  cr_expect(back && once.n == twice.n && !memcmp(once.s, twice.s, once.n), "%s: its text is read as another",
            s->target.name);
  for (int i = 0; back && i < back->n; i++) cr_expect(kernel_verify(back->kernels[i], s->diags));
  text_free(&once), text_free(&twice);
}

static void check(Text *t, int on) { /* on: bits of targets */
  kernels_test(targets, LEN(targets), t, on, check_text);
}

/* ---- contractions */

typedef struct Shape {
  const char *rule;
  const char *dims; /* "m=37 n=16 k=65"; "m<8" is a symbol with bound 8 */
} Shape;

/* The extent of a letter as text: "37", or "M<=8". */
static void extent(Text *t, const char *dims, char letter) {
  for (const char *p = dims; *p; p++) {
    if (*p != letter || (p[1] != '=' && p[1] != '<')) continue;
    if (p[1] == '<') text_add(t, "%c<=", letter - 'a' + 'A');
    text_add(t, "%d", atoi(p + 2));
    return;
  }
  cr_assert(false, "no extent for %c in %s", letter, dims);
}

static void type(Text *t, const char *dt, const char *dims, const char *letters, size_t n) {
  text_add(t, "%s[", dt);
  for (size_t i = 0; i < n; i++) {
    if (i) text_add(t, ", ");
    extent(t, dims, letters[i]);
  }
  text_add(t, "]");
}

/* Epilogues: the sums as they are; as the quantized layers of a model have them, scaled by row and by column, with a bias; with
 * operands that are rounded to i8 where they are packed, f32 and turned around. */
static const char *const epilogues[] = {"sums", "scaled", "wide.rounded", "turned"};

static void contract(Text *t, int i, Shape s, const char *kind) {
  const char *a = s.rule, *b = strchr(a, ',') + 1, *out = strchr(b, '>') + 1;
  size_t na = (size_t)(b - a - 1), nb = (size_t)(out - b - 2), no = strlen(out);
  bool scaled = !strcmp(kind, "scaled"), rounded = !strcmp(kind, "wide.rounded"), turned = !strcmp(kind, "turned");
  char ra[8] = {0}, rb[8] = {0};
  for (size_t j = 0; j < na; j++) ra[j] = turned ? a[na - 1 - j] : a[j];
  for (size_t j = 0; j < nb; j++) rb[j] = turned ? b[nb - 1 - j] : b[j];
#define TYPE(text, dt, letters, n) (text_add(t, text), type(t, dt, s.dims, letters, n))
  text_add(t, "region contract @%s.%d(", kind, i);
  TYPE("%%a: ", rounded ? "f32" : "i8", ra, na), TYPE(" data, %%b: ", rounded ? "bf16" : "i8", rb, nb);
  if (scaled) {
    TYPE(" data, %%sr: ", "f32", out, no - 1), TYPE(" data, %%sc: ", "f32", out + no - 1, 1);
    TYPE(" data, %%bias: ", "f32", out + no - 1, 1);
  }
  text_add(t, " data) {\n");
  if (rounded)
    TYPE("  %%qa = cast %%a : ", "i8", a, na), TYPE("\n  %%qb = cast %%b : ", "i8", b, nb), text_add(t, "\n");
  for (int k = 0; k < 2 && turned; k++) {
    size_t n = k ? nb : na;
    text_add(t, "  %%t%c = transpose %%%c {perm=[", 'a' + k, 'a' + k);
    for (size_t j = 0; j < n; j++) text_add(t, "%s%zu", j ? ", " : "", n - 1 - j);
    TYPE("]} : ", "i8", k ? b : a, n), text_add(t, "\n");
  }
  const char *side = rounded ? "q" : turned ? "t" : "";
  text_add(t, "  %%1 = contract %%%sa, %%%sb {rule=\"%s\"}", side, side, s.rule);
  TYPE(" : ", "i32", out, no), text_add(t, "\n");
  if (scaled) {
    text_add(t, "  %%r = broadcast %%sr {axes=[");
    for (size_t j = 0; j + 1 < no; j++) text_add(t, "%s%zu", j ? ", " : "", j);
    TYPE("]} : ", "f32", out, no);
    text_add(t, "\n  %%c = broadcast %%sc {axes=[%zu]}", no - 1), TYPE(" : ", "f32", out, no);
    text_add(t, "\n  %%d = broadcast %%bias {axes=[%zu]}", no - 1), TYPE(" : ", "f32", out, no);
    TYPE("\n  %%2 = cast %%1 : ", "f32", out, no), TYPE("\n  %%3 = mul %%2, %%r : ", "f32", out, no);
    TYPE("\n  %%4 = mul %%3, %%c : ", "f32", out, no), TYPE("\n  %%5 = add %%4, %%d : ", "f32", out, no);
    text_add(t, "\n  return y=%%5\n}\n");
  } else {
    text_add(t, "  return y=%%1\n}\n");
  }
#undef TYPE
}

/* All orders of letters. */
static const Shape small[] = {
    {"mk,nk->mn", "m=7 n=19 k=13"},
    {"mk,kn->mn", "m=13 n=33 k=70"},
    {"km,kn->mn", "m=25 n=17 k=9"},
    {"km,nk->mn", "m=6 n=16 k=8"},
    {"nk,mk->nm", "m=40 n=5 k=21"},
    {"kn,mk->nm", "m=31 n=12 k=30"},
    {"mk,nk->nm", "m=29 n=18 k=37"},
    {"mk,kn->nm", "m=11 n=23 k=5"},
    {"km,kn->nm", "m=65 n=3 k=64"},
    {"btd,hed->bthe", "b=2 t=7 h=3 e=5 d=12"},
    {"bthe,dhe->btd", "b=2 t=7 h=3 e=5 d=21"},
    {"bthd,bte->hde", "b=2 t=9 h=3 d=5 e=17"},
    {"bte,bthd->hde", "b=2 t=9 h=3 d=17 e=5"},
    {"bte,fe->btf", "b=3 t=5 e=31 f=20"},
    {"btf,fe->bte", "b=3 t=5 e=31 f=20"},
    {"btf,bte->fe", "b=3 t=5 e=31 f=20"},
    {"bmk,bkn->bmn", "b=3 m=8 k=11 n=9"},
    {"bmk,bnk->bmn", "b=3 m=8 k=11 n=9"},
    {"mbk,bkn->mbn", "b=3 m=8 k=11 n=9"},
    {"mbk,bkn->bmn", "b=2 m=1 k=1 n=1"},
    {"mk,nk->mn", "m=1 n=1 k=1"},
    {"mk,nk->mn", "m=1 n=100 k=5"},
    {"mk,kn->mn", "m=100 n=1 k=5"},
    {"mkl,lkn->mn", "m=10 n=17 k=4 l=7"},
    {"mkl,nlk->mn", "m=10 n=17 k=4 l=7"},
    {"bthe,bshe->bhts", "b=2 t=7 h=2 e=9 s=10"},
    {"bhts,bshe->bthe", "b=2 t=7 h=2 e=9 s=10"},
};

static Text rules(int every) {
  Text t = begin("bytes");
  for (int i = 0; i < LEN(small); i++)
    for (int e = 0; e < LEN(epilogues); e++)
      if ((i + e) % every == 0) contract(&t, i, small[i], epilogues[e]);
  return t;
}

Test(i8, contract_rules) {
  Text t = rules(1);
  check(&t, V3 | NARROW | NATIVE);
}

Test(i8, contract_rules_wide) {
  Text t = rules(4);
  check(&t, WIDE | V4);
}

/* Around the blocks: K of the chain's restart, M and N beyond mb, mc, nc. */
static const Shape large[] = {
    {"mk,nk->mn", "m=13 n=50 k=768"},  {"mk,kn->mn", "m=7 n=33 k=4095"},  {"km,kn->mn", "m=19 n=17 k=4096"},
    {"mk,nk->mn", "m=6 n=16 k=4097"},  {"mk,kn->mn", "m=14 n=35 k=9000"}, {"km,kn->mn", "m=37 n=5 k=9000"},
    {"mk,nk->mn", "m=1100 n=19 k=9"},  {"mk,kn->mn", "m=5 n=1100 k=400"}, {"km,kn->mn", "m=300 n=530 k=70"},
    {"mk,nk->mn", "m=1 n=700 k=385"},  {"mk,nk->nm", "m=1030 n=12 k=33"}, {"bthd,bte->hde", "b=3 t=1500 h=2 d=3 e=17"},
    {"mk,kn->mn", "m=1025 n=513 k=3"},
};

Test(i8, contract_sizes) {
  static const Shape more[] = {{"mk,nk->mn", "m=3 n=40 k=131071"},
                               {"mk,nk->mn", "m=45 n=130 k=16389"},
                               {"mk,nk->mn", "m<70 n=50 k<203"},
                               {"btd,hed->bthe", "b<3 t<20 h=2 e=9 d=64"},
                               {"mk,kn->mn", "m<70 n=50 k=128"}};
  Text t = begin("bytes");
  for (int i = 0; i < LEN(large); i++) contract(&t, i, large[i], epilogues[i % LEN(epilogues)]);
  for (int i = 0; i < LEN(more); i++) contract(&t, 100 + i, more[i], i % 2 ? "scaled" : "sums");
  check(&t, ALL);
}

Test(i8, contract_random) {
  static const char *const rules[] = {"mk,nk->mn", "mk,kn->mn", "km,kn->mn", "km,nk->mn", "mk,nk->nm", "kn,mk->nm"};
  Text t = begin("bytes");
  uint32_t seed = 11;
#define RANDOM(n) ((seed = seed * 1664525u + 1013904223u) >> 8) % (n)
  for (int i = 0; i < 36; i++) {
    char dims[64];
    unsigned m = 1 + RANDOM(100), n = 1 + RANDOM(100), k = 1 + RANDOM(300), e = RANDOM(LEN(epilogues));
    snprintf(dims, sizeof dims, "m=%u n=%u k=%u", m, n, k);
    contract(&t, i, (Shape){rules[i % LEN(rules)], dims}, epilogues[e]);
  }
#undef RANDOM
  check(&t, V3 | NATIVE);
}

/* ---- casts and moves */

/* Casts from and to i8, saturating, ties to even, NaN to 0; moves of i8. */
Test(i8, casts) {
  static const char *const dt[] = {"f32", "bf16", "i32"};
  static const int sizes[] = {1, 7, 64, 1000, 5003};
  Text t = begin("bytes");
  for (int i = 0; i < LEN(sizes) * LEN(dt); i++) {
    int n = sizes[i / LEN(dt)];
    const char *d = dt[i % LEN(dt)];
    text_add(&t, "region map @%s.to.%d(%%x: %s[%d] data) {\n  %%1 = cast %%x : i8[%d]\n  return y=%%1\n}\n",
             i % 2 ? "special" : "wide", i, d, n, n);
    text_add(&t, "region map @from.%d(%%x: i8[%d] data) {\n  %%1 = cast %%x : %s[%d]\n  return y=%%1\n}\n", i, n, d, n);
  }
  text_add(&t, "region map @transpose(%%x: i8[13, 37] data) {\n  %%1 = transpose %%x {perm=[1, 0]} : i8[37, 13]\n"
               "  return y=%%1\n}\n");
  text_add(&t, "region map @gather(%%w: i8[50, 19] data, %%i: i32[7] data) {\n"
               "  %%1 = gather %%w, %%i : i8[7, 19]\n  return y=%%1\n}\n");
  /* a row's largest magnitude, its scale, and the row rounded to i8 */
  text_add(&t, "region row @wide.quantize(%%x: f32[9, 100] data) {\n  %%s = const {value=0.007874015748031496} : f32\n"
               "  %%1 = abs %%x : f32[9, 100]\n  %%2 = rowmax %%1 : f32[9]\n  %%3 = mul %%2, %%s : f32[9]\n"
               "  %%4 = broadcast %%3 {axes=[0]} : f32[9, 100]\n  %%5 = div %%x, %%4 : f32[9, 100]\n"
               "  %%6 = cast %%5 : i8[9, 100]\n  return y=%%6, s=%%3\n}\n");
  check(&t, ALL);
}

/* ---- the evaluator, shape inference, fusion */

static Arena *arena;
static Diags *diags;

static void setup(void) {
  arena = arena_new();
  diags = diags_new(arena);
}
static void teardown(void) {
  arena_free(arena);
}

static Module *parse(const char *text) {
  Module *m = module_parse(arena, diags, diags_source(diags, "text.ir", text, strlen(text)));
  cr_assert(m && module_verify(m), "refused: %s", text);
  return m;
}

static void said(Diags *d, const char *want) {
  Text got = {0};
  diags_render(d, &got);
  cr_assert(got.s && strstr(got.s, want), "expected '%s', got:\n%s", want, got.s);
  text_free(&got);
}

TestSuite(bytes, .init = setup, .fini = teardown);

Test(bytes, sums_are_exact_in_both_modes) {
  Graph *g = parse("module \"m\"\ngraph @g(%x: i8[2, 131071] data, %w: i8[131071, 3] data) {\n"
                   "  %1 = contract %x, %w {rule=\"mk,kn->mn\"} : i32[2, 3]\n  return y=%1\n}\n")
                 ->graphs[0];
  for (int mode = EVAL_DOUBLE; mode <= EVAL_EXACT; mode++) {
    Tensor in[2];
    for (int i = 0; i < 2; i++) in[i] = tensor_new(arena, val_type(g, g->inputs[i].val), (EvalMode)mode);
    int32_t *x = in[0].data, *w = in[1].data;
    int64_t want = 0;
    for (int k = 0; k < 131071; k++) {
      x[k] = w[3 * k] = -128, x[131071 + k] = k % 256 - 128, w[3 * k + 1] = 127, w[3 * k + 2] = k * 7 % 251 - 125;
      want += (int64_t)(k % 256 - 128) * (k * 7 % 251 - 125);
    }
    Tensor out;
    cr_assert(graph_eval(g, (EvalMode)mode, in, NULL, 0, arena, &out, diags));
    const int32_t *y = out.data;
    cr_assert(eq(int, y[0], 131071 * 16384)); /* the largest that can be: below 2^31 */
    cr_assert(eq(int, y[1], -131071 * 16256));
    cr_assert(eq(int, y[5], (int)want));
  }
}

static void refused(const char *text, const char *want) {
  Diags *d = diags_new(arena);
  Module *m = module_parse(arena, d, diags_source(d, "bad.ir", text, strlen(text)));
  cr_assert(not(m && module_verify(m)), "accepted: %s", text);
  said(d, want);
}

Test(bytes, what_is_refused) {
  refused("module \"m\"\ngraph @g(%x: i8[2, 131072] data) {\n  %1 = contract %x, %x {rule=\"mk,nk->mn\"} : i32[2, 2]\n"
          "  return y=%1\n}\n",
          "contract: more than 131071 products of i8 for one result may overflow its i32");
  refused("module \"m\"\ngraph @g(%x: i8[2, 400, K<=400] data) {\n"
          "  %1 = contract %x, %x {rule=\"mlk,nlk->mn\"} : i32[2, 2]\n  return y=%1\n}\n",
          "more than 131071 products");
  refused("module \"m\"\ngraph @g(%x: i8[2, 3] data, %y: f32[2, 3] data) {\n"
          "  %1 = contract %x, %y {rule=\"mk,nk->mn\"} : i32[2, 2]\n  return y=%1\n}\n",
          "the second operand is f32, expected i8");
  refused("module \"m\"\ngraph @g(%x: i8[2, 3] data) {\n  %1 = contract %x, %x {rule=\"mk,nk->mn\"} : f32[2, 2]\n"
          "  return y=%1\n}\n",
          "i32[2, 2]");
  refused("module \"m\"\ngraph @g(%x: i8[2, 3] data, %c: i32[2, 2] state) {\n"
          "  %1 = contract_from %x, %x, %c {rule=\"mk,nk->mn\"} : i32[2, 2]\n  return c=%1\n}\n",
          "contract_from: there is none of i8");
  refused("module \"m\"\ngraph @g(%x: i32[4, 3] panels(1, 2) data) {\n  return y=%x\n}\n", "panels(1, 2)");
}

Test(bytes, kernel_errors) {
  static const struct {
    const char *text, *want;
  } bad[] = {
      {"kernel @k (in x0: f32, out y0: f32) {\n  %1 = load_q x0, 0 : f32x4\n  store y0, 0, %1\n}\n", "quads are of i8"},
      {"kernel @k (in x0: i8, out y0: f32) {\n  %1 = load_qn x0, 0, 1 : f32\n  store y0, 0, %1\n}\n", "masked"},
      {"kernel @k (in x0: i8, out y0: f32) {\n  %1 = load x0, 0 : f32x4\n  %2 = join %1, %1, 4 : f32x4\n"
       "  store y0, 0, %2\n}\n",
       "8 or 16 bits are joined"},
      {"kernel @k (in x0: i8, out y0: f32) {\n  %1 = load x0, 0 : f32x4\n  %2 = load x0, 0 : f32x8\n"
       "  %3 = dpbusd %1, %2, %1 : f32x4\n  store y0, 0, %3\n}\n",
       "differ in lanes"},
      {"kernel @k (in x0: f32, out y0: f32) {\n  for %1 = 0 to 4 step 1 {\n    deal %2 = 0 to 4 step 1 {\n    }\n  "
       "}\n}\n",
       "dealt out once"},
  };
  for (int i = 0; i < LEN(bad); i++) {
    Diags *d = diags_new(arena);
    KModule *km = kmodule_parse(arena, d, diags_source(d, "bad.kir", bad[i].text, strlen(bad[i].text)));
    cr_assert(not(km && kernel_verify(km->kernels[0], d)), "accepted: %s", bad[i].text);
    said(d, bad[i].want);
  }
}

Test(bytes, panels_hold_quads) {
  Type t = type_make(DT_i8, 2, (int64_t[]){5, 6});
  t.split = 1, t.panel = 4;
  cr_assert(eq(i64, type_bytes(t), 8 * 8));
  cr_assert(eq(i64, type_panel_at(t, 0, 3), 3));
  cr_assert(eq(i64, type_panel_at(t, 1, 0), 4));
  cr_assert(eq(i64, type_panel_at(t, 3, 5), 16 + 12 + 1));
  cr_assert(eq(i64, type_panel_at(t, 4, 0), 32));
}

/* A layer with quantized weights: products, scales of rows and columns and the bias are one kernel. */
Test(bytes, scales_are_fused) {
  Module *m = parse(
      "module \"m\"\ngraph @g(%x: i8[B<=4, T=8, 16] data, %w: i8[3, 5, 16] panels(2, 16) param, %sr: f32[B<=4, T=8] "
      "data, "
      "%sc: f32[3, 5] param, %b: f32[3, 5] param) {\n"
      "  %1 = contract %x, %w {rule=\"btd,hed->bthe\"} : i32[B<=4, T=8, 3, 5]\n"
      "  %2 = cast %1 : f32[B<=4, T=8, 3, 5]\n"
      "  %3 = broadcast %sr {axes=[0, 1]} : f32[B<=4, T=8, 3, 5]\n  %4 = mul %2, %3 : f32[B<=4, T=8, 3, 5]\n"
      "  %5 = broadcast %sc {axes=[2, 3]} : f32[B<=4, T=8, 3, 5]\n  %6 = mul %4, %5 : f32[B<=4, T=8, 3, 5]\n"
      "  %7 = broadcast %b {axes=[2, 3]} : f32[B<=4, T=8, 3, 5]\n  %8 = add %6, %7 : f32[B<=4, T=8, 3, 5]\n"
      "  return y=%8\n}\n");
  Target t;
  cr_assert(target_resolve(arena, diags, "cpu:x86-64-v3", &t));
  Module *fused = pass_find("fuse")->run(m, &t);
  cr_assert(fused && module_verify(fused));
  int regions = 0;
  for (int i = 0; i < fused->ngraphs; i++) {
    const Graph *g = fused->graphs[i];
    if (!g->region) continue;
    regions++;
    cr_assert(eq(str, (char *)g->region, "contract"));
    cr_assert(eq(int, g->nnodes, 8));
  }
  cr_assert(eq(int, regions, 1));
}
