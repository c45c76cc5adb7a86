/* The chat page's files, taken in by the assembler. INK_PAGE_FOLDER: where they lie, told by CMakeLists.txt. */
#include "serve/page.h"

#include <string.h>

#define FILE_IN(symbol, name)                                                                                          \
  __asm__(".pushsection .rodata\n" #symbol ": .incbin \"" INK_PAGE_FOLDER "/" name "\"\n" #symbol                      \
          "_end: .byte 0\n.popsection\n");                                                                             \
  extern const char symbol[] __attribute__((visibility("hidden")));                                                    \
  extern const char symbol##_end[] __attribute__((visibility("hidden")))

FILE_IN(page_html, "page.html");
FILE_IN(page_js, "page.js");
FILE_IN(page_css, "page.css");

static const Page pages[] = {
    {"/", "text/html; charset=utf-8", page_html, page_html_end},
    {"/page.js", "text/javascript; charset=utf-8", page_js, page_js_end},
    {"/page.css", "text/css; charset=utf-8", page_css, page_css_end},
};

const Page *page_find(const char *path) {
  for (size_t i = 0; i < sizeof pages / sizeof *pages; i++)
    if (!strcmp(pages[i].path, path)) return &pages[i];
  return NULL;
}
