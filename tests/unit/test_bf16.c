/* Kernels of bf16, bit for bit against the exact evaluator: every lowering with bf16 in memory and beside f32, at sizes around
 * vectors and blocks, on machines with and without instructions for it. */
#include "kernel_test.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Without the instruction and with it; the widest tiles take the longest to compile. */
enum { V3 = 1, WIDE = 2, NARROW = 4, NATIVE = 8, HALF = 16, V4 = 32, ALL = 63 };
static const char *const targets[] = {"cpu:x86-64-v3", "cpu:x86-64-v3,lanes=16", "cpu:x86-64-v3,lanes=4",
                                      "cpu:native",    "cpu:native,lanes=8",     "cpu:x86-64-v4"};

static void check(Text *t, int on) { /* on: bits of targets */
  kernels_test(targets, LEN(targets), t, on, NULL);
}

/* Adds text in which $name stands for the dims that follow, in pairs: name, text. */
static void add(Text *t, const char *text, const char *const *with) {
  for (const char *p = text; *p;) {
    int best = -1;
    for (int i = 0; *p == '$' && with[i]; i += 2)
      if (!strncmp(p + 1, with[i], strlen(with[i]))) best = i;
    if (best < 0) {
      text_write(t, p++, 1);
    } else {
      text_add(t, "%s", with[best + 1]);
      p += 1 + strlen(with[best]);
    }
  }
}

static const char *number(int n) { /* a few at a time */
  static char text[16][16];
  static int next;
  char *s = text[next++ % 16];
  snprintf(s, 16, "%d", n);
  return s;
}

/* ---- elementwise, map */

Test(bf16, every_elementwise_op) {
  Text t = begin("elementwise");
  static const char *const arg[] = {"%a", "%a, %b", "%a, %b, %c"};
  static const int sizes[] = {1, 7, 64, 1000, 2503};
  for (int op = 0, k = 0; op < OP_COUNT; op++) {
    if (!op_info[op].ew) continue;
    for (int special = 0; special < 2; special++, k++) {
      int n = sizes[k % LEN(sizes)];
      text_add(&t,
               "region map @%s.%s(%%a: bf16[%d] data, %%b: bf16[%d] data, %%c: bf16[%d] data) {\n"
               "  %%1 = %s %s : bf16[%d]\n  return y=%%1\n}\n",
               special ? "special" : "plain", op_info[op].name, n, n, n, op_info[op].name, arg[op_info[op].nargs - 1],
               n);
    }
  }
  check(&t, ALL);
}

static const char maps[] =
    "region map @special.casts.$i(%x: f32[$B, $T, $D] data, %y: bf16[$B, $T, $D] data, %n: i32[$B, $T, $D] data) {\n"
    "  %1 = cast %x : bf16[$B, $T, $D]\n  %2 = cast %y : f32[$B, $T, $D]\n  %3 = add %x, %2 : f32[$B, $T, $D]\n"
    "  %4 = cast %3 : bf16[$B, $T, $D]\n  %5 = mul %1, %4 : bf16[$B, $T, $D]\n  %6 = cast %5 : f32[$B, $T, $D]\n"
    "  %7 = cast %n : bf16[$B, $T, $D]\n  %8 = cast %y : i32[$B, $T, $D]\n"
    "  return a=%1, b=%3, c=%5, d=%6, e=%7, f=%8\n}\n"
    "region map @wide.cast.$i(%x: f32[$D] data) {\n  %1 = cast %x : bf16[$D]\n  return y=%1\n}\n"
    "region map @scalars.$i(%x: f32 data, %y: bf16 data) {\n  %1 = cast %x : bf16\n  %2 = add %1, %y : bf16\n"
    "  %3 = cast %2 : f32\n  return y=%2, z=%3\n}\n"
    "region map @repeat.$i(%d: bf16[$D] data, %bt: bf16[$B, $T] data, %x: f32[$B, $T, $D] data) {\n"
    "  %1 = broadcast %d {axes=[2]} : bf16[$B, $T, $D]\n  %2 = broadcast %bt {axes=[0, 1]} : bf16[$B, $T, $D]\n"
    "  %3 = add %1, %2 : bf16[$B, $T, $D]\n  %4 = cast %3 : f32[$B, $T, $D]\n  %5 = mul %4, %x : f32[$B, $T, $D]\n"
    "  return y=%5, z=%3\n}\n"
    "region map @transpose.$i(%x: bf16[$B, $T, $D] data, %z: bf16[$B, $D, $T] data) {\n"
    "  %1 = transpose %x {perm=[0, 2, 1]} : bf16[$B, $D, $T]\n  %2 = sub %1, %z : bf16[$B, $D, $T]\n"
    "  return y=%2, z=%1\n}\n"
    "region map @gather.$i(%w: bf16[50, $D] data, %i: i32[$B, $T] data, %p: f32[$T, $D] data) {\n"
    "  %1 = gather %w, %i : bf16[$B, $T, $D]\n  %2 = broadcast %p {axes=[1, 2]} : f32[$B, $T, $D]\n"
    "  %3 = cast %1 : f32[$B, $T, $D]\n  %4 = add %3, %2 : f32[$B, $T, $D]\n  %5 = cast %4 : bf16[$B, $T, $D]\n"
    "  return y=%5, z=%1\n}\n"
    "region map @onehot.$i(%i: i32[$B, $T] data, %s: bf16[$B, $T] data) {\n"
    "  %1 = onehot %i : bf16[$B, $T, $D]\n  %2 = broadcast %s {axes=[0, 1]} : bf16[$B, $T, $D]\n"
    "  %3 = mul %1, %2 : bf16[$B, $T, $D]\n  return y=%3, z=%1\n}\n"
    "region map @wide.dropout.$i(%x: bf16[$B, $T, $D] data, %z: f32[$B, $T, $D] data, %a: i32 data, %b: i32 data) {\n"
    "  %1 = dropout %x, %a, %b, %b {rate=0.3} : bf16[$B, $T, $D]\n  %2 = cast %1 : f32[$B, $T, $D]\n"
    "  %3 = add %2, %z : f32[$B, $T, $D]\n  %4 = dropout %3, %a, %b, %a {rate=0.7} : f32[$B, $T, $D]\n"
    "  %5 = cast %4 : bf16[$B, $T, $D]\n  return y=%1, u=%5\n}\n";

