/* Keys of entries: the region's text, the target, the kind of machine.
 *
 * The text is what passes/fuse_region.c tells regions apart by, without the name, so that one measurement serves all layers and all
 * models with that region. A target's name is kept as the user wrote it but for "cpu", which is "cpu:native". */
#include "codegen/fingerprint.h"
#include "tune/tune.h"
#include <inttypes.h>
#include <string.h>

bool tune_key(Arena *a, Diags *d, const Graph *region, const Target *t, TuneEntry *out) {
  Graph g = *region;
  Target here;
  Text text = {0};
  if (!target_resolve(a, d, "cpu:native", &here)) return false;
  g.name = "r";
  graph_print(&g, false, &text);
  *out = (TuneEntry){.region = arena_strdup(a, text.s),
                     .target = strcmp(t->name, "cpu") ? t->name : "cpu:native",
                     .machine = machine_fingerprint(a, &here),
                     .kernel = region->name,
                     .version = INK_VERSION};
  text_free(&text);
  return true;
}

bool tune_won(const TuneEntry *e) {
  return strcmp(e->schedule, e->base) != 0;
}

const char *tune_short(Arena *a, const TuneEntry *e) {
  const char *all = arena_printf(a, "%s\n%s\n%s", e->target, e->machine, e->region);
  return arena_printf(a, "%012" PRIx64, hash64(all, strlen(all)) >> 16);
}
