/* Keys and values in pages: kernels of page_keys, page_values and attend_pages beside the exact evaluator, and beside attend on the
 * same sequence in one piece: bit for bit, for prompts, chunks, decodes and any mix of them. */
#include "kernel_harness.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { P = 40, W = 6, T = 200, S = 5, MOST = W * 64 };

typedef struct Shape {
  int h, g, e, window;
  const char *dt, *pages; /* of q, of the cache */
} Shape;

/* Sequences that have `past` positions and bring `n` tokens more. */
typedef struct Part {
  int past, n;
} Part;

static uint64_t state = 1;
static float number(void) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return (float)((double)(state >> 40) / (1 << 23) - 1);
}

static Text text_of(Shape z) {
  Text t = {0};
  text_add(&t, "module \"pages\"\n");
  text_add(&t,
           "region page_keys @keys(%%p: %s[P<=%d, %d, %d, 64] state, %%s: i32[T<=%d] data, %%x: %s[1, T<=%d, %d, %d] "
           "data) {\n"
           "  %%1 = page_keys %%p, %%s, %%x : %s[P<=%d, %d, %d, 64]\n  return p=%%1\n}\n",
           z.pages, P, z.g, z.e, T, z.dt, T, z.g, z.e, z.pages, P, z.g, z.e);
  text_add(&t,
           "region page_values @values(%%p: %s[P<=%d, %d, 64, %d] state, %%s: i32[T<=%d] data, %%x: %s[1, T<=%d, %d, "
           "%d] data) {\n"
           "  %%1 = page_values %%p, %%s, %%x : %s[P<=%d, %d, 64, %d]\n  return p=%%1\n}\n",
           z.pages, P, z.g, z.e, T, z.dt, T, z.g, z.e, z.pages, P, z.g, z.e);
  text_add(&t,
           "region attend_pages @attend(%%q: %s[1, T<=%d, %d, %d] data, %%k: %s[P<=%d, %d, %d, 64] data, "
           "%%v: %s[P<=%d, %d, 64, %d] data, %%p: i32[T<=%d] data, %%o: i32[S1<=%d] data, %%t: i32[S<=%d, %d] data) {\n"
           "  %%1 = attend_pages %%q, %%k, %%v, %%p, %%o, %%t {scale=0.3, window=%d} : %s[1, T<=%d, %d, %d]\n  return "
           "y=%%1\n}\n",
           z.dt, T, z.h, z.e, z.pages, P, z.g, z.e, z.pages, P, z.g, z.e, T, S + 1, S, W, z.window, z.dt, T, z.h, z.e);
  text_add(
      &t,
      "region attend @whole(%%q: %s[1, L<=%d, %d, %d] data, %%k: %s[1, L<=%d, %d, %d] data, %%v: %s[1, L<=%d, %d, "
      "%d] data) {\n"
      "  %%1, %%2 = attend %%q, %%k, %%v {causal=1, scale=0.3, window=%d} : %s[1, L<=%d, %d, %d], f32[1, %d, L<=%d]\n  "
      "return y=%%1\n}\n",
      z.dt, MOST, z.h, z.e, z.dt, MOST, z.g, z.e, z.dt, MOST, z.g, z.e, z.window, z.dt, MOST, z.h, z.e, z.h, MOST);
  return t;
}

static Tensor fresh(Arena *a, const char *dt, int rank, const int64_t *n, bool filled) {
  DType d;
  dtype_parse(dt, &d);
  Tensor t = tensor_new(a, type_make(d, rank, n), EVAL_EXACT);
  for (int64_t i = 0; filled && i < type_elements(t.type); i++) tensor_set(&t, EVAL_EXACT, i, (double)number());
  return t;
}