static const char rows[] =
    "region row @norm.$i(%x: bf16[$B, $T, $D] data, %w: f32[$D] param) {\n  %n = const {value=0.01} : f32\n"
    "  %0 = cast %x : f32[$B, $T, $D]\n  %1 = square %0 : f32[$B, $T, $D]\n  %2 = sum %1 {axes=[2]} : f32[$B, $T]\n"
    "  %3 = mul %2, %n : f32[$B, $T]\n  %4 = rsqrt %3 : f32[$B, $T]\n"
    "  %5 = broadcast %4 {axes=[0, 1]} : f32[$B, $T, $D]\n  %6 = mul %0, %5 : f32[$B, $T, $D]\n"
    "  %7 = broadcast %w {axes=[2]} : f32[$B, $T, $D]\n  %8 = mul %6, %7 : f32[$B, $T, $D]\n"
    "  %9 = cast %8 : bf16[$B, $T, $D]\n  return y=%9, r=%4\n}\n"
    "region row @wide.softmax.$i(%x: bf16[$B, $T, $D] data) {\n  %1 = rowmax %x : bf16[$B, $T]\n"
    "  %2 = broadcast %1 {axes=[0, 1]} : bf16[$B, $T, $D]\n  %3 = sub %x, %2 : bf16[$B, $T, $D]\n"
    "  %4 = exp %3 : bf16[$B, $T, $D]\n  %5 = sum %4 {axes=[2]} : bf16[$B, $T]\n"
    "  %6 = broadcast %5 {axes=[0, 1]} : bf16[$B, $T, $D]\n  %7 = div %4, %6 : bf16[$B, $T, $D]\n"
    "  return y=%7, m=%1, s=%5\n}\n"
    "region row @pick.$i(%x: bf16[$B, $T, $D] data, %i: i32[$B, $T] data) {\n  %1 = pick %x, %i : bf16[$B, $T]\n"
    "  %2 = sum %x {axes=[2]} : bf16[$B, $T]\n  %3 = add %1, %2 : bf16[$B, $T]\n  return y=%3\n}\n"
    "region row @all.$i(%x: bf16[$T, $D] data) {\n  %1 = sum %x {axes=[0, 1]} : bf16\n  return y=%1\n}\n"
    "region column @bias.$i(%x: bf16[$B, $T, $D] data, %g: f32[$D] state) {\n  %0 = cast %x : f32[$B, $T, $D]\n"
    "  %1 = sum %0 {axes=[0, 1]} : f32[$D]\n  %2 = add %g, %1 : f32[$D]\n  return g=%2\n}\n"
    "region column @narrow.$i(%x: bf16[$B, $T, $D] data, %y: bf16[$B, $T, $D] data) {\n"
    "  %1 = mul %x, %y : bf16[$B, $T, $D]\n  %2 = sum %1 {axes=[0, 1]} : bf16[$D]\n"
    "  %3 = sum %x {axes=[0, 1]} : bf16[$D]\n  %4 = mul %2, %3 : bf16[$D]\n  return z=%4, s=%3\n}\n";

