/* A made-up model for tests of the server: its tokenizer has a token a byte and four special ones; its answers repeat the prompt. */
#ifndef TESTS_SERVE_FAKE_SERVED_H
#define TESTS_SERVE_FAKE_SERVED_H
#include "serve/complete.h"

enum { FAKE_BOS = 256, FAKE_EOS, FAKE_START, FAKE_END, FAKE_VOCAB, FAKE_HIDDEN = 8 };

typedef struct FakeOptions {
  int delay_ms;  /* a step */
  int max_seqs;  /* answers at once */
  int max_queue; /* answers that wait */
  int ctx;
  int fail_after; /* tokens of an answer, after which it fails; 0: never */
  int break_at;   /* steps, after which the model fails for good; 0: never */
  bool no_chat;
} FakeOptions;

void fake_open(Served *s, const FakeOptions *o);
void fake_close(Served *s);
int fake_unfinished(const Served *s); /* completions that were started and not freed */
#endif
