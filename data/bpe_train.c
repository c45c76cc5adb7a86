/* Training of byte pairs: merge the most frequent pair of neighbours, again and again.
 *
 * How: the text's pieces (split.h) are counted, so that each distinct word is looked at once however often it occurs. A
 * table holds each pair's count and a list of the words that may contain it; a heap gives the pair to merge next. A
 * merge visits only the words on its pair's list, takes their pairs out of the counts, rewrites them, and counts them
 * again. Heap entries grow stale: a count that fell is found out when its entry surfaces and pushed back; a count that
 * rose was pushed when it rose. So whatever surfaces with its true count is the maximum.
 *
 * Order: higher count first, then the smaller left id, then the smaller right id; nothing depends on the order of the
 * text beyond its counts. A merge whose bytes are a token already (ab+c where a+bc came first) makes that token, so the
 * vocabulary holds no bytes twice. Memory grows with the distinct words, not with the text. */
#include "data/tokenizer.h"
#include "text/split.h"

#include <inttypes.h>
#include <string.h>

enum { LEAST_COUNT = 2, NIL = UINT32_MAX };

typedef struct Word {
  size_t at; /* of its bytes, then of its symbols: n of them from here */
  uint32_t n;
  int64_t count;
} Word;

typedef struct Pair {
  uint64_t key; /* left << 32 | right; KEY_NONE: free */
  int64_t count;
  uint32_t words; /* head of its list in `node` */
  bool risen;     /* is on the list of those to push */
} Pair;

typedef struct Node {
  uint32_t word, next;
} Node;

typedef struct Entry {
  int64_t count;
  uint64_t key;
} Entry;

#define KEY_NONE UINT64_MAX

struct BpeTrainer {
  Splitter *split;
  char *bytes; /* of all words */
  size_t nbytes, cap_bytes;
  Word *word;
  size_t nword, cap_word;
  uint32_t *slot; /* word + 1 by hash; 0: free */
  size_t slots;
  uint32_t *symbol;
  Pair *pair;
  size_t pair_slots, npair;
  Node *node;
  size_t nnode, cap_node;
  Entry *heap;
  size_t nheap, cap_heap;
  uint64_t *risen;
  size_t nrisen, cap_risen;
};

BpeTrainer *bpe_trainer_new(Diags *err) {
  Splitter *s = splitter_new(err);
  if (!s) return NULL;
  BpeTrainer *t = memory_zeroed(1, sizeof *t);
  t->split = s;
  return t;
}

void bpe_trainer_free(BpeTrainer *t) {
  if (!t) return;
  splitter_free(t->split);
  free(t->bytes), free(t->word), free(t->slot), free(t->symbol);
  free(t->pair), free(t->node), free(t->heap), free(t->risen);
  free(t);
}

/* ---- counting words */

static uint32_t *word_slot(BpeTrainer *t, const char *s, size_t n) {
  size_t at = bytes_hash(s, n) & (t->slots - 1);
  for (; t->slot[at]; at = (at + 1) & (t->slots - 1)) {
    const Word *w = &t->word[t->slot[at] - 1];
    if (w->n == n && !memcmp(t->bytes + w->at, s, n)) break;
  }
  return &t->slot[at];
}

static void count_piece(void *ctx, const char *piece, size_t n) {
  BpeTrainer *t = ctx;
  if (2 * (t->nword + 1) > t->slots) {
    free(t->slot);
    t->slots = t->slots ? 2 * t->slots : 1 << 16;
    t->slot = memory_zeroed(t->slots, sizeof *t->slot);
    for (size_t i = 0; i < t->nword; i++) *word_slot(t, t->bytes + t->word[i].at, t->word[i].n) = (uint32_t)i + 1;
  }
  uint32_t *slot = word_slot(t, piece, n);
  if (!*slot) {
    if (t->nword >= NIL - 1) abort(); /* more than four thousand million words fit no memory before this */
    RESERVE(t->bytes, t->cap_bytes, t->nbytes + n);
    memcpy(t->bytes + t->nbytes, piece, n);
    RESERVE(t->word, t->cap_word, t->nword + 1);
    t->word[t->nword++] = (Word){t->nbytes, (uint32_t)n, 0};
    t->nbytes += n;
    *slot = (uint32_t)t->nword;
  }
  t->word[*slot - 1].count++;
}

