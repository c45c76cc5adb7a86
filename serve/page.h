/* The chat page: files that the server carries in itself. */
#ifndef SERVE_PAGE_H
#define SERVE_PAGE_H
#include <stddef.h>

typedef struct Page {
  const char *path, *type;
  const char *bytes, *end;
} Page;

const Page *page_find(const char *path); /* NULL: there is none */
#endif
