/* Every lowering, bit for bit against the exact evaluator: the numerical law, tested. Regions come from the generators
 * below (sizes around every block, vector and tile edge) and from tests/kernels; all of one test are compiled in one
 * module for each target. lanes=16 on a narrow machine is the schedule of a wide one, its vectors split by LLVM. */
#include "kernel_test.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* x86-64-v3 and native have one schedule on most machines: native runs the quick tests alone. */
enum { V3 = 1, WIDE = 2, NARROW = 4, NATIVE = 8, V4 = 16, ALL = 31 };
static const char *const targets[] = {"cpu:x86-64-v3", "cpu:x86-64-v3,lanes=16", "cpu:x86-64-v3,lanes=4,l3=0",
                                      "cpu:native", "cpu:x86-64-v4,l3=0"};

static void check(Text *t, int on) { /* on: bits of targets */
  kernels_test(targets, LEN(targets), t, on, NULL);
}

/* ---- elementwise and map */

Test(kernels, every_elementwise_op) {
  Text t = begin("elementwise");
  static const char *const arg[] = {"%a", "%a, %b", "%a, %b, %c"};
  static const int sizes[] = {1, 7, 64, 1000, 5003};
  for (int op = 0, k = 0; op < OP_COUNT; op++) {
    if (!op_info[op].ew) continue;
    for (int special = 0; special < 2; special++, k++) {
      int n = sizes[k % LEN(sizes)];
      text_add(&t,
               "region map @%s.%s(%%a: f32[%d] data, %%b: f32[%d] data, %%c: f32[%d] data) {\n"
               "  %%1 = %s %s : f32[%d]\n  return y=%%1\n}\n",
               special ? "special" : "plain", op_info[op].name, n, n, n, op_info[op].name, arg[op_info[op].nargs - 1],
               n);
    }
  }
  check(&t, ALL);
}

Test(kernels, map_regions) {
  Text t = begin("map");
  static const struct { int b, t, d; } size[] = {{1, 1, 1}, {2, 3, 5}, {3, 7, 64}, {2, 65, 100}, {1, 33, 129}};
  for (int i = 0; i < LEN(size); i++) {
    int B = size[i].b, T = size[i].t, D = size[i].d;
    text_add(
        &t,
        "region map @cast.%d(%%x: f32[%d, %d, %d] data, %%d: f32[%d] data, %%td: f32[%d, %d] data, %%bt: f32[%d, %d] "
        "data, %%b: f32[%d] data, %%s: f32 data, %%bd: f32[%d, %d] data) {\n",
        i, B, T, D, D, T, D, B, T, B, B, D);
    text_add(&t, "  %%1 = broadcast %%d {axes=[2]} : f32[%d, %d, %d]\n", B, T, D);
    text_add(&t, "  %%2 = broadcast %%td {axes=[1, 2]} : f32[%d, %d, %d]\n", B, T, D);
    text_add(&t, "  %%3 = broadcast %%bt {axes=[0, 1]} : f32[%d, %d, %d]\n", B, T, D);
    text_add(&t, "  %%4 = broadcast %%b {axes=[0]} : f32[%d, %d, %d]\n", B, T, D);
    text_add(&t, "  %%5 = broadcast %%s {axes=[]} : f32[%d, %d, %d]\n", B, T, D);
    text_add(&t, "  %%6 = broadcast %%bd {axes=[0, 2]} : f32[%d, %d, %d]\n", B, T, D);
    text_add(&t,
             "  %%7 = mul %%x, %%1 : f32[%d, %d, %d]\n  %%8 = add %%7, %%2 : f32[%d, %d, %d]\n"
             "  %%9 = div %%8, %%3 : f32[%d, %d, %d]\n  %%10 = sub %%9, %%4 : f32[%d, %d, %d]\n"
             "  %%11 = mul %%10, %%5 : f32[%d, %d, %d]\n  %%12 = max %%11, %%6 : f32[%d, %d, %d]\n"
             "  %%13 = mul %%12, %%s : f32[%d, %d, %d]\n  return y=%%13, z=%%8\n}\n",
             B, T, D, B, T, D, B, T, D, B, T, D, B, T, D, B, T, D, B, T, D);
    /* one group; a row vector alone; outputs of lower rank beside full ones */
    text_add(&t,
             "region map @flat.%d(%%x: f32[%d, %d, %d] data, %%s: f32 data) {\n  %%1 = gelu %%x : f32[%d, %d, %d]\n"
             "  %%2 = exp %%s : f32\n  %%3 = mul %%1, %%2 : f32[%d, %d, %d]\n  return y=%%3, e=%%2\n}\n",
             i, B, T, D, B, T, D, B, T, D);
    text_add(&t,
             "region map @tail.%d(%%bt: f32[%d, %d] data) {\n  %%1 = broadcast %%bt {axes=[0, 1]} : f32[%d, %d, %d]\n"
             "  return y=%%1\n}\n",
             i, B, T, B, T, D);
    text_add(&t,
             "region map @head.%d(%%d: f32[%d] data) {\n  %%1 = tanh %%d : f32[%d]\n"
             "  %%2 = broadcast %%1 {axes=[2]} : f32[%d, %d, %d]\n  return y=%%2\n}\n",
             i, D, D, B, T, D);
    text_add(&t,
             "region map @transpose.%d(%%x: f32[%d, %d, %d] data, %%z: f32[%d, %d, %d] data) {\n"
             "  %%1 = transpose %%x {perm=[0, 2, 1]} : f32[%d, %d, %d]\n  %%2 = add %%1, %%z : f32[%d, %d, %d]\n"
             "  return y=%%2\n}\n",
             i, B, T, D, B, D, T, B, D, T, B, D, T);
    text_add(&t,
             "region map @transpose3.%d(%%x: f32[%d, %d, %d] data) {\n"
             "  %%1 = transpose %%x {perm=[2, 0, 1]} : f32[%d, %d, %d]\n  %%2 = neg %%1 : f32[%d, %d, %d]\n"
             "  return y=%%2, z=%%1\n}\n",
             i, B, T, D, D, B, T, D, B, T);
    text_add(&t,
             "region map @gather.%d(%%w: f32[50, %d] data, %%i: i32[%d, %d] data, %%p: f32[%d, %d] data) {\n"
             "  %%1 = gather %%w, %%i : f32[%d, %d, %d]\n  %%2 = broadcast %%p {axes=[1, 2]} : f32[%d, %d, %d]\n"
             "  %%3 = add %%1, %%2 : f32[%d, %d, %d]\n  return y=%%3\n}\n",
             i, D, B, T, T, D, B, T, D, B, T, D, B, T, D);
    text_add(&t,
             "region map @gather1.%d(%%w: f32[50] data, %%i: i32[%d, %d] data) {\n"
             "  %%1 = gather %%w, %%i : f32[%d, %d]\n  return y=%%1\n}\n",
             i, B, T, B, T);
    text_add(&t,
             "region map @gather3.%d(%%w: f32[9, %d, %d] data, %%i: i32[%d] data) {\n"
             "  %%1 = gather %%w, %%i : f32[%d, %d, %d]\n  return y=%%1\n}\n",
             i, T, D, B, B, T, D);
    text_add(&t,
             "region map @onehot.%d(%%i: i32[%d, %d] data, %%s: f32[%d, %d] data) {\n"
             "  %%1 = onehot %%i : f32[%d, %d, %d]\n  %%2 = broadcast %%s {axes=[0, 1]} : f32[%d, %d, %d]\n"
             "  %%3 = mul %%1, %%2 : f32[%d, %d, %d]\n  return y=%%3\n}\n",
             i, B, T, B, T, B, T, D, B, T, D, B, T, D);
    text_add(&t, "region map @valid.%d(%%i: i32[%d, %d] data) {\n  %%1 = valid %%i : f32[%d, %d]\n  return y=%%1\n}\n",
             i, B, T, B, T);
  }
  text_add(&t, "region map @scalar(%%x: f32 data, %%y: f32 data) {\n  %%1 = add %%x, %%y : f32\n  %%2 = exp %%1 : f32\n"
               "  return y=%%2, z=%%1\n}\n");
  text_add(&t, "region map @constant(%%x: f32[77] data) {\n  %%1 = const {value=0.1} : f32\n"
               "  %%2 = mul %%x, %%1 : f32[77]\n  return y=%%2\n}\n");
  text_add(&t, "region map @fill(%%x: f32 data) {\n  %%1 = const {value=2.5} : f32\n"
               "  %%2 = broadcast %%1 {axes=[]} : f32[3, 100]\n  return y=%%2\n}\n");
  check(&t, ALL);
}

