/* Graphs of calls -> lists of steps over buffers.
 *
 * A main graph after fusion holds calls of regions (one kernel each), calls of loop graphs (a sub-list that runs `count`
 * times), reshapes (another name for the same bytes) and tables (constant buffers). Values are pure, memory is not, so
 * the work here is to decide for each value where it lives:
 *
 *   - an input lives in the buffer of its name, which all lists share;
 *   - an output named as an input is its next value and should be written straight into that buffer. It may be when
 *     nothing reads the old value later, and the writing kernel itself reads it, if at all, element by element before
 *     it writes (RegionAlias). Otherwise it goes to a temporary and is copied at the end of the list;
 *   - a result that a kernel must update in place (REGION_MUST, and whatever a loop carries) lives where its operand
 *     lives. If that operand is needed later, or may not change, a copy of it is made first;
 *   - other results get a temporary, or the temporary of an operand that dies here and may be overwritten (REGION_MAY).
 *
 * `want` carries the second rule backwards through the third: a chain of in-place updates that ends in an output starts in
 * that output's buffer.
 *
 * Inside of a loop, values that are slices of the caller's live at base + offset + stride * index.
 *
 * What must hold afterwards: a buffer is overwritten only when no later step needs its old bytes; lifetimes of
 * temporaries (positions in the running count of steps) cover every step that touches them, and the whole loop when the loop's
 * caller owns them. */
#include "codegen/program.h"
#include <inttypes.h>
#include <string.h>

enum { NOWHERE = -1 };

typedef struct Emit {
  Plan *p;
  const Graph *g;
  int list;
  Val *root;     /* by value: the value whose bytes it shares (through reshapes) */
  bool *read;    /* by root: does a node read it? */
  int *last;     /* by root: the last node that reads it; nnodes: an output; -1: none */
  PlanArg *loc;  /* by root */
  PlanArg *want; /* by root: the place of the output that it becomes */
  bool *fixed;   /* by root: not to be overwritten: inputs, tables */
} Emit;

static bool same_place(PlanArg a, PlanArg b) {
  return a.buffer == b.buffer && a.offset == b.offset && a.stride == b.stride;
}

/* ---- buffers and steps */

static int buffer_add(Plan *p, PlanBuffer b) {
  b.bytes = type_bytes(b.type);
  b.begin = INT64_MAX;
  b.end = -1;
  PUSH(p->arena, p->buffers, p->nbuffers, p->cap_buffers, b);
  return p->nbuffers - 1;
}

int plan_find_buffer(const Plan *p, const char *name) {
  for (int i = 0; i < p->nbuffers; i++)
    if (p->buffers[i].kind != BUF_TEMP && p->buffers[i].kind != BUF_CONST && !strcmp(p->buffers[i].name, name))
      return i;
  return -1;
}

static PlanArg temp_new(Emit *e, const char *name, Type t) {
  Plan *p = e->p;
  PlanBuffer b = {.name = arena_printf(p->arena, "%s.%s", p->lists[e->list].name, name), .kind = BUF_TEMP, .type = t};
  int i = buffer_add(p, b);
  return (PlanArg){i, 0, 0};
}

static void touch(Plan *p, int buffer, int64_t position) {
  PlanBuffer *b = &p->buffers[buffer];
  if (position < b->begin) b->begin = position;
  if (position > b->end) b->end = position;
}

static void step_add(Plan *p, int list, PlanStep s) {
  int64_t position = p->position++;
  for (int i = 0; i < s.nargs; i++) touch(p, s.args[i].buffer, position);
  PlanList *l = &p->lists[list];
  PUSH(p->arena, l->steps, l->nsteps, l->cap_steps, s);
}

static int list_add(Plan *p, const char *name) {
  PlanList l = {.name = name};
  PUSH(p->arena, p->lists, p->nlists, p->cap_lists, l);
  return p->nlists - 1;
}

/* ---- kernels */

