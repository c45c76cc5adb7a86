/* Lists through the pages' own indices: the free ones, the kept ones in the order in which they were left, the chains of the
 * hash table, the children of a page. All operations take constant time but for the comparing of tokens. */
#include "serve/pages.h"
#include "ink/base.h"
#include "serve/model.h"
#include "text/memory.h"
#include <assert.h>
#include <string.h>

/* Prompts that begin alike are many, a search among them is short: of the latest this many. */
enum { PART_SEARCH = 256 };

typedef struct Page {
  int32_t tokens[PAGE_TOKENS];
  int n; /* tokens that are known; 0: nothing is */
  int holders;
  int parent;         /* of a known page */
  int before, after;  /* in the list of kept ones; after: also of free ones */
  int elder, younger; /* children of one parent */
  int child;          /* the youngest */
  int chain;          /* of the hash table, whole pages alone */
} Page;

struct Pages {
  Page *page;
  int n, held, free;  /* free: the first of the list */
  int oldest, newest; /* of the kept ones */
  int root;           /* youngest child of no page: a beginning */
  int *buckets;       /* [mask + 1] */
  uint32_t mask;
};

Pages *pages_new(int n) {
  Pages *p = memory_zeroed(1, sizeof(*p));
  p->n = n;
  p->page = memory_zeroed((size_t)n, sizeof(*p->page));
  p->free = p->oldest = p->newest = p->root = PAGE_NONE;
  for (int i = n - 1; i >= 0; i--) {
    Page *g = &p->page[i];
    g->parent = g->before = g->elder = g->younger = g->child = g->chain = PAGE_NONE;
    g->after = p->free;
    p->free = i;
  }
  for (p->mask = 15; p->mask < (uint32_t)n * 2; p->mask = p->mask * 2 + 1) continue;
  p->buckets = memory_zeroed((size_t)p->mask + 1, sizeof(*p->buckets));
  for (uint32_t i = 0; i <= p->mask; i++) p->buckets[i] = PAGE_NONE;
  return p;
}

void pages_free(Pages *p) {
  if (!p) return;
  free(p->page);
  free(p->buckets);
  free(p);
}

int pages_room(const Pages *p) {
  return p->n - p->held;
}

int pages_held(const Pages *p) {
  return p->held;
}

static int *bucket(const Pages *p, int parent, const int32_t *tokens) {
  uint64_t h = hash64(tokens, sizeof(int32_t) * PAGE_TOKENS) ^ (uint64_t)(parent + 1) * UINT64_C(0x9E3779B97F4A7C15);
  return &p->buckets[(uint32_t)(h ^ h >> 32) & p->mask];
}

static int find_whole(const Pages *p, int parent, const int32_t *tokens) {
  int i = *bucket(p, parent, tokens);
  while (i >= 0 && (p->page[i].parent != parent || memcmp(p->page[i].tokens, tokens, sizeof(p->page[i].tokens))))
    i = p->page[i].chain;
  return i;
}

static int *first_child(Pages *p, int parent) {
  return parent < 0 ? &p->root : &p->page[parent].child;
}

/* What the page holds is known no more. */
static void forget(Pages *p, int page) {
  Page *g = &p->page[page];
  if (!g->n) return;
  assert(g->child < 0);
  if (g->n == PAGE_TOKENS) {
    int *at = bucket(p, g->parent, g->tokens);
    while (*at != page) at = &p->page[*at].chain;
    *at = g->chain;
    g->chain = PAGE_NONE;
  }
  if (g->younger >= 0)
    p->page[g->younger].elder = g->elder;
  else
    *first_child(p, g->parent) = g->elder;
  if (g->elder >= 0) p->page[g->elder].younger = g->younger;
  g->elder = g->younger = g->parent = PAGE_NONE;
  g->n = 0;
}

static void leave_kept(Pages *p, int page) {
  Page *g = &p->page[page];
  *(g->before >= 0 ? &p->page[g->before].after : &p->oldest) = g->after;
  *(g->after >= 0 ? &p->page[g->after].before : &p->newest) = g->before;
  g->before = g->after = PAGE_NONE;
}

static void hold(Pages *p, int page) {
  Page *g = &p->page[page];
  if (g->holders++) return;
  leave_kept(p, page);
  p->held++;
}

int pages_take(Pages *p) {
  int page = p->free;
  if (page >= 0) {
    p->free = p->page[page].after;
  } else {
    page = p->oldest;
    if (page < 0) return PAGE_NONE;
    leave_kept(p, page);
    forget(p, page);
  }
  p->page[page].after = PAGE_NONE;
  p->page[page].holders = 1;
  p->held++;
  return page;
}

void pages_drop(Pages *p, int page) {
  Page *g = &p->page[page];
  assert(g->holders > 0);
  if (--g->holders) return;
  p->held--;
  if (!g->n) {
    g->after = p->free;
    p->free = page;
    return;
  }
  g->before = p->newest;
  *(p->newest >= 0 ? &p->page[p->newest].after : &p->oldest) = page;
  p->newest = page;
}

int pages_find(Pages *p, const int32_t *tokens, int n, int32_t *found) {
  int k = 0, parent = PAGE_NONE;
  for (; (k + 1) * PAGE_TOKENS <= n; k++) {
    int page = find_whole(p, parent, tokens + k * PAGE_TOKENS);
    if (page < 0) break;
    hold(p, page);
    found[k] = parent = page;
  }
  return k;
}

int pages_find_part(Pages *p, int parent, const int32_t *tokens, int n, int least, int *common) {
  int best = PAGE_NONE, most = least - 1, left = PART_SEARCH;
  if (n > PAGE_TOKENS) n = PAGE_TOKENS;
  for (int i = *first_child(p, parent); i >= 0 && left-- && most < n; i = p->page[i].elder) {
    const Page *g = &p->page[i];
    int same = 0, limit = g->n < n ? g->n : n;
    while (same < limit && g->tokens[same] == tokens[same]) same++;
    if (same > most) most = same, best = i;
  }
  if (best < 0) return PAGE_NONE;
  hold(p, best);
  *common = most;
  return best;
}

int pages_know(Pages *p, int parent, int page, const int32_t *tokens, int n) {
  Page *g = &p->page[page];
  if (g->n >= n) return page;
  if (n == PAGE_TOKENS) {
    int same = find_whole(p, parent, tokens);
    if (same >= 0) {
      hold(p, same);
      forget(p, page);
      pages_drop(p, page);
      return same;
    }
  }
  if (!g->n) {
    int *first = first_child(p, parent);
    g->parent = parent;
    g->elder = *first;
    if (*first >= 0) p->page[*first].younger = page;
    *first = page;
  }
  memcpy(g->tokens + g->n, tokens + g->n, sizeof(int32_t) * (size_t)(n - g->n));
  g->n = n;
  if (n == PAGE_TOKENS) {
    int *at = bucket(p, parent, tokens);
    g->chain = *at;
    *at = page;
  }
  return page;
}
