/* What a batcher runs: a model that takes N tokens of any mix of sequences in one go, over a paged cache of keys and values.
 *
 * A batch holds S sequences side by side: sequence s is the tokens [starts[s], starts[s + 1]), in rising position, and may
 * be a part of a prompt (a chunk) or one token of a decode. Its pages are table[s][0 ..]: page j holds positions
 * [64 j, 64 j + 64). The keys and values of each token are written to slots[i] = page * 64 + position % 64 first; then each token
 * looks at all positions up to its own through the table, at those of this batch too. `rows` names the tokens whose
 * logits are wanted, rising.
 *
 * Law: what comes out for a token depends on the tokens of its own sequence up to it alone; not on N, S, the chunks, the pages'
 * numbers or threads: bit for bit. */
#ifndef SERVE_MODEL_H
#define SERVE_MODEL_H
#include "runtime/report.h"
#include <stdint.h>

enum { PAGE_TOKENS = 64 };

typedef struct ServeLimits {
  int vocab, hidden; /* width of logits and of hidden rows */
  int ctx;           /* positions a sequence may have */
  int pages;         /* of the cache */
  int tokens;        /* N at most */
  int seqs;          /* S at most */
  int rows;          /* rows at most */
} ServeLimits;

typedef struct ServeBatch {
  int n, s, r;
  int32_t *tokens, *positions, *slots; /* [limits.tokens] */
  int32_t *starts;                     /* [limits.seqs + 1] */
  int32_t *table;                      /* [limits.seqs][table_width] */
  int table_width;                     /* pages a sequence may have: ctx / 64, rounded up */
  int32_t *rows;                       /* [limits.rows] */
  const float *logits;                 /* made by run: [r][vocab] */
  const float *hidden; /* [r][hidden], what the logits are made from; NULL: the model has none to show */
} ServeBatch;

/* A model: the compiled program (program_model.h), or a made-up one in tests. run fills logits and hidden; false with a report
 * when it cannot go on at all. One thread at a time. */
typedef struct ServeModel {
  ServeLimits limits;
  ServeBatch batch; /* the arrays, which the model owns and the batcher fills before each run */
  bool (*run)(struct ServeModel *m, Report *err);
  /* Copies keys and values of the first `tokens` tokens of a page to another page. */
  void (*copy_page)(struct ServeModel *m, int from, int to, int tokens);
  void (*free)(struct ServeModel *m);
} ServeModel;
#endif
