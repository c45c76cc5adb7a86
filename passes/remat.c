/* remat: what a training step keeps from forward to backward is made again instead, where memory is short.
 *
 * Why: activations wait for their gradient. They are all there at once when the loss is, and a run needs room for
 * the moment at which most is there. Most of them are one call away from others that wait too.
 *
 * When: last of the passes. What lives when depends on fusion and on the order of calls, and both stand now; what is made again is
 * a call that is there already, so it needs no new kernel and gives the same bits.
 *
 * How: the target's `memory` is what may be alive at once. While more is,
 *   - look at the first place at which most is alive, and at the calls that have results there which are read later but not here;
 *   - such a call may be cut: reads behind this place get its results from another run of it, just before the first of them; so
 *     the old ones go earlier. Operands that are gone by then stay longer if they are small, or are cut with it;
 *   - of the cuts take the cheapest for each byte that leaves this place, the one with the longest wait among equals,
 *     if it leaves the peak lower than it was, or as high but later, or there at fewer places.
 * The order is not changed by hand but made anew from all cuts (order_make), so cuts compose: a chain that is cut at several
 * calls is made again from its last value that stayed. At the end every cut without which it fits too is taken back.
 *
 * A value that is pointwise in another result of its own region (an activation behind a contraction) may be cut alone: a part
 * of the region makes it again (remat_part.c).
 *
 * If it does not fit in the end, as little as can be had this way is alive: who set the limit says so. This greedy choice is
 * not the best one; the best is NP-hard (Jain et al. 2020, Checkmate). Chen et al. 2016 is its special case of
 * a chain of layers.
 *
 * Invariants: no cut is left that the limit does not need; loops, updates in place and what becomes an output run once, and so does
 * what reads an input that gets a next value: behind the call that writes it the old one is gone. */
#include "passes/remat.h"
#include "passes/passes.h"
#include "passes/rewrite.h"
#include <stdlib.h>
#include <string.h>

/* FLOPs that a core does while it moves a byte. An operand that is so many times smaller than what goes stays longer rather than
 * being made again, too. */
enum { FLOPS_A_BYTE = 16, SMALL = 8 };

/* A call, or another node; behind the nodes, parts of calls. */
typedef struct Maker {
  int part; /* in Parts; -1: the node of this number */
  const Val *args;
  int nargs, nres;
  Val res;
  double cost; /* of a run, in FLOPs */
  bool cuttable;
  int *cut, ncut, cap_cut; /* times (nodes of the old order), ascending: later reads want another run */
} Maker;

typedef struct Remat {
  const Graph *g;
  Arena *tmp;
  Live live;
  Parts *parts;
  int64_t limit;
  Maker *maker;
  int nmakers, cap_makers;
  int *alone; /* by value: 1 + the maker that makes only it */
} Remat;

/* ---- makers */

static bool reads_overwritten(const Remat *r, const Node *n, const bool *fresh) {
  for (int i = 0; i < n->nargs; i++) {
    Val v = r->live.root[n->args[i]];
    if (fresh[v] || r->live.output[v]) return true;
  }
  return false;
}

static double cost_of(const Graph *g, double flops, const Maker *m) {
  double bytes = 0;
  for (int i = 0; i < m->nargs; i++) bytes += (double)type_bytes(g->types[m->args[i]]);
  for (int i = 0; i < m->nres; i++) bytes += (double)type_bytes(g->types[m->res + (Val)i]);
  return flops + FLOPS_A_BYTE * bytes;
}

static void add_parts(Remat *r, int node) {
  const Graph *g = r->g;
  const Node *n = &g->nodes[node];
  const Graph *of = n->op == OP_call ? module_find(g->mod, node_attr(n, "fn")->str) : NULL;
  for (int o = 0; of && o < n->nres; o++) {
    int at = part_find(r->parts, of, o);
    if (at < 0) continue;
    const Part *p = &r->parts->list[at];
    Val *args = NEW_ARRAY(r->tmp, Val, p->nfrom + 1);
    for (int i = 0; i < p->nfrom; i++)
      args[i] = p->from[i] >= 0 ? n->args[p->from[i]] : n->res + (Val)(-1 - p->from[i]);
    Maker m = {.part = at, .args = args, .nargs = p->nfrom, .res = n->res + (Val)o, .nres = 1, .cuttable = true};
    m.cost = cost_of(g, part_flops(p), &m);
    r->alone[m.res] = 1 + r->nmakers;
    PUSH(r->tmp, r->maker, r->nmakers, r->cap_makers, m);
  }
}