static int symbol_number(Plan *p, const Graph *region, const char *name) {
  for (int i = 0; i < p->nsymbols; i++)
    if (!strcmp(p->symbol_names[i], name)) return 1 + i;
  ProgramSymbol s = {.bound = -1};
  for (Val v = 1; (int)v < region->nvals; v++)
    for (int k = 0; k < region->types[v].rank; k++) {
      Dim d = region->types[v].dim[k];
      if (d.sym && d.name && !strcmp(d.name, name)) s.bound = d.n;
    }
  if (s.bound < 0) {
    diag_error(p->diags, (Span){0}, "kernel of region '%s' asks for extent '%s', which the region does not have",
               region->name, name);
    return 0;
  }
  int n = p->nsymbols; /* two arrays, one count */
  PUSH(p->arena, p->symbol_names, n, p->cap_symbol_names, name);
  PUSH(p->arena, p->symbols, p->nsymbols, p->cap_symbols, s);
  return p->nsymbols;
}

static int kernel_add(Plan *p, const char *region, Lowered low, int outputs, const int *syms) {
  PlanKernel k = {region, low, outputs, syms};
  PUSH(p->arena, p->kernels, p->nkernels, p->cap_kernels, k);
  if (p->km->n == p->nkernels) return p->nkernels - 1;
  diag_error(p->diags, low.span, "region '%s' gave %d kernels instead of one", region, p->km->n - p->nkernels + 1);
  return -1;
}

int plan_kernel(Plan *p, const Graph *region) {
  for (int i = 0; i < p->nkernels; i++)
    if (!strcmp(p->kernels[i].region, region->name)) return i;
  Lowered low = {0};
  if (!p->lower->region(region, p->target, p->km, &low)) return -1;
  int *syms = NEW_ARRAY(p->arena, int, low.nsyms + 1);
  for (int i = 0; i < low.nsyms; i++)
    if (!(syms[i] = symbol_number(p, region, low.syms[i]))) return -1;
  return kernel_add(p, region->name, low, region->noutputs, syms);
}

/* A kernel's step for a node: args are its operands, then its results. */
static void call_add(Plan *p, int list, int kernel, const Node *n, PlanArg *args) {
  const PlanKernel *k = &p->kernels[kernel];
  step_add(p, list,
           (PlanStep){.kind = STEP_CALL,
                      .kernel = kernel,
                      .args = args,
                      .nargs = n->nargs + n->nres,
                      .syms = k->syms,
                      .nsyms = k->low.nsyms,
                      .span = n->span,
                      .places = n->places,
                      .nplaces = n->nplaces});
}

bool plan_peak(Plan *p, double *flops) {
  Lowered low = {0};
  if (!p->lower->peak(p->target, p->km, &low, flops)) return false;
  int kernel = kernel_add(p, "peak", low, 1, NULL), list = list_add(p, "peak");
  if (kernel < 0) return false;
  PlanArg *args = NEW(p->arena, PlanArg);
  args->buffer =
      buffer_add(p, (PlanBuffer){.name = "peak.out", .kind = BUF_TEMP, .type = type_make(DT_f32, 1, (int64_t[]){64})});
  p->sum_temp += p->buffers[args->buffer].bytes;
  step_add(p, list, (PlanStep){.kind = STEP_CALL, .kernel = kernel, .args = args, .nargs = 1});
  return true;
}

/* A region that copies n elements: built once per dtype and size, lowered like any other. */
static const Graph *copy_region(Plan *p, Type t) {
  int64_t n = type_elements(t);
  const char *name = arena_printf(p->arena, "copy.%s.%" PRId64, dtype_name[t.dt], n);
  Module *m = module_new(p->arena, p->diags, name);
  Graph *g = graph_new(m, intern(name));
  g->region = intern("map");
  Val x = graph_input(g, intern("x"), IN_DATA, type_make(t.dt, 1, &n), (Span){0});
  graph_output(g, intern("y"), graph_add(g, OP_stop, &x, 1, NULL, 0, NULL, (Span){0}));
  return g;
}