static void spaces(const char *name, const char *text) {
  static const struct {
    int b, t, d;
  } size[] = {{1, 1, 1}, {2, 3, 5}, {3, 7, 64}, {2, 65, 33}, {1, 33, 129}, {2, 5, 320}};
  Text t = begin(name);
  for (int i = 0; i < LEN(size); i++)
    add(&t, text,
        (const char *const[]){"i", number(i), "B", number(size[i].b), "T", number(size[i].t), "D", number(size[i].d),
                              NULL});
  check(&t, ALL);
}

Test(bf16, map_regions) {
  spaces("map", maps);
}

Test(bf16, row_and_column_regions) {
  spaces("row", rows);
}

/* ---- regions of one op */

Test(bf16, attention) {
  static const char text[] =
      "region attend @$kattend.$i(%q: bf16[$B, $T, $H, $E] data, %k: bf16[$B, $S, $G, $E] data,\n"
      "  %v: bf16[$B, $S, $G, $E] data) {\n"
      "  %o, %l = attend %q, %k, %v {causal=$c, scale=0.3, window=$w} : bf16[$B, $T, $H, $E], f32[$B, $H, $T]\n"
      "  return o=%o, l=%l\n}\n"
      "region attend_grad @$kgrad.$i(%q: bf16[$B, $T, $H, $E] data, %k: bf16[$B, $S, $G, $E] data,\n"
      "  %v: bf16[$B, $S, $G, $E] data, %o: bf16[$B, $T, $H, $E] data, %l: f32[$B, $H, $T] data,\n"
      "  %do: bf16[$B, $T, $H, $E] data) {\n"
      "  %dq, %dk, %dv = attend_grad %q, %k, %v, %o, %l, %do {causal=$c, scale=0.3, window=$w} : bf16[$B, $T, $H, $E], "
      "bf16[$B, $S, $G, $E], bf16[$B, $S, $G, $E]\n  return dq=%dq, dk=%dk, dv=%dv\n}\n";
  static const struct {
    int b, t, s, h, g, e, causal;
    const char *kind;
    int window;
  } size[] = {
      {1, 65, 65, 3, 1, 48, 1, "", 0},
      {2, 130, 130, 2, 2, 8, 1, "rare.", 0},
      {1, 40, 150, 2, 2, 20, 0, "", 0},
      {1, 7, 200, 1, 1, 3, 0, "", 0},
      {1, 1, 1, 1, 1, 8, 1, "", 0},
      {2, 64, 64, 2, 2, 64, 0, "rare.", 0},
      {1, 67, 67, 2, 1, 33, 1, "", 0},
      {1, 67, 67, 2, 1, 33, 1, "", 5},
      {1, 200, 200, 4, 2, 16, 1, "rare.", 70},
      {1, 129, 129, 2, 2, 8, 1, "rare.", 1},
  };
  Text t = begin("attention");
  for (int i = 0; i < LEN(size); i++)
    add(&t, text,
        (const char *const[]){
            "i", number(i),         "B", number(size[i].b),      "T", number(size[i].t), "S", number(size[i].s),
            "H", number(size[i].h), "G", number(size[i].g),      "E", number(size[i].e), "c", number(size[i].causal),
            "k", size[i].kind,      "w", number(size[i].window), NULL});
  check(&t, V3 | NARROW | NATIVE);
}

Test(bf16, scatter_add_and_rope) {
  static const char scatter[] =
      "region scatter_add @scatter.$D(%w: bf16[9, $D] state, %i: i32[2, 17] data, %u: bf16[2, 17, $D] data) {\n"
      "  %1 = scatter_add %w, %i, %u : bf16[9, $D]\n  return w=%1\n}\n";
  static const char rope[] =
      "region rope @rope.$s.$n.$E(%x: bf16[2, 5, 3, $E] data, %c: f32[40, $h] data, %s: f32[40, $h] data,\n"
      "  %p: i32[5] data) {\n"
      "  %1 = rope %x, %c, %s, %p {style=\"$s\", inverse=$n} : bf16[2, 5, 3, $E]\n  return y=%1\n}\n";
  static const int width[] = {1, 5, 16, 33, 100}, head[] = {2, 6, 8, 30, 64};
  Text t = begin("scatter");
  for (int i = 0; i < 5; i++) {
    add(&t, scatter, (const char *const[]){"D", number(width[i]), NULL});
    for (int kind = 0; kind < 4; kind++)
      add(&t, rope,
          (const char *const[]){"s", kind & 1 ? "pairs" : "half", "n", number(kind / 2), "E", number(head[i]), "h",
                                number(head[i] / 2), NULL});
  }
  check(&t, ALL);
}

