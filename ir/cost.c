/* Cost in model arithmetic: what a node computes and touches, not how long a machine takes.
 *
 * A product and its sum are two operations. Attention counts in full, masked or not, as the field does. Elementwise
 * ops count the steps of their table text, a function as 10. Copies count nothing. Symbolic extents count at their
 * bounds. */
#include "ir/expr.h"
#include "ir/infer.h"

#include <string.h>

static double elements(const Graph *g, Val v) {
  return (double)type_elements(g->types[v]);
}

static double ew_steps(OpKind op) {
  static const char *const vars[] = {"a", "b", "c"};
  const Expr *e = expr_table(op_info[op].value, vars, op_info[op].nargs);
  double n = 0;
  for (int i = 0; i < e->n; i++)
    if (e->step[i].op != EX_NUM && e->step[i].op != EX_VAR) n += e->step[i].op == EX_CALL ? 10 : 1;
  return n;
}

/* The product of all letters: of the result's, and of the summed ones. */
static double rule_products(const Graph *g, const Node *n) {
  Rule r;
  const char *err;
  const Type *a = &g->types[n->args[0]];
  double p = elements(g, n->res);
  if (!rule_parse(node_attr(n, "rule")->str, &r, &err)) return 0;
  for (int i = 0; i < r.na; i++)
    if (rule_summed(&r, r.a[i])) p *= (double)a->dim[i].n;
  return p;
}

double node_flops(const Graph *g, const Node *n) {
  if (op_info[n->op].ew) return ew_steps(n->op) * elements(g, n->res);
  switch (n->op) {
  case OP_contract:
  case OP_contract_from: return 2 * rule_products(g, n);
  case OP_attend:
  case OP_attend_grad: /* two contractions of b h t s e products, and five */
    return (n->op == OP_attend ? 4 : 10) * elements(g, n->args[0]) * (double)g->types[n->args[1]].dim[1].n;
  case OP_attend_pages: /* at the bounds: every row over all that its table can name */
    return 4 * elements(g, n->args[0]) * (double)g->types[n->args[5]].dim[1].n * 64;
  case OP_sum:
  case OP_rowmax: return elements(g, n->args[0]);
  case OP_scatter_add: return elements(g, n->args[2]);
  case OP_dropout: return 84 * elements(g, n->res); /* ten rounds of two products and four exclusive ors; the rest */
  case OP_rope: return 3 * elements(g, n->res);     /* of each pair four products and two sums */
  case OP_call: {
    const Graph *f = module_find(g->mod, node_attr(n, "fn")->str);
    const Attr *count = node_attr(n, "count");
    double sum = 0;
    for (int i = 0; f && i < f->nnodes; i++) sum += node_flops(f, &f->nodes[i]);
    return count ? sum * (double)count->i : sum;
  }
  default: return 0;
  }
}

double node_bytes(const Graph *g, const Node *n) {
  double sum = 0;
  for (int i = 0; i < n->nargs; i++) sum += (double)type_bytes(g->types[n->args[i]]);
  for (int i = 0; i < n->nres; i++) sum += (double)type_bytes(g->types[n->res + (Val)i]);
  return sum;
}

/* Of the pairs of query and key, the part that a causal mask and a window leave. */
static double attended(const Graph *g, const Node *n) {
  if ((n->op != OP_attend && n->op != OP_attend_grad) || !node_attr(n, "causal")->i) return 1;
  double t = (double)g->types[n->args[0]].dim[1].n, s = (double)g->types[n->args[1]].dim[1].n;
  const Attr *window = node_attr(n, "window");
  double most = window && window->i && (double)window->i < s ? (double)window->i : s; /* keys that a row sees */
  double less = t < most ? t : most; /* rows that see 1, 2, ... of them */
  return t * s > 0 ? (less * (less + 1) / 2 + (t - less) * most) / (t * s) : 1;
}

double region_flops(const Graph *g) {
  double sum = 0;
  for (int i = 0; i < g->nnodes; i++) sum += node_flops(g, &g->nodes[i]) * attended(g, &g->nodes[i]);
  return sum;
}

/* What is read of an input: all of it, but of a table that is only gathered from no more than the rows named. */
static double bytes_read(const Graph *g, Val input) {
  double all = (double)type_bytes(g->types[input]), rows = 0;
  for (int i = 0; i < g->nnodes; i++) {
    const Node *n = &g->nodes[i];
    for (int k = 0; k < n->nargs; k++) {
      if (n->args[k] != input) continue;
      if (n->op != OP_gather || k) return all;
      rows += (double)type_bytes(g->types[n->res]);
    }
  }
  return rows > 0 && rows < all ? rows : all;
}

double region_bytes(const Graph *g) {
  double sum = 0;
  const Node *n = g->nnodes ? &g->nodes[0] : NULL;
  if (n && n->op == OP_scatter_add) /* in place: the rows named are read and written, the others are not touched */
    return (double)type_bytes(g->types[n->args[1]]) + 3 * (double)type_bytes(g->types[n->args[2]]);
  if (n && (n->op == OP_page_keys || n->op == OP_page_values)) return 2 * (double)type_bytes(g->types[n->args[2]]);
  if (n && n->op == OP_attend_pages) { /* the pages that a full table names, q and the result */
    double pages = 2 * (double)type_bytes(g->types[n->args[1]]) / (double)g->types[n->args[1]].dim[0].n;
    return pages * elements(g, n->args[5]) + 2 * (double)type_bytes(g->types[n->res]);
  }
  for (int i = 0; i < g->ninputs; i++) sum += bytes_read(g, g->inputs[i].val);
  for (int i = 0; i < g->noutputs; i++) sum += (double)type_bytes(g->types[g->outputs[i].val]);
  return sum;
}
