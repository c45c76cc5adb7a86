/* The schedule of a contraction without a tuner: block sizes from the cache sizes, after Goto and van de Geijn (2008). */
#include "codegen/schedule.h"
#include "codegen/lower_tile.h"

enum { CHAIN = 4096 };

static int64_t round_up(int64_t n, int64_t to) {
  return (n + to - 1) / to * to;
}
static int64_t least(int64_t a, int64_t b) {
  return a < b ? a : b;
}
/* n in equal parts of at most `most`, each a multiple of `grain`. */
static int64_t even(int64_t n, int64_t most, int64_t grain) {
  int64_t parts = (n + most - 1) / most;
  return round_up((n + parts - 1) / parts, grain);
}

Schedule schedule_default(const Target *t, const ContractShape *s) {
  Schedule c = {.nv = 2, .mr = tile_rows(t)};
  int nr = c.nv * t->lanes;
  c.kc = (int)even(least(s->k, CHAIN), least(384, t->l1 * 3 / 4 / (4 * nr)), 8); /* a panel of B stays in L1 */
  c.mc = (int)round_up(least(s->m, t->l2 / 2 / (4 * c.kc)), c.mr);               /* a block of A in half of L2 */
  c.mb = (int)round_up(even(s->m, 1024, c.mr), c.mc);
  c.nc = (int)even(s->n, 768, nr);
  c.by_rows = s->m > s->n && s->m >= 4 * c.mr; /* the longer side: the other operand is packed by every thread */
  return c;
}

const char *schedule_wrong(const Schedule *c, const Target *t, const ContractShape *s) {
  if (c->mr < 1 || c->mr > TILE_ROWS || c->nv < 1 || c->mr * c->nv > TILE_MAX) return "the register tile is too large";
  if (c->mr * c->nv + c->nv + 1 > t->registers) return "the register tile does not fit the registers";
  int nr = c->nv * t->lanes;
  int64_t most = least(s->k, CHAIN);
  if (c->kc < 1 || (c->kc < most && c->kc % 8) || c->kc > round_up(CHAIN, 8)) return "kc is not a depth";
  if (c->mc < c->mr || c->mc % c->mr || c->mc > 1 << 16) return "mc is not a multiple of the tile's rows";
  if (c->mb < c->mc || c->mb % c->mc || c->mb > 1 << 20) return "mb is not a multiple of mc";
  if (c->nc < nr || c->nc % nr || c->nc > 1 << 20) return "nc is not a multiple of the tile's columns";
  if ((int64_t)c->mb * c->nc > 1 << 26 || (int64_t)c->mc * c->kc > 1 << 26 || (int64_t)c->nc * c->kc > 1 << 26)
    return "its blocks take too much memory";
  return NULL;
}