/* ---- contractions */

typedef struct Shape {
  const char *rule, *dims; /* "m=37 n=16 k=65" */
} Shape;

static void type(Text *t, const char *dtype, const char *dims, const char *letters, size_t n) {
  text_add(t, "%s[", dtype);
  for (size_t i = 0; i < n; i++) {
    char key[3] = {letters[i], '=', 0};
    const char *at = strstr(dims, key);
    cr_assert(at != NULL);
    text_add(t, "%s%d", i ? ", " : "", atoi(at + 2));
  }
  text_add(t, "]");
}

enum Kind { PLAIN, ROUNDED, CAST, GATED, FROM, STATE, BIAS, KINDS };
static const char *const kinds[] = {"plain", "rounded", "rare.cast", "gated", "from", "state", "bias"};

/* PLAIN: the f32 result. ROUNDED: as an activation, and used once more. CAST: of f32, transposed, while packing. GATED: of bf16
 * by way of f32. FROM, STATE: into f32. BIAS: an epilogue that stores both. */
static void contract(Text *t, int number, Shape s, int kind) {
  const char *a = s.rule, *b = strchr(a, ',') + 1, *out = strchr(b, '>') + 1;
  size_t na = (size_t)(b - a - 1), nb = (size_t)(out - b - 2), no = strlen(out);
  char ra[8] = {0}, rb[8] = {0};
  for (size_t i = 0; i < na; i++) ra[i] = kind == CAST ? a[na - 1 - i] : a[i];
  for (size_t i = 0; i < nb; i++) rb[i] = kind == CAST ? b[nb - 1 - i] : b[i];
#define TYPE(dtype, letters, n, ...) (text_add(t, __VA_ARGS__), type(t, dtype, s.dims, letters, n))
  text_add(t, "region contract @%s.%d(", kinds[kind], number);
  TYPE(kind == CAST ? "f32" : "bf16", ra, na, "%%a: "), text_add(t, " data");
  TYPE(kind == CAST ? "f32" : "bf16", rb, nb, ", %%b: "), text_add(t, " data");
  if (kind == FROM || kind == STATE) TYPE("f32", out, no, ", %%g: "), text_add(t, " state");
  if (kind == BIAS) TYPE("f32", out + no - 1, 1, ", %%d: "), text_add(t, " data");
  if (kind == GATED) TYPE("bf16", ra, na, ", %%u: "), text_add(t, " data");
  text_add(t, ") {\n");
  const char *va = "a", *vb = "b";
  if (kind == CAST) {
    TYPE("bf16", ra, na, "  %%ca = cast %%a : "), TYPE("bf16", rb, nb, "\n  %%cb = cast %%b : ");
    text_add(t, "\n  %%ta = transpose %%ca {perm=[");
    for (size_t i = 0; i < na; i++) text_add(t, "%s%zu", i ? ", " : "", na - 1 - i);
    TYPE("bf16", a, na, "]} : "), text_add(t, "\n  %%tb = transpose %%cb {perm=[");
    for (size_t i = 0; i < nb; i++) text_add(t, "%s%zu", i ? ", " : "", nb - 1 - i);
    TYPE("bf16", b, nb, "]} : "), text_add(t, "\n");
    va = "ta", vb = "tb";
  }
  if (kind == GATED) {
    TYPE("f32", a, na, "  %%fa = cast %%a : "), TYPE("f32", a, na, "\n  %%s = sigmoid %%fa : ");
    TYPE("f32", a, na, "\n  %%fu = cast %%u : "), TYPE("f32", a, na, "\n  %%su = mul %%s, %%fu : ");
    TYPE("bf16", a, na, "\n  %%bs = cast %%su : "), text_add(t, "\n");
    va = "bs";
  }
  TYPE("f32", out, no, "  %%1 = contract%s %%%s, %%%s%s {rule=\"%s\"} : ", kind == FROM ? "_from" : "", va, vb,
       kind == FROM ? ", %g" : "", s.rule);
  if (kind == PLAIN) text_add(t, "\n  return y=%%1\n}\n");
  if (kind == CAST) TYPE("bf16", out, no, "\n  %%2 = cast %%1 : "), text_add(t, "\n  return y=%%2\n}\n");
  if (kind == GATED || kind == FROM) text_add(t, "\n  return %s=%%1\n}\n", kind == FROM ? "g" : "y");
  if (kind == STATE) TYPE("f32", out, no, "\n  %%2 = add %%g, %%1 : "), text_add(t, "\n  return g=%%2\n}\n");
  if (kind == ROUNDED || kind == BIAS) {
    TYPE("bf16", out, no, "\n  %%2 = cast %%1 : "), TYPE("f32", out, no, "\n  %%3 = cast %%2 : ");
    if (kind == BIAS) TYPE("f32", out, no, "\n  %%4 = broadcast %%d {axes=[%zu]} : ", no - 1);
    TYPE("f32", out, no, kind == BIAS ? "\n  %%5 = add %%3, %%4 : " : "\n  %%5 = gelu %%3 : ");
    TYPE("bf16", out, no, "\n  %%6 = cast %%5 : "), text_add(t, "\n  return y=%%6, pre=%%2\n}\n");
  }
#undef TYPE
}

