/* What a pass did to a graph, as an alignment of lines.
 *
 * A pass numbers all values anew, so texts are no use: a line is known by what it computes. Its `deep` key hashes op,
 * attributes, types and the same of its operands, three steps back; its `shallow` key those of the line alone. First the
 * longest common sequence by deep keys is found, then, in the gaps that it leaves, by shallow ones: the latter are lines whose
 * operands were replaced. Keys of unlimited depth would show all that is downstream of one change as changed.
 *
 * A pair is the same when its operands are pairs as well, or compute the same (one of two equal nodes left). Callees count by
 * what they hold, not by their names.
 * The sequence is Hirschberg's (1975): time is lines times lines, memory only lines. */
#include "cli/align.h"

#include <string.h>

enum { DEPTH = 3 };

/* ---- keys */

static uint64_t mix(uint64_t a, uint64_t b) {
  uint64_t pair[2] = {a, b};
  return hash64(pair, sizeof pair);
}

static uint64_t text_hash(const char *s) {
  return hash64(s, strlen(s));
}

/* A callee by its kind, types, nodes and results. */
static uint64_t graph_hash(const Graph *g) {
  Text t = {0};
  graph_print(g, false, &t);
  uint64_t h = mix(g->region ? text_hash(g->region) : 0, text_hash(strchr(t.s, '(')));
  text_free(&t);
  return h;
}

static uint64_t type_hash(const Graph *g, Type t) {
  Text s = {0};
  for (int i = 0; i < t.rank; i++) t.dim[i].seg = 0;
  type_print(g, t, &s);
  uint64_t h = text_hash(s.s);
  text_free(&s);
  return h;
}

static uint64_t node_hash(const Graph *g, const Node *n) {
  uint64_t h = (uint64_t)n->op;
  for (int i = 0; i < n->nattrs; i++) {
    const Attr *a = &n->attrs[i];
    const Graph *callee = n->op == OP_call && !strcmp(a->name, "fn") ? module_find(g->mod, a->str) : NULL;
    h = mix(h, text_hash(a->name));
    switch (a->kind) {
    case ATTR_INT: h = mix(h, (uint64_t)a->i); break;
    case ATTR_NUM: h = mix(h, hash64(&a->num, sizeof a->num)); break;
    case ATTR_STR: h = mix(h, callee ? graph_hash(callee) : text_hash(a->str)); break;
    case ATTR_INTS: h = mix(h, hash64(a->ints, sizeof *a->ints * (size_t)a->n)); break;
    }
  }
  for (int i = 0; i < n->nres; i++) h = mix(h, type_hash(g, g->types[n->res + (Val)i]));
  return h;
}

/* ---- lines */

static AlignLine *add(AlignSide *s, const char *text, uint64_t shallow, const Node *n, Val v) {
  AlignLine *l = &s->line[s->n++];
  *l = (AlignLine){.text = text, .shallow = shallow, .deep = shallow, .node = n, .val = v, .pair = -1};
  return l;
}

static const char *next_line(Arena *a, const char **at) {
  size_t n = strcspn(*at, "\n"), indent = strspn(*at, " ");
  const char *line = arena_strndup(a, *at + indent, n - indent);
  *at += n + ((*at)[n] == '\n');
  return line;
}

/* Passes order the operands of these as they like. */
static bool commutes(const Node *n) {
  return n->op == OP_add || n->op == OP_mul;
}

/* Keys of results from those of the operands; in order, so that from == to reaches back to the inputs. */
static void deepen(const Graph *g, const uint64_t *base, const uint64_t *from, uint64_t *to) {
  for (int i = 0; i < g->nnodes; i++) {
    const Node *n = &g->nodes[i];
    uint64_t h = n->nres ? base[n->res] : 0;
    if (commutes(n))
      h = mix(h, from[n->args[0]] + from[n->args[1]]);
    else
      for (int k = 0; k < n->nargs; k++) h = mix(h, from[n->args[k]]);
    for (int k = 0; k < n->nres; k++) to[n->res + (Val)k] = mix(h, (uint64_t)k);
  }
}

AlignSide align_lines(Arena *a, const Graph *g, bool spans) {
  AlignSide s = {.g = g};
  Arena *tmp = arena_new();
  Text t = {0}, ret = {0};
  s.line = NEW_ARRAY(a, AlignLine, g->ninputs + g->nnodes + g->noutputs + 1);
  s.line_of = NEW_ARRAY(a, int, g->nvals);
  uint64_t *base = NEW_ARRAY(tmp, uint64_t, g->nvals), *deep = NEW_ARRAY(tmp, uint64_t, g->nvals);
  uint64_t *old = NEW_ARRAY(tmp, uint64_t, g->nvals);
  s.full = NEW_ARRAY(a, uint64_t, g->nvals);
  graph_print(g, spans, &t);
  const char *at = t.s;
  next_line(tmp, &at); /* graph @name( */
  for (int i = 0; i < g->ninputs; i++) {
    const Input *in = &g->inputs[i];
    uint64_t h = mix(mix(text_hash(in->name), type_hash(g, g->types[in->val])), (uint64_t)in->kind * 2 + in->decay);
    base[in->val] = deep[in->val] = s.full[in->val] = text_hash(in->name);
    s.line_of[in->val] = s.n;
    add(&s, next_line(a, &at), h, NULL, in->val);
  }
  if (g->ninputs) next_line(tmp, &at); /* ) { */
  for (int i = 0; i < g->nnodes; i++) {
    const Node *n = &g->nodes[i];
    uint64_t h = node_hash(g, n);
    for (int k = 0; k < n->nres; k++) {
      base[n->res + (Val)k] = h;
      deep[n->res + (Val)k] = mix(h, (uint64_t)k);
      s.line_of[n->res + (Val)k] = s.n;
    }
    add(&s, next_line(a, &at), h, n, n->res);
  }
  for (int i = 0; i < DEPTH; i++) {
    memcpy(old, deep, sizeof *old * (size_t)g->nvals);
    deepen(g, base, old, deep);
  }
  deepen(g, base, s.full, s.full);
  for (int i = 0; i < s.n; i++)
    if (s.line[i].node && s.line[i].node->nres) s.line[i].deep = deep[s.line[i].val];
  for (int i = 0; i < g->noutputs; i++) {
    ret.n = 0;
    text_add(&ret, "return %s=", g->outputs[i].name);
    val_print(g, g->outputs[i].val, &ret);
    AlignLine *l = add(&s, arena_strdup(a, ret.s), mix(1, text_hash(g->outputs[i].name)), NULL, g->outputs[i].val);
    l->deep = mix(l->shallow, deep[l->val]);
  }
  text_free(&t);
  text_free(&ret);
  arena_free(tmp);
  return s;
}

