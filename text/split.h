/* GPT-2's pre-tokenizer: text into the pieces that byte-pair merges never cross.
 *
 * Text may come in any portions: the pieces are those of the whole text. Bytes that are no UTF-8 become pieces of one
 * byte each, and the text between them is split as if it stood alone. A piece longer than SPLIT_LONGEST (a megabyte of
 * letters without a space) is cut there, so that memory and time stay bounded. */
#ifndef TEXT_SPLIT_H
#define TEXT_SPLIT_H
#include "ink/base.h"

enum { SPLIT_LONGEST = 1 << 20 };

typedef struct Splitter Splitter;
typedef void (*PieceFn)(void *ctx, const char *piece, size_t n);

Splitter *splitter_new(Diags *err); /* NULL when PCRE2 refuses the pattern */
void splitter_free(Splitter *s);

/* Takes the next n bytes of the text and hands on every piece that is certain; last: nothing follows, so all of them. */
bool splitter_feed(Splitter *s, const char *text, size_t n, bool last, PieceFn piece, void *ctx, Diags *err);
#endif
