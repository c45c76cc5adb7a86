/* Executes the model language: every call and operator appends nodes to @forward.
 *
 * Loops and calls are unrolled here; what remains is a straight graph. Numbers are computed at once, tensors become
 * values of the graph. Elementwise operands line up at their last axes and get explicit `broadcast` nodes; scalars need
 * none. Scopes: the body's own variables, its block's parameters, then the model's inputs, tables and parameters, then
 * dims and consts. A wrong value is V_BAD and silences what depends on it, so each mistake is reported once.
 * What must hold: the same spec gives the same graph, node for node. */
#include "frontend/build.h"
#include "ir/expr.h"
#include <math.h>
#include <string.h>

static const Value bad = {.kind = V_BAD};

static Value eval(Builder *b, Frame *f, const Ast *e);
static bool run(Builder *b, Frame *f, const Stmt *stmt, int n, Value *result);

/* ---- texts and errors */

const char *build_dim_text(Arena *a, Dim d) {
  if (d.sym) return d.name;
  return d.name ? arena_printf(a, "%s=%lld", d.name, (long long)d.n) : arena_printf(a, "%lld", (long long)d.n);
}

const char *build_shape_text(Arena *a, Type t) {
  Text s = {0};
  text_add(&s, "[");
  for (int i = 0; i < t.rank; i++) text_add(&s, "%s%s", i ? ", " : "", build_dim_text(a, t.dim[i]));
  text_add(&s, "]");
  const char *r = arena_strdup(a, s.s);
  text_free(&s);
  return r;
}

const char *operand_text(Builder *b, const Ast *call, int i) {
  if (i < call->n && call->arg[i]->kind == AST_NAME) return call->arg[i]->name;
  return arena_printf(b->arena, "operand %d", i + 1);
}

Span build_span(const Frame *f, const Ast *at) {
  if (f->prelude) return f->call;
  Span s = at->at;
  s.in = f->in;
  return s;
}

static const char *operator_text(const Ast *e) {
  if (e->kind != AST_BINARY) return e->kind == AST_CALL ? e->name : "-";
  return e->name[0] == 'a' ? "+" : e->name[0] == 's' ? "-" : e->name[0] == 'm' ? "*" : "/";
}

Value build_error(Builder *b, const Frame *f, const Ast *at, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  const char *text = arena_vprintf(b->arena, fmt, ap);
  va_end(ap);
  const char *who = f->prelude ? f->fn : at->kind == AST_CALL ? at->name : NULL;
  if (who)
    diag_error(b->diags, build_span(f, at), "%s: %s", who, text);
  else
    diag_error(b->diags, build_span(f, at), "%s", text);
  return bad;
}

Value value_tensor(Builder *b, Val v) {
  if (v && b->g->nnodes > BUILD_NODE_LIMIT && !b->stopped) {
    b->stopped = true;
    diag_error(b->diags, val_node(b->g, v) ? val_node(b->g, v)->span : (Span){0},
               "the model unrolls to more than %d operations", (int)BUILD_NODE_LIMIT);
  }
  return v && !b->stopped ? (Value){.kind = V_TENSOR, .val = v} : bad;
}

Value value_num(double v) {
  return (Value){.kind = V_NUM, .num = v};
}

static const char *kind_text(Value v) {
  switch (v.kind) {
  case V_NUM: return "a number";
  case V_TENSOR: return "a tensor";
  case V_STR: return "a text";
  case V_LIST: return "a list";
  default: return "nothing";
  }
}

/* ---- names */

static Value dim_value(const Number *n) {
  Value v = value_num(n->value);
  if (n->dim) v.dim = (Dim){.n = (int64_t)n->value, .name = n->name, .sym = n->sym};
  return v;
}