Test(bf16, contract_rules) {
  static const Shape small[] = {
      {"mk,nk->mn", "m=7 n=19 k=13"},
      {"mk,kn->mn", "m=13 n=33 k=70"},
      {"km,kn->mn", "m=25 n=17 k=9"},
      {"km,nk->mn", "m=6 n=16 k=8"},
      {"nk,mk->nm", "m=40 n=5 k=21"},
      {"mk,kn->nm", "m=11 n=23 k=5"},
      {"km,kn->nm", "m=65 n=3 k=64"},
      {"btd,hed->bthe", "b=2 t=7 h=3 e=5 d=12"},
      {"bthe,dhe->btd", "b=2 t=7 h=3 e=5 d=21"},
      {"bthd,bte->hde", "b=3 t=9 h=3 d=5 e=17"},
      {"bmk,bkn->bmn", "b=3 m=8 k=11 n=9"},
      {"mbk,bkn->mbn", "b=3 m=8 k=11 n=9"},
      {"mk,nk->mn", "m=1 n=1 k=1"},
      {"mkl,lkn->mn", "m=10 n=17 k=5 l=7"},
      {"bhts,bshe->bthe", "b=2 t=7 h=2 e=9 s=10"},
  };
  Text t = begin("rules");
  for (int i = 0; i < LEN(small); i++)
    for (int kind = i % 3; kind < KINDS; kind += 3) contract(&t, i, small[i], kind);
  check(&t, V3 | NARROW | NATIVE | HALF);
}

/* Around the blocks, the chain's restart and the last pair. */
Test(bf16, contract_sizes) {
  static const Shape large[] = {
      {"mk,nk->mn", "m=13 n=50 k=771"},  {"mk,kn->mn", "m=7 n=33 k=4095"},  {"km,kn->mn", "m=19 n=17 k=4096"},
      {"mk,nk->mn", "m=6 n=16 k=4097"},  {"mk,kn->mn", "m=14 n=35 k=9001"}, {"km,kn->mn", "m=37 n=5 k=9000"},
      {"mk,nk->mn", "m=1100 n=19 k=9"},  {"km,kn->mn", "m=300 n=530 k=71"}, {"mk,nk->nm", "m=1030 n=12 k=33"},
      {"mk,nk->mn", "m=40 n=70 k=1537"}, {"mk,kn->mn", "m=25 n=65 k=3"},
  };
  Text t = begin("sizes");
  for (int i = 0; i < LEN(large); i++) contract(&t, i, large[i], i % 3 == 0 ? CAST : i % 3 == 1 ? PLAIN : STATE);
  contract(&t, 20, (Shape){"mk,nk->mn", "m=20 n=40 k=4095"}, FROM);
  contract(&t, 21, (Shape){"km,kn->mn", "m=130 n=40 k=1000"}, FROM);
  check(&t, V3 | NATIVE);
}

/* Every step may become subnormal: small and special values throughout. */
Test(bf16, contract_of_subnormals) {
  Text t = begin("subnormals");
  static const int ks[] = {1, 2, 3, 7, 16, 33};
  for (int i = 0; i < LEN(ks); i++)
    text_add(&t,
             "region contract @small.%d(%%a: bf16[30, %d] data, %%b: bf16[40, %d] data, %%g: f32[30, 40] state) {\n"
             "  %%1 = contract_from %%a, %%b, %%g {rule=\"mk,nk->mn\"} : f32[30, 40]\n  return g=%%1\n}\n"
             "region contract @special.%d(%%a: bf16[30, %d] data, %%b: bf16[40, %d] data) {\n"
             "  %%1 = contract %%a, %%b {rule=\"mk,nk->mn\"} : f32[30, 40]\n  return g=%%1\n}\n",
             i, ks[i], ks[i], i, ks[i], ks[i]);
  check(&t, ALL);
}