/* ---- the longest common sequence */

typedef struct Search {
  AlignLine *x, *y;
  bool deep;
  int *row[2]; /* of lengths, for Hirschberg's halves */
} Search;

static bool equal(const Search *s, int i, int j) {
  return s->deep ? s->x[i].deep == s->y[j].deep : s->x[i].shallow == s->y[j].shallow;
}

/* row[k]: the length of the longest common sequence of x[from, to) and the first k of y[lo, hi). */
static void forward(const Search *s, int from, int to, int lo, int hi, int *row) {
  memset(row, 0, sizeof *row * (size_t)(hi - lo + 1));
  for (int i = from; i < to; i++) {
    int diagonal = 0;
    for (int j = lo; j < hi; j++) {
      int above = row[j - lo + 1], left = row[j - lo];
      row[j - lo + 1] = equal(s, i, j) ? diagonal + 1 : above > left ? above : left;
      diagonal = above;
    }
  }
}

/* The same from behind: row[k] is of x[from, to) and y[lo + k, hi). */
static void backward(const Search *s, int from, int to, int lo, int hi, int *row) {
  memset(row, 0, sizeof *row * (size_t)(hi - lo + 1));
  for (int i = to - 1; i >= from; i--) {
    int diagonal = 0;
    for (int j = hi - 1; j >= lo; j--) {
      int above = row[j - lo], right = row[j - lo + 1];
      row[j - lo] = equal(s, i, j) ? diagonal + 1 : above > right ? above : right;
      diagonal = above;
    }
  }
}

static void pair_up(Search *s, int i, int j) {
  s->x[i].pair = j;
  s->y[j].pair = i;
}

static void common(Search *s, int from, int to, int lo, int hi) {
  for (; from < to && lo < hi && equal(s, from, lo); from++, lo++) pair_up(s, from, lo);
  for (; from < to && lo < hi && equal(s, to - 1, hi - 1); to--, hi--) pair_up(s, to - 1, hi - 1);
  if (from >= to || lo >= hi) return;
  if (to - from == 1) {
    for (int j = lo; j < hi; j++)
      if (equal(s, from, j)) {
        pair_up(s, from, j);
        return;
      }
    return;
  }
  int middle = (from + to) / 2, best = lo;
  forward(s, from, middle, lo, hi, s->row[0]);
  backward(s, middle, to, lo, hi, s->row[1]);
  for (int j = lo; j <= hi; j++)
    if (s->row[0][j - lo] + s->row[1][j - lo] > s->row[0][best - lo] + s->row[1][best - lo]) best = j;
  common(s, from, middle, lo, best);
  common(s, middle, to, best, hi);
}

static bool operand_same(const AlignSide *x, const AlignSide *y, Val u, Val v) {
  int i = x->line_of[u], j = y->line_of[v];
  if (x->full[u] == y->full[v]) return true;
  return x->line[i].pair == j && u - x->line[i].val == v - y->line[j].val;
}

static bool line_same(const AlignSide *x, const AlignSide *y, const AlignLine *p, const AlignLine *q) {
  if (p->shallow != q->shallow) return false;
  if (!p->node) return x->line_of[p->val] == p - x->line || operand_same(x, y, p->val, q->val);
  const Val *u = p->node->args, *v = q->node->args;
  if (commutes(p->node) && operand_same(x, y, u[0], v[1]) && operand_same(x, y, u[1], v[0])) return true;
  for (int k = 0; k < p->node->nargs; k++)
    if (!operand_same(x, y, u[k], v[k])) return false;
  return p->node->nargs == q->node->nargs;
}

void align(Arena *a, AlignSide *x, AlignSide *y) {
  Search s = {x->line, y->line, true, {NEW_ARRAY(a, int, y->n + 1), NEW_ARRAY(a, int, y->n + 1)}};
  common(&s, 0, x->n, 0, y->n);
  s.deep = false;
  for (int i = 0, j = 0; i < x->n || j < y->n;) {
    int from = i, lo = j;
    while (i < x->n && x->line[i].pair < 0) i++;
    while (j < y->n && y->line[j].pair < 0) j++;
    common(&s, from, i, lo, j);
    while (i < x->n && x->line[i].pair == j) i++, j++;
  }
  for (int i = 0; i < x->n; i++) {
    int j = x->line[i].pair;
    if (j >= 0) x->line[i].same = y->line[j].same = line_same(x, y, &x->line[i], &y->line[j]);
  }
}
