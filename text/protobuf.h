/* Fields of a protobuf message, one at a time, every length held against the bytes that are there. */
#ifndef TEXT_PROTOBUF_H
#define TEXT_PROTOBUF_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct ProtoField {
  uint32_t number;
  int wire;       /* 0: number, 1: 8 bytes, 2: bytes, 5: 4 bytes */
  uint64_t value; /* of 0, 1, 5 */
  const char *s;  /* of 2 */
  size_t n;
} ProtoField;

static inline bool proto_varint(const char **s, const char *end, uint64_t *v) {
  *v = 0;
  for (int shift = 0; shift < 64 && *s < end; shift += 7) {
    unsigned char c = (unsigned char)*(*s)++;
    *v |= (uint64_t)(c & 0x7f) << shift;
    if (!(c & 0x80)) return true;
  }
  return false;
}

/* The field at *s, which moves behind it; 0: the message has ended; -1: it is damaged. */
static inline int proto_next(const char **s, const char *end, ProtoField *f) {
  uint64_t tag, n;
  if (*s == end) return 0;
  if (!proto_varint(s, end, &tag) || tag >> 3 > 0x1fffffff || !(tag >> 3)) return -1;
  *f = (ProtoField){.number = (uint32_t)(tag >> 3), .wire = (int)(tag & 7)};
  size_t left = (size_t)(end - *s), k = f->wire == 1 ? 8 : 4;
  switch (f->wire) {
  case 0: return proto_varint(s, end, &f->value) ? 1 : -1;
  case 2:
    if (!proto_varint(s, end, &n) || n > (size_t)(end - *s)) return -1;
    f->s = *s, f->n = (size_t)n;
    *s += n;
    return 1;
  case 1:
  case 5:
    if (left < k) return -1;
    for (size_t i = 0; i < k; i++) f->value |= (uint64_t)(unsigned char)(*s)[i] << (8 * i);
    *s += k;
    return 1;
  default: return -1;
  }
}

static inline float proto_float(const ProtoField *f) {
  uint32_t bits = (uint32_t)f->value;
  float v;
  memcpy(&v, &bits, sizeof v);
  return v;
}
#endif