bool bpe_trainer_feed(BpeTrainer *t, const char *text, size_t n, bool last, Diags *err) {
  return splitter_feed(t->split, text, n, last, count_piece, t, err);
}

/* ---- pairs */

static Pair *pair_slot(BpeTrainer *t, uint64_t key) {
  size_t at = number_hash(key) & (t->pair_slots - 1);
  while (t->pair[at].key != KEY_NONE && t->pair[at].key != key) at = (at + 1) & (t->pair_slots - 1);
  return &t->pair[at];
}

static void grow_pairs(BpeTrainer *t) {
  Pair *old = t->pair;
  size_t n = t->pair_slots;
  t->pair_slots = n ? 2 * n : 1 << 12;
  t->pair = memory_resize(NULL, t->pair_slots, sizeof *t->pair);
  for (size_t i = 0; i < t->pair_slots; i++) t->pair[i].key = KEY_NONE;
  for (size_t i = 0; i < n; i++)
    if (old[i].key != KEY_NONE) *pair_slot(t, old[i].key) = old[i];
  free(old);
}

static bool first(const Entry *a, const Entry *b) {
  return a->count != b->count ? a->count > b->count : a->key < b->key;
}

static void push(BpeTrainer *t, Entry e) {
  if (e.count < LEAST_COUNT) return;
  RESERVE(t->heap, t->cap_heap, t->nheap + 1);
  size_t i = t->nheap++;
  for (; i && first(&e, &t->heap[(i - 1) / 2]); i = (i - 1) / 2) t->heap[i] = t->heap[(i - 1) / 2];
  t->heap[i] = e;
}

static Entry pop(BpeTrainer *t) {
  Entry top = t->heap[0], e = t->heap[--t->nheap];
  size_t i = 0;
  for (size_t k; (k = 2 * i + 1) < t->nheap; i = k) {
    if (k + 1 < t->nheap && first(&t->heap[k + 1], &t->heap[k])) k++;
    if (!first(&t->heap[k], &e)) break;
    t->heap[i] = t->heap[k];
  }
  t->heap[i] = e;
  return top;
}

/* Adds by * (its count) to all pairs of a word. Only pairs with `fresh` in them may rise in the end and gain the word. */
static void count_pairs(BpeTrainer *t, uint32_t word, int64_t by, uint32_t fresh) {
  const Word *w = &t->word[word];
  const uint32_t *s = t->symbol + w->at;
  for (uint32_t i = 0; i + 1 < w->n; i++) {
    if (2 * (t->npair + 1) > t->pair_slots) grow_pairs(t);
    uint64_t key = (uint64_t)s[i] << 32 | s[i + 1];
    Pair *p = pair_slot(t, key);
    if (p->key == KEY_NONE) *p = (Pair){key, 0, NIL, false}, t->npair++;
    p->count += by * w->count;
    if (by < 0 || (fresh != NIL && s[i] != fresh && s[i + 1] != fresh)) continue;
    if (p->words == NIL || t->node[p->words].word != word) {
      RESERVE(t->node, t->cap_node, t->nnode + 1);
      if (t->nnode >= NIL) abort();
      t->node[t->nnode] = (Node){word, p->words};
      p->words = (uint32_t)t->nnode++;
    }
    if (!p->risen) {
      p->risen = true;
      RESERVE(t->risen, t->cap_risen, t->nrisen + 1);
      t->risen[t->nrisen++] = key;
    }
  }
}

static void push_risen(BpeTrainer *t) {
  for (size_t i = 0; i < t->nrisen; i++) {
    Pair *p = pair_slot(t, t->risen[i]);
    p->risen = false;
    push(t, (Entry){p->count, p->key});
  }
  t->nrisen = 0;
}

