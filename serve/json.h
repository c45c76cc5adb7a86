/* JSON: bounded reading through jansson, and writing straight into text. */
#ifndef SERVE_JSON_H
#define SERVE_JSON_H
#include "ink/base.h"

#include <jansson.h>

/* A JSON object of at most `depth` levels without equal keys; NULL with why in wrong. */
json_t *json_read(const char *s, size_t n, int depth, char *wrong, size_t room);
void json_put(Text *out, const char *s, size_t n); /* a string in quotes; bytes that are no UTF-8 become U+FFFD each */
void json_puts(Text *out, const char *s);          /* NULL: null */
void json_put_logprob(Text *out, float v);         /* as a float reads back; from -9999 down -9999, NAN: null */
bool json_is_utf8(const char *s, size_t n);
#endif
