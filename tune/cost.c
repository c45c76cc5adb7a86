/* A guess at cycles, good enough to leave out schedules that cannot win: what fields it does not know, it takes for free.
 *
 *   the tiles    two fmas a cycle; a step of k also loads a row's scalar each and the vectors (two loads a cycle), and a chain
 *                waits four cycles for itself; edges count as whole tiles, and the slowest thread's share counts
 *   packing      an element each time it is packed: A once for every NC columns, B once for every MB rows; where threads divide the
 *                other side, each packs all
 *   C            out and in again for every run of k but one */
#include "tune/tune.h"
#include <math.h>

static const double PACK = 0.6, CARRY = 0.4; /* cycles an element; what measured kernels take */

static double parts(double n, double of) {
  return ceil(n / of);
}

double tune_cost(const Schedule *c, const Target *t, const ContractShape *s, int threads) {
  double nr = c->nv * t->lanes, m = (double)s->m, n = (double)s->n, k = (double)s->k;
  double rows = parts(m, c->mr), columns = parts(n, nr);
  if (c->by_rows)
    rows = parts(rows, threads);
  else
    columns = parts(columns, threads);
  double fma = c->mr * c->nv / 2.0, load = (c->mr + c->nv) / 2.0;
  double step = fmax(fmax(fma, load), 4);
  double my_m = rows * c->mr, my_n = columns * nr, runs = parts(k, c->kc);
  double tiles = rows * columns * k * step;
  double packed = my_m * k * parts(my_n, c->nc) + my_n * k * parts(my_m, c->mb);
  double carried = runs > 1 ? 2 * my_m * my_n * (runs - 1) : 0;
  return tiles + PACK * packed + CARRY * carried;
}