bool table_info(Names *nm, const TableSpec *t, TableInfo *out) {
  static const char *const index[] = {"i", "j", "k", "l"};
  DType dt = DT_f32;
  if (t->dtype && !(t->dtype->kind == Y_SCALAR && dtype_parse(t->dtype->text, &dt) && (dt == DT_f32 || dt == DT_i32)))
    return diag_error(nm->diags, t->dtype->at, "the dtype of a table is f32 or i32");
  bool ok = param_type(nm, t->shape, dt, NULL, 0, &out->type);
  if (ok && out->type.rank > LEN(index))
    return diag_error(nm->diags, t->shape->at, "a table has at most %d axes", LEN(index));
  int keep = ok ? out->type.rank : LEN(index), n = t->where ? t->where->n : 0;
  TextPart *part = NEW_ARRAY(nm->arena, TextPart, n + 1);
  for (int i = 0; i < n; i++) {
    YPair p = t->where->pair[i];
    part[i].name = p.key->text;
    if (!names_substitute(nm, slice_all(p.value), index, keep, part, i, &part[i].text)) return false;
  }
  return names_substitute(nm, slice_all(t->value), index, keep, part, n, &out->expr) && ok;
}

static Value table_value(Builder *b, TableSpec *t) {
  TableInfo info;
  if (t->val) return value_tensor(b, t->val);
  if (!table_info(b->names, t, &info)) return bad;
  Attr attr = attr_str("expr", info.expr);
  return value_tensor(b, t->val = graph_add(b->g, OP_table, NULL, 0, &attr, 1, &info.type, t->at));
}

static bool find_value(Builder *b, Frame *f, const char *name, Value *out) {
  for (int i = f->nvars; i-- > 0;)
    if (f->var[i].name == name) return *out = f->var[i].value, true;
  if (f->inst)
    for (int i = 0; i < f->inst->block->nparams; i++)
      if (f->inst->block->param[i].name == name)
        return f->inst->block->param_used[i] = true, *out = value_tensor(b, f->inst->param[i]), true;
  if (f->prelude) return false;
  for (int i = 0; i < b->ninputs; i++)
    if (b->input[i].name == name) return *out = value_tensor(b, b->input[i].val), true;
  for (int i = 0; i < b->ntables; i++)
    if (b->table[i].name == name) return *out = table_value(b, &b->table[i]), true;
  for (int i = 0; i < b->nparams; i++)
    if (b->param[i].name == name) return b->param_used[i] = true, *out = value_tensor(b, b->param_val[i]), true;
  const Number *n = names_find(b->names, name);
  if (n) *out = dim_value(n);
  return n != NULL;
}

/* Everything that a name could have meant. */
static Value unknown_name(Builder *b, Frame *f, const Ast *e, bool call) {
  const char **all = NULL;
  int n = 0, cap = 0;
  if (call) {
    for (int i = 0; i < b->funcs.n; i++) PUSH(b->arena, all, n, cap, b->funcs.func[i].name);
    for (int i = 0; i < b->nblocks; i++) PUSH(b->arena, all, n, cap, b->block[i].name);
    for (int i = 0; i < builtin_count; i++) PUSH(b->arena, all, n, cap, builtin_table[i].name);
    for (int i = 1; i < OP_COUNT; i++)
      if (op_info[i].ew) PUSH(b->arena, all, n, cap, op_info[i].name);
  } else {
    for (int i = 0; i < f->nvars; i++) PUSH(b->arena, all, n, cap, f->var[i].name);
    for (int i = 0; f->inst && i < f->inst->block->nparams; i++)
      PUSH(b->arena, all, n, cap, f->inst->block->param[i].name);
    for (int i = 0; i < b->ninputs; i++) PUSH(b->arena, all, n, cap, b->input[i].name);
    for (int i = 0; i < b->ntables; i++) PUSH(b->arena, all, n, cap, b->table[i].name);
    for (int i = 0; i < b->nparams; i++) PUSH(b->arena, all, n, cap, b->param[i].name);
    for (int i = 0; i < b->names->n; i++) PUSH(b->arena, all, n, cap, b->names->list[i].name);
  }
  for (int i = 0; i < b->nleft_out && !call; i++)
    if (b->left_out[i] == e->name)
      return diag_error(b->diags, e->at, "parameter '%s' is left out: its 'when' is 0", e->name), bad;
  const char *near = b->diags->n < 100 ? near_miss(e->name, all, n) : NULL;
  diag_hint(b->diags, e->at, near ? arena_printf(b->arena, "did you mean '%s'?", near) : NULL, "unknown %s '%s'",
            call ? "function" : "name", e->name);
  return bad;
}