/* ---- rows */

static const int columns[] = {1, 3, 63, 64, 65, 100, 129, 768};

Test(kernels, row_regions) {
  Text t = begin("row");
  for (int i = 0; i < LEN(columns); i++) {
    int B = 2 + i % 2, T = i % 3 == 0 ? 1 : 4 + i, D = columns[i];
    text_add(&t, "region row @layernorm.%d(%%x: f32[%d, %d, %d] data, %%w: f32[%d] param, %%b: f32[%d] param) {\n", i,
             B, T, D, D, D);
    text_add(&t, "  %%n = const {value=%.9g} : f32\n  %%eps = const {value=1e-5} : f32\n", 1.0 / D);
    text_add(
        &t,
        "  %%1 = sum %%x {axes=[2]} : f32[%d, %d]\n  %%2 = mul %%1, %%n : f32[%d, %d]\n"
        "  %%3 = broadcast %%2 {axes=[0, 1]} : f32[%d, %d, %d]\n  %%4 = sub %%x, %%3 : f32[%d, %d, %d]\n"
        "  %%5 = square %%4 : f32[%d, %d, %d]\n  %%6 = sum %%5 {axes=[2]} : f32[%d, %d]\n"
        "  %%7 = mul %%6, %%n : f32[%d, %d]\n  %%8 = add %%7, %%eps : f32[%d, %d]\n  %%9 = rsqrt %%8 : f32[%d, %d]\n"
        "  %%10 = broadcast %%9 {axes=[0, 1]} : f32[%d, %d, %d]\n  %%11 = mul %%4, %%10 : f32[%d, %d, %d]\n"
        "  %%12 = broadcast %%w {axes=[2]} : f32[%d, %d, %d]\n  %%13 = broadcast %%b {axes=[2]} : f32[%d, %d, %d]\n"
        "  %%14 = mul %%11, %%12 : f32[%d, %d, %d]\n  %%15 = add %%14, %%13 : f32[%d, %d, %d]\n"
        "  return y=%%15, mean=%%2, rstd=%%9\n}\n",
        B, T, B, T, B, T, D, B, T, D, B, T, D, B, T, B, T, B, T, B, T, B, T, D, B, T, D, B, T, D, B, T, D, B, T, D, B,
        T, D);
    text_add(
        &t,
        "region row @rmsnorm.%d(%%x: f32[%d, %d] data, %%w: f32[%d] param) {\n"
        "  %%n = const {value=0.01} : f32\n  %%1 = square %%x : f32[%d, %d]\n  %%2 = sum %%1 {axes=[1]} : f32[%d]\n"
        "  %%3 = mul %%2, %%n : f32[%d]\n  %%4 = rsqrt %%3 : f32[%d]\n"
        "  %%5 = broadcast %%4 {axes=[0]} : f32[%d, %d]\n  %%6 = mul %%x, %%5 : f32[%d, %d]\n"
        "  %%7 = broadcast %%w {axes=[1]} : f32[%d, %d]\n  %%8 = mul %%6, %%7 : f32[%d, %d]\n  return y=%%8\n}\n",
        i, T, D, D, T, D, T, T, T, T, D, T, D, T, D, T, D);
    text_add(&t,
             "region row @%s.softmax.%d(%%x: f32[%d, %d, %d] data) {\n  %%1 = rowmax %%x : f32[%d, %d]\n"
             "  %%2 = broadcast %%1 {axes=[0, 1]} : f32[%d, %d, %d]\n  %%3 = sub %%x, %%2 : f32[%d, %d, %d]\n"
             "  %%4 = exp %%3 : f32[%d, %d, %d]\n  %%5 = sum %%4 {axes=[2]} : f32[%d, %d]\n"
             "  %%6 = broadcast %%5 {axes=[0, 1]} : f32[%d, %d, %d]\n  %%7 = div %%4, %%6 : f32[%d, %d, %d]\n"
             "  return y=%%7\n}\n",
             i % 2 ? "wide" : "special", i, B, T, D, B, T, B, T, D, B, T, D, B, T, D, B, T, B, T, D, B, T, D);
    /* cross entropy: loss by pick, gradient by onehot, negative targets masked, rank 1 to rank 0 in a second region */
    int M = B * T;
    text_add(&t,
             "region row @loss.%d(%%x: f32[%d, %d] data, %%t: i32[%d] data, %%g: f32 data) {\n"
             "  %%1 = rowmax %%x : f32[%d]\n  %%2 = broadcast %%1 {axes=[0]} : f32[%d, %d]\n"
             "  %%3 = sub %%x, %%2 : f32[%d, %d]\n  %%4 = exp %%3 : f32[%d, %d]\n  %%5 = sum %%4 {axes=[1]} : f32[%d]\n"
             "  %%6 = log %%5 : f32[%d]\n  %%7 = add %%6, %%1 : f32[%d]\n  %%8 = pick %%x, %%t : f32[%d]\n"
             "  %%9 = sub %%7, %%8 : f32[%d]\n  %%10 = valid %%t : f32[%d]\n  %%11 = mul %%9, %%10 : f32[%d]\n"
             "  %%12 = onehot %%t : f32[%d, %d]\n  %%13 = broadcast %%5 {axes=[0]} : f32[%d, %d]\n"
             "  %%14 = div %%4, %%13 : f32[%d, %d]\n  %%15 = sub %%14, %%12 : f32[%d, %d]\n"
             "  %%16 = mul %%10, %%g : f32[%d]\n  %%17 = broadcast %%16 {axes=[0]} : f32[%d, %d]\n"
             "  %%18 = mul %%15, %%17 : f32[%d, %d]\n  return loss=%%11, dx=%%18\n}\n",
             i, M, D, M, M, M, D, M, D, M, D, M, M, M, M, M, M, M, M, D, M, D, M, D, M, D, M, M, D, M, D);
    text_add(&t,
             "region row @total.%d(%%x: f32[%d] data, %%s: f32 state) {\n  %%1 = sum %%x {axes=[0]} : f32\n"
             "  %%2 = add %%s, %%1 : f32\n  return s=%%2\n}\n",
             i, D);
    text_add(&t,
             "region row @all.%d(%%x: f32[%d, %d] data) {\n  %%1 = square %%x : f32[%d, %d]\n"
             "  %%2 = sum %%1 {axes=[0, 1]} : f32\n  %%3 = sqrt %%2 : f32\n  return s=%%3\n}\n",
             i, 1 + i, D, 1 + i, D);
    text_add(&t,
             "region row @some.%d(%%x: f32[3, %d, %d] data) {\n  %%1 = sum %%x {axes=[1, 2]} : f32[3]\n"
             "  return s=%%1\n}\n",
             i, 1 + i, D);
  }
  /* more than one vector of reductions at one level */
  text_add(&t, "region row @many(%%x: f32[5, 77] data) {\n");
  for (int i = 0; i < 10; i++) {
    text_add(&t, "  %%c%d = const {value=%d} : f32\n  %%a%d = mul %%x, %%c%d : f32[5, 77]\n", i, i, i, i);
    text_add(&t, "  %%s%d = sum %%a%d {axes=[1]} : f32[5]\n", i, i);
  }
  text_add(&t, "  return s0=%%s0");
  for (int i = 1; i < 10; i++) text_add(&t, ", s%d=%%s%d", i, i);
  text_add(&t, "\n}\n");
  text_add(&t, "region row @vocabulary(%%x: f32[3, 50257] data, %%t: i32[3] data) {\n"
               "  %%1 = rowmax %%x : f32[3]\n  %%2 = broadcast %%1 {axes=[0]} : f32[3, 50257]\n"
               "  %%3 = sub %%x, %%2 : f32[3, 50257]\n  %%4 = exp %%3 : f32[3, 50257]\n"
               "  %%5 = sum %%4 {axes=[1]} : f32[3]\n  %%6 = pick %%4, %%t : f32[3]\n  %%7 = div %%6, %%5 : f32[3]\n"
               "  return p=%%7\n}\n");
  check(&t, ALL);
}