static bool copy_add(Emit *e, PlanArg from, PlanArg to, Type t, Span at) {
  Plan *p = e->p;
  int kernel = plan_kernel(p, copy_region(p, t));
  if (kernel < 0) return false;
  PlanArg *args = NEW_ARRAY(p->arena, PlanArg, 2);
  args[0] = from;
  args[1] = to;
  step_add(p, e->list, (PlanStep){.kind = STEP_CALL, .kernel = kernel, .args = args, .nargs = 2, .span = at});
  p->copies++;
  return true;
}

/* ---- where results live */

static const Graph *callee_of(Emit *e, const Node *n) {
  const Attr *fn = node_attr(n, "fn");
  const Graph *c = fn ? module_find(e->p->mod, fn->str) : NULL;
  if (!c) {
    diag_error(e->p->diags, n->span, "a call of graph '%s', which is not in the module", fn ? fn->str : "");
    return NULL;
  }
  if (c->ninputs == n->nargs && c->noutputs == n->nres) return c;
  diag_error(e->p->diags, n->span, "call of '%s' with %d operands and %d results; it has %d and %d", c->name, n->nargs,
             n->nres, c->ninputs, c->noutputs);
  return NULL;
}

static bool is_loop(const Graph *c, const Node *n) {
  return node_attr(n, "count") || (c->region && !strcmp(c->region, "loop"));
}

static RegionAlias region_answer(Plan *p, const Graph *c, int output, int input) {
  for (int i = 0; i < p->naliases; i++)
    if (p->aliases[i].region == c) return p->aliases[i].alias[output * c->ninputs + input];
  PlanAlias a = {c, NEW_ARRAY(p->arena, unsigned char, c->noutputs * c->ninputs + 1)};
  for (int o = 0; o < c->noutputs; o++)
    for (int i = 0; i < c->ninputs; i++) a.alias[o * c->ninputs + i] = (unsigned char)p->lower->alias(c, o, i);
  PUSH(p->arena, p->aliases, p->naliases, p->cap_aliases, a);
  return a.alias[output * c->ninputs + input];
}

static RegionAlias alias_of(Emit *e, const Node *n, const Graph *c, int output, int input) {
  if (!is_loop(c, n)) return region_answer(e->p, c, output, input);
  return !strcmp(c->outputs[output].name, c->inputs[input].name) ? REGION_MUST : REGION_NONE;
}

static int must_operand(Emit *e, const Node *n, const Graph *c, int output) {
  for (int i = 0; i < n->nargs; i++)
    if (alias_of(e, n, c, output, i) == REGION_MUST) return i;
  return -1;
}

/* May result `output` of node n be written over `buffer`, as far as the node's own operands there go? */
static bool own_reads_allow(Emit *e, const Node *n, const Graph *c, int output, int buffer) {
  for (int i = 0; i < n->nargs; i++)
    if (e->loc[e->root[n->args[i]]].buffer == buffer && alias_of(e, n, c, output, i) == REGION_NONE) return false;
  return true;
}

/* May result `output` of node at be written to `place` now? No, while an input that lives there is still to be read. */
static bool writable(Emit *e, int at, const Graph *c, int output, PlanArg place) {
  const Graph *g = e->g;
  for (int i = 0; i < g->ninputs; i++) {
    Val x = g->inputs[i].val;
    if (e->loc[x].buffer == place.buffer && e->last[x] > at) return false;
  }
  return own_reads_allow(e, &g->nodes[at], c, output, place.buffer);
}

/* Is the buffer already an earlier result's, or will a later one update it in place? */
static bool taken(Emit *e, const Node *n, const Graph *c, int output, int buffer) {
  for (int o = 0; o < n->nres; o++) {
    int must = o > output ? must_operand(e, n, c, o) : -1;
    if (o < output && e->loc[n->res + (Val)o].buffer == buffer) return true;
    if (must >= 0 && e->loc[e->root[n->args[must]]].buffer == buffer) return true;
  }
  return false;
}

