/* Model files out of a grammar: the bytes are choices, and what they choose is mostly right, so that it gets behind the
 * parsers: into shape inference, views, derivatives, the passes, the kernels.
 *
 * Expressions are made for a type that is wanted: a variable or parameter of that type, or an operation and what it needs of
 * its operands, down to parameters that are declared where they are wanted. Now and then a choice is wrong on purpose. An
 * input beyond its end chooses 0, the simplest, so every text is finite. */
#include "tests/fuzz/grammar.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { D_B, D_T, D_v, D_d, D_h, D_e, D_ctx, DIMS, RANK = 5, VARS = 48, DEEPEST = 3, TEXT_MOST = 1200 };
static const char *const dim_name[] = {"B", "T", "v", "d", "h", "e", "ctx"};

typedef struct Ty {
  int rank, dim[RANK];
} Ty;

typedef struct Var {
  char name[16];
  Ty t;
  bool ids; /* i32 */
} Var;

typedef struct Scope { /* the model's forward, or a block's */
  Text *params;        /* where a new parameter goes */
  bool indexed;        /* a block that is called with an index */
  const char *margin;
  Var var[VARS];
  int n;
} Scope;

typedef struct Gen {
  const uint8_t *at, *end;
  Scope *s;
  int params;
  Text head, top, blocks, functions, forward; /* sections */
} Gen;

static unsigned pick(Gen *g, unsigned n) {
  return g->at < g->end ? *g->at++ % n : 0;
}

static bool chance(Gen *g, unsigned of) { /* one in `of`; never behind the end */
  return g->at < g->end && *g->at++ % of == of - 1;
}

/* ---- types */

static Ty ty(int rank, int a, int b, int c, int d) {
  return (Ty){rank, {a, b, c, d}};
}

static bool same(Ty a, Ty b) {
  return a.rank == b.rank && !memcmp(a.dim, b.dim, sizeof(int) * (size_t)a.rank);
}

static Ty with(Ty t, int dim) {
  if (t.rank < RANK) t.dim[t.rank++] = dim;
  return t;
}

static Ty without_last(Ty t) {
  if (t.rank) t.rank--;
  return t;
}

static int some_dim(Gen *g) {
  return D_v + (int)pick(g, DIMS - D_v - 1);
}

static bool constant(Ty t) {
  for (int i = 0; i < t.rank; i++)
    if (t.dim[i] <= D_T) return false;
  return t.rank > 0;
}

static void shape_text(Gen *g, Ty t, Text *out) {
  text_add(out, "[");
  for (int i = 0; i < t.rank; i++) text_add(out, "%s%s", i ? ", " : "", dim_name[t.dim[i]]);
  if (chance(g, 64)) text_add(out, ", 2");
  text_add(out, "]");
}

/* ---- parameters */

static void new_var(Scope *s, const char *name, Ty t, bool ids) {
  if (s->n == VARS) return;
  Var *v = &s->var[s->n++];
  *v = (Var){.t = t, .ids = ids};
  snprintf(v->name, sizeof v->name, "%s", name);
}

/* Where it lies in a checkpoint; half 1 or 2: a part of a tensor along its first axis. */
static void view_text(Gen *g, Ty t, int number, int half, Text *out) {
  const char *index = g->s->indexed ? ".{i}" : "", *first = dim_name[t.dim[0]];
  if (half) {
    text_add(out, ", hf: \"t%d%s as [2*", number, index);
    for (int i = 0; i < t.rank; i++) text_add(out, "%s%s", i ? ", " : "", dim_name[t.dim[i]]);
    text_add(out, half == 1 ? "][0:%s]\"" : "][%s:2*%s]\"", first, first);
    return;
  }
  unsigned how = pick(g, 6);
  if (how == 1) text_add(out, ", hf: \"t%d%s\"", number, index);
  if (how == 2 && t.rank == 2) text_add(out, ", hf: \"t%d%s.T\"", number, index);
  if (how == 3) {
    text_add(out, ", hf: \"t%d%s as [", number, index);
    for (int i = 0; i < t.rank; i++) text_add(out, "%s%s", i ? " * " : "", dim_name[t.dim[i]]);
    text_add(out, "]\"");
  }
  if (how == 4 && t.rank > 1) text_add(out, ", hf: \"t%d%s.{x}.w\"", number, index);
  if (how == 5 && t.rank == 2) {
    text_add(out, ", hf: \"t%d%s as [%s * %s] view [%s, %s].T\"", number, index, first, dim_name[t.dim[1]],
             dim_name[t.dim[1]], first);
  }
}

