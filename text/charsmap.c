/* The walk of Darts-clone's double arrays: a unit holds the label that leads to it, whether a string ends there, and the
 * offset of its children (bit 9: in units of 256). */
#include "text/charsmap.h"
#include "text/memory.h"

#include <string.h>

enum { LONGEST = 128 }; /* bytes that a rule writes: Unicode's longest are 33 */

struct Charsmap {
  uint32_t *unit;
  size_t units;
  char *text; /* ends with a NUL */
  size_t ntext;
};

static uint32_t word(const unsigned char *p) {
  return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

Charsmap *charsmap_new(const void *blob, size_t n, const char *where, Diags *err) {
  const unsigned char *p = blob;
  uint32_t bytes = n >= 4 ? word(p) : 0;
  if (n < 4 || bytes > n - 4 || bytes % 4 || bytes < 4) {
    diag_error(err, (Span){0}, "%s: the compiled normalization rules are damaged", where);
    return NULL;
  }
  Charsmap *m = memory_zeroed(1, sizeof *m);
  m->units = bytes / 4;
  m->unit = memory_resize(NULL, m->units, sizeof *m->unit);
  for (size_t i = 0; i < m->units; i++) m->unit[i] = word(p + 4 + 4 * i);
  m->ntext = n - 4 - bytes;
  m->text = memory_resize(NULL, m->ntext + 1, 1);
  if (m->ntext) memcpy(m->text, p + 4 + bytes, m->ntext);
  m->text[m->ntext] = 0;
  for (size_t i = 0, k; i < m->ntext; i += k + 1) {
    k = strlen(m->text + i);
    if (k <= LONGEST) continue;
    charsmap_free(m);
    diag_error(err, (Span){0}, "%s: a normalization rule writes %zu bytes; at most %d are supported", where, k,
               LONGEST);
    return NULL;
  }
  return m;
}

void charsmap_free(Charsmap *m) {
  if (!m) return;
  free(m->unit), free(m->text);
  free(m);
}

static size_t offset(uint32_t unit) {
  return (size_t)(unit >> 10) << ((unit & 1u << 9) >> 6);
}

size_t charsmap_find(const Charsmap *m, const char *s, size_t n, bool longest, const char **to, size_t *nto) {
  size_t found = 0, at = offset(m->unit[0]);
  for (size_t i = 0; i < n && s[i]; i++) {
    at ^= (unsigned char)s[i];
    if (at >= m->units) break;
    uint32_t unit = m->unit[at];
    if ((unit & (1u << 31 | 0xff)) != (unsigned char)s[i]) break;
    at ^= offset(unit);
    if (at >= m->units) break;
    if (!(unit >> 8 & 1)) continue;
    size_t where = m->unit[at] & 0x7fffffff;
    if (where > m->ntext) break;
    found = i + 1;
    *to = m->text + where;
    if (!longest) break;
  }
  if (found) *nto = strlen(*to);
  return found;
}
