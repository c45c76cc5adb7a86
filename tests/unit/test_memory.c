/* The memory plan on made-up lifetimes: nothing that lives together overlaps, and what can share does. */
#include "codegen/program.h"
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

static Arena *arena;
static void setup(void) {
  arena = arena_new();
}
static void teardown(void) {
  arena_free(arena);
}
TestSuite(memory, .init = setup, .fini = teardown);

static void check_disjoint(const MemoryItem *it, int n, int64_t arena_bytes) {
  for (int i = 0; i < n; i++) {
    cr_assert(eq(i64, it[i].offset % MEMORY_ALIGN, 0));
    cr_assert(ge(i64, it[i].offset, 0));
    cr_assert(le(i64, it[i].offset + it[i].bytes, arena_bytes));
    for (int j = 0; j < i; j++) {
      bool alive = it[i].begin <= it[j].end && it[j].begin <= it[i].end;
      bool apart = it[i].offset + it[i].bytes <= it[j].offset || it[j].offset + it[j].bytes <= it[i].offset;
      if (alive && !apart) cr_fail("items %d and %d overlap", i, j);
    }
  }
}

Test(memory, none) {
  MemoryReport r = memory_plan(arena, NULL, 0, true);
  cr_assert(eq(i64, r.arena, 0));
  cr_assert(eq(i64, r.peak, 0));
}

Test(memory, a_chain_takes_two) { /* each step reads one and writes the next: two of equal size, in turn */
  MemoryItem it[10];
  for (int i = 0; i < 10; i++) it[i] = (MemoryItem){.bytes = 1024, .begin = i, .end = i + 1};
  MemoryReport r = memory_plan(arena, it, 10, false);
  check_disjoint(it, 10, r.arena);
  cr_assert(eq(i64, r.arena, 2048));
  cr_assert(eq(i64, r.peak, 2048));
}

Test(memory, touching_intervals_are_alive_together) {
  MemoryItem it[] = {{.bytes = 64, .begin = 0, .end = 3}, {.bytes = 64, .begin = 3, .end = 4}};
  MemoryReport r = memory_plan(arena, it, 2, false);
  cr_assert(eq(i64, r.arena, 128));
}

Test(memory, the_tightest_gap) {
  /* 2048 and 512 die and leave gaps between survivors; the newcomer of 192 belongs into the gap of 512. */
  MemoryItem it[] = {{.bytes = 4096, .begin = 0, .end = 9}, {.bytes = 2048, .begin = 0, .end = 4},
                     {.bytes = 1024, .begin = 0, .end = 9}, {.bytes = 512, .begin = 0, .end = 4},
                     {.bytes = 256, .begin = 0, .end = 9},  {.bytes = 192, .begin = 5, .end = 9}};
  MemoryReport r = memory_plan(arena, it, 6, false);
  check_disjoint(it, 6, r.arena);
  cr_assert(eq(i64, it[5].offset, it[3].offset));
}

Test(memory, odd_sizes_stay_aligned) {
  MemoryItem it[] = {
      {.bytes = 1, .begin = 0, .end = 1}, {.bytes = 65, .begin = 0, .end = 1}, {.bytes = 3, .begin = 1, .end = 1}};
  MemoryReport r = memory_plan(arena, it, 3, false);
  check_disjoint(it, 3, r.arena);
  cr_assert(eq(i64, r.arena, 64 + 128 + 64));
  cr_assert(eq(i64, r.peak, 69));
}

Test(memory, stagger_moves_large_neighbours) {
  MemoryItem it[] = {{.bytes = 1 << 16, .begin = 0, .end = 1}, {.bytes = 1 << 16, .begin = 0, .end = 1}};
  MemoryReport r = memory_plan(arena, it, 2, true);
  check_disjoint(it, 2, r.arena);
  cr_assert(ne(i64, (it[1].offset - it[0].offset) % 4096, 0));
}

Test(memory, random_plans_near_the_bound) {
  uint64_t s = 12345;
  for (int round = 0; round < 20; round++) {
    enum { N = 200 };
    MemoryItem it[N];
    for (int i = 0; i < N; i++) {
      s = s * 6364136223846793005u + 1442695040888963407u;
      int64_t begin = (int64_t)(s >> 40) % 100, len = (int64_t)(s >> 20) % 12;
      it[i] = (MemoryItem){.bytes = 64 + (int64_t)(s >> 33) % 10000, .begin = begin, .end = begin + len};
    }
    MemoryReport r = memory_plan(arena, it, N, false);
    check_disjoint(it, N, r.arena);
    cr_assert(ge(i64, r.arena, r.peak));
    cr_assert(le(i64, r.arena, r.peak + r.peak / 3));
  }
}
