/* The pool of pages of the cache of keys and values: who holds which, and which are kept because their tokens may come again.
 *
 * A page is free, or held by so many sequences, or kept: held by nobody, but its contents are known and can be found again until
 * the page is needed. What a page holds is known by its tokens and by its parent, the page of the 64 tokens before: whole pages
 * are found through a hash of both (and compared, token by token), partly filled ones through the parent.
 *
 * What must hold: whoever holds a page holds all pages before it, and drops them after it. So the one kept longest has no
 * known page behind it, and a parent is never taken while a child is known. One thread at a time. */
#ifndef SERVE_PAGES_H
#define SERVE_PAGES_H
#include <stdbool.h>
#include <stdint.h>

typedef struct Pages Pages;

enum { PAGE_NONE = -1 };

Pages *pages_new(int n);
void pages_free(Pages *p);
int pages_room(const Pages *p); /* pages that pages_take can give: free and kept ones */
int pages_held(const Pages *p);

/* A page to write to, held once; what was kept longest gives way. PAGE_NONE: all are held. */
int pages_take(Pages *p);
void pages_drop(Pages *p, int page); /* one holder less */

/* The whole pages that hold the beginning of these tokens, as many as are known; each is held once more. */
int pages_find(Pages *p, const int32_t *tokens, int n, int32_t *found); /* found: [n / 64] */
/* Behind parent (PAGE_NONE: at the beginning), the page that shares most with these tokens, if it shares `least`: held once
 * more, to copy its first *common tokens; else PAGE_NONE. */
int pages_find_part(Pages *p, int parent, const int32_t *tokens, int n, int least, int *common);

/* Says what a held page holds, and will hold from now on: n tokens, of which a page that was told before holds more or as
 * many. Returns the page to go on with: another one if a known page holds the same 64 tokens (page is dropped, that one is held). */
int pages_know(Pages *p, int parent, int page, const int32_t *tokens, int n);
#endif