static Value eval_name(Builder *b, Frame *f, const Ast *e) {
  Value v;
  return find_value(b, f, e->name, &v) ? v : unknown_name(b, f, e, false);
}

static void assign(Builder *b, Frame *f, const char *name, Value v, Span at) {
  for (int i = 0; i < f->nvars; i++)
    if (f->var[i].name == name) {
      f->var[i].value = v;
      return;
    }
  if (f->nvars == BUILD_NAME_LIMIT && !b->stopped) {
    b->stopped = true;
    diag_error(b->diags, at, "more than %d names in one body", (int)BUILD_NAME_LIMIT);
  }
  if (b->stopped) return;
  Var var = {name, v};
  PUSH(b->arena, f->var, f->nvars, f->cap_vars, var);
}

/* ---- elementwise */

Val build_operand(Builder *b, Frame *f, const Ast *at, Value v, const char *what) {
  if (v.kind == V_BAD) return 0;
  if (v.kind == V_TENSOR) return v.val;
  if (v.kind == V_NUM && v.dim.sym) {
    build_error(b, f, at, "'%s' is known only at run time", v.dim.name);
  } else if (v.kind == V_NUM) {
    return graph_const(b->g, v.num, build_span(f, at));
  } else {
    build_error(b, f, at, "%s: expected a tensor, found %s", what, kind_text(v));
  }
  return 0;
}

static Value fold(Builder *b, Frame *f, const Ast *at, OpKind op, const Value *arg, int n) {
  static const char *const vars[] = {"a", "b", "c"};
  double x[3] = {0};
  for (int i = 0; i < n; i++) {
    if (arg[i].dim.sym) return build_error(b, f, at, "'%s' is known only at run time", arg[i].dim.name);
    x[i] = arg[i].num;
  }
  double y = expr_eval(expr_table(op_info[op].value, vars, 3), x);
  return isfinite(y) ? value_num(y) : build_error(b, f, at, "the result is not a finite number");
}

/* v repeated up to the shape of `to`, its axes lined up with the last ones; 0 after an error. */
static Val line_up(Builder *b, Frame *f, const Ast *at, Val v, Type to) {
  Type t = val_type(b->g, v);
  int64_t axes[MAX_RANK];
  int shift = to.rank - t.rank;
  for (int i = 0; i < t.rank; i++) {
    Dim have = t.dim[i], want = to.dim[shift + i];
    if (!dim_eq(have, want)) {
      build_error(b, f, at, "%s and %s don't line up at their last axes: %s against %s", build_shape_text(b->arena, to),
                  build_shape_text(b->arena, t), build_dim_text(b->arena, want), build_dim_text(b->arena, have));
      return 0;
    }
    /* Equal by chance: [B=4, T=64] on [B=4, T=64, d=64] means something else. */
    for (int k = 0; k < to.rank && have.name && want.name && have.name != want.name; k++)
      if (to.dim[k].name == have.name) {
        build_error(b, f, at, "%s and %s: %s would line up with %s; spread(x, like) lines up the first axes",
                    build_shape_text(b->arena, to), build_shape_text(b->arena, t), build_dim_text(b->arena, have),
                    build_dim_text(b->arena, want));
        return 0;
      }
    axes[i] = shift + i;
  }
  if (!shift) return v;
  to.dt = t.dt;
  return graph_broadcast(b->g, v, to, axes, build_span(f, at));
}