/* ---- columns */

Test(kernels, column_regions) {
  Text t = begin("column");
  static const struct {
    int b, t, d;
  } size[] = {{1, 1, 1},    {2, 3, 5},    {3, 7, 64},   {2, 65, 33},  {4, 5, 129},
              {1, 100, 31}, {3, 1400, 9}, {1, 4096, 8}, {1, 4097, 3}, {3, 3000, 40}};
  for (int i = 0; i < LEN(size); i++) {
    int B = size[i].b, T = size[i].t, D = size[i].d;
    text_add(&t,
             "region column @bias.%d(%%x: f32[%d, %d, %d] data, %%g: f32[%d] state) {\n"
             "  %%1 = sum %%x {axes=[0, 1]} : f32[%d]\n  %%2 = add %%g, %%1 : f32[%d]\n  return g=%%2\n}\n",
             i, B, T, D, D, D, D);
    text_add(&t,
             "region column @norm.%d(%%x: f32[%d, %d] data, %%dy: f32[%d, %d] data, %%mean: f32[%d] data, %%rstd: "
             "f32[%d] data) {\n"
             "  %%1 = broadcast %%mean {axes=[0]} : f32[%d, %d]\n  %%2 = sub %%x, %%1 : f32[%d, %d]\n"
             "  %%3 = broadcast %%rstd {axes=[0]} : f32[%d, %d]\n  %%4 = mul %%2, %%3 : f32[%d, %d]\n"
             "  %%5 = mul %%4, %%dy : f32[%d, %d]\n  %%6 = sum %%5 {axes=[0]} : f32[%d]\n"
             "  %%7 = sum %%dy {axes=[0]} : f32[%d]\n  return dw=%%6, db=%%7\n}\n",
             i, T, D, T, D, T, T, T, D, T, D, T, D, T, D, T, D, D, D);
    text_add(&t,
             "region column @middle.%d(%%x: f32[%d, %d, %d] data) {\n  %%1 = sum %%x {axes=[1]} : f32[%d, %d]\n"
             "  %%2 = tanh %%1 : f32[%d, %d]\n  return y=%%2, s=%%1\n}\n",
             i, B, T, D, B, D, B, D);
    text_add(&t,
             "region column @first.%d(%%x: f32[%d, %d, %d] data) {\n  %%1 = sum %%x {axes=[0]} : f32[%d, %d]\n"
             "  return s=%%1\n}\n",
             i, T, B, D, B, D);
    if (T * B <= 400)
      text_add(&t,
               "region column @outer.%d(%%x: f32[%d, 3, %d, %d] data) {\n  %%1 = sum %%x {axes=[0, 2]} : f32[3, %d]\n"
               "  return s=%%1\n}\n",
               i, B, T, D, D);
  }
  check(&t, ALL);
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

static void type(Text *t, const char *dims, const char *letters, size_t n) {
  text_add(t, "f32[");
  for (size_t i = 0; i < n; i++) {
    if (i) text_add(t, ", ");
    extent(t, dims, letters[i]);
  }
  text_add(t, "]");
}

static const char *const epilogues[] = {"plain", "gelu",      "residual", "state", "position",
                                        "from",  "transpose", "gated",    "both"};

static void contract(Text *t, const char *name, Shape s, const char *kind) {
  const char *a = s.rule, *b = strchr(a, ',') + 1, *out = strchr(b, '>') + 1;
  size_t na = (size_t)(b - a - 1), nb = (size_t)(out - b - 2), no = strlen(out);
  bool from = !strcmp(kind, "from"), transposed = !strcmp(kind, "transpose") || !strcmp(kind, "both"),
       gated = !strcmp(kind, "gated") || !strcmp(kind, "both");
  char ra[8] = {0}, rb[8] = {0};
  for (size_t i = 0; i < na; i++) ra[i] = transposed ? a[na - 1 - i] : a[i];
  for (size_t i = 0; i < nb; i++) rb[i] = transposed ? b[nb - 1 - i] : b[i];
  text_add(t, "region contract @%s(%%a: ", name);
  type(t, s.dims, ra, na);
  text_add(t, " data, %%b: ");
  type(t, s.dims, rb, nb);
  text_add(t, " data");
  if (gated) text_add(t, ", %%u: "), type(t, s.dims, ra, na), text_add(t, " data");
  if (!strcmp(kind, "gelu")) text_add(t, ", %%bias: "), type(t, s.dims, out + no - 1, 1), text_add(t, " data");
  if (!strcmp(kind, "position")) text_add(t, ", %%p: "), type(t, s.dims, out + no - 2, 2), text_add(t, " data");
  if (!strcmp(kind, "residual")) text_add(t, ", %%r: "), type(t, s.dims, out, no), text_add(t, " data");
  if (from || !strcmp(kind, "state")) text_add(t, ", %%g: "), type(t, s.dims, out, no), text_add(t, " state");
  text_add(t, ") {\n");
  const char *va = "a", *vb = "b";
  if (gated) {
    text_add(t, "  %%s = silu %%a : "), type(t, s.dims, ra, na);
    text_add(t, "\n  %%su = mul %%s, %%u : "), type(t, s.dims, ra, na), text_add(t, "\n");
    va = "su";
  }
  if (transposed) {
    text_add(t, "  %%ta = transpose %%%s {perm=[", va);
    for (size_t i = 0; i < na; i++) text_add(t, "%s%zu", i ? ", " : "", na - 1 - i);
    text_add(t, "]} : "), type(t, s.dims, a, na);
    text_add(t, "\n  %%tb = transpose %%b {perm=[");
    for (size_t i = 0; i < nb; i++) text_add(t, "%s%zu", i ? ", " : "", nb - 1 - i);
    text_add(t, "]} : "), type(t, s.dims, b, nb), text_add(t, "\n");
    va = "ta", vb = "tb";
  }
  text_add(t, "  %%1 = contract%s %%%s, %%%s%s {rule=\"%s\"} : ", from ? "_from" : "", va, vb, from ? ", %g" : "",
           s.rule);
  type(t, s.dims, out, no);
  text_add(t, "\n");
#define NODE(...) (text_add(t, __VA_ARGS__), type(t, s.dims, out, no), text_add(t, "\n"))
  if (!strcmp(kind, "gelu")) {
    NODE("  %%2 = broadcast %%bias {axes=[%zu]} : ", no - 1);
    NODE("  %%3 = add %%1, %%2 : ");
    NODE("  %%4 = gelu_tanh %%3 : ");
    text_add(t, "  return y=%%4, pre=%%3\n}\n");
  } else if (!strcmp(kind, "position")) {
    NODE("  %%2 = broadcast %%p {axes=[%zu, %zu]} : ", no - 2, no - 1);
    NODE("  %%3 = add %%1, %%2 : ");
    text_add(t, "  return y=%%3\n}\n");
  } else if (!strcmp(kind, "residual")) {
    NODE("  %%2 = add %%1, %%r : ");
    text_add(t, "  return y=%%2\n}\n");
  } else if (!strcmp(kind, "state")) {
    NODE("  %%2 = add %%g, %%1 : ");
    text_add(t, "  return g=%%2\n}\n");
  } else {
    text_add(t, "  return %s=%%1\n}\n", from ? "g" : "y");
  }
#undef NODE
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

static Text rules(int every) { /* each kind of fusion meets every so many rules */
  Text t = begin("rules");
  char name[64];
  for (int i = 0; i < LEN(small); i++)
    for (int e = 0; e < LEN(epilogues); e++) {
      if ((i + e) % every != 0) continue;
      snprintf(name, sizeof name, "%s.%d", epilogues[e], i);
      contract(&t, name, small[i], epilogues[e]);
    }
  return t;
}

Test(kernels, contract_rules) {
  Text t = rules(4);
  check(&t, V3 | NARROW);
}

Test(kernels, contract_rules_wide) { /* wide tiles are slow to compile */
  Text t = rules(10);
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

Test(kernels, contract_sizes) {
  Text t = begin("sizes");
  char name[64];
  for (int i = 0; i < LEN(large); i++) {
    int e = i % 6;
    if (e == 5 && i != 11) e = 8; /* contract_from has at most 4096 products */
    if (i == 11) e = 3;
    snprintf(name, sizeof name, "%s.%d", epilogues[e], i);
    contract(&t, name, large[i], epilogues[e]);
  }
  contract(&t, "from.4096", (Shape){"mk,nk->mn", "m=20 n=40 k=4096"}, "from");
  contract(&t, "from.1000", (Shape){"km,kn->mn", "m=130 n=40 k=1000"}, "from");
  check(&t, ALL);
}

Test(kernels, contract_random) {
  static const char *const rules[] = {"mk,nk->mn", "mk,kn->mn", "km,kn->mn", "km,nk->mn", "mk,nk->nm", "kn,mk->nm"};
  Text t = begin("random");
  uint32_t seed = 7;
#define RANDOM(n) ((seed = seed * 1664525u + 1013904223u) >> 8) % (n)
  for (int i = 0; i < 24; i++) {
    char name[64], dims[64];
    unsigned m = 1 + RANDOM(100), n = 1 + RANDOM(100), k = 1 + RANDOM(300), e = RANDOM(LEN(epilogues));
    snprintf(name, sizeof name, "%s.%d", epilogues[e], i);
    snprintf(dims, sizeof dims, "m=%u n=%u k=%u", m, n, k);
    contract(&t, name, (Shape){rules[i % LEN(rules)], dims}, epilogues[e]);
  }
#undef RANDOM
  check(&t, V3 | NARROW);
}

/* ---- attention */

static void attend(Text *t, const char *kind, int i, const char *B, const char *T, const char *S, int H, int G, int E,
                   int causal, int window) {
  text_add(t, "region attend @%sattend.%d(%%q: f32[%s, %s, %d, %d] data, %%k: f32[%s, %s, %d, %d] data, ", kind, i, B,
           T, H, E, B, S, G, E);
  text_add(t, "%%v: f32[%s, %s, %d, %d] data) {\n", B, S, G, E);
  text_add(
      t, "  %%o, %%l = attend %%q, %%k, %%v {causal=%d, scale=0.3, window=%d} : f32[%s, %s, %d, %d], f32[%s, %d, %s]\n",
      causal, window, B, T, H, E, B, H, T);
  text_add(t, i % 4 == 3 ? "  return o=%%o\n}\n" : "  return o=%%o, l=%%l\n}\n");
  text_add(t, "region attend_grad @%sgrad.%d(%%q: f32[%s, %s, %d, %d] data, %%k: f32[%s, %s, %d, %d] data, ", kind, i,
           B, T, H, E, B, S, G, E);
  text_add(t, "%%v: f32[%s, %s, %d, %d] data, %%o: f32[%s, %s, %d, %d] data, %%l: f32[%s, %d, %s] data, ", B, S, G, E,
           B, T, H, E, B, H, T);
  text_add(t, "%%do: f32[%s, %s, %d, %d] data) {\n  %%dq, %%dk, %%dv = attend_grad %%q, %%k, %%v, %%o, %%l, %%do ", B,
           T, H, E);
  text_add(t, "{causal=%d, scale=0.3, window=%d} : f32[%s, %s, %d, %d], f32[%s, %s, %d, %d], f32[%s, %s, %d, %d]\n",
           causal, window, B, T, H, E, B, S, G, E, B, S, G, E);
  text_add(t, "  return dq=%%dq, dk=%%dk, dv=%%dv\n}\n");
}

static Text attention(bool few) {
  static const struct {
    int b, t, s, h, g, e, causal;
    const char *kind; /* rare.: infinities and NaNs in some rows */
  } size[] = {
      {1, 65, 65, 3, 1, 48, 1, ""},      {2, 130, 130, 2, 2, 8, 1, "rare."}, {1, 40, 150, 2, 2, 20, 0, ""},
      {1, 7, 200, 1, 1, 3, 0, ""},       {1, 1, 1, 1, 1, 8, 1, ""},          {2, 5, 5, 2, 2, 16, 1, ""},
      {1, 63, 63, 2, 1, 32, 1, ""},      {1, 63, 63, 2, 1, 32, 0, ""},       {2, 64, 64, 2, 2, 64, 1, ""},
      {2, 64, 64, 2, 2, 64, 0, "rare."}, {1, 70, 40, 2, 1, 16, 1, "rare."},  {1, 40, 150, 2, 2, 20, 1, ""},
      {1, 1, 100, 4, 2, 64, 0, ""},      {1, 67, 67, 2, 2, 128, 1, ""},      {1, 12, 12, 6, 2, 6, 0, ""},
  };
  Text t = begin("attention");
  char B[16], T[16], S[16];
  for (int i = 0; i < (few ? 4 : LEN(size)); i++) {
    snprintf(B, sizeof B, "%d", size[i].b), snprintf(T, sizeof T, "%d", size[i].t),
        snprintf(S, sizeof S, "%d", size[i].s);
    attend(&t, size[i].kind, i, B, T, S, size[i].h, size[i].g, size[i].e, size[i].causal, 0);
  }
  return t;
}

Test(kernels, attention) {
  Text t = attention(false);
  check(&t, V3 | NARROW);
}

Test(kernels, attention_wide) {
  Text t = attention(true);
  check(&t, WIDE | V4);
}

/* Windows around a block's edge, of one key, of more than all; few: the tiles that differ by target. rare.: a row must not
 * see a key outside of its window by way of 0 * inf, either. */
static Text windows(bool few) {
  static const struct {
    int b, t, h, g, e, window;
    const char *kind;
  } size[] = {
      {1, 200, 3, 1, 20, 70, "rare."}, {1, 130, 2, 2, 16, 1, "rare."}, {2, 131, 2, 1, 8, 33, ""},
      {1, 193, 1, 1, 5, 65, ""},       {1, 192, 2, 1, 8, 64, "rare."}, {1, 150, 1, 1, 16, 63, ""},
      {1, 129, 4, 2, 6, 2, ""},        {1, 65, 2, 1, 33, 64, ""},      {1, 70, 1, 1, 8, 500, ""},
      {1, 1, 2, 2, 8, 1, ""},          {2, 7, 2, 1, 12, 3, ""},        {1, 260, 1, 1, 4, 128, "rare."},
  };
  Text t = begin("windows");
  char B[16], T[16];
  for (int i = 0; i < (few ? 4 : LEN(size)); i++) {
    snprintf(B, sizeof B, "%d", size[i].b), snprintf(T, sizeof T, "%d", size[i].t);
    attend(&t, size[i].kind, i, B, T, T, size[i].h, size[i].g, size[i].e, 1, size[i].window);
  }
  return t;
}

Test(kernels, attention_windows) {
  Text t = windows(false);
  check(&t, V3 | NARROW);
}

Test(kernels, attention_windows_wide) {
  Text t = windows(true);
  check(&t, WIDE | V4);
}

/* ---- dropout: in every kind of region, at any place of a row, along and across the lanes */

Test(kernels, dropout_regions) {
  static const char key[] = "%k0: i32 data, %k1: i32 data, %id: i32 data";
  static const struct { int b, t, d; } size[] = {{1, 1, 1}, {2, 3, 5}, {3, 7, 64}, {2, 65, 100}, {1, 33, 129}};
  static const char *const rate[] = {"0.1", "0.5", "0", "0.999", "0.2"};
  Text t = begin("dropout");
  for (int i = 0; i < LEN(size); i++) {
    int B = size[i].b, T = size[i].t, D = size[i].d;
    const char *p = rate[i], *kind = i % 2 ? "rare." : "";
    text_add(&t,
             "region map @%splain.%d(%%x: f32[%d, %d, %d] data, %s) {\n"
             "  %%1 = dropout %%x, %%k0, %%k1, %%id {rate=%s} : f32[%d, %d, %d]\n  return y=%%1\n}\n",
             kind, i, B, T, D, key, p, B, T, D);
    text_add(&t,
             "region map @twice.%d(%%x: f32[%d, %d, %d] data, %%z: f32[%d, %d] data, %s, %%other: i32 data) {\n"
             "  %%1 = broadcast %%z {axes=[0, 2]} : f32[%d, %d, %d]\n  %%2 = mul %%x, %%1 : f32[%d, %d, %d]\n"
             "  %%3 = dropout %%2, %%k0, %%k1, %%id {rate=%s} : f32[%d, %d, %d]\n"
             "  %%4 = dropout %%1, %%k0, %%k1, %%other {rate=%s} : f32[%d, %d, %d]\n"
             "  %%5 = dropout %%z, %%k1, %%k0, %%id {rate=%s} : f32[%d, %d]\n"
             "  %%6 = add %%3, %%4 : f32[%d, %d, %d]\n  return y=%%6, z=%%5\n}\n",
             i, B, T, D, B, D, key, B, T, D, B, T, D, p, B, T, D, p, B, T, D, p, B, D, B, T, D);
    text_add(&t, /* lanes run along T, whose elements are D apart */
             "region map @apart.%d(%%x: f32[%d, %d, %d] data, %%z: f32[%d, %d, %d] data, %s) {\n"
             "  %%1 = neg %%z : f32[%d, %d, %d]\n"
             "  %%2 = dropout %%x, %%k0, %%k1, %%id {rate=%s} : f32[%d, %d, %d]\n"
             "  %%3 = transpose %%2 {perm=[2, 0, 1]} : f32[%d, %d, %d]\n  %%4 = add %%1, %%3 : f32[%d, %d, %d]\n"
             "  return y=%%4\n}\n",
             i, B, T, D, D, B, T, key, D, B, T, p, B, T, D, D, B, T, D, B, T);
    text_add(&t,
             "region map @across.%d(%%x: f32[%d, %d, %d] data, %s) {\n"
             "  %%1 = dropout %%x, %%k0, %%k1, %%id {rate=%s} : f32[%d, %d, %d]\n"
             "  %%2 = transpose %%1 {perm=[2, 0, 1]} : f32[%d, %d, %d]\n  return y=%%2\n}\n",
             i, B, T, D, key, p, B, T, D, D, B, T);
    text_add(
        &t,
        "region row @row.%d(%%x: f32[%d, %d, %d] data, %s) {\n"
        "  %%1 = dropout %%x, %%k0, %%k1, %%id {rate=%s} : f32[%d, %d, %d]\n  %%2 = sum %%1 {axes=[2]} : f32[%d, %d]\n"
        "  %%3 = dropout %%2, %%k0, %%k1, %%id {rate=%s} : f32[%d, %d]\n"
        "  %%4 = broadcast %%3 {axes=[0, 1]} : f32[%d, %d, %d]\n  %%5 = sub %%1, %%4 : f32[%d, %d, %d]\n"
        "  return y=%%5, s=%%3\n}\n",
        i, B, T, D, key, p, B, T, D, B, T, p, B, T, B, T, D, B, T, D);
    text_add(&t,
             "region column @column.%d(%%x: f32[%d, %d, %d] data, %s) {\n"
             "  %%1 = dropout %%x, %%k0, %%k1, %%id {rate=%s} : f32[%d, %d, %d]\n"
             "  %%2 = sum %%1 {axes=[0, 1]} : f32[%d]\n  %%3 = dropout %%2, %%k0, %%k1, %%id {rate=%s} : f32[%d]\n"
             "  return s=%%3\n}\n",
             i, B, T, D, key, p, B, T, D, D, p, D);
    text_add(
        &t,
        "region contract @contract.%d(%%x: f32[%d, %d, 19] data, %%w: f32[%d, 19] param, %%r: f32[%d, %d, %d] data, "
        "%s) {\n"
        "  %%1 = contract %%x, %%w {rule=\"btk,dk->btd\"} : f32[%d, %d, %d]\n"
        "  %%2 = dropout %%1, %%k0, %%k1, %%id {rate=%s} : f32[%d, %d, %d]\n"
        "  %%3 = add %%r, %%2 : f32[%d, %d, %d]\n  return y=%%3\n}\n",
        i, B, T, D, B, T, D, key, B, T, D, p, B, T, D, B, T, D);
    text_add(&t,
             "region contract @factor.%d(%%x: f32[%d, %d, 19] data, %%w: f32[%d, 19] param, %s) {\n"
             "  %%1 = dropout %%x, %%k0, %%k1, %%id {rate=%s} : f32[%d, %d, 19]\n"
             "  %%2 = contract %%1, %%w {rule=\"btk,dk->btd\"} : f32[%d, %d, %d]\n  return y=%%2\n}\n",
             i, B, T, D, key, p, B, T, B, T, D);
  }
  text_add(&t,
           "region map @scalar(%%x: f32 data, %s) {\n  %%1 = dropout %%x, %%k0, %%k1, %%id {rate=0.5} : f32\n"
           "  return y=%%1\n}\n",
           key);
  text_add(&t,
           "region map @symbols(%%x: f32[B<=8, T<=70, 5] data, %s) {\n"
           "  %%1 = dropout %%x, %%k0, %%k1, %%id {rate=0.5} : f32[B<=8, T<=70, 5]\n  return y=%%1\n}\n",
           key);
  check(&t, ALL);
}

/* ---- scatter and rope */

Test(kernels, scatter_add_and_rope) {
  Text t = begin("scatter");
  static const int width[] = {1, 5, 16, 33, 100, 768};
  for (int i = 0; i < LEN(width); i++) {
    int D = width[i];
    text_add(&t,
             "region scatter_add @scatter.%d(%%w: f32[9, %d] state, %%i: i32[2, 17] data, %%u: f32[2, 17, %d] data) {\n"
             "  %%1 = scatter_add %%w, %%i, %%u : f32[9, %d]\n  return w=%%1\n}\n",
             i, D, D, D);
  }
  text_add(&t, "region scatter_add @scatter3(%%w: f32[4, 3, 7] state, %%i: i32[30] data, %%u: f32[30, 3, 7] data) {\n"
               "  %%1 = scatter_add %%w, %%i, %%u : f32[4, 3, 7]\n  return w=%%1\n}\n");
  text_add(&t, "region scatter_add @scatter1(%%w: f32[50] state, %%i: i32[300] data, %%u: f32[300] data) {\n"
               "  %%1 = scatter_add %%w, %%i, %%u : f32[50]\n  return w=%%1\n}\n");
  static const int head[] = {2, 6, 8, 30, 64, 128};
  for (int i = 0; i < LEN(head); i++)
    for (int pairs = 0; pairs < 2; pairs++)
      for (int inverse = 0; inverse < 2; inverse++) {
        int E = head[i], T = 5 + i, H = 1 + i % 3;
        text_add(
            &t,
            "region rope @rope.%d.%d.%d(%%x: f32[2, %d, %d, %d] data, %%c: f32[40, %d] data, %%s: f32[40, %d] data, "
            "%%p: i32[%d] data) {\n"
            "  %%1 = rope %%x, %%c, %%s, %%p {style=\"%s\", inverse=%d} : f32[2, %d, %d, %d]\n  return y=%%1\n}\n",
            i, pairs, inverse, T, H, E, E / 2, E / 2, T, pairs ? "pairs" : "half", inverse, T, H, E);
      }
  check(&t, ALL);
}

/* ---- packed weights, with few and many rows from one compile */

static Text packed(const char *dt, int panel) {
  static const int ks[] = {13, 64, 4097}, ns[] = {5, 70};
  bool bytes = !strcmp(dt, "i8"); /* sums are i32, what is added to them f32 */
  const char *sum = bytes ? "i32" : "f32";
  Text t = begin("packed");
  for (int i = 0; i < LEN(ks) * LEN(ns); i++) {
    int k = ks[i / 2], n = ns[i % 2], rows = k > 1000 ? 18 : 70;
    text_add(&t,
             "region contract @linear.%d(%%x: %s[1, T<=%d, %d] data, %%w: %s[%d, %d] panels(1, %d) param, %%b: f32[%d] "
             "param) {\n"
             "  %%1 = contract %%x, %%w {rule=\"btk,nk->btn\"} : %s[1, T<=%d, %d]\n",
             i, dt, rows, k, dt, n, k, panel, n, sum, rows, n);
    if (bytes) text_add(&t, "  %%f = cast %%1 : f32[1, T<=%d, %d]\n", rows, n);
    text_add(&t,
             "  %%2 = broadcast %%b {axes=[2]} : f32[1, T<=%d, %d]\n  %%3 = %s %%%s, %%2 : f32[1, T<=%d, %d]\n"
             "  return y=%%3\n}\n",
             rows, n, bytes ? "mul" : "add", bytes ? "f" : "1", rows, n);
  }
  text_add(&t,
           "region contract @heads(%%x: %s[1, T<=33, 24] data, %%w: %s[3, 20, 24] panels(2, %d) param) {\n"
           "  %%1 = contract %%x, %%w {rule=\"btd,hed->bthe\"} : %s[1, T<=33, 3, 20]\n  return y=%%1\n}\n",
           dt, dt, panel, sum);
  text_add(&t,
           "region contract @merge(%%x: %s[1, T<=33, 3, 20] data, %%w: %s[24, 3, 20] panels(1, %d) param) {\n"
           "  %%1 = contract %%x, %%w {rule=\"bthe,dhe->btd\"} : %s[1, T<=33, 24]\n  return y=%%1\n}\n",
           dt, dt, panel, sum);
  text_add(&t,
           "region contract @fixed(%%x: %s[9, 30] data, %%w: %s[50, 30] panels(1, %d) param) {\n"
           "  %%1 = contract %%x, %%w {rule=\"mk,nk->mn\"} : %s[9, 50]\n  return y=%%1\n}\n",
           dt, dt, panel, sum);
  return t;
}

Test(kernels, packed_weights) {
  static const char *const dt[] = {"f32", "bf16", "i8"};
  for (int i = 0; i < LEN(dt); i++) {
    Text narrow = packed(dt[i], 16), wide = packed(dt[i], 32);
    check(&narrow, ALL);
    check(&wide, V3 | V4);
  }
}

/* ---- symbolic extents: one compile, several sizes */

Test(kernels, symbolic_extents) {
  Text t = begin("symbolic");
  text_add(&t,
           "region map @map(%%x: f32[B<=8, T<=70, 33] data, %%p: f32[T<=70, 33] data, %%d: f32[33] data) {\n"
           "  %%1 = broadcast %%p {axes=[1, 2]} : f32[B<=8, T<=70, 33]\n  %%2 = add %%x, %%1 : f32[B<=8, T<=70, 33]\n"
           "  %%3 = broadcast %%d {axes=[2]} : f32[B<=8, T<=70, 33]\n  %%4 = mul %%2, %%3 : f32[B<=8, T<=70, 33]\n"
           "  return y=%%4\n}\n");
  text_add(&t, "region map @lanes(%%x: f32[B<=8, T<=70] data, %%z: f32[T<=70, B<=8] data) {\n"
               "  %%1 = transpose %%z {perm=[1, 0]} : f32[B<=8, T<=70]\n  %%2 = add %%x, %%1 : f32[B<=8, T<=70]\n"
               "  return y=%%2\n}\n");
  text_add(&t,
           "region map @flat(%%x: f32[B<=8, T<=70] data) {\n  %%1 = gelu %%x : f32[B<=8, T<=70]\n  return y=%%1\n}\n");
  text_add(&t, "region row @row(%%x: f32[B<=8, T<=300] data) {\n  %%1 = rowmax %%x : f32[B<=8]\n"
               "  %%2 = broadcast %%1 {axes=[0]} : f32[B<=8, T<=300]\n  %%3 = sub %%x, %%2 : f32[B<=8, T<=300]\n"
               "  %%4 = exp %%3 : f32[B<=8, T<=300]\n  %%5 = sum %%4 {axes=[1]} : f32[B<=8]\n"
               "  %%6 = broadcast %%5 {axes=[0]} : f32[B<=8, T<=300]\n  %%7 = div %%4, %%6 : f32[B<=8, T<=300]\n"
               "  return y=%%7\n}\n");
  text_add(
      &t, "region row @total(%%x: f32[B<=8, T<=300] data) {\n  %%1 = sum %%x {axes=[0, 1]} : f32\n  return s=%%1\n}\n");
  text_add(&t, "region column @column(%%x: f32[B<=80, T<=70, 19] data) {\n  %%1 = sum %%x {axes=[0, 1]} : f32[19]\n"
               "  return s=%%1\n}\n");
  text_add(&t, "region column @wide(%%x: f32[B<=8, T<=70] data) {\n  %%1 = sum %%x {axes=[0]} : f32[T<=70]\n"
               "  return s=%%1\n}\n");
  contract(&t, "linear", (Shape){"btd,ed->bte", "b<8 t<70 d=33 e=21"}, "gelu");
  contract(&t, "heads", (Shape){"btd,hed->bthe", "b<8 t<70 d=20 h=3 e=8"}, "plain");
  contract(&t, "weights", (Shape){"btd,bte->de", "b<8 t<70 d=20 e=19"}, "state");
  contract(&t, "chains", (Shape){"btd,bte->de", "b<80 t<70 d=9 e=19"}, "plain");
  contract(&t, "scores", (Shape){"bthe,bshe->bhts", "b<3 t<20 s<30 h=2 e=9"}, "plain");
  contract(&t, "both", (Shape){"tk,sk->ts", "t<70 s<90 k<50"}, "both");
  contract(&t, "from", (Shape){"btd,bte->de", "b<8 t<70 d=20 e=19"}, "from");
  attend(&t, "", 0, "B<=3", "T<=70", "T<=70", 2, 1, 16, 1, 0);
  attend(&t, "", 1, "B<=3", "T<=70", "S<=140", 2, 2, 12, 0, 0);
  attend(&t, "", 2, "B<=3", "T<=170", "T<=170", 2, 1, 12, 1, 40);
  text_add(&t, "region rope @rope(%%x: f32[B<=3, T<=70, 2, 8] data, %%c: f32[70, 4] data, %%s: f32[70, 4] data, "
               "%%p: i32[T<=70] data) {\n"
               "  %%1 = rope %%x, %%c, %%s, %%p {style=\"half\"} : f32[B<=3, T<=70, 2, 8]\n  return y=%%1\n}\n");
  text_add(&t,
           "region scatter_add @scatter(%%w: f32[9, 20] state, %%i: i32[B<=8, T<=70] data, %%u: f32[B<=8, T<=70, 20] "
           "data) {\n  %%1 = scatter_add %%w, %%i, %%u : f32[9, 20]\n  return w=%%1\n}\n");
  check(&t, ALL);
}

/* ---- files */

Test(kernels, files) {
  DIR *dir = opendir("tests/kernels");
  cr_assert(dir != NULL, "tests/kernels: run from the project's root");
  int n = 0;
  for (struct dirent *e; (e = readdir(dir));) {
    size_t len = strlen(e->d_name);
    if (len < 4 || strcmp(e->d_name + len - 3, ".ir") != 0) continue;
    char path[512];
    snprintf(path, sizeof path, "tests/kernels/%s", e->d_name);
    FILE *f = fopen(path, "rb");
    cr_assert(f != NULL);
    Text t = {0};
    char block[4096];
    for (size_t got; (got = fread(block, 1, sizeof block, f)) > 0;) text_write(&t, block, got);
    fclose(f);
    n++;
    check(&t, ALL);
  }
  closedir(dir);
  cr_assert(n > 0, "no file in tests/kernels");
}
