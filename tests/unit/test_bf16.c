/* Kernels of bf16, bit for bit against the exact evaluator: every lowering with bf16 in memory and beside f32, at sizes around
 * vectors and blocks, on machines with and without instructions for it. */
#include "kernel_harness.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const targets[] = {"cpu:x86-64-v3", "cpu:x86-64-v3,lanes=16", "cpu:x86-64-v3,lanes=4",
                                      "cpu:native",    "cpu:native,lanes=8",     "cpu:x86-64-v4"};

static void check_on(const char *target, const char *text) {
  Text why = {0};
  KernelSet s;
  if (!kernels_build(&s, target, text, &why)) {
    cr_expect(false, "%s: does not build\n%s", target, why.s);
  } else {
    if (!kernels_runnable(&s))
      fprintf(stderr, "%s: compiled; skipped running: this machine can not\n", target);
    else if (kernels_check(&s, 1, &why))
      cr_expect(false, "%s:\n%s", target, why.s);
    kernels_free(&s);
  }
  text_free(&why);
}

/* As in test_kernels.c: KERNEL_TARGET=cpu:... takes that one target, KERNEL_TEXT=1 prints the module. */
static void check(Text *t) {
  const char *only = getenv("KERNEL_TARGET");
  if (getenv("KERNEL_TEXT")) fprintf(stderr, "%s", t->s);
  if (only) check_on(only, t->s);
  for (int i = 0; i < LEN(targets) && !only; i++) check_on(targets[i], t->s);
  text_free(t);
}

static Text begin(const char *name) {
  Text t = {0};
  text_add(&t, "module \"%s\"\n", name);
  return t;
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
  check(&t);
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
    "  %3 = mul %1, %2 : bf16[$B, $T, $D]\n  return y=%3, z=%1\n}\n";

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
  check(&t);
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
      "  %o, %l = attend %q, %k, %v {causal=$c, scale=0.3} : bf16[$B, $T, $H, $E], f32[$B, $H, $T]\n"
      "  return o=%o, l=%l\n}\n"
      "region attend_grad @$kgrad.$i(%q: bf16[$B, $T, $H, $E] data, %k: bf16[$B, $S, $G, $E] data,\n"
      "  %v: bf16[$B, $S, $G, $E] data, %o: bf16[$B, $T, $H, $E] data, %l: f32[$B, $H, $T] data,\n"
      "  %do: bf16[$B, $T, $H, $E] data) {\n"
      "  %dq, %dk, %dv = attend_grad %q, %k, %v, %o, %l, %do {causal=$c, scale=0.3} : bf16[$B, $T, $H, $E], "
      "bf16[$B, $S, $G, $E], bf16[$B, $S, $G, $E]\n  return dq=%dq, dk=%dk, dv=%dv\n}\n";
  static const struct {
    int b, t, s, h, g, e, causal;
    const char *kind;
  } size[] = {
      {1, 65, 65, 3, 1, 48, 1, ""}, {2, 130, 130, 2, 2, 8, 1, "rare."}, {1, 40, 150, 2, 2, 20, 0, ""},
      {1, 7, 200, 1, 1, 3, 0, ""},  {1, 1, 1, 1, 1, 8, 1, ""},          {2, 64, 64, 2, 2, 64, 0, "rare."},
      {1, 67, 67, 2, 1, 33, 1, ""},
  };
  Text t = begin("attention");
  for (int i = 0; i < LEN(size); i++)
    add(&t, text,
        (const char *const[]){"i", number(i), "B", number(size[i].b), "T", number(size[i].t), "S", number(size[i].s),
                              "H", number(size[i].h), "G", number(size[i].g), "E", number(size[i].e), "c",
                              number(size[i].causal), "k", size[i].kind, NULL});
  check(&t);
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
  check(&t);
}