Value build_ew(Builder *b, Frame *f, const Ast *at, OpKind op, const Value *arg, int n) {
  bool numbers = true;
  for (int i = 0; i < n; i++) {
    if (arg[i].kind == V_BAD) return bad;
    numbers &= arg[i].kind == V_NUM;
  }
  if (numbers) return fold(b, f, at, op, arg, n);
  Val v[3] = {0};
  Type to = {0};
  for (int i = 0; i < n; i++) {
    if (!(v[i] = build_operand(b, f, at, arg[i], operand_text(b, at, i)))) return bad;
    Type t = val_type(b->g, v[i]);
    if (t.dt != DT_f32)
      return build_error(b, f, at, "'%s' needs f32, %s is %s", operator_text(at), operand_text(b, at, i),
                         dtype_name[t.dt]);
    if (t.rank > to.rank) to = t;
  }
  for (int i = 0; i < n; i++)
    if (val_type(b->g, v[i]).rank && !(v[i] = line_up(b, f, at, v[i], to))) return bad;
  return value_tensor(b, graph_ew(b->g, op, v[0], v[1], v[2], build_span(f, at)));
}

/* ---- calls */

static Value call_body(Builder *b, Frame *f, const Ast *e, Frame *callee, const Code *body) {
  for (const Frame *up = f; up; up = up->up)
    if (up->code == callee->code) return build_error(b, f, e, "'%s' calls itself", e->name);
  if (b->calls == BUILD_CALL_LIMIT) return build_error(b, f, e, "calls nested deeper than %d", (int)BUILD_CALL_LIMIT);
  b->calls++;
  callee->up = f;
  Value result = {.kind = V_ABSENT};
  int errors = b->diags->n;
  bool ok = run(b, callee, body->stmt, body->n, &result);
  b->calls--;
  if (!ok) return bad;
  if (result.kind == V_ABSENT)
    return b->diags->n > errors ? bad : build_error(b, f, e, "'%s' returns nothing", e->name);
  return result;
}

/* The arguments of a call in the callee's order: positional ones first, then by keyword. False after an error. */
static bool bind(Builder *b, Frame *f, const Ast *e, const char *const *name, int n, int required, Value *out) {
  bool ok = true;
  for (int i = 0; i < n; i++) out[i] = (Value){.kind = V_ABSENT};
  for (int i = 0; i < e->n; i++) {
    int to = i;
    if (e->key[i])
      for (to = 0; to < n && strcmp(name[to], e->key[i]);) to++;
    if (to >= n && e->key[i]) {
      const char *near = near_miss(e->key[i], name, n);
      ok = diag_hint(b->diags, e->arg[i]->at, near ? arena_printf(b->arena, "did you mean '%s'?", near) : NULL,
                     "%s: no argument '%s'", e->name, e->key[i]);
    } else if (to >= n) {
      build_error(b, f, e, "takes at most %d arguments, got %d", n, e->n);
      return false;
    } else if (out[to].kind != V_ABSENT) {
      build_error(b, f, e, "argument '%s' is given twice", name[to]);
      return false;
    } else {
      bool word = e->arg[i]->kind == AST_NAME && (!strcmp(name[to], "style") || !strcmp(name[to], "to"));
      out[to] = word ? (Value){.kind = V_STR, .str = e->arg[i]->name} : eval(b, f, e->arg[i]);
      ok &= out[to].kind != V_BAD;
    }
  }
  for (int i = 0; i < required && ok; i++)
    if (out[i].kind == V_ABSENT) {
      build_error(b, f, e, "argument '%s' is missing", name[i]);
      ok = false;
    }
  return ok;
}

static Value call_function(Builder *b, Frame *f, const Ast *e, const Func *fn) {
  Value *arg = NEW_ARRAY(b->arena, Value, fn->nargs + 1);
  if (!bind(b, f, e, fn->arg, fn->nargs, fn->nargs, arg)) return bad;
  Frame callee = {.fn = fn->name, .code = fn, .prelude = fn->prelude, .call = build_span(f, e), .in = f->in};
  for (int i = 0; i < fn->nargs; i++) assign(b, &callee, fn->arg[i], arg[i], callee.call);
  return call_body(b, f, e, &callee, &fn->body);
}

static Value call_overload(Builder *b, Frame *f, const Ast *e) {
  Text counts = {0};
  for (int i = 0; i < b->funcs.n; i++) {
    const Func *fn = &b->funcs.func[i];
    if (fn->name != e->name) continue;
    if (fn->nargs == e->n) {
      text_free(&counts);
      return call_function(b, f, e, fn);
    }
    text_add(&counts, "%s%d", counts.n ? " or " : "", fn->nargs);
  }
  Value v = build_error(b, f, e, "takes %s arguments, got %d", counts.s, e->n);
  text_free(&counts);
  return v;
}