static bool place_result(Emit *e, int at, const Graph *c, int output, PlanArg *out) {
  const Node *n = &e->g->nodes[at];
  Val v = n->res + (Val)output;
  Type t = e->g->types[v];
  PlanArg want = e->want[v];
  e->p->sum_temp += want.buffer == NOWHERE ? type_bytes(t) : 0;
  bool to_want = want.buffer != NOWHERE && writable(e, at, c, output, want);
  int must = must_operand(e, n, c, output);
  if (must >= 0) {
    Val u = e->root[n->args[must]];
    PlanArg here = e->loc[u];
    bool dies = e->last[u] == at && own_reads_allow(e, n, c, output, here.buffer);
    for (int o = 0; o < output; o++) dies = dies && e->loc[n->res + (Val)o].buffer != here.buffer;
    if (dies && (same_place(here, want) ? to_want : !e->fixed[u] && !to_want)) {
      *out = here;
      return true;
    }
    /* The copy is made before the step, so it may not go where the step itself still reads. */
    bool free = to_want;
    for (int i = 0; i < n->nargs; i++) free = free && e->loc[e->root[n->args[i]]].buffer != want.buffer;
    *out = free ? want : temp_new(e, c->outputs[output].name, t);
    if (!copy_add(e, here, *out, t, n->span)) return false;
    return true;
  }
  if (to_want) {
    *out = want;
    return true;
  }
  for (int i = 0; i < n->nargs && !is_loop(c, n); i++) {
    Val u = e->root[n->args[i]];
    PlanArg here = e->loc[u];
    if (e->fixed[u] || e->last[u] != at || e->want[u].buffer != NOWHERE) continue;
    if (alias_of(e, n, c, output, i) != REGION_MAY || e->p->buffers[here.buffer].kind != BUF_TEMP) continue;
    if (here.offset || here.stride || type_bytes(e->g->types[u]) != type_bytes(t) || e->g->types[u].dt != t.dt)
      continue;
    if (!own_reads_allow(e, n, c, output, here.buffer)) continue;
    if (taken(e, n, c, output, here.buffer)) continue;
    *out = here;
    return true;
  }
  *out = temp_new(e, arena_printf(e->p->arena, "%%%u", v), t);
  return true;
}

/* ---- the walk */

static bool emit_graph(Plan *p, const Graph *g, int list, const PlanArg *in, const PlanArg *out);

/* Where the callee of a loop finds its part of a caller's value. */
static bool slice(Emit *e, const Node *n, PlanArg whole, Type outer, Type inner, int64_t count, PlanArg *out) {
  int64_t a = type_elements(outer), b = type_elements(inner);
  *out = whole;
  if (a == b) return true;
  if (b == 0 || a / b != count || a % b)
    return diag_error(e->p->diags, n->span,
                      "a loop of %" PRId64 " turns over a value of %" PRId64 " elements takes slices of %" PRId64,
                      count, a, b);
  for (int i = 0; i < inner.rank; i++)
    if (inner.dim[i].sym)
      return diag_error(e->p->diags, n->span, "a loop over slices whose extent %s is known at run time only",
                        inner.dim[i].name);
  if (whole.stride) return diag_error(e->p->diags, n->span, "a loop over slices of a loop's slices");
  out->stride = b * dtype_bytes[inner.dt];
  return true;
}