static void find_makers(Remat *r) {
  const Graph *g = r->g;
  bool *fresh = NEW_ARRAY(r->tmp, bool, g->nvals); /* inputs that get a next value */
  for (int o = 0; o < g->noutputs; o++) {
    const Input *in = graph_find_input(g, g->outputs[o].name);
    if (in) fresh[in->val] = true;
  }
  for (int i = 0; i < g->nnodes; i++) {
    const Node *n = &g->nodes[i];
    Maker m = {.part = -1, .args = n->args, .nargs = n->nargs, .res = n->res, .nres = n->nres};
    m.cost = cost_of(g, node_flops(g, n), &m);
    m.cuttable = n->op != OP_reshape && n->op != OP_table && n->op != OP_const && !live_is_loop(g, n) &&
                 !reads_overwritten(r, n, fresh);
    for (int k = 0; k < n->nres; k++)
      m.cuttable = m.cuttable && !r->live.output[n->res + (Val)k] && !live_carried(&r->live, i, k);
    PUSH(r->tmp, r->maker, r->nmakers, r->cap_makers, m);
  }
  for (int i = 0; i < g->nnodes; i++)
    if (r->maker[i].cuttable) add_parts(r, i);
}

/* ---- the order that follows from the cuts */

typedef struct Run {
  int maker, time; /* time: the node of the old order for whose sake it runs */
} Run;

typedef struct Order {
  Arena *a;
  Run *runs;
  LiveStep *steps;
  int n, cap, cap_steps;
  int *done; /* by maker: cuts that were followed */
  int *last; /* by value: 1 + the place that made it last */
} Order;

static bool due(const Remat *r, const Order *o, int maker, int time) {
  const Maker *m = &r->maker[maker];
  return o->done[maker] < m->ncut && m->cut[o->done[maker]] < time;
}

static void followed(const Remat *r, Order *o, int maker, int time) {
  while (due(r, o, maker, time)) o->done[maker]++;
}

static void order_run(const Remat *r, Order *o, int maker, int time);

/* The value as it is to be read at this time. */
static void order_need(const Remat *r, Order *o, Val v, int time) {
  int node = r->g->def[v];
  if (node < 0) return;
  if (r->g->nodes[node].op == OP_reshape) {
    Val of = r->g->nodes[node].args[0];
    order_need(r, o, of, time);
    if (o->last[of] > o->last[v]) order_run(r, o, node, time);
  } else if (due(r, o, node, time)) {
    order_run(r, o, node, time);
  } else if (r->alone[v] && due(r, o, r->alone[v] - 1, time)) {
    order_run(r, o, r->alone[v] - 1, time);
  }
}

static void order_run(const Remat *r, Order *o, int maker, int time) {
  const Maker *m = &r->maker[maker];
  followed(r, o, maker, time);
  for (int k = 0; m->part < 0 && k < m->nres; k++)
    if (r->alone[m->res + (Val)k]) followed(r, o, r->alone[m->res + (Val)k] - 1, time);
  for (int i = 0; i < m->nargs; i++) order_need(r, o, m->args[i], time);
  LiveStep s = m->part < 0 ? live_step(&r->live, maker)
                           : (LiveStep){m->args, m->nargs, m->nres, m->res, r->parts->list[m->part].alias, 0};
  int n = o->n;
  PUSH(o->a, o->steps, n, o->cap_steps, s);
  PUSH(o->a, o->runs, o->n, o->cap, ((Run){maker, time}));
  for (int k = 0; k < m->nres; k++) o->last[m->res + (Val)k] = o->n;
}

static Order order_make(const Remat *r, Arena *a) {
  Order o = {.a = a, .done = NEW_ARRAY(a, int, r->nmakers), .last = NEW_ARRAY(a, int, r->g->nvals)};
  for (int i = 0; i < r->g->nnodes; i++) order_run(r, &o, i, i);
  return o;
}

typedef struct Peak {
  int64_t bytes;
  int time, times; /* its first place's; how many places have it */
} Peak;

static Peak peak_of(const Order *o, const Profile *p) {
  return (Peak){p->peak, o->n ? o->runs[p->at].time : 0, p->times};
}

/* With the cuts as they are. */
static Peak peak_now(const Remat *r) {
  Arena *a = arena_new();
  Order o = order_make(r, a);
  Profile p = live_profile(&r->live, o.steps, o.n, a);
  Peak peak = peak_of(&o, &p);
  arena_free(a);
  return peak;
}