bool instance_declare(Builder *b, Instance *inst) {
  const Block *k = inst->block;
  const char *i_name = "i";
  Local local = {i_name, (double)inst->index};
  inst->param = NEW_ARRAY(b->arena, Val, k->nparams + 1);
  inst->name = k->name;
  if (inst->index >= 0) inst->name = intern(arena_printf(b->arena, "%s.%lld", k->name, (long long)inst->index));
  bool ok = true;
  if (b->g->ninputs + k->nparams > BUILD_PARAM_LIMIT + b->ninputs) {
    b->stopped = true;
    return diag_error(b->diags, k->at, "the model unrolls to more than %d parameters", (int)BUILD_PARAM_LIMIT);
  }
  for (int p = 0; p < k->nparams; p++) {
    Type t;
    if (!param_type(b->names, k->param[p].shape, DT_f32, &local, inst->index >= 0, &t)) {
      ok = false;
      continue;
    }
    Span at = k->param[p].at;
    at.in = inst->name;
    const char *name = arena_printf(b->arena, "%s.%s", inst->name, k->param[p].name);
    inst->param[p] = graph_input(b->g, intern(name), IN_PARAM, t, at);
  }
  return ok;
}

/* The instance for an index, made at its first call. */
static Instance *find_instance(Builder *b, Frame *f, const Ast *e, Block *k, int64_t index) {
  int at = (int)index + 1;
  if (at >= k->cap_inst) {
    int cap = at * 2 + 16;
    Instance **grown = NEW_ARRAY(b->arena, Instance *, cap);
    if (k->cap_inst) memcpy(grown, k->inst, sizeof *grown * (size_t)k->cap_inst);
    k->inst = grown;
    k->cap_inst = cap;
  }
  if (k->inst[at]) return k->inst[at];
  if (b->norder == BUILD_INSTANCE_LIMIT) {
    build_error(b, f, e, "more than %d blocks with parameters of their own", (int)BUILD_INSTANCE_LIMIT);
    b->stopped = true;
    return NULL;
  }
  Instance *inst = NEW(b->arena, Instance);
  inst->block = k;
  inst->index = index;
  k->inst[at] = inst;
  PUSH(b->arena, b->order, b->norder, b->cap_order, inst);
  return instance_declare(b, inst) ? inst : NULL;
}

static Value call_block(Builder *b, Frame *f, const Ast *e, Block *k) {
  int64_t index = -1;
  if (e->index) {
    Value v = eval(b, f, e->index);
    if (v.kind == V_BAD) return bad;
    if (v.kind != V_NUM || v.dim.sym) return build_error(b, f, e, "the index of a block is a number");
    if (v.num != floor(v.num) || v.num < 0 || v.num >= BUILD_INSTANCE_LIMIT)
      return build_error(b, f, e, "the index %g is not an integer from 0 to %d", v.num, (int)BUILD_INSTANCE_LIMIT - 1);
    index = (int64_t)v.num;
  }
  k->called = true;
  Value *arg = NEW_ARRAY(b->arena, Value, k->nargs + 1);
  if (!bind(b, f, e, k->arg, k->nargs, k->nargs, arg) || k->failed) return bad;
  Instance *inst = find_instance(b, f, e, k, index);
  if (!inst) return k->failed = true, bad;
  const char *in = f->in ? intern(arena_printf(b->arena, "%s/%s", f->in, inst->name)) : inst->name;
  Frame callee = {.fn = k->name, .code = k, .inst = inst, .in = in};
  for (int i = 0; i < k->nargs; i++) assign(b, &callee, k->arg[i], arg[i], e->at);
  if (index >= 0) assign(b, &callee, intern("i"), value_num((double)index), e->at);
  Value v = call_body(b, f, e, &callee, &k->body);
  if (v.kind == V_BAD) k->failed = true;
  return v;
}