static bool emit_loop(Emit *e, int at, const Graph *c, const PlanArg *args) {
  Plan *p = e->p;
  const Node *n = &e->g->nodes[at];
  const Attr *attr = node_attr(n, "count");
  int64_t count = attr ? attr->i : 1;
  if (count < 1) return diag_error(p->diags, n->span, "a loop of %" PRId64 " turns", count);
  PlanArg *in = NEW_ARRAY(p->arena, PlanArg, n->nargs + 1), *out = NEW_ARRAY(p->arena, PlanArg, n->nres + 1);
  for (int i = 0; i < n->nargs; i++)
    if (!slice(e, n, args[i], e->g->types[n->args[i]], c->types[c->inputs[i].val], count, &in[i])) return false;
  for (int o = 0; o < n->nres; o++)
    if (!slice(e, n, args[n->nargs + o], e->g->types[n->res + (Val)o], c->types[c->outputs[o].val], count, &out[o]))
      return false;
  int64_t begin = p->position++;
  int list = list_add(p, c->name);
  if (c->region && strcmp(c->region, "loop")) { /* a region, applied again and again */
    PlanArg *both = NEW_ARRAY(p->arena, PlanArg, n->nargs + n->nres + 1);
    memcpy(both, in, sizeof(*in) * (size_t)n->nargs);
    memcpy(both + n->nargs, out, sizeof(*out) * (size_t)n->nres);
    int kernel = plan_kernel(p, c);
    if (kernel < 0) return false;
    call_add(p, list, kernel, n, both);
  } else if (!emit_graph(p, c, list, in, out)) {
    return false;
  }
  for (int i = 0; i < n->nargs + n->nres; i++) {
    touch(p, args[i].buffer, begin);
    touch(p, args[i].buffer, p->position);
  }
  step_add(p, e->list, (PlanStep){.kind = STEP_LIST, .kernel = list, .count = count, .span = n->span});
  return true;
}

/* An output computed from nothing (zeros for a gradient, say) and wanted in several places is made in each of them rather
 * than copied; where only outputs want it, nowhere else. NULL: it is not of that kind. */
static const Graph *maker(Emit *e, Val root) {
  const Node *n = val_node(e->g, root);
  const Graph *c = n && n->op == OP_call && n->nargs == 0 && n->nres == 1 ? callee_of(e, n) : NULL;
  return c && !is_loop(c, n) ? c : NULL;
}

static bool emit_call(Emit *e, int at) {
  Plan *p = e->p;
  const Node *n = &e->g->nodes[at];
  const Graph *c = callee_of(e, n);
  if (!c) return false;
  if (maker(e, n->res) && !e->read[n->res]) return true; /* emit_outputs makes it */
  PlanArg *args = NEW_ARRAY(p->arena, PlanArg, n->nargs + n->nres + 1);
  for (int o = 0; o < n->nres; o++) {
    if (!place_result(e, at, c, o, &args[n->nargs + o])) return false;
    e->loc[n->res + (Val)o] = args[n->nargs + o];
    /* The operand that is updated in place is from here on this result's copy of it. */
    int must = must_operand(e, n, c, o);
    if (must >= 0) args[must] = args[n->nargs + o];
  }
  for (int i = 0; i < n->nargs; i++) {
    bool in_place = false;
    for (int o = 0; o < n->nres; o++) in_place = in_place || must_operand(e, n, c, o) == i;
    if (!in_place) args[i] = e->loc[e->root[n->args[i]]];
  }
  if (is_loop(c, n)) return emit_loop(e, at, c, args);
  int kernel = plan_kernel(p, c);
  if (kernel < 0) return false;
  call_add(p, e->list, kernel, n, args);
  return true;
}

static bool emit_const(Emit *e, const Node *n) {
  Plan *p = e->p;
  Type t = e->g->types[n->res];
  const Attr *a = node_attr(n, n->op == OP_table ? "expr" : "value");
  const char *text = n->op == OP_table ? a->str : arena_printf(p->arena, "%.17g", a->num);
  e->fixed[n->res] = true;
  for (int i = 0; i < p->nbuffers; i++)
    if (p->buffers[i].kind == BUF_CONST && !strcmp(p->buffers[i].table, text) && type_eq(p->buffers[i].type, t)) {
      e->loc[n->res] = (PlanArg){i, 0, 0};
      return true;
    }
  const char *name = arena_printf(p->arena, "const.%d", p->nbuffers);
  e->loc[n->res] =
      (PlanArg){buffer_add(p, (PlanBuffer){.name = name, .kind = BUF_CONST, .type = t, .table = text}), 0, 0};
  return true;
}