static void add_param(Gen *g, Ty t, int number, int half, Text *name) {
  static const char *const init[] = {"",
                                     ", init: zeros",
                                     ", init: ones",
                                     ", init: normal(0.1)",
                                     ", init: const(1/3)",
                                     ", init: \"uniform(-1, eps)\"",
                                     ", init: \"normal(1, d)\""};
  static const char *const decay[] = {"", "", ", decay: true", ", decay: false"};
  Text *out = g->s->params;
  char text[16];
  snprintf(text, sizeof text, "p%d%s", number, half == 2 ? "b" : "");
  text_add(out, "%s%s: {shape: ", g->s->margin, text);
  shape_text(g, t, out);
  text_add(out, "%s", init[pick(g, LEN(init))]);
  view_text(g, t, number, half, out);
  text_add(out, "%s}\n", decay[pick(g, LEN(decay))]);
  if (!half) new_var(g->s, text, t, false);
  text_add(name, "%s", text);
}

static void param(Gen *g, Ty t, Text *out) {
  int number = g->params++;
  if (!chance(g, 4)) {
    add_param(g, t, number, 0, out);
    return;
  }
  text_add(out, "(");
  add_param(g, t, number, 1, out);
  text_add(out, " - ");
  add_param(g, t, number, 2, out);
  text_add(out, ")");
}

/* ---- expressions */

static void expr(Gen *g, Ty t, int depth, Text *out);

static void number(Gen *g, Text *out) {
  static const char *const some[] = {"2",           "0.5",  "1",     "0", "-1", "eps",
                                     "1 / sqrt(d)", "1e30", "1e-45", "d", "B",  "-0.0"};
  text_add(out, "%s", some[pick(g, LEN(some))]);
}

static bool variable(Gen *g, Ty t, bool ids, Text *out) {
  int found[VARS], n = 0;
  for (int i = 0; i < g->s->n; i++)
    if (same(g->s->var[i].t, t) && g->s->var[i].ids == ids) found[n++] = i;
  if (!n) return false;
  text_add(out, "%s", g->s->var[found[n - 1 - (int)pick(g, (unsigned)n)]].name); /* the newest is the simplest */
  return true;
}

static void ids(Gen *g, Ty t, Text *out) {
  if (variable(g, t, true, out)) return;
  if (t.rank == 1)
    text_add(out, "range(%s)", dim_name[t.dim[0]]);
  else
    text_add(out, "tokens");
}

/* Something of the type without going deeper. */
static void leaf(Gen *g, Ty t, Text *out) {
  if (variable(g, t, false, out)) return;
  if (constant(t)) {
    param(g, t, out);
  } else if (t.rank > 2 && t.dim[0] == D_B && t.dim[1] == D_T) {
    Ty rows = {.rank = t.rank - 1, .dim = {D_v}};
    memcpy(rows.dim + 1, t.dim + 2, sizeof(int) * (size_t)(t.rank - 2));
    text_add(out, "lookup(");
    if (constant(rows)) param(g, rows, out);
    text_add(out, ", tokens)");
  } else if (t.rank == 2 && t.dim[0] == D_B && t.dim[1] == D_T) {
    text_add(out, "cast(tokens, f32)");
  } else if (t.rank > 1) { /* axes of data elsewhere: one axis after the other, from the front */
    text_add(out, "onehot(");
    for (int i = t.rank - 1; i > 1; i--) text_add(out, "cast(onehot(");
    if (t.dim[0] == D_B)
      text_add(out, "cast(sum(cast(tokens, f32)), i32)");
    else
      text_add(out, "range(%s)", dim_name[t.dim[0]]);
    for (int i = 1; i < t.rank - 1; i++) text_add(out, ", %s), i32)", dim_name[t.dim[i]]);
    text_add(out, ", %s)", dim_name[t.dim[t.rank - 1]]);
  } else if (t.rank == 1) {
    text_add(out, t.dim[0] == D_B ? "sum(cast(tokens, f32))" : "cast(range(%s), f32)", dim_name[t.dim[0]]);
  } else {
    number(g, out);
  }
}

static void call(Gen *g, const char *fn, Ty t, int depth, Text *out) {
  text_add(out, "%s(", fn);
  expr(g, t, depth, out);
  text_add(out, ")");
}

