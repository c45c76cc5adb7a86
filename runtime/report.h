/* Messages as values: what failed, or what the user should know.
 *
 * A function that can fail takes a `Report *err`, adds one line per problem to it and returns false (or NULL); it never
 * prints and never exits. The same type carries notes, things that are no failure ("fell back to step-20"). The caller
 * that owns the Report shows the text and frees it. Adding stops at 64 KiB: what is cut is said in the last line. */
#ifndef RT_REPORT_H
#define RT_REPORT_H
#include <stdbool.h>
#include <stddef.h>

typedef struct Report {
  char *text; /* lines, each ended by '\n'; NULL when nothing was added */
  size_t n, cap;
  int lines;
  bool cut;
} Report;

/* Adds a line (without '\n'); always returns false, so that `return report_add(...)` reads well. */
bool report_add(Report *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void report_free(Report *r);

/* The candidate nearest to `word` by edit distance, at most a third of its length away (at least 2), or NULL. */
const char *report_suggest(const char *word, const char *const *candidates, int n);
#endif