/* A step in one direction, so that steps end; as high but later is one, for there the next cut can follow. */
static bool better(Peak now, Peak was) {
  if (now.bytes != was.bytes) return now.bytes < was.bytes;
  return now.time != was.time ? now.time > was.time : now.times < was.times;
}

/* ---- cuts */

static bool cut_add(Remat *r, int maker, int time) {
  Maker *m = &r->maker[maker];
  for (int i = 0; i < m->ncut; i++)
    if (m->cut[i] == time) return false;
  PUSH(r->tmp, m->cut, m->ncut, m->cap_cut, time);
  for (int i = m->ncut - 1; i > 0 && m->cut[i - 1] > time; i--) {
    m->cut[i] = m->cut[i - 1];
    m->cut[i - 1] = time;
  }
  return true;
}

static void cut_take_back(Remat *r, int maker, int time) {
  Maker *m = &r->maker[maker];
  int n = 0;
  for (int i = 0; i < m->ncut; i++)
    if (m->cut[i] != time) m->cut[n++] = m->cut[i];
  m->ncut = n;
}

/* ---- what could be cut at a peak */

typedef struct Move {
  int *maker, n, cap; /* the call, and others that its operands need */
  double cost;
  int64_t freed;
} Move;

typedef struct Peaks { /* what is known of the place */
  const Profile *p;
  int *now;       /* by root: 1 + its stay there, or the one before */
  bool *again;    /* by root: it is made again later */
  int64_t *frees; /* by maker: what waits there for a later read */
  int *asked;     /* by maker: the last move that it was put into */
} Peaks;

static Peaks look(const Remat *r, const Order *o, const Profile *p, Arena *a) {
  int nvals = r->g->nvals;
  Peaks k = {p, NEW_ARRAY(a, int, nvals), NEW_ARRAY(a, bool, nvals), NEW_ARRAY(a, int64_t, r->nmakers),
             NEW_ARRAY(a, int, r->nmakers)};
  int *stay = NEW_ARRAY(a, int, nvals), next = 0;
  bool *here = NEW_ARRAY(a, bool, p->nstays + 1); /* by 1 + stay: read at the place */
  for (int i = 0; i < o->n; i++) {
    const LiveStep *s = &o->steps[i];
    for (int j = 0; j < s->nargs && i == p->at; j++) here[stay[r->live.root[s->args[j]]]] = true;
    for (; next < p->nstays && p->stays[next].begin == i; next++) {
      Val v = p->stays[next].root;
      stay[v] = 1 + next;
      if (i <= p->at)
        k.now[v] = 1 + next;
      else
        k.again[v] = true;
    }
  }
  for (int i = 0; i < p->nstays; i++) {
    const Stay *s = &p->stays[i];
    if (s->begin >= p->at || s->end <= p->at || here[1 + i]) continue;
    k.frees[r->g->def[s->root]] += s->bytes;
    if (r->alone[s->root]) k.frees[r->alone[s->root] - 1] += s->bytes;
  }
  return k;
}

/* The maker and what it needs that is gone when it runs again. */
static void move_add(const Remat *r, Peaks *k, Move *m, int maker, int query, Arena *a) {
  const Maker *x = &r->maker[maker];
  if (k->asked[maker] == query) return;
  k->asked[maker] = query;
  PUSH(a, m->maker, m->n, m->cap, maker);
  m->cost += x->cost;
  for (int i = 0; i < x->nargs; i++) {
    Val v = r->live.root[x->args[i]];
    if (r->g->def[v] < 0 || r->live.elsewhere[v] || k->again[v] || !k->now[v]) continue;
    const Stay *s = &k->p->stays[k->now[v] - 1];
    if (s->end >= k->p->at) continue;
    if (s->bytes * SMALL <= m->freed || !r->maker[r->g->def[v]].cuttable)
      m->freed -= s->bytes;
    else
      move_add(r, k, m, r->g->def[v], query, a);
  }
}

static int by_price(const void *x, const void *y) {
  const Move *a = x, *b = y;
  double p = a->cost * (double)b->freed, q = b->cost * (double)a->freed;
  if (p != q) return p < q ? -1 : 1;
  return a->maker[0] < b->maker[0] ? -1 : a->maker[0] > b->maker[0];
}

