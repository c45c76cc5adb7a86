/* The pool of pages against a plain model of it: random sequences that share beginnings take, know, find and drop pages, in pools that
 * are too small. The source is included, for its lists are looked at after every operation. */
#include "serve/pages.c"
#include "tests/unit/runtime_criterion.h"

static uint64_t seed = 1;

static int rnd(int below) {
  seed = seed * 6364136223846793005u + 1442695040888963407u;
  return (int)((seed >> 33) % (uint64_t)below);
}

/* Every page is in one place, every list is whole, whoever holds a known page holds its parent. */
static void check(const Pages *p) {
  int held = 0, free_ones = 0, kept = 0, hashed = 0, children = 0, known = 0;
  for (int i = p->free; i >= 0; i = p->page[i].after, free_ones++)
    cr_assert(p->page[i].holders == 0 && p->page[i].n == 0);
  for (int i = p->oldest, before = PAGE_NONE; i >= 0; before = i, i = p->page[i].after, kept++) {
    cr_assert(p->page[i].holders == 0 && p->page[i].n > 0);
    cr_assert(eq(int, p->page[i].before, before));
    if (p->page[i].after < 0) cr_assert(eq(int, p->newest, i));
    /* What is kept behind it was kept before it. */
    for (int c = p->page[i].child; c >= 0; c = p->page[c].elder) {
      int at = p->oldest;
      while (at != c && at != i) at = p->page[at].after;
      cr_assert(eq(int, at, c), "page %d would go before its child %d", i, c);
    }
  }
  for (uint32_t k = 0; k <= p->mask; k++)
    for (int i = p->buckets[k]; i >= 0; i = p->page[i].chain, hashed++) {
      cr_assert(eq(int, p->page[i].n, PAGE_TOKENS));
      cr_assert(eq(ptr, (void *)bucket(p, p->page[i].parent, p->page[i].tokens), (void *)&p->buckets[k]));
    }
  for (int i = PAGE_NONE; i < p->n; i++)
    for (int c = i < 0 ? p->root : p->page[i].child, younger = PAGE_NONE; c >= 0;
         younger = c, c = p->page[c].elder, children++)
      cr_assert(p->page[c].parent == i && p->page[c].younger == younger && p->page[c].n > 0);
  int whole = 0;
  for (int i = 0; i < p->n; i++) {
    const Page *g = &p->page[i];
    held += g->holders > 0;
    known += g->n > 0;
    whole += g->n == PAGE_TOKENS;
    if (g->n && g->parent >= 0) cr_assert(p->page[g->parent].n == PAGE_TOKENS);
    if (g->holders && g->n && g->parent >= 0) cr_assert(p->page[g->parent].holders > 0);
  }
  cr_assert(eq(int, held, p->held));
  cr_assert(eq(int, held + free_ones + kept, p->n));
  cr_assert(eq(int, hashed, whole));
  cr_assert(eq(int, children, known));
}

typedef struct User {
  int32_t tokens[8 * PAGE_TOKENS], page[8];
  int n, npages, known; /* of n tokens the first known pages are told whole */
} User;

static int parent(const User *u, int j) {
  return j ? u->page[j - 1] : PAGE_NONE;
}

static void leave(Pages *p, User *u) {
  int rest = u->n % PAGE_TOKENS, j = u->n / PAGE_TOKENS;
  if (u->npages > j && u->known == j && rest && rnd(2))
    pages_know(p, parent(u, j), u->page[j], u->tokens + j * PAGE_TOKENS, rest);
  check(p);
  while (u->npages) pages_drop(p, u->page[--u->npages]);
}

/* What each page holds by who wrote to it: the test's own memory. */
static int32_t memory[64][PAGE_TOKENS];

static bool enter(Pages *p, User *u) {
  u->n = 1 + rnd(8 * PAGE_TOKENS);
  int alike = rnd(10) ? rnd(u->n + 1) : 0;
  for (int i = 0; i < u->n; i++) u->tokens[i] = i < alike ? i * 7 % 5 : rnd(1000);
  int all = (u->n + PAGE_TOKENS - 1) / PAGE_TOKENS, common = 0;
  u->npages = pages_find(p, u->tokens, u->n, u->page);
  check(p);
  for (int j = 0; j < u->npages; j++) /* it is what was asked for */
    cr_assert(zero(int, memcmp(memory[u->page[j]], u->tokens + j * PAGE_TOKENS, sizeof(memory[0]))));
  int shared = u->npages, left = u->n - shared * PAGE_TOKENS;
  int source = pages_find_part(p, parent(u, shared), u->tokens + shared * PAGE_TOKENS, left, 5, &common);
  if (source >= 0) {
    cr_assert(common >= 5 && common <= left);
    cr_assert(zero(int, memcmp(memory[source], u->tokens + shared * PAGE_TOKENS, sizeof(int32_t) * (size_t)common)));
    if (common < left && common < PAGE_TOKENS && p->page[source].n > common)
      cr_assert(ne(int, memory[source][common], u->tokens[shared * PAGE_TOKENS + common]));
    pages_drop(p, source);
  }
  check(p);
  u->known = shared;
  if (pages_room(p) < all - shared) {
    leave(p, u);
    return false;
  }
  for (int j = shared; j < all; j++) {
    int room = pages_room(p), page = pages_take(p);
    cr_assert(page >= 0 && pages_room(p) == room - 1);
    u->page[u->npages++] = page;
    for (int i = 0; i < PAGE_TOKENS; i++)
      memory[page][i] = j * PAGE_TOKENS + i < u->n ? u->tokens[j * PAGE_TOKENS + i] : -1;
    check(p);
  }
  return true;
}

