/* Tables as text: cells in, lines with aligned columns out. */
#ifndef RT_COLUMNS_H
#define RT_COLUMNS_H
#include "ink/base.h"

/* The next cell of the row. What cannot be shown in it becomes '?'. */
void columns_add(Text *cells, const char *fmt, ...) PRINTF(2, 3);
void columns_row(Text *cells); /* ends the row; one without cells is an empty line */
/* Appends the rows to out, columns two spaces apart. sides: 'l' or 'r' for each column; what is beyond them is 'l'. */
void columns_print(const Text *cells, const char *sides, Text *out);
#endif