static void elementwise(Gen *g, Ty t, int depth, Text *out) {
  static const char *const one[] = {"relu"
#define EW1(name, ...) , #name
#define EW2(...)
#define EW3(...)
#define OP(...)
#include "ir/ops.def"
  };
  static const char *const op[] = {" + ", " * ", " - ", " / "};
  unsigned how = pick(g, 4);
  if (how == 0) {
    call(g, one[pick(g, LEN(one))], t, depth, out);
    if (chance(g, 6)) {
      text_add(out, " * dropout(");
      expr(g, t, depth, out);
      text_add(out, ", %s)", chance(g, 4) ? "0" : "0.25");
    }
  } else if (how == 1) {
    text_add(out, "(");
    expr(g, t, depth, out);
    text_add(out, "%s", op[pick(g, LEN(op))]);
    Ty suffix = t; /* the second one may lack leading axes */
    unsigned drop = pick(g, (unsigned)t.rank + 1);
    suffix.rank = t.rank - (int)drop;
    memmove(suffix.dim, t.dim + drop, sizeof(int) * (size_t)suffix.rank);
    if (suffix.rank)
      expr(g, suffix, depth, out);
    else
      number(g, out);
    text_add(out, ")");
  } else {
    text_add(out, how == 2 ? "select(" : "%s(", chance(g, 2) ? "max" : "min");
    for (int i = 0; i < (how == 2 ? 3 : 2); i++) {
      if (i) text_add(out, ", ");
      expr(g, t, depth, out);
    }
    text_add(out, ")");
  }
}

static void contraction(Gen *g, Ty t, int depth, Text *out) {
  int k = some_dim(g);
  unsigned how = pick(g, 3);
  Ty left = with(without_last(t), k), right = ty(2, t.dim[t.rank - 1], k, 0, 0);
  if (how == 2 && t.rank == 3) { /* two of the same rank: b t, b s over d */
    text_add(out, "einsum(\"abk,ack->abc\", ");
    left = ty(3, t.dim[0], t.dim[1], k, 0), right = ty(3, t.dim[0], t.dim[2], k, 0);
  } else {
    text_add(out, how ? "linear(" : "einsum(\"*k,nk->*n\", ");
  }
  expr(g, left, depth, out);
  text_add(out, ", ");
  expr(g, right, depth, out);
  if (how == 1 && chance(g, 2)) {
    text_add(out, ", ");
    expr(g, ty(1, t.dim[t.rank - 1], 0, 0, 0), depth, out);
  }
  text_add(out, ")");
}

static void normalisation(Gen *g, Ty t, int depth, Text *out) {
  static const char *const fn[] = {"softmax", "rmsnorm", "layernorm"};
  unsigned how = pick(g, 3);
  text_add(out, "%s(", fn[how]);
  expr(g, t, depth, out);
  if (how) {
    text_add(out, ", ");
    expr(g, ty(1, t.dim[t.rank - 1], 0, 0, 0), depth, out);
    text_add(out, ", eps");
  }
  text_add(out, ")");
}

static void shapes(Gen *g, Ty t, int depth, Text *out) {
  unsigned how = pick(g, 4);
  if (how == 0 && t.rank > 1) { /* two axes change places */
    unsigned i = pick(g, (unsigned)t.rank), j = pick(g, (unsigned)t.rank);
    Ty from = t;
    from.dim[i] = t.dim[j], from.dim[j] = t.dim[i];
    text_add(out, "transpose(");
    expr(g, from, depth, out);
    text_add(out, ", [");
    for (unsigned k = 0; k < (unsigned)t.rank; k++) text_add(out, "%s%u", k ? ", " : "", k == i ? j : k == j ? i : k);
    text_add(out, "])");
  } else if (how == 1 && t.rank > 1) { /* the same, out of a flat one */
    Ty from = t;
    from.dim[0] = t.dim[t.rank - 1], from.dim[t.rank - 1] = t.dim[0];
    text_add(out, "reshape(");
    expr(g, chance(g, 2) ? from : t, depth, out);
    text_add(out, ", ");
    shape_text(g, t, out);
    text_add(out, ")");
  } else if (how == 2 && t.rank > 1) {
    text_add(out, "spread(");
    expr(g, without_last(t), depth, out);
    text_add(out, ", ");
    expr(g, t, depth, out);
    text_add(out, ")");
  } else {
    static const char *const fn[] = {"sum", "max", "mean"};
    unsigned k = pick(g, 3);
    if (k == 1 || chance(g, 2)) {
      call(g, fn[k], with(t, some_dim(g)), depth, out);
      return;
    }
    Ty wide = {.rank = t.rank + 1 < RANK ? t.rank + 1 : RANK, .dim = {some_dim(g)}}; /* over the first axis */
    memcpy(wide.dim + 1, t.dim, sizeof(int) * (size_t)(wide.rank - 1));
    text_add(out, "%s(", fn[k]);
    expr(g, wide, depth, out);
    text_add(out, ", 0)");
  }
}

