/* Passes: each takes a module to the next. One table (passes.def) names them all and drives the pipeline, `ink opt`,
 * --dump-after, timing and the verifier after each. */
#ifndef INK_PASSES_H
#define INK_PASSES_H
#include "ir/graph.h"
#include "ir/target.h"

typedef struct PassInfo {
  const char *name;
  Module *(*run)(Module *m, const Target *t); /* a new module in the same arena, or m itself; NULL after errors */
  enum { KEEPS_NOTHING, KEEPS_VALUES, KEEPS_BITS } keeps; /* what check/ holds it to */
  const char *doc;
} PassInfo;
extern const PassInfo pass_table[];
extern const int pass_count;
const PassInfo *pass_find(const char *name);

#define PASS(name, keeps, doc) Module *pass_##name(Module *m, const Target *t);
#include "passes/passes.def"
#endif