static bool make_again(Emit *e, Val root, const Graph *c, PlanArg to) {
  int kernel = plan_kernel(e->p, c);
  if (kernel < 0) return false;
  PlanArg *args = NEW(e->p->arena, PlanArg);
  *args = to;
  call_add(e->p, e->list, kernel, val_node(e->g, root), args);
  return true;
}

static Span output_span(const Graph *g, int output) {
  Val v = g->outputs[output].val;
  return val_node(g, v) ? val_node(g, v)->span : val_input(g, v)->span;
}

/* Outputs that are not yet in their place, copied so that no copy overwrites what a later one reads. */
static bool emit_outputs(Emit *e, const PlanArg *out) {
  const Graph *g = e->g;
  int n = 0, *todo = NEW_ARRAY(e->p->arena, int, g->noutputs + 1);
  PlanArg *from = NEW_ARRAY(e->p->arena, PlanArg, g->noutputs + 1);
  for (int o = 0; o < g->noutputs; o++) {
    from[o] = e->loc[e->root[g->outputs[o].val]];
    if (!same_place(from[o], out[o])) todo[n++] = o;
  }
  while (n) {
    int pick = -1, cut = 0;
    for (int i = 0; i < n && pick < 0; i++) {
      bool read_later = false;
      for (int j = 0; j < n; j++) read_later = read_later || (j != i && from[todo[j]].buffer == out[todo[i]].buffer);
      if (!read_later) pick = i;
    }
    for (int i = 0; i < n && pick < 0; i++)
      if (from[todo[i]].buffer != NOWHERE) cut = i;
    int o = todo[pick < 0 ? cut : pick];
    Type t = g->types[g->outputs[o].val];
    if (pick < 0) { /* a cycle: inputs that change places */
      PlanArg aside = temp_new(e, g->outputs[o].name, t);
      if (!copy_add(e, from[o], aside, t, output_span(g, o))) return false;
      from[o] = aside;
      continue;
    }
    Val root = e->root[g->outputs[o].val];
    const Graph *again = maker(e, root);
    if (again ? !make_again(e, root, again, out[o]) : !copy_add(e, from[o], out[o], t, output_span(g, o))) return false;
    todo[pick] = todo[--n];
  }
  return true;
}

/* Last reads, and the places that outputs want, carried backwards through updates in place. */
static bool prepare(Emit *e, const PlanArg *in, const PlanArg *out) {
  const Graph *g = e->g;
  Arena *a = e->p->arena;
  e->root = NEW_ARRAY(a, Val, g->nvals);
  e->last = NEW_ARRAY(a, int, g->nvals);
  e->read = NEW_ARRAY(a, bool, g->nvals);
  e->loc = NEW_ARRAY(a, PlanArg, g->nvals);
  e->want = NEW_ARRAY(a, PlanArg, g->nvals);
  e->fixed = NEW_ARRAY(a, bool, g->nvals);
  for (int v = 0; v < g->nvals; v++) {
    e->root[v] = (Val)v;
    e->last[v] = -1;
    e->loc[v].buffer = e->want[v].buffer = NOWHERE;
  }
  for (int i = 0; i < g->ninputs; i++) {
    e->loc[g->inputs[i].val] = in[i];
    e->fixed[g->inputs[i].val] = true;
  }
  for (int i = 0; i < g->nnodes; i++) {
    const Node *n = &g->nodes[i];
    if (n->op == OP_reshape) e->root[n->res] = e->root[n->args[0]];
    if (n->op == OP_const || n->op == OP_table) e->fixed[n->res] = true;
    for (int k = 0; k < n->nargs; k++)
      if (n->op != OP_reshape) {
        e->last[e->root[n->args[k]]] = i;
        e->read[e->root[n->args[k]]] = true;
      }
  }
  for (int o = 0; o < g->noutputs; o++) {
    Val r = e->root[g->outputs[o].val];
    e->last[r] = g->nnodes;
    if (!e->fixed[r] && e->want[r].buffer == NOWHERE) e->want[r] = out[o];
  }
  for (int i = g->nnodes - 1; i >= 0; i--) {
    const Node *n = &g->nodes[i];
    if (n->op != OP_call) continue;
    const Graph *c = callee_of(e, n);
    if (!c) return false;
    for (int o = 0; o < n->nres; o++) {
      PlanArg want = e->want[n->res + (Val)o];
      int must = want.buffer == NOWHERE ? -1 : must_operand(e, n, c, o);
      if (must < 0) continue;
      Val u = e->root[n->args[must]];
      if (!e->fixed[u] && e->last[u] == i && e->want[u].buffer == NOWHERE) e->want[u] = want;
    }
  }
  return true;
}