/* Runs region `name` by the evaluator and by its kernel on 1, 2 and 3 threads; the results must agree. */
static Tensor run(KernelSet *s, const char *name, Tensor *in, const Binding *bind, int nbind) {
  int at = 0;
  while (strcmp(s->module->graphs[at]->name, name)) at++;
  const Graph *g = s->module->graphs[at];
  Arena *a = s->arena;
  Tensor out;
  for (int i = 0; i < g->ninputs; i++) /* names of extents are the graph's */
    for (int k = 0; k < in[i].type.rank; k++) in[i].type.dim[k].name = NULL;
  bool evaluated = graph_eval(g, EVAL_EXACT, in, bind, nbind, a, &out, s->diags);
  Text why = {0};
  diags_render(s->diags, &why);
  cr_assert(evaluated, "%s", why.s);
  const Lowered *l = &s->lowered[at];
  int64_t ints[8];
  for (int i = 0; i < l->nsyms; i++)
    for (int b = 0; b < nbind; b++)
      if (!strcmp(l->syms[i], bind[b].name)) ints[i] = bind[b].n;
  bool in_place = !strcmp(name, "keys") || !strcmp(name, "values");
  for (int threads = 1; threads <= 3; threads++) {
    void *buf[8];
    for (int i = 0; i < g->ninputs; i++) {
      buf[i] = arena_alloc(a, (size_t)type_bytes(in[i].type) + 64);
      tensor_write(&in[i], buf[i]);
    }
    Tensor got = tensor_new(a, out.type, EVAL_EXACT);
    buf[g->ninputs] = in_place ? buf[0] : arena_alloc(a, (size_t)type_bytes(out.type) + 64);
    void *scratch = aligned_alloc(64, (size_t)(l->scratch + 127) / 64 * 64);
    memset(scratch, 0xff, (size_t)l->scratch);
    int64_t dealt = 0;
    for (int t = threads - 1; t >= 0; t--) s->fn[at](buf, ints, t, threads, scratch, &dealt);
    free(scratch);
    tensor_read(&got, buf[g->ninputs]);
    for (int64_t i = 0; i < type_elements(out.type); i++) {
      float x = ((float *)out.data)[i], y = ((float *)got.data)[i];
      cr_assert(!memcmp(&x, &y, 4), "%s, %d threads, element %lld: %a, the evaluator %a", name, threads, (long long)i,
                y, x);
    }
  }
  return out;
}

static void copy_rows(const Tensor *from, int64_t row, Tensor *to, int64_t at, int64_t n, int64_t width) {
  memcpy((float *)to->data + at * width, (const float *)from->data + row * width, sizeof(float) * (size_t)(n * width));
}