static void indices(Gen *g, Ty t, int depth, Text *out) {
  unsigned how = pick(g, 4);
  if (how == 0 && t.rank > 1) {
    text_add(out, "onehot(");
    ids(g, without_last(t), out);
    text_add(out, ", %s)", dim_name[t.dim[t.rank - 1]]);
  } else if (how == 1) {
    text_add(out, "pick(");
    expr(g, with(t, some_dim(g)), depth, out);
    text_add(out, ", ");
    ids(g, t, out);
    text_add(out, ")");
  } else if (how == 2) {
    text_add(out, "valid(");
    ids(g, t, out);
    text_add(out, ")");
  } else if (t.rank > 1) {
    text_add(out, "lookup(");
    expr(g, ty(2, some_dim(g), t.dim[t.rank - 1], 0, 0), depth, out);
    text_add(out, ", ");
    ids(g, without_last(t), out);
    text_add(out, ")");
  } else {
    leaf(g, t, out);
  }
}

static void attention(Gen *g, Ty t, int depth, Text *out) {
  bool grouped = chance(g, 3);
  if (chance(g, 3)) {
    text_add(out, "rope(");
    expr(g, t, depth, out);
    text_add(out, ", cos, sin%s)", chance(g, 2) ? ", style: pairs" : "");
    return;
  }
  Ty kv = t;
  if (grouped) kv.dim[2] = some_dim(g);
  text_add(out, "attend(");
  expr(g, t, depth, out);
  text_add(out, ", ");
  expr(g, kv, depth, out);
  text_add(out, ", ");
  expr(g, kv, depth, out);
  text_add(out, "%s%s%s)", chance(g, 2) ? ", causal: 1" : "", chance(g, 4) ? ", scale: 0.5" : "",
           chance(g, 4) ? ", window: 3" : "");
}

static void expr(Gen *g, Ty t, int depth, Text *out) {
  if (depth <= 0 || g->at >= g->end || out->n + g->top.n + g->blocks.n > TEXT_MOST || g->params > 8) {
    leaf(g, t, out);
    return;
  }
  if (chance(g, 96)) t = with(t, some_dim(g)); /* wrong on purpose */
  depth--;
  switch (pick(g, 10)) {
  case 0:
  case 1: leaf(g, t, out); return;
  case 2:
  case 3: elementwise(g, t, depth, out); return;
  case 4:
    if (t.rank >= 2) {
      contraction(g, t, depth, out);
      return;
    }
    elementwise(g, t, depth, out);
    return;
  case 5:
    if (t.rank >= 1)
      normalisation(g, t, depth, out);
    else
      number(g, out);
    return;
  case 6: shapes(g, t, depth, out); return;
  case 7: indices(g, t, depth, out); return;
  case 8:
    if (t.rank == 4)
      attention(g, t, depth, out);
    else
      call(g, "stop", t, depth, out);
    return;
  default: elementwise(g, t, depth, out);
  }
}

static Ty some_type(Gen *g) {
  switch (pick(g, 7)) {
  case 0:
  case 1: return ty(3, D_B, D_T, D_d, 0);
  case 2: return ty(3, D_B, D_T, D_v, 0);
  case 3: return ty(2, D_B, D_T, 0, 0);
  case 4: return ty(4, D_B, D_T, D_h, D_e);
  case 5: return ty(2, some_dim(g), some_dim(g), 0, 0);
  default: return ty(1, some_dim(g), 0, 0, 0);
  }
}

/* ---- sections */

static void statements(Gen *g, const char *margin, unsigned n, const char *prefix, Text *out) {
  for (unsigned i = 0; i < n; i++) {
    Ty t = some_type(g);
    char name[16];
    snprintf(name, sizeof name, "%s%u", prefix, chance(g, 4) ? i / 2 : i);
    if (chance(g, 6)) { /* a loop that works on one value */
      Text line = {0};
      expr(g, t, 2, &line);
      text_add(out, "%s%s = %s\n%sfor n in %s:\n%s  %s = ", margin, name, line.s, margin, chance(g, 4) ? "h" : "2",
               margin, name);
      text_free(&line);
      new_var(g->s, name, t, false);
      expr(g, t, 2, out);
    } else {
      text_add(out, "%s%s = ", margin, name);
      expr(g, t, DEEPEST, out);
    }
    text_add(out, "\n");
    for (int k = 0; k < g->s->n; k++)
      if (!strcmp(g->s->var[k].name, name)) g->s->var[k].name[0] = 'q'; /* its type has changed: names none any more */
    new_var(g->s, name, t, false);
  }
}

