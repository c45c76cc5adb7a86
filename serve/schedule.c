/* See schedule.h for the rules. */
#include "serve/schedule.h"
#include "text/memory.h"
#include <string.h>

enum {
  COPY_LEAST = 8,    /* tokens of a page that are worth a copy */
  FOLLOW_LEAST = 16, /* tokens that are worth a wait */
  PASS_MOST = 16     /* later ones that one lets by */
};

static int pages_for(int tokens) {
  return (tokens + PAGE_TOKENS - 1) / PAGE_TOKENS;
}

void schedule_open(Schedule *s, ServeModel *m, int most, bool share, double bound) {
  *s = (Schedule){.m = m, .most = most, .share = share, .bound = bound};
  s->pages = pages_new(m->limits.pages);
  s->running = memory_zeroed((size_t)most, sizeof(*s->running));
  s->order = memory_zeroed((size_t)most, sizeof(*s->order));
}

void schedule_close(Schedule *s) {
  pages_free(s->pages);
  free(s->running);
  free(s->order);
}

void schedule_wait(Schedule *s, Sequence *q) {
  Sequence **at = &s->waiting;
  while (*at && (*at)->id < q->id) at = &(*at)->next;
  q->next = *at;
  *at = q;
}

/* ---- pages of one sequence */

static int parent_of(const Sequence *q, int j) {
  return j ? q->pages[j - 1] : PAGE_NONE;
}

static void drop_pages(Schedule *s, Sequence *q) {
  while (q->npages) pages_drop(s->pages, q->pages[--q->npages]);
  q->known = q->computed = 0;
}

static void know_tail(Schedule *s, Sequence *q) {
  int j = q->computed / PAGE_TOKENS, n = q->computed % PAGE_TOKENS;
  if (s->share && n) pages_know(s->pages, parent_of(q, j), q->pages[j], q->tokens + j * PAGE_TOKENS, n);
}

static void know_pages(Schedule *s, Sequence *q) {
  for (; s->share && (q->known + 1) * PAGE_TOKENS <= q->computed; q->known++) {
    int j = q->known;
    q->pages[j] = pages_know(s->pages, parent_of(q, j), q->pages[j], q->tokens + j * PAGE_TOKENS, PAGE_TOKENS);
  }
}

/* Takes the pages of a waiting sequence, those that the cache has among them; false: there is no room. */
static bool take_pages(Schedule *s, Sequence *q) {
  int all = pages_for(q->n), shared = 0, common = 0, source = PAGE_NONE;
  int usable = sequence_first_row(q); /* tokens that need not be computed */
  q->pages = memory_resize(q->pages, (size_t)all, sizeof(*q->pages));
  if (s->share) {
    shared = pages_find(s->pages, q->tokens, usable, q->pages);
    q->npages = shared;
    source = pages_find_part(s->pages, parent_of(q, shared), q->tokens + shared * PAGE_TOKENS,
                             usable - shared * PAGE_TOKENS, COPY_LEAST, &common);
  }
  int need = all - shared + s->nrunning;
  if (source >= 0 && pages_room(s->pages) < need) { /* the one to copy may be among those that are needed */
    pages_drop(s->pages, source);
    source = PAGE_NONE;
  }
  if (pages_room(s->pages) < need) {
    drop_pages(s, q);
    return false;
  }
  while (q->npages < all) q->pages[q->npages++] = pages_take(s->pages);
  q->known = shared;
  q->computed = shared * PAGE_TOKENS;
  if (source >= 0) {
    s->m->copy_page(s->m, source, q->pages[shared], common);
    pages_drop(s->pages, source);
    q->computed += common;
  }
  if (q->cached < 0) {
    q->cached = q->computed;
    s->prompt_tokens += q->r.nprompt;
    s->cached_tokens += q->cached;
  }
  return true;
}

static bool grow_pages(Schedule *s, Sequence *q) {
  int page = pages_take(s->pages);
  if (page < 0) return false;
  q->pages = memory_resize(q->pages, (size_t)q->npages + 1, sizeof(*q->pages));
  q->pages[q->npages++] = page;
  return true;
}

/* ---- admission and preemption */

/* Whether a running sequence is about to compute what q could share. */
static bool follows(const Schedule *s, Sequence *q) {
  int usable = sequence_first_row(q);
  for (int i = 0; s->share && i < s->nrunning; i++) {
    const Sequence *r = s->running[i];
    if ((q->leader && q->leader != r->id) || sequence_due(r) < 2) continue;
    int same = 0, limit = r->n < usable ? r->n : usable;
    while (same < limit && r->tokens[same] == q->tokens[same]) same++;
    if (same - r->computed < (q->leader ? 1 : FOLLOW_LEAST)) continue;
    q->leader = r->id;
    return true;
  }
  return false;
}