static Value call_ew(Builder *b, Frame *f, const Ast *e, OpKind op) {
  const OpInfo *info = &op_info[op];
  static const char *const name[] = {"a", "b", "c"};
  Value arg[3];
  return bind(b, f, e, name, info->nargs, info->nargs, arg) ? build_ew(b, f, e, op, arg, info->nargs) : bad;
}

static Value eval_call(Builder *b, Frame *f, const Ast *e) {
  for (int i = 0; i < b->nblocks && !f->prelude; i++)
    if (b->block[i].name == e->name) return call_block(b, f, e, &b->block[i]);
  OpKind op = op_find(e->name);
  const Builtin *built = builtin_find(e->name);
  bool function = built || (op != OP_NONE && op_info[op].ew);
  for (int i = 0; i < b->funcs.n && !function; i++) function = b->funcs.func[i].name == e->name;
  if (!function) return unknown_name(b, f, e, true);
  if (e->index) return build_error(b, f, e, "only a block has an index");
  for (int i = 0; i < b->funcs.n; i++)
    if (b->funcs.func[i].name == e->name) return call_overload(b, f, e);
  if (built) {
    Value arg[BUILTIN_ARGS];
    int n = 0;
    while (n < BUILTIN_ARGS && built->arg[n]) n++;
    return bind(b, f, e, built->arg, n, built->required, arg) ? built->run(b, f, e, arg) : bad;
  }
  return call_ew(b, f, e, op);
}

static Value eval(Builder *b, Frame *f, const Ast *e) {
  if (b->stopped) return bad;
  if (++b->exprs > BUILD_EXPR_LIMIT) {
    b->stopped = true;
    diag_error(b->diags, build_span(f, e), "the model unrolls to more than %d expressions", (int)BUILD_EXPR_LIMIT);
    return bad;
  }
  Value arg[2], v = bad;
  switch (e->kind) {
  case AST_NUM: return value_num(e->num);
  case AST_NAME: return eval_name(b, f, e);
  case AST_STR: return (Value){.kind = V_STR, .str = e->name};
  case AST_CALL: return eval_call(b, f, e);
  case AST_LIST:
    v = (Value){.kind = V_LIST, .item = NEW_ARRAY(b->arena, Value, e->n + 1), .n = e->n};
    for (int i = 0; i < e->n; i++)
      if ((v.item[i] = eval(b, f, e->arg[i])).kind == V_BAD) v.kind = V_BAD;
    return v;
  case AST_NEG:
  case AST_BINARY:
    for (int i = 0; i < e->n; i++) arg[i] = eval(b, f, e->arg[i]);
    return build_ew(b, f, e, op_find(e->name), arg, e->n);
  }
  return v;
}

/* ---- statements */

static bool is_taken(Builder *b, Frame *f, const Stmt *s) {
  const char *what = NULL;
  for (int i = 0; i < f->nvars; i++)
    if (f->var[i].name == s->name) return false; /* an argument may hide an outer name */
  const Number *n = f->prelude ? NULL : names_find(b->names, s->name);
  if (n) what = n->dim ? "a dimension" : "a constant";
  for (int i = 0; i < b->ninputs && !f->prelude; i++)
    if (b->input[i].name == s->name) what = "an input";
  for (int i = 0; i < b->ntables && !f->prelude; i++)
    if (b->table[i].name == s->name) what = "a table";
  for (int i = 0; i < b->nparams && !f->prelude; i++)
    if (b->param[i].name == s->name) what = "a parameter";
  for (int i = 0; f->inst && i < f->inst->block->nparams; i++)
    if (f->inst->block->param[i].name == s->name) what = "a parameter";
  if (what) diag_error(b->diags, s->at, "'%s' is %s and can't be assigned", s->name, what);
  return what != NULL;
}

