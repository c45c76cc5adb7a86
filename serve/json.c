/* JSON in and out of a server. Reading bounds depth before jansson sees the text, which recurses; numbers and keys it bounds itself. */
#include "serve/json.h"
#include "text/utf8.h"

#include <math.h>
#include <string.h>

static int depth_of(const char *s, size_t n) {
  int depth = 0, most = 0;
  bool text = false;
  for (size_t i = 0; i < n; i++) {
    if (text) {
      if (s[i] == '\\')
        i++;
      else if (s[i] == '"')
        text = false;
    } else if (s[i] == '"') {
      text = true;
    } else if (s[i] == '[' || s[i] == '{') {
      if (++depth > most) most = depth;
    } else if (s[i] == ']' || s[i] == '}') {
      depth--;
    }
  }
  return most;
}

json_t *json_read(const char *s, size_t n, int depth, char *wrong, size_t room) {
  json_error_t e;
  if (depth_of(s, n) > depth) {
    snprintf(wrong, room, "the body is JSON of more than %d levels", depth);
    return NULL;
  }
  json_t *v = json_loadb(s, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &e);
  if (!v) {
    snprintf(wrong, room, "the body is no JSON: line %d, column %d: %s", e.line, e.column, e.text);
  } else if (!json_is_object(v)) {
    snprintf(wrong, room, "the body is no JSON object");
    json_decref(v);
    v = NULL;
  }
  return v;
}

void json_put(Text *out, const char *s, size_t n) {
  text_write(out, "\"", 1);
  for (size_t i = 0, start = 0; i <= n;) {
    unsigned char c = i < n ? (unsigned char)s[i] : 0;
    uint32_t cp;
    int len = i < n && c >= 0x80 ? utf8_next((const unsigned char *)s + i, n - i, &cp) : 1;
    if (i < n && len > 0 && c >= 0x20 && c != '"' && c != '\\') {
      i += (size_t)len;
      continue;
    }
    text_write(out, s + start, i - start);
    if (i == n) break;
    if (len <= 0)
      text_write(out, "\xef\xbf\xbd", 3);
    else if (c == '"' || c == '\\')
      text_write(out, c == '"' ? "\\\"" : "\\\\", 2);
    else if (c == '\n')
      text_write(out, "\\n", 2);
    else
      text_add(out, "\\u%04x", c);
    start = ++i;
  }
  text_write(out, "\"", 1);
}

void json_puts(Text *out, const char *s) {
  if (s)
    json_put(out, s, strlen(s));
  else
    text_write(out, "null", 4);
}

void json_put_logprob(Text *out, float v) {
  if (isnan(v))
    text_write(out, "null", 4);
  else
    text_add(out, "%.9g", v < -9999 ? -9999.0 : (double)v);
}

bool json_is_utf8(const char *s, size_t n) {
  uint32_t cp;
  for (size_t i = 0; i < n;) {
    int len = utf8_next((const unsigned char *)s + i, n - i, &cp);
    if (len <= 0) return false;
    i += (size_t)len;
  }
  return true;
}
