/* schedule: the order of calls, for less memory and warmer caches.
 *
 * Why: gradients of weights are needed only at the end of a step, but each keeps a gradient of activations alive until it
 * is computed. Done at once, it lets that memory go, and reads it while it is near.
 * How: list scheduling. Of the calls whose operands are there, take the one that leaves the least memory alive behind it
 * (bytes of its temporary results less those of operands that it is the last to read); among equals the first in the old
 * order. Results that are the next value of an input (gradients, moments) live in that input's place and cost nothing.
 *
 * Invariant: only the order of nodes changes. */
#include "passes/passes.h"
#include "passes/rewrite.h"
#include <string.h>

typedef struct Schedule {
  const Graph *g;
  int *waits;     /* by node: operands that are not there yet (counted with repeats) */
  int *readers;   /* by value: reads still to come; outputs count as one */
  bool *in_place; /* by value: the next value of an input */
  bool *done;     /* by node */
} Schedule;

static int64_t growth(const Schedule *s, const Node *n) {
  const Graph *g = s->g;
  int64_t bytes = 0;
  if (n->op == OP_table || n->op == OP_reshape) return -1; /* no memory of their own: as soon as possible */
  for (int i = 0; i < n->nres; i++)
    if (!s->in_place[n->res + (Val)i]) bytes += type_bytes(val_type(g, n->res + (Val)i));
  for (int i = 0; i < n->nargs; i++) {
    Val v = n->args[i];
    int here = 0;
    bool seen = false;
    for (int j = 0; j < n->nargs; j++) {
      here += n->args[j] == v;
      seen |= n->args[j] == v && j < i;
    }
    if (!seen && g->def[v] >= 0 && !s->in_place[v] && s->readers[v] == here) bytes -= type_bytes(val_type(g, v));
  }
  return bytes;
}

static int choose(const Schedule *s) {
  int best = -1;
  int64_t least = 0;
  for (int i = 0; i < s->g->nnodes; i++) {
    if (s->done[i] || s->waits[i]) continue;
    int64_t bytes = growth(s, &s->g->nodes[i]);
    if (best >= 0 && bytes >= least) continue;
    best = i;
    least = bytes;
  }
  return best;
}

static bool schedule_graph(const Graph *g, Module *to) {
  Rewrite r = rewrite_begin(to, g);
  r.to->region = g->region;
  bool calls = false;
  for (int i = 0; i < g->nnodes; i++) calls |= g->nodes[i].op == OP_call;
  Arena *tmp = arena_new();
  Schedule s = {.g = g};
  s.waits = NEW_ARRAY(tmp, int, g->nnodes + 1);
  s.readers = NEW_ARRAY(tmp, int, g->nvals);
  s.in_place = NEW_ARRAY(tmp, bool, g->nvals);
  s.done = NEW_ARRAY(tmp, bool, g->nnodes + 1);
  for (int i = 0; i < g->noutputs; i++) {
    s.readers[g->outputs[i].val]++;
    if (graph_find_input(g, g->outputs[i].name)) s.in_place[g->outputs[i].val] = true;
  }
  for (int i = 0; i < g->nnodes; i++)
    for (int j = 0; j < g->nodes[i].nargs; j++) {
      s.readers[g->nodes[i].args[j]]++;
      s.waits[i] += g->def[g->nodes[i].args[j]] >= 0;
    }
  bool ok = true;
  for (int turn = 0; turn < g->nnodes && ok; turn++) {
    int next = calls ? choose(&s) : turn;
    const Node *n = &g->nodes[next];
    s.done[next] = true;
    for (int j = 0; j < n->nargs; j++) s.readers[n->args[j]]--;
    for (int i = 0; i < g->nnodes; i++) /* its results are there */
      for (int j = 0; j < g->nodes[i].nargs && !s.done[i]; j++)
        s.waits[i] -= g->nodes[i].args[j] >= n->res && g->nodes[i].args[j] < n->res + (Val)n->nres;
    ok = rewrite_copy(&r, n) != 0;
  }
  if (ok) rewrite_outputs(&r);
  arena_free(tmp);
  return ok;
}

Module *pass_schedule(Module *m, const Target *t) {
  Module *to = rewrite_module(m);
  for (int i = 0; i < m->ngraphs; i++)
    if (!schedule_graph(m->graphs[i], to)) return NULL;
  return to;
}