/* Cuts once more. false: nothing lowers the peak. */
static bool cut_once(Remat *r, Arena *a) {
  Order o = order_make(r, a);
  Profile p = live_profile(&r->live, o.steps, o.n, a);
  Peaks k = look(r, &o, &p, a);
  Move *moves = NULL;
  int n = 0, cap = 0;
  for (int i = 0; i < r->nmakers; i++) {
    if (!k.frees[i] || !r->maker[i].cuttable) continue;
    Move m = {.freed = k.frees[i]};
    move_add(r, &k, &m, i, 1 + i, a);
    if (m.freed > 0) PUSH(a, moves, n, cap, m);
  }
  if (n) qsort(moves, (size_t)n, sizeof *moves, by_price);
  Peak was = peak_of(&o, &p);
  int time = was.time;
  for (int i = 0; i < n; i++) {
    const Move *m = &moves[i];
    int added = 0;
    bool *new = NEW_ARRAY(a, bool, m->n);
    for (int j = 0; j < m->n; j++) added += new[j] = cut_add(r, m->maker[j], time);
    if (added && better(peak_now(r), was)) return true;
    for (int j = 0; j < m->n; j++)
      if (new[j]) cut_take_back(r, m->maker[j], time);
  }
  return false;
}

/* Takes back what it fits without, dear cuts first. */
static void take_back(Remat *r) {
  int64_t most = peak_now(r).bytes;
  if (most < r->limit) most = r->limit;
  int *order = NEW_ARRAY(r->tmp, int, r->nmakers), n = 0;
  for (int i = 0; i < r->nmakers; i++) {
    if (!r->maker[i].ncut) continue;
    int at = n++;
    for (; at > 0 && r->maker[order[at - 1]].cost < r->maker[i].cost; at--) order[at] = order[at - 1];
    order[at] = i;
  }
  for (bool changed = true; changed;) {
    changed = false;
    for (int i = 0; i < n; i++)
      for (int j = r->maker[order[i]].ncut - 1; j >= 0; j--) {
        int time = r->maker[order[i]].cut[j];
        cut_take_back(r, order[i], time);
        if (peak_now(r).bytes <= most)
          changed = true;
        else
          cut_add(r, order[i], time);
      }
  }
}

/* ---- the new graph */

static bool emit(const Remat *r, Module *to) {
  const Graph *g = r->g;
  Order o = order_make(r, r->tmp);
  for (int i = 0; i < o.n; i++) { /* regions stand before who calls them */
    int part = r->maker[o.runs[i].maker].part;
    if (part >= 0 && !part_region(r->parts, part, to)) return false;
  }
  Rewrite w = rewrite_begin(to, g);
  for (int i = 0; i < o.n; i++) {
    const Maker *m = &r->maker[o.runs[i].maker];
    const Node *n = val_node(g, m->res);
    if (m->part < 0) {
      if (!rewrite_copy(&w, &g->nodes[o.runs[i].maker])) return false;
      continue;
    }
    Val *args = NEW_ARRAY(r->tmp, Val, m->nargs + 1);
    for (int k = 0; k < m->nargs; k++) args[k] = w.map[m->args[k]];
    Attr fn = attr_str("fn", part_region(r->parts, m->part, to)->name);
    Span at = n->nplaces ? n->places[m->res - n->res] : n->span;
    if (!(w.map[m->res] = graph_add(w.to, OP_call, args, m->nargs, &fn, 1, NULL, at))) return false;
  }
  rewrite_outputs(&w);
  return true;
}

static bool remat_graph(const Graph *g, const Target *t, Parts *parts, Module *to) {
  Remat r = {.g = g, .tmp = arena_new(), .parts = parts, .limit = t->memory};
  r.live = live_new(g, r.tmp);
  r.alone = NEW_ARRAY(r.tmp, int, g->nvals);
  find_makers(&r);
  if (!g->region) {
    for (bool more = true; more && peak_now(&r).bytes > r.limit;) {
      Arena *a = arena_new();
      more = cut_once(&r, a);
      arena_free(a);
    }
    take_back(&r);
  }
  bool ok = emit(&r, to);
  arena_free(r.tmp);
  return ok;
}

Module *pass_remat(Module *m, const Target *t) {
  if (!t->memory) return m;
  Module *to = rewrite_module(m);
  Parts parts = {.from = m, .tmp = arena_new()};
  bool ok = true;
  for (int i = 0; i < m->ngraphs && ok; i++) ok = remat_graph(m->graphs[i], t, &parts, to);
  arena_free(parts.tmp);
  return ok ? to : NULL;
}