static void go_on(Pages *p, User *u) {
  if ((u->known + 1) * PAGE_TOKENS > u->n) return;
  int j = u->known, page = u->page[j];
  if (rnd(2)) cr_assert(eq(int, pages_know(p, parent(u, j), page, u->tokens + j * PAGE_TOKENS, 1 + rnd(63)), page));
  u->page[j] = pages_know(p, parent(u, j), page, u->tokens + j * PAGE_TOKENS, PAGE_TOKENS);
  cr_assert(zero(int, memcmp(memory[u->page[j]], u->tokens + j * PAGE_TOKENS, sizeof(memory[0]))));
  cr_assert(eq(int, pages_know(p, parent(u, j), u->page[j], u->tokens + j * PAGE_TOKENS, PAGE_TOKENS), u->page[j]));
  u->known++;
}

Test(pages, anything, .timeout = 120) {
  int found = 0;
  for (int round = 0; round < 30; round++) {
    enum { USERS = 6 };
    int n = 1 + rnd(rnd(2) ? 10 : 60);
    Pages *p = pages_new(n);
    User user[USERS] = {0};
    check(p);
    for (int step = 0; step < 1000; step++) {
      User *u = &user[rnd(USERS)];
      if (!u->npages) {
        if (enter(p, u)) found += u->known;
      } else if (rnd(3)) {
        go_on(p, u);
      } else {
        leave(p, u);
      }
      check(p);
    }
    for (int i = 0; i < USERS; i++) leave(p, &user[i]);
    check(p);
    cr_assert(eq(int, pages_held(p), 0));
    cr_assert(eq(int, pages_room(p), n));
    for (int i = 0; i < n; i++) cr_assert(pages_take(p) >= 0);
    cr_assert(eq(int, pages_take(p), PAGE_NONE));
    check(p);
    pages_free(p);
  }
  cr_assert(gt(int, found, 1000));
}

/* What was left longest ago goes first, the end of a sequence before its beginning. */
Test(pages, what_goes_first) {
  int32_t tokens[2][3 * PAGE_TOKENS], page[2][3], found[3];
  Pages *p = pages_new(6);
  for (int k = 0; k < 2; k++)
    for (int i = 0; i < 3 * PAGE_TOKENS; i++) tokens[k][i] = k * 1000 + i;
  for (int k = 0; k < 2; k++) {
    for (int j = 0; j < 3; j++) {
      page[k][j] = pages_take(p);
      page[k][j] = pages_know(p, j ? page[k][j - 1] : PAGE_NONE, page[k][j], tokens[k] + j * PAGE_TOKENS, PAGE_TOKENS);
    }
    for (int j = 2; j >= 0; j--) pages_drop(p, page[k][j]);
  }
  int n = pages_find(p, tokens[0], 3 * PAGE_TOKENS, found); /* used again: now the other's are older */
  cr_assert(eq(int, n, 3));
  while (n) pages_drop(p, found[--n]);
  for (int k = 1; k >= 0; k--)
    for (int j = 2; j >= 0; j--) cr_assert(eq(int, pages_take(p), page[k][j]));
  pages_free(p);
}

/* Tokens alike behind other beginnings are other pages, in one chain of the hash table, too. */
Test(pages, what_was_before_counts) {
  enum { N = 200 };
  static int32_t tokens[N][2 * PAGE_TOKENS], page[N][2];
  int32_t found[2];
  Pages *p = pages_new(2 * N);
  for (int k = 0; k < N; k++) {
    for (int i = 0; i < 2 * PAGE_TOKENS; i++) tokens[k][i] = i % PAGE_TOKENS;
    tokens[k][3] = k;
    for (int j = 0; j < 2; j++) {
      int taken = page[k][j] = pages_take(p);
      page[k][j] = pages_know(p, j ? page[k][0] : PAGE_NONE, taken, tokens[k] + j * PAGE_TOKENS, PAGE_TOKENS);
      cr_assert(eq(int, page[k][j], taken));
    }
    check(p);
  }
  int together = 0;
  for (uint32_t i = 0; i <= p->mask; i++) together += p->buckets[i] >= 0 && p->page[p->buckets[i]].chain >= 0;
  cr_assert(gt(int, together, 10));
  for (int k = 0; k < N; k++) {
    cr_assert(eq(int, pages_find(p, tokens[k], 2 * PAGE_TOKENS, found), 2));
    cr_assert(found[0] == page[k][0] && found[1] == page[k][1]);
    cr_assert(eq(int, pages_find(p, tokens[k], 2 * PAGE_TOKENS - 1, found), 1));
    tokens[k][5] = 77;
    cr_assert(eq(int, pages_find(p, tokens[k], 2 * PAGE_TOKENS, found), 0));
  }
  pages_free(p);
}