static bool run_loop(Builder *b, Frame *f, const Stmt *s, Value *result) {
  Value count = eval(b, f, s->expr);
  if (count.kind == V_BAD || is_taken(b, f, s)) return false;
  if (count.kind != V_NUM || count.dim.sym || count.num != floor(count.num) || count.num < 0)
    return diag_error(b->diags, s->expr->at, "a loop runs over a dimension or a number");
  for (double i = 0; i < count.num; i++) {
    assign(b, f, s->name, value_num(i), s->at);
    if (!run(b, f, s->body, s->nbody, result)) return false; /* once: later turns would repeat the error */
    if (b->stopped || result->kind != V_ABSENT) break;
  }
  return !b->stopped;
}

static bool run_if(Builder *b, Frame *f, const Stmt *s, Value *result) {
  Value c = eval(b, f, s->expr);
  if (c.kind == V_BAD) return false;
  if (c.kind == V_TENSOR)
    return diag_hint(b->diags, build_span(f, s->expr), "select(c, a, b) chooses by the elements of a tensor",
                     "a condition is a number that is known when the model is built, not a tensor");
  if (c.kind != V_NUM || c.dim.sym)
    return diag_error(b->diags, build_span(f, s->expr),
                      "a condition is a number that is known when the model is built");
  return c.num != 0 ? run(b, f, s->body, s->nbody, result) : run(b, f, s->other, s->nother, result);
}

/* False after an error; goes on with the statements after a wrong one. A return sets *result. */
static bool run(Builder *b, Frame *f, const Stmt *stmt, int n, Value *result) {
  bool ok = true;
  for (int i = 0; i < n && result->kind == V_ABSENT; i++) {
    const Stmt *s = &stmt[i];
    if (b->stopped) return false;
    if (++b->steps > BUILD_STEP_LIMIT) {
      b->stopped = true;
      return diag_error(b->diags, s->at, "the model unrolls to more than %d statements", (int)BUILD_STEP_LIMIT);
    }
    if (s->kind == STMT_FOR || s->kind == STMT_IF) {
      ok &= s->kind == STMT_FOR ? run_loop(b, f, s, result) : run_if(b, f, s, result);
      continue;
    }
    Value v = eval(b, f, s->expr);
    ok &= v.kind != V_BAD;
    if (s->kind == STMT_RETURN)
      *result = v;
    else if (is_taken(b, f, s))
      ok = false;
    else
      assign(b, f, s->name, v, s->at);
  }
  return ok;
}

static bool check_loss(Builder *b, Frame *f, const Ast *loss, Value v, Val *out) {
  if (v.kind == V_BAD) return false;
  if (v.kind != V_TENSOR) return diag_error(b->diags, loss->at, "the loss is %s, not a tensor", kind_text(v));
  Type t = val_type(b->g, v.val);
  if (t.dt != DT_f32 || t.rank < 1 || t.rank > 2)
    return diag_error(b->diags, loss->at, "the loss is %s%s; expected one f32 a row: [B, T] or [B]", dtype_name[t.dt],
                      build_shape_text(b->arena, t));
  *out = v.val;
  return true;
}

static const Stmt *find_return(const Stmt *s, int n) {
  const Stmt *found = NULL;
  for (int i = 0; i < n && !found; i++) {
    found = s[i].kind == STMT_RETURN ? &s[i] : find_return(s[i].body, s[i].nbody);
    if (!found) found = find_return(s[i].other, s[i].nother);
  }
  return found;
}

bool build_forward(Builder *b, const Code *forward, Ast *loss, Val *out_loss, Val *out_logits) {
  Frame f = {.code = forward};
  Value result = {.kind = V_ABSENT}, logits;
  bool ok = run(b, &f, forward->stmt, forward->n, &result);
  if (result.kind != V_ABSENT && result.kind != V_BAD) {
    ok = diag_error(b->diags, find_return(forward->stmt, forward->n)->at,
                    "the model's forward names its results (logits = ...); it returns nothing");
  }
  Value l = eval(b, &f, loss);
  ok &= check_loss(b, &f, loss, l, out_loss);
  *out_logits = 0;
  for (int i = 0; i < f.nvars; i++)
    if (!strcmp(f.var[i].name, "logits")) {
      logits = f.var[i].value;
      if (logits.kind == V_TENSOR) *out_logits = logits.val;
    }
  return ok && !b->stopped;
}
