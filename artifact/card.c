/* Making, reading and printing card.json. */
#include "artifact/card.h"
#include "runtime/machine.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char *const linked[] = {"Inkstone: Apache-2.0", "Jansson: MIT",  "xxHash: BSD-2-Clause",
                                     "PCRE2: BSD-3-Clause",  "utf8proc: MIT", "libevent: BSD-3-Clause"};

static json_t *texts(const char *const *v, int n) {
  json_t *a = json_array();
  for (int i = 0; i < n; i++) json_array_append_new(a, json_string(v[i]));
  return a;
}

static json_t *hex(uint64_t v) {
  return json_sprintf("%016" PRIx64, v);
}

char *card_make(const Program *p, const CardInfo *info, const ArtifactSection *section, int n, Report *err) {
  const ProgramHeader *h = p->h;
  const PackReport *w = info->weights;
  json_t *sections = json_array();
  for (int i = 0; i < n; i++)
    json_array_append_new(sections, json_pack("{s:s, s:I, s:o}", "name", section[i].name, "bytes",
                                              (json_int_t)section[i].bytes, "xxh3", hex(section[i].hash)));
  json_t *o = json_pack(
      "{s:i, s:s, s:I, s:s, s:s, s:s, s:I, s:I, s:o, s:{s:s, s:i, s:i}, s:{s:s, s:I, s:I, s:I, s:I}, s:o, s:o, s:s, "
      "s:o}",
      "format", CARD_FORMAT, "model", program_string(p, h->model), "parameters", (json_int_t)h->model_params, "target",
      program_string(p, h->target), "cpu_features", program_string(p, h->cpu_features), "dtype", info->dtype, "context",
      (json_int_t)h->time, "max_batch", (json_int_t)h->batch, "flags", texts(info->flags, info->nflags), "versions",
      "ink", INK_VERSION, "program", PROGRAM_VERSION, "artifact", ARTIFACT_VERSION, "checkpoint", "dtype", w->dtype,
      "bytes", (json_int_t)w->bytes_read, "packed_bytes", (json_int_t)w->bytes_written, "rounded",
      (json_int_t)w->rounded, "dropped", (json_int_t)w->dropped, "sections", sections, "licences",
      texts(linked, LEN(linked)), "spec", program_string(p, h->spec), "spec_hash", hex(h->spec_hash));
  char *text = o ? json_dumps(o, JSON_INDENT(2)) : NULL;
  json_decref(o);
  if (!text) report_add(err, "the card cannot be written: out of memory, or the model's text is not UTF-8");
  return text;
}

/* Keys that must be there, as json_unpack words them. */
static bool check(json_t *card) {
  const char *s;
  json_int_t i;
  json_t *o;
  return !json_unpack_ex(
      card, NULL, 0,
      "{s:s, s:I, s:s, s:s, s:s, s:I, s:I, s:o, s:{s:s}, s:{s:s, s:I, s:I, s:I, s:I}, s:o, s:o, s:s, s:s}", "model", &s,
      "parameters", &i, "target", &s, "cpu_features", &s, "dtype", &s, "context", &i, "max_batch", &i, "flags", &o,
      "versions", "ink", &s, "checkpoint", "dtype", &s, "bytes", &i, "packed_bytes", &i, "rounded", &i, "dropped", &i,
      "sections", &o, "licences", &o, "spec", &s, "spec_hash", &s);
}

json_t *card_read(const Artifact *a, Report *err) {
  const ArtifactSection *s = artifact_section(a, CARD_SECTION);
  json_error_t e;
  if (!s || s->bytes > 16u << 20) {
    report_add(err, s ? "%s: its card is too large" : "%s has no card", a->path);
    return NULL;
  }
  json_t *card = json_loadb(artifact_bytes(a, s), s->bytes, JSON_REJECT_DUPLICATES, &e);
  json_int_t format = json_integer_value(json_object_get(card, "format"));
  if (!card)
    report_add(err, "%s: its card is broken: %s", a->path, e.text);
  else if (format != CARD_FORMAT)
    report_add(err, "%s: its card has format %" JSON_INTEGER_FORMAT "; this program reads format %d", a->path, format,
               CARD_FORMAT);
  else if (!check(card))
    report_add(err, "%s: its card lacks what belongs there", a->path);
  else
    return card;
  json_decref(card);
  return NULL;
}

static const char *text_of(const json_t *o, const char *key) {
  const char *s = json_string_value(json_object_get(o, key));
  return s ? s : "";
}

static json_int_t int_of(const json_t *o, const char *key) {
  return json_integer_value(json_object_get(o, key));
}

void card_print(const json_t *card, Text *out) {
  const json_t *w = json_object_get(card, "checkpoint"), *v, *flags = json_object_get(card, "flags");
  size_t i;
  char size[32];
  text_add(out, "model        %s, %.2f M parameters\n", text_of(card, "model"),
           (double)int_of(card, "parameters") / 1e6);
  text_add(out, "target       %s (%s)\n", text_of(card, "target"), text_of(card, "cpu_features"));
  text_add(out, "computes in  %s; weights were %s, %s", text_of(card, "dtype"), text_of(w, "dtype"),
           machine_size((uint64_t)int_of(w, "bytes"), size));
  text_add(out, ", %s as they are packed\n", machine_size((uint64_t)int_of(w, "packed_bytes"), size));
  if (int_of(w, "rounded"))
    text_add(out, "rounded      %" JSON_INTEGER_FORMAT " elements of the checkpoint\n", int_of(w, "rounded"));
  if (int_of(w, "dropped"))
    text_add(out, "dropped      %" JSON_INTEGER_FORMAT " elements of the checkpoint, which the model has no use for\n",
             int_of(w, "dropped"));
  text_add(out, "context      %" JSON_INTEGER_FORMAT " tokens\nmax batch    %" JSON_INTEGER_FORMAT " sequences\n",
           int_of(card, "context"), int_of(card, "max_batch"));
  text_add(out, "built by     ink %s", text_of(json_object_get(card, "versions"), "ink"));
  json_array_foreach(flags, i, v) text_add(out, " %s", json_string_value(v) ? json_string_value(v) : "?");
  text_add(out, "\nspec         %s\nsections\n", text_of(card, "spec_hash"));
  json_array_foreach(json_object_get(card, "sections"), i, v) text_add(
      out, "  %-32s %12" JSON_INTEGER_FORMAT "  %s\n", text_of(v, "name"), int_of(v, "bytes"), text_of(v, "xxh3"));
  text_add(out, "licences\n");
  json_array_foreach(json_object_get(card, "licences"), i, v)
      text_add(out, "  %s\n", json_string_value(v) ? json_string_value(v) : "?");
}