static void run_it(Schedule *s, Sequence *q) {
  int i = s->nrunning++;
  for (; i && s->running[i - 1]->id > q->id; i--) s->running[i] = s->running[i - 1];
  s->running[i] = q;
  sequence_open(q);
}

void schedule_admit(Schedule *s) {
  int held_back = 0;
  Sequence **at = &s->waiting;
  while (*at && s->nrunning < s->most && held_back < PASS_MOST) {
    Sequence *q = *at;
    if (follows(s, q)) {
      at = &q->next;
    } else if (take_pages(s, q)) {
      *at = q->next;
      q->next = NULL;
      for (Sequence *w = s->waiting; w != *at; w = w->next) w->passed++;
      run_it(s, q);
    } else {
      if (q->passed >= PASS_MOST) return;
      held_back++;
      at = &q->next;
    }
  }
}

void schedule_remove(Schedule *s, Sequence *q) {
  for (int i = 0; i < s->nrunning; i++) {
    if (s->running[i] != q) continue;
    know_tail(s, q);
    drop_pages(s, q);
    memmove(s->running + i, s->running + i + 1, sizeof(*s->running) * (size_t)(s->nrunning - i - 1));
    s->nrunning--;
    return;
  }
  for (Sequence **at = &s->waiting; *at; at = &(*at)->next) {
    if (*at != q) continue;
    *at = q->next;
    return;
  }
}

/* Every stream has the page that its token goes to, or waits again. */
static void grow_streams(Schedule *s) {
  for (int i = 0; i < s->nrunning; i++) {
    Sequence *q = s->running[i];
    while (q->npages < pages_for(q->n) && !grow_pages(s, q)) {
      Sequence *youngest = s->running[--s->nrunning];
      drop_pages(s, youngest);
      schedule_wait(s, youngest);
      if (youngest == q) return;
    }
  }
}

/* ---- a step */

typedef struct Room {
  int tokens, rows;
} Room;

/* Up to `most` more tokens for q. */
static void give(Sequence *q, int most, Room *room) {
  int first = sequence_first_row(q), at = q->computed + q->chunk, n = sequence_due(q) - q->chunk;
  if (n > most) n = most;
  int before = first > at ? first - at : 0; /* tokens without rows */
  if (n > before + room->rows) n = before + room->rows;
  room->tokens -= n;
  room->rows -= n > before ? n - before : 0;
  q->chunk += n;
}

static void choose_chunks(Schedule *s) {
  Room room = {s->m->limits.tokens, s->m->limits.rows};
  bool streams = false;
  Sequence *oldest = NULL;
  int prompts = 0;
  s->decodes = s->prompt = 0;
  for (int i = 0; i < s->nrunning; i++) {
    Sequence *q = s->running[i];
    q->chunk = 0;
    if (sequence_due(q) == 1) {
      give(q, 1, &room);
      s->decodes++;
      streams |= sequence_generated(q) > 0;
      continue;
    }
    if (!oldest) oldest = q;
    int k = prompts++;
    for (; k && sequence_due(s->order[k - 1]) > sequence_due(q); k--) s->order[k] = s->order[k - 1];
    s->order[k] = q;
  }
  if (!oldest) return;
  if (s->bound > 0 && streams) room.tokens = pace_room(&s->pace, s->decodes, s->bound, room.tokens);
  int all = room.tokens;
  give(oldest, (all + 1) / 2, &room);
  for (int k = 0; k < prompts; k++) give(s->order[k], room.tokens, &room);
  s->prompt = all - room.tokens;
}

static void fill_batch(Schedule *s) {
  ServeBatch *b = &s->m->batch;
  b->n = b->s = b->r = 0;
  for (int i = 0; i < s->nrunning; i++) {
    Sequence *q = s->running[i];
    if (!q->chunk) continue;
    int first = sequence_first_row(q);
    memcpy(b->table + (size_t)b->s * (size_t)b->table_width, q->pages, sizeof(int32_t) * (size_t)q->npages);
    b->starts[b->s++] = b->n;
    for (int at = q->computed; at < q->computed + q->chunk; at++, b->n++) {
      b->tokens[b->n] = q->tokens[at];
      b->positions[b->n] = at;
      b->slots[b->n] = q->pages[at / PAGE_TOKENS] * PAGE_TOKENS + at % PAGE_TOKENS;
      if (at >= first) b->rows[b->r++] = b->n;
    }
  }
  b->starts[b->s] = b->n;
}

void schedule_plan(Schedule *s) {
  grow_streams(s);
  choose_chunks(s);
  fill_batch(s);
}

void schedule_computed(Schedule *s, Sequence *q) {
  q->computed += q->chunk;
  know_pages(s, q);
  if (q->chunk > 1) know_tail(s, q);
}