static bool emit_graph(Plan *p, const Graph *g, int list, const PlanArg *in, const PlanArg *out) {
  Emit e = {.p = p, .g = g, .list = list};
  if (!prepare(&e, in, out)) return false;
  for (int i = 0; i < g->nnodes; i++) {
    const Node *n = &g->nodes[i];
    bool ok = true;
    if (n->op == OP_call)
      ok = emit_call(&e, i);
    else if (n->op == OP_const || n->op == OP_table)
      ok = emit_const(&e, n);
    else if (n->op != OP_reshape)
      ok = diag_error(p->diags, n->span, "%s stands in graph '%s' outside of a region", op_info[n->op].name, g->name);
    if (!ok) return false;
  }
  return emit_outputs(&e, out);
}

/* ---- main graphs */

static BufferKind kind_of(InputKind k) {
  return k == IN_PARAM ? BUF_PARAM : k == IN_STATE ? BUF_STATE : BUF_DATA;
}

/* The buffer that all lists know under this name. A data input may be shorter in one list (one row of tokens). */
static int shared_buffer(Plan *p, const char *name, BufferKind kind, Type t, Span at) {
  int i = plan_find_buffer(p, name);
  if (i < 0) return buffer_add(p, (PlanBuffer){.name = name, .kind = kind, .type = t});
  PlanBuffer *b = &p->buffers[i];
  bool alike = b->kind == kind && b->type.dt == t.dt;
  if (alike && kind == BUF_DATA && type_bytes(t) > b->bytes) {
    b->type = t;
    b->bytes = type_bytes(t);
  }
  if (alike && (kind == BUF_DATA || type_bytes(t) == b->bytes)) return i;
  diag_error(p->diags, at, "'%s' is one thing in one graph and another in the next", name);
  return -1;
}

bool plan_graph(Plan *p, const Graph *g, const char *name) {
  PlanArg *in = NEW_ARRAY(p->arena, PlanArg, g->ninputs + 1), *out = NEW_ARRAY(p->arena, PlanArg, g->noutputs + 1);
  for (int i = 0; i < g->ninputs; i++) {
    const Input *x = &g->inputs[i];
    in[i].buffer = shared_buffer(p, x->name, kind_of(x->kind), g->types[x->val], x->span);
    if (in[i].buffer < 0) return false;
    PlanBuffer *b = &p->buffers[in[i].buffer];
    int64_t bound = x->kind == IN_DATA && b->type.dt == DT_i32 ? graph_index_use(g, x->val).bound : 0;
    if (bound && (!b->bound || bound < b->bound)) b->bound = bound;
  }
  for (int o = 0; o < g->noutputs; o++) {
    const char *label = g->outputs[o].name;
    const Input *x = graph_find_input(g, label);
    Span at = {0};
    if (x && x->kind == IN_DATA)
      return diag_error(p->diags, x->span, "graph '%s' gives the data input '%s' a next value", g->name, label);
    BufferKind kind = x ? kind_of(x->kind) : BUF_DATA;
    out[o].buffer = shared_buffer(p, label, kind, g->types[g->outputs[o].val], at);
    if (out[o].buffer < 0) return false;
  }
  return emit_graph(p, g, list_add(p, name), in, out);
}
