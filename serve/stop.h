/* Stop strings in a text that comes piece by piece: where the first one ends, and how much of the end of the text may still become
 * one. What is found does not depend on the pieces: byte by byte, the stop string that ends first, of those the longest. */
#ifndef SERVE_STOP_H
#define SERVE_STOP_H
#include <stdbool.h>
#include <stddef.h>

typedef struct StopScan StopScan;
StopScan *stop_new(const char *const *stop, int n); /* copies; none is empty */
void stop_free(StopScan *s);

/* Reads on. True: a stop string of *length bytes ends after *used of these n bytes. */
bool stop_scan(StopScan *s, const char *bytes, size_t n, size_t *used, size_t *length);
size_t stop_held(const StopScan *s); /* last bytes read that are the beginning of a stop string */
#endif