static bool has_pair(const uint32_t *s, uint32_t n, uint32_t left, uint32_t right) {
  for (uint32_t i = 0; i + 1 < n; i++)
    if (s[i] == left && s[i + 1] == right) return true;
  return false;
}

static void merge_words(BpeTrainer *t, uint64_t key, uint32_t merged) {
  uint32_t left = (uint32_t)(key >> 32), right = (uint32_t)key;
  uint32_t at = pair_slot(t, key)->words;
  pair_slot(t, key)->words = NIL;
  while (at != NIL) {
    uint32_t word = t->node[at].word;
    at = t->node[at].next;
    Word *w = &t->word[word];
    uint32_t *s = t->symbol + w->at, n = 0;
    if (!has_pair(s, w->n, left, right)) continue; /* an earlier merge took it away */
    count_pairs(t, word, -1, merged);
    for (uint32_t i = 0; i < w->n; n++) {
      bool here = i + 1 < w->n && s[i] == left && s[i + 1] == right;
      s[n] = here ? merged : s[i];
      i += here ? 2 : 1;
    }
    w->n = n;
    count_pairs(t, word, 1, merged);
  }
  push_risen(t);
}

/* ---- the whole */

/* The token of both parts' bytes, made when there is none yet. */
static uint32_t joined(Bpe *b, uint64_t key, Text *scratch) {
  size_t n;
  uint32_t id;
  scratch->n = 0;
  const char *bytes = bpe_bytes(b, (uint32_t)(key >> 32), &n);
  text_write(scratch, bytes, n);
  bytes = bpe_bytes(b, (uint32_t)key, &n);
  text_write(scratch, bytes, n);
  return bpe_find(b, scratch->s, scratch->n, &id) ? id : bpe_add(b, scratch->s, scratch->n);
}

Tokenizer *bpe_trainer_finish(BpeTrainer *t, uint32_t vocab, const volatile int *stop, Diags *err) {
  if (vocab < BPE_LEAST_VOCAB || vocab > BPE_MOST_TOKENS) {
    diag_error(err, (Span){0}, "a byte-pair vocabulary has %d to %d ids, not %" PRIu32, BPE_LEAST_VOCAB,
               BPE_MOST_TOKENS, vocab);
    return NULL;
  }
  Bpe *b = bpe_new();
  for (int i = 0; i < 256; i++) {
    char c = (char)i;
    bpe_add(b, &c, 1);
  }
  t->symbol = memory_resize(t->symbol, t->nbytes, sizeof *t->symbol);
  for (size_t i = 0; i < t->nbytes; i++) t->symbol[i] = (unsigned char)t->bytes[i];
  grow_pairs(t);
  for (size_t i = 0; i < t->nword; i++) count_pairs(t, (uint32_t)i, 1, NIL);
  push_risen(t);
  Text scratch = {0};
  while (bpe_count(b) + 1 < vocab && t->nheap && !(stop && *stop)) {
    Entry e = pop(t);
    int64_t count = pair_slot(t, e.key)->count;
    if (count < e.count) push(t, (Entry){count, e.key});
    if (count != e.count) continue;
    size_t left, right;
    bpe_bytes(b, (uint32_t)(e.key >> 32), &left);
    bpe_bytes(b, (uint32_t)e.key, &right);
    if (left + right > BPE_LONGEST_TOKEN) continue;
    uint32_t merged = joined(b, e.key, &scratch);
    bpe_merge(b, (uint32_t)(e.key >> 32), (uint32_t)e.key, merged);
    merge_words(t, e.key, merged);
  }
  text_free(&scratch);
  if (stop && *stop) {
    diag_error(err, (Span){0}, "interrupted");
    bpe_free(b);
    return NULL;
  }
  uint32_t eot = bpe_add(b, NULL, 0);
  return tokenizer_bpe(b, eot, err);
}
