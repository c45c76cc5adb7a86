/* Call sites: the steps of a program that call a kernel, how often they do, and where in the model they stand. */
#ifndef RT_SITES_H
#define RT_SITES_H
#include "ink/base.h"
#include "runtime/program.h"

/* Adds to calls[step] what `times` runs of the list call; run-time extents at their bounds. */
void sites_count(const Program *p, int list, int64_t times, int64_t *calls);
/* Of the kernel's steps with calls: how many; "gpt2.yaml:31,35", the kernel's own line where steps have none; "layer.0 to
 * layer.11 (12)". Texts are appended, "-" for none. */
int sites_number(const Program *p, int kernel, const int64_t *calls);
void sites_lines(const Program *p, int kernel, const int64_t *calls, Text *out);
void sites_layers(const Program *p, int kernel, const int64_t *calls, Text *out);
#endif
