/* What must hold of a kernel:
 *   1. an operand is a value defined before, in a scope that is still open (a loop's values end with it, but for results)
 *   2. operands are indices or floats as the row in kir.def says; float operands have the result's lanes
 *   3. iter operations stand right behind their `for`; a loop that has any ends in a yield of as many values of their types
 *   4. every for and if is closed; steps are positive; lanes at most KIR_LANES; shuffle masks and buffers in range
 *   5. quads are loaded from buffers of i8, 8 or 16 bits joined */
#include "ir/kir.h"
#include <string.h>

typedef struct Check {
  const Kernel *k;
  Diags *d;
  bool *live;
  int loop[64], depth;
} Check;

static bool fail(Check *c, int n, const char *what) {
  return diag_error(c->d, (Span){0}, "kernel @%s, instruction %d (%s): %s", c->k->name, n + 1,
                    kop_info[c->k->ins[n].op].name, what);
}

static bool operand(Check *c, int n, KV v, char kind, int lanes) {
  if (v == 0 || v > (KV)n || !c->live[v]) return fail(c, n, "an operand is not defined in an open scope");
  const KIns *i = &c->k->ins[v - 1];
  if (!i->lanes) return fail(c, n, "an operand has no value");
  if (kind == 'i' && !i->index) return fail(c, n, "an index is wanted, not a float");
  if (kind == 'f' && i->index) return fail(c, n, "a float is wanted, not an index");
  if (kind == 'f' && lanes && i->lanes != lanes) return fail(c, n, "operands and result differ in lanes");
  return true;
}

static bool check_ins(Check *c, int n) {
  const KIns *i = &c->k->ins[n];
  const char *s = kop_info[i->op].operands;
  KV v[3] = {i->a, i->b, i->c};
  int nv = 0;
  bool mixed = i->op == K_splat || i->op == K_extract || i->op == K_store || i->op == K_store_n || i->op == K_store_s ||
               i->op == K_stream;
  if (i->op == K_yield || i->op == K_end) return true;
  if (i->op == K_result) {
    if (i->a == 0 || i->a > (KV)n || c->k->ins[i->a - 1].op != K_for) return fail(c, n, "the operand is not a loop");
    uint32_t it = i->a + (uint32_t)i->imm;
    if (i->imm < 0 || it >= (uint32_t)n || c->k->ins[it].op != K_iter)
      return fail(c, n, "the loop carries no such value");
    return c->k->ins[it].lanes == i->lanes && c->k->ins[it].index == i->index ? true
                                                                              : fail(c, n, "another type than carried");
  }
  for (; *s; s += strcspn(s, " "), s += *s == ' ') {
    if (!strncmp(s, "imm", 3) || !strncmp(s, "num", 3)) continue;
    if (!strncmp(s, "buf", 3)) {
      if (i->buf >= c->k->nbufs) return fail(c, n, "no such buffer");
    } else if (!strncmp(s, "mask", 4)) {
      for (int j = 0; j < i->lanes; j++)
        if (!i->mask || i->mask[j] >= 2 * c->k->ins[i->a - 1].lanes) return fail(c, n, "mask out of range");
    } else if (!operand(c, n, v[nv++], *s, *s == 'f' && !mixed && i->op != K_shuffle ? i->lanes : 0)) {
      return false;
    }
  }
  bool masked = i->op == K_load_n || i->op == K_load_qn || i->op == K_store_n;
  if (masked && (i->op == K_store_n ? c->k->ins[i->b - 1].lanes : i->lanes) < 2)
    return fail(c, n, "a scalar can not be masked");
  if (i->lanes > KIR_LANES) return fail(c, n, "too many lanes");
  bool quads = i->op == K_load_q || i->op == K_load_qn;
  if (quads && c->k->bufs[i->buf].dt != DT_i8) return fail(c, n, "quads are of i8");
  if (i->op == K_join && i->imm != 8 && i->imm != 16) return fail(c, n, "8 or 16 bits are joined");
  if ((i->op == K_for || i->op == K_deal) && i->imm < 1) return fail(c, n, "the step is not positive");
  if (i->op == K_iter && (n == 0 || (c->k->ins[n - 1].op != K_iter && c->k->ins[n - 1].op != K_for)))
    return fail(c, n, "not right behind its loop");
  if (i->op == K_param && (i->imm < 0 || i->imm >= c->k->nparams)) return fail(c, n, "no such parameter");
  return true;
}

/* The loop that starts at instruction `at` ends at n. */
static bool close_loop(Check *c, int at, int n) {
  const Kernel *k = c->k;
  int carried = 0;
  while (k->ins[at].op == K_for && k->ins[at + 1 + carried].op == K_iter) carried++;
  if (carried) {
    const KIns *y = &k->ins[n - 1];
    if (y->op != K_yield || y->n != carried) return fail(c, n, "the loop must end in a yield of all that it carries");
    for (int j = 0; j < carried; j++) {
      const KIns *it = &k->ins[at + 1 + j];
      if (!operand(c, n - 1, y->list[j], it->index ? 'i' : 'f', it->lanes)) return false;
    }
  }
  for (int j = at; j < n; j++) c->live[j + 1] = false;
  return true;
}

bool kernel_verify(const Kernel *k, Diags *d) {
  Arena *tmp = arena_new();
  Check c = {.k = k, .d = d, .live = NEW_ARRAY(tmp, bool, k->nins + 1)};
  bool ok = true;
  for (int n = 0; n < k->nins && ok; n++) {
    const KIns *i = &k->ins[n];
    ok = check_ins(&c, n);
    for (int j = 0; ok && i->op == K_deal && j < c.depth; j++)
      if (k->ins[c.loop[j]].op != K_if) ok = fail(&c, n, "turns are dealt out once, not in a loop");
    if (i->op == K_for || i->op == K_deal || i->op == K_if) {
      if (c.depth == LEN(c.loop))
        ok = fail(&c, n, "loops are nested too deep");
      else
        c.loop[c.depth++] = n;
    }
    if (ok && i->op == K_end) ok = c.depth ? close_loop(&c, c.loop[--c.depth], n) : fail(&c, n, "closes nothing");
    if (ok && i->lanes) c.live[n + 1] = true;
  }
  if (ok && c.depth) ok = fail(&c, k->nins - 1, "a loop is not closed");
  arena_free(tmp);
  return ok;
}
