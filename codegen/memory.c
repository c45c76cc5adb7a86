/* The memory plan: which bytes of the arena each temporary occupies.
 *
 * A temporary is alive from the step that writes it to the last step that reads it. Two that are alive at the same
 * step must not overlap; all others may. Finding the smallest arena is NP-hard (dynamic storage allocation); greedy by
 * size is within a few per cent of the lower bound on step lists of models: take the items from the largest to the
 * smallest and put each into the tightest gap that is left between those items which are alive with it, or behind the last.
 *
 * Equal-sized large buffers land at equal addresses modulo 4096 and so compete for the same sets of the first-level
 * cache when a kernel walks several of them. `stagger` makes each of them a few lines longer, which shifts its neighbours.
 *
 * What must hold afterwards: begin/end intervals that meet have disjoint bytes; offsets are multiples of MEMORY_ALIGN. */
#include "codegen/program.h"
#include <stdlib.h>

enum { STAGGER_FROM = 32 << 10, STAGGER_BY = 5 * MEMORY_ALIGN };

static int64_t padded(int64_t bytes, bool stagger) {
  bytes = (bytes + MEMORY_ALIGN - 1) / MEMORY_ALIGN * MEMORY_ALIGN;
  return stagger && bytes >= STAGGER_FROM ? bytes + STAGGER_BY : bytes;
}

static int by_size(const void *x, const void *y) {
  const MemoryItem *a = *(MemoryItem *const *)x, *b = *(MemoryItem *const *)y;
  if (a->bytes != b->bytes) return a->bytes < b->bytes ? 1 : -1;
  if (a->begin != b->begin) return a->begin < b->begin ? -1 : 1;
  return a < b ? -1 : a > b;
}

static bool meet(const MemoryItem *a, const MemoryItem *b) {
  return a->begin <= b->end && b->begin <= a->end;
}

/* Placed items that live with `it`, which stand in `placed` in order of their offsets: the tightest gap between them. */
static int64_t best_gap(const MemoryItem *it, MemoryItem *const *placed, int n, bool stagger) {
  int64_t need = padded(it->bytes, stagger), top = 0, best = -1, best_slack = 0;
  for (int i = 0; i < n; i++) {
    if (!meet(it, placed[i])) continue;
    int64_t slack = placed[i]->offset - top - need;
    if (slack >= 0 && (best < 0 || slack < best_slack)) {
      best = top;
      best_slack = slack;
    }
    int64_t end = placed[i]->offset + padded(placed[i]->bytes, stagger);
    if (end > top) top = end;
  }
  return best >= 0 ? best : top;
}

typedef struct Edge {
  int64_t at, bytes; /* bytes > 0: an item begins at `at`; < 0: it ended at `at` - 1 */
} Edge;

static int by_position(const void *x, const void *y) {
  const Edge *a = x, *b = y;
  if (a->at != b->at) return a->at < b->at ? -1 : 1;
  return a->bytes < b->bytes ? -1 : a->bytes > b->bytes; /* ends first */
}

static int64_t peak_bytes(Arena *a, const MemoryItem *items, int n) {
  Edge *edge = NEW_ARRAY(a, Edge, 2 * n + 1);
  for (int i = 0; i < n; i++) {
    edge[2 * i] = (Edge){items[i].begin, items[i].bytes};
    edge[2 * i + 1] = (Edge){items[i].end + 1, -items[i].bytes};
  }
  qsort(edge, (size_t)(2 * n), sizeof(*edge), by_position);
  int64_t now = 0, peak = 0;
  for (int i = 0; i < 2 * n; i++) {
    now += edge[i].bytes;
    if (now > peak) peak = now;
  }
  return peak;
}

MemoryReport memory_plan(Arena *a, MemoryItem *items, int n, bool stagger) {
  MemoryItem **order = NEW_ARRAY(a, MemoryItem *, n + 1), **placed = NEW_ARRAY(a, MemoryItem *, n + 1);
  MemoryReport r = {.buffers = n};
  for (int i = 0; i < n; i++) order[i] = &items[i];
  qsort(order, (size_t)n, sizeof(*order), by_size);
  for (int i = 0; i < n; i++) {
    MemoryItem *it = order[i];
    it->offset = best_gap(it, placed, i, stagger);
    int at = i;
    for (; at > 0 && placed[at - 1]->offset > it->offset; at--) placed[at] = placed[at - 1];
    placed[at] = it;
    int64_t end = it->offset + padded(it->bytes, stagger);
    if (end > r.arena) r.arena = end;
  }
  r.peak = peak_bytes(a, items, n);
  return r;
}
