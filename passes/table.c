/* The table of passes, from passes.def: the order of its rows is the pipeline. */
#include "passes/passes.h"

#include <string.h>

const PassInfo pass_table[] = {
#define PASS(name, keeps, doc) {#name, pass_##name, KEEPS_##keeps, doc},
#include "passes/passes.def"
};
const int pass_count = LEN(pass_table);

const PassInfo *pass_find(const char *name) {
  for (int i = 0; i < pass_count; i++)
    if (strcmp(pass_table[i].name, name) == 0) return &pass_table[i];
  return NULL;
}