static void check(const char *target, Shape z, const Part *part, int parts) {
  KernelSet s;
  Text t = text_of(z), why = {0};
  cr_assert(kernels_build(&s, target, t.s, &why), "%s", why.s);
  if (!kernels_runnable(&s)) {
    kernels_free(&s);
    return;
  }
  Arena *a = s.arena;
  Tensor q[S], k[S], v[S]; /* of each sequence as a whole */
  int32_t pages[S][W], next = P - 1;
  for (int i = 0; i < parts; i++) {
    int64_t n = part[i].past + part[i].n;
    q[i] = fresh(a, z.dt, 4, (int64_t[]){1, n, z.h, z.e}, true);
    k[i] = fresh(a, z.dt, 4, (int64_t[]){1, n, z.g, z.e}, true);
    v[i] = fresh(a, z.dt, 4, (int64_t[]){1, n, z.g, z.e}, true);
    for (int j = 0; j < W; j++) pages[i][j] = j * 64 < n ? next-- : 0;
  }
  Tensor kp = fresh(a, z.pages, 4, (int64_t[]){P, z.g, z.e, 64}, true);
  Tensor vp = fresh(a, z.pages, 4, (int64_t[]){P, z.g, 64, z.e}, true), o = {0}, starts, table, positions;
  for (int turn = 0; turn < 2; turn++) { /* what is past, at most T tokens at once; then what is asked */
    for (int done = 0, more = 1; more;) {
      int64_t total = 0;
      more = 0;
      Part now[S];
      for (int i = 0; i < parts; i++) {
        int lo = turn ? part[i].past : done < part[i].past ? done : part[i].past;
        int hi = turn ? part[i].past + part[i].n : done + 33 < part[i].past ? done + 33 : part[i].past;
        now[i] = (Part){lo, hi - lo};
        total += hi - lo;
        more |= !turn && hi < part[i].past;
      }
      done += 33;
      Tensor slot = fresh(a, "i32", 1, (int64_t[]){total}, false);
      positions = fresh(a, "i32", 1, (int64_t[]){total}, false);
      starts = fresh(a, "i32", 1, (int64_t[]){parts + 1}, false);
      table = fresh(a, "i32", 2, (int64_t[]){parts, W}, false);
      Tensor qn = fresh(a, z.dt, 4, (int64_t[]){1, total, z.h, z.e}, false),
             kn = fresh(a, z.dt, 4, (int64_t[]){1, total, z.g, z.e}, false),
             vn = fresh(a, z.dt, 4, (int64_t[]){1, total, z.g, z.e}, false);
      int64_t at = 0;
      for (int i = 0; i < parts; i++) {
        ((int32_t *)starts.data)[i] = (int32_t)at;
        memcpy((int32_t *)table.data + i * W, pages[i], sizeof pages[i]);
        copy_rows(&q[i], now[i].past, &qn, at, now[i].n, z.h * z.e);
        copy_rows(&k[i], now[i].past, &kn, at, now[i].n, z.g * z.e);
        copy_rows(&v[i], now[i].past, &vn, at, now[i].n, z.g * z.e);
        for (int j = 0; j < now[i].n; j++, at++) {
          int32_t p = now[i].past + j;
          ((int32_t *)positions.data)[at] = p;
          ((int32_t *)slot.data)[at] = pages[i][p / 64] * 64 + p % 64;
        }
      }
      ((int32_t *)starts.data)[parts] = (int32_t)at;
      if (!total) continue;
      Binding bind[] = {{"P", P}, {"T", total}, {"S", parts}, {"S1", parts + 1}};
      kp = run(&s, "keys", (Tensor[]){kp, slot, kn}, bind, 4);
      vp = run(&s, "values", (Tensor[]){vp, slot, vn}, bind, 4);
      if (turn) o = run(&s, "attend", (Tensor[]){qn, kp, vp, positions, starts, table}, bind, 4);
    }
  }
  int64_t at = 0;
  for (int i = 0; i < parts; i++) {
    int64_t n = part[i].past + part[i].n, width = z.h * z.e;
    bool same = !strcmp(z.dt, z.pages);
    Tensor whole = {0};
    if (same && n) whole = run(&s, "whole", (Tensor[]){q[i], k[i], v[i]}, (Binding[]){{"L", n}}, 1);
    for (int64_t x = 0; same && x < part[i].n * width; x++)
      cr_assert(!memcmp((float *)o.data + at * width + x, (float *)whole.data + part[i].past * width + x, 4),
                "sequence %d, element %lld: %a in pages, %a in one piece", i, (long long)x,
                ((float *)o.data)[at * width + x], ((float *)whole.data)[part[i].past * width + x]);
    at += part[i].n;
  }
  kernels_free(&s);
  text_free(&t);
}

static const Part prompt[] = {{0, 200}}, chunks[] = {{0, 70}, {64, 13}, {3, 90}},
                  decodes[] = {{200, 1}, {63, 1}, {64, 1}, {0, 1}, {300, 1}},
                  mix[] = {{129, 1}, {0, 0}, {17, 3}, {0, 64}, {250, 40}};

static void check_all(const char *target, Shape z) {
  check(target, z, prompt, LEN(prompt));
  check(target, z, chunks, LEN(chunks));
  check(target, z, decodes, LEN(decodes));
  check(target, z, mix, LEN(mix));
}

Test(pages, f32) {
  check_all("cpu:native", (Shape){4, 4, 16, 0, "f32", "f32"});
  check_all("cpu:native", (Shape){6, 2, 20, 0, "f32", "f32"});
  check_all("cpu:native", (Shape){8, 1, 64, 0, "f32", "f32"});
}

Test(pages, bf16) {
  check_all("cpu:native", (Shape){4, 4, 16, 0, "bf16", "bf16"});
  check_all("cpu:native", (Shape){6, 2, 21, 0, "bf16", "bf16"});
}

Test(pages, windows) {
  check_all("cpu:native", (Shape){4, 2, 16, 1, "f32", "f32"});
  check_all("cpu:native", (Shape){4, 4, 16, 70, "f32", "f32"});
  check_all("cpu:native", (Shape){2, 1, 16, 128, "bf16", "bf16"});
}

Test(pages, other_targets) {
  check_all("cpu:x86-64-v3", (Shape){6, 2, 20, 0, "f32", "f32"});
  check_all("cpu:x86-64-v4", (Shape){3, 1, 33, 0, "f32", "f32"});
}