static void inputs(Gen *g, Scope *s) {
  static const char *const size[] = {"2",  "4", "3",  "1",    "8",         "5", "16",   "2 * 3",
                                     "17", "6", "33", "1000", "100000000", "d", "v - 1"};
  text_add(&g->head, "model: g\ndims: {");
  for (int i = D_v; i < DIMS; i++) {
    unsigned k = pick(g, i == D_ctx ? 3 : i == D_e ? 2 : i == D_h ? 8 : LEN(size));
    text_add(&g->head, "%s%s: %s", i == D_v ? "" : ", ", dim_name[i], size[k > 10 && !chance(g, 8) ? 0 : k]);
  }
  text_add(&g->head, "}\nconsts: {eps: %s}\n", chance(g, 4) ? "1e-5 * d" : "1e-5");
  text_add(&g->head, "inputs:\n  tokens: {from: tokens}\n  y: {from: targets}\n");
  text_add(&g->head, "tables:\n  cos: {shape: [ctx, e / 2], value: cos(i * j + eps)}\n"
                     "  sin: {shape: [ctx, e / 2], value: sin(i / (j + 1))}\n");
  new_var(s, "tokens", ty(2, D_B, D_T, 0, 0), true);
  new_var(s, "y", ty(2, D_B, D_T, 0, 0), true);
}

/* A block of one argument and as much as it declares; called once, or in a loop. */
static void block(Gen *g, int number, Scope *outer) {
  Ty t = ty(3, D_B, D_T, D_d, 0);
  Text params = {0}, code = {0};
  Scope s = {.params = &params, .indexed = chance(g, 2), .margin = "      "};
  new_var(&s, "x", t, false);
  g->s = &s;
  statements(g, "      ", pick(g, 2), "b", &code);
  text_add(&code, "      return ");
  expr(g, t, DEEPEST, &code);
  text_add(&g->blocks, "  block%d:\n    args: [x]\n", number);
  if (params.n) text_add(&g->blocks, "    params:\n%s", params.s);
  text_add(&g->blocks, "    forward: |\n%s\n", code.s);
  text_free(&params);
  text_free(&code);
  g->s = outer;
  text_add(&g->forward, "  z%d = ", number);
  expr(g, t, 3, &g->forward);
  if (s.indexed)
    text_add(&g->forward, "\n  for n in %s: z%d = block%d[n](z%d)\n", chance(g, 2) ? "h" : "2", number, number, number);
  else
    text_add(&g->forward, "\n  z%d = block%d(z%d)\n", number, number, number);
  char name[16];
  snprintf(name, sizeof name, "z%d", number);
  new_var(outer, name, t, false);
}

static void generate(Gen *g, Text *out) {
  Scope top = {.params = &g->top, .margin = "  "};
  inputs(g, &top);
  g->s = &top;
  for (unsigned i = 0, n = pick(g, 3); i < n; i++) block(g, (int)i, &top);
  statements(g, "  ", pick(g, 4), "a", &g->forward);
  text_add(&g->forward, "  logits = ");
  expr(g, ty(3, D_B, D_T, D_v, 0), DEEPEST, &g->forward);
  Text loss = {0};
  new_var(&top, "logits", ty(3, D_B, D_T, D_v, 0), false);
  if (chance(g, 3))
    expr(g, ty(2, D_B, D_T, 0, 0), DEEPEST, &loss);
  else
    text_add(&loss, "cross_entropy(logits, y)");
  text_add(out, "%s", g->head.s);
  if (g->top.n) text_add(out, "params:\n%s", g->top.s);
  if (g->blocks.n) text_add(out, "blocks:\n%s", g->blocks.s);
  text_add(out, "forward: |\n%s\nloss: \"", g->forward.s);
  for (size_t i = 0; i < loss.n; i++) text_add(out, loss.s[i] == '"' ? "\\\"" : "%c", loss.s[i]);
  text_add(out, "\"\n");
  text_free(&loss);
}

void grammar_model(const uint8_t *data, size_t size, Text *out) {
  Gen g = {.at = data, .end = data + size};
  generate(&g, out);
  Text *all[] = {&g.head, &g.top, &g.blocks, &g.functions, &g.forward};
  for (int i = 0; i < LEN(all); i++) text_free(all[i]);
}
