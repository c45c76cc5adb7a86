/* Shape inference: checks operands and attributes of one node and gives the types of its results.
 *
 * Used when a graph is built (so that a wrong model is refused where it is written), when text is parsed and by the
 * verifier. Here: the entry point, the attributes, elementwise ops, and what the infer_NAME functions share
 * (infer_ops.c). The messages are read by people who write models: they name dims, in the operands' order. */
#include "ir/infer.h"

#include <string.h>

static const char *taken(const Graph *g, Text *t) {
  const char *s = arena_strndup(g->mod->arena, t->s ? t->s : "", t->n);
  text_free(t);
  return s;
}

const char *shape_text(const Graph *g, Type t) {
  Text out = {0};
  shape_print(g, t, &out);
  if (t.rank == 0) text_add(&out, "no dims");
  return taken(g, &out);
}

const char *type_text(const Graph *g, Type t) {
  Text out = {0};
  type_print(g, t, &out);
  return taken(g, &out);
}

const char *dim_text(const Graph *g, Dim d) {
  Type t = {.rank = 1, .dim = {d}};
  Text out = {0};
  shape_print(g, t, &out);
  const char *s = taken(g, &out);
  return arena_strndup(g->mod->arena, s + 1, strlen(s) - 2); /* without the brackets */
}

bool infer_fail(Infer *f, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  const char *text = arena_vprintf(f->g->mod->arena, fmt, ap);
  va_end(ap);
  return diag_error(f->g->mod->diags, f->at, "%s: %s", op_info[f->op].name, text);
}

const Attr *infer_attr(const Infer *f, const char *name) {
  for (int i = 0; i < f->nattrs; i++)
    if (strcmp(f->attrs[i].name, name) == 0) return &f->attrs[i];
  return NULL;
}

/* Every attribute is one of the table's, of its kind, once; those that are not optional are there. */
static bool check_attrs(Infer *f) {
  static const char *const kind[] = {"an integer", "a number", "a text", "a list of integers"};
  AttrSpec spec[MAX_ATTRS];
  int n = op_attrs(f->op, spec);
  for (int i = 0; i < f->nattrs; i++) {
    const Attr *a = &f->attrs[i];
    const AttrSpec *s = NULL;
    const char *names[MAX_ATTRS];
    for (int k = 0; k < n; k++) {
      names[k] = spec[k].name;
      if (spec[k].name == a->name) s = &spec[k];
    }
    if (!s) {
      const char *near = near_miss(a->name, names, n);
      const char *hint = near ? arena_printf(f->g->mod->arena, "did you mean '%s'?", near) : NULL;
      return diag_hint(f->g->mod->diags, f->at, hint, "%s: unknown attribute '%s'", op_info[f->op].name, a->name);
    }
    if (s->kind != (int)a->kind) return infer_fail(f, "attribute '%s' must be %s", a->name, kind[s->kind]);
    for (int k = 0; k < i; k++)
      if (f->attrs[k].name == a->name) return infer_fail(f, "attribute '%s' is given twice", a->name);
  }
  for (int k = 0; k < n; k++)
    if (!spec[k].optional && !infer_attr(f, spec[k].name))
      return infer_fail(f, "needs the attribute '%s'", spec[k].name);
  return true;
}

static bool is_float(DType dt) {
  return dt == DT_f32 || dt == DT_bf16 || dt == DT_f64 || dt == DT_f8e4m3;
}

/* The mesh axis named by the lowest bit of a partial mask. */
static const char *axis_name(const Graph *g, uint32_t mask) {
  for (int i = 0; i < g->mod->naxes; i++)
    if (mask >> i & 1) return g->mod->mesh[i].name;
  return "?";
}

/* Elementwise: operands have the result's shape or rank 0, and one floating dtype. A pending sum passes through what
 * is linear: sums of values that all have it, products with a value that has none. */
