/* /v1/models: the one model that an artifact is, by all its names. */
#include "serve/api.h"

#include <string.h>

const char *api_find_model(const Served *s, const char *name) {
  if (!strcmp(s->name, name)) return s->name;
  for (int i = 0; i < s->nalias; i++)
    if (!strcmp(s->alias[i], name)) return s->alias[i];
  return NULL;
}

static void put(const Served *s, const char *name, Text *out) {
  text_add(out, "{\"id\":");
  json_puts(out, name);
  text_add(out, ",\"object\":\"model\",\"created\":%lld,\"owned_by\":\"inkstone\",\"root\":", (long long)s->created);
  json_puts(out, s->name);
  text_add(out, ",\"parent\":null,\"max_model_len\":%d}", s->model->limits.ctx);
}

void api_models(const Served *s, Text *out) {
  text_add(out, "{\"object\":\"list\",\"data\":[");
  put(s, s->name, out);
  for (int i = 0; i < s->nalias; i++) {
    text_add(out, ",");
    put(s, s->alias[i], out);
  }
  text_add(out, "]}");
}

bool api_model_named(const Served *s, const char *name, Text *out) {
  const char *found = api_find_model(s, name);
  if (found) put(s, found, out);
  return found != NULL;
}
