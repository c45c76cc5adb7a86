/* Tables as text. Cells stand one behind the other in a Text, each ended by a tab, each row by a line end; both are kept out
 * of the cells themselves. A column is as wide as its widest cell, counted in characters. */
#include "runtime/columns.h"
#include <stdio.h>
#include <string.h>

enum { COLUMNS = 24 };

void columns_add(Text *cells, const char *fmt, ...) {
  char cell[1024];
  va_list ap;
  va_start(ap, fmt);
  int n = vsnprintf(cell, sizeof cell, fmt, ap);
  va_end(ap);
  if (n >= (int)sizeof cell) n = (int)sizeof cell - 1;
  for (int i = 0, k; i < n; i += k) {
    k = text_printable(cell + i, (size_t)(n - i));
    if (!k) cell[i] = '?', k = 1;
  }
  text_write(cells, cell, n > 0 ? (size_t)n : 0);
  text_write(cells, "\t", 1);
}

void columns_row(Text *cells) {
  text_write(cells, "\n", 1);
}

static int characters(const char *s, size_t n) {
  int count = 0;
  for (size_t i = 0; i < n; i++) count += ((unsigned char)s[i] & 0xC0) != 0x80;
  return count;
}

void columns_print(const Text *cells, const char *sides, Text *out) {
  int width[COLUMNS] = {0}, nsides = (int)strlen(sides), c = 0;
  for (const char *s = cells->s; s && *s; s++) {
    size_t n = strcspn(s, "\t\n");
    if (s[n] == '\t') {
      int w = characters(s, n);
      if (c < COLUMNS && w > width[c]) width[c] = w;
      c++;
    } else {
      c = 0;
    }
    s += n;
  }
  c = 0;
  int owed = 0; /* spaces before what comes next: none are left at the end of a line */
  for (const char *s = cells->s; s && *s; s++) {
    size_t n = strcspn(s, "\t\n");
    if (s[n] == '\t') {
      int pad = c < COLUMNS ? width[c] - characters(s, n) : 0;
      bool right = c < nsides && sides[c] == 'r';
      if (c) owed += 2;
      if (right) owed += pad;
      if (n) {
        text_add(out, "%*s%.*s", owed, "", (int)n, s);
        owed = 0;
      }
      if (!right) owed += pad;
      c++;
    } else {
      text_add(out, "\n");
      c = owed = 0;
    }
    s += n;
  }
}