static bool infer_elementwise(Infer *f) {
  static const char *const name[] = {"x", "y", "z"};
  const Graph *g = f->g;
  int first = 0;
  for (int i = 0; i < f->nargs; i++) {
    if (!is_float(f->t[i].dt))
      return infer_fail(f, "%s is %s; elementwise ops work on floating numbers", name[i], dtype_name[f->t[i].dt]);
    if (f->t[i].dt != f->t[0].dt)
      return infer_fail(f, "x is %s, %s is %s: cast one of them", dtype_name[f->t[0].dt], name[i],
                        dtype_name[f->t[i].dt]);
    if (f->t[first].rank == 0 && f->t[i].rank > 0) first = i;
  }
  Type r = f->t[first];
  for (int i = 0; i < f->nargs; i++) {
    const Type *t = &f->t[i];
    if (i == first || t->rank == 0) continue;
    const char *where = arena_printf(g->mod->arena, "%s has %s, %s has %s", name[first], shape_text(g, f->t[first]),
                                     name[i], shape_text(g, *t));
    if (t->rank != r.rank)
      return infer_fail(f, "%s: %d dims against %d; operands have the same shape or none", where, r.rank, t->rank);
    for (int k = 0; k < r.rank; k++) {
      if (!dim_eq(r.dim[k], t->dim[k]))
        return infer_fail(f, "%s: %s is not %s", where, dim_text(g, f->t[first].dim[k]), dim_text(g, t->dim[k]));
      if (!r.dim[k].name) r.dim[k].name = t->dim[k].name;
    }
  }
  uint32_t all = 0;
  for (int i = 0; i < f->nargs; i++) all |= f->t[i].partial;
  r.partial = all;
  if (all) {
    bool additive = f->op == OP_add || f->op == OP_sub || f->op == OP_neg, ok = additive;
    for (int i = 0; i < f->nargs; i++) ok = ok && f->t[i].partial == all;
    if (f->op == OP_mul) ok = !(f->t[0].partial && f->t[1].partial);
    if (f->op == OP_div) ok = !f->t[1].partial;
    if (!ok) return infer_fail(f, "a sum over mesh axis %s is still due in an operand", axis_name(g, all));
  }
  f->out[0] = r;
  f->nout = 1;
  return true;
}

typedef bool (*InferFn)(Infer *f);
static const InferFn infer_fn[OP_COUNT] = {
#define OP(name, ...) [OP_##name] = infer_##name,
#include "ir/ops.def"
};

/* Ops through which a pending sum passes; they say what becomes of it. All others refuse it. */
static bool passes_partial(OpKind op) {
  switch (op) {
  case OP_stop:
  case OP_broadcast:
  case OP_reshape:
  case OP_transpose:
  case OP_sum:
  case OP_contract:
  case OP_cast:
  case OP_call: return true;
  default: return op_info[op].ew;
  }
}

bool infer_types(Graph *g, OpKind op, const Val *args, int nargs, const Attr *attrs, int nattrs, const Type *want,
                 Span at, Type *out, int *nout) {
  Infer f = {.g = g, .op = op, .args = args, .nargs = nargs, .attrs = attrs, .nattrs = nattrs, .want = want, .at = at};
  f.out = out;
  *nout = 0;
  if (op <= OP_NONE || op >= OP_COUNT) return diag_error(g->mod->diags, at, "there is no op %d", (int)op);
  const OpInfo *info = &op_info[op];
  if (info->nargs >= 0 && nargs != info->nargs)
    return infer_fail(&f, "takes %d operand%s, not %d", info->nargs, info->nargs == 1 ? "" : "s", nargs);
  Type few[8], *t = nargs <= LEN(few) ? few : NEW_ARRAY(g->mod->arena, Type, nargs);
  f.t = t;
  for (int i = 0; i < nargs; i++) {
    if (args[i] == 0 || args[i] >= (Val)g->nvals)
      return infer_fail(&f, "operand %d is not a value of the graph", i + 1);
    t[i] = g->types[args[i]];
    if (t[i].partial && !passes_partial(op))
      return infer_fail(&f, "a sum over mesh axis %s is still due in operand %d", axis_name(g, t[i].partial), i + 1);
  }
  if (!check_attrs(&f)) return false;
  if (info->ew ? !infer_elementwise(&f) : !infer_fn[op](&f)) return false;
  for (int i = 0; i < f.nout; i++)
    if (!type_check(g, f.out[i], (Val)g->nvals, at, info->name)) return false;
  *nout = f.nout;
  return true;
}
