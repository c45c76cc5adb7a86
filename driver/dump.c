/* The model at any stage of the pipeline, as text: `ink dump` and the C API's ink_dump. */
#include "driver/compile.h"

const char *const dump_names[] = {"source", "graph", "fused", "kernels", "program", "llvm", "asm"};

static bool check_kernel(Compile *c, const char *kernel) {
  if (!kernel || kmodule_find(c->kernels, kernel) >= 0) return true;
  const char **names = NEW_ARRAY(c->arena, const char *, c->kernels->n + 1);
  for (int i = 0; i < c->kernels->n; i++) names[i] = c->kernels->kernels[i]->name;
  const char *near = near_miss(kernel, names, c->kernels->n);
  const char *hint = near ? arena_printf(c->arena, "did you mean '%s'?", near) : "the stage 'kernels' lists them";
  return diag_hint(c->diags, (Span){0}, hint, "no kernel '%s'", kernel);
}

bool compile_dump(Compile *c, Dump what, const char *kernel, Text *out) {
  static const Stage until[DUMP_COUNT] = {STAGE_SOURCE,  STAGE_GRAPH,   STAGE_FUSED,  STAGE_KERNELS,
                                          STAGE_PROGRAM, STAGE_PROGRAM, STAGE_PROGRAM};
  if (!compile_run(c, until[what])) return false;
  if (what > DUMP_FUSED && !check_kernel(c, kernel)) return false;
  switch (what) {
  case DUMP_SOURCE: text_add(out, "%s", c->model->effective); return true;
  case DUMP_GRAPH:
  case DUMP_FUSED: module_print(c->module, true, out); return true;
  case DUMP_KERNELS: kmodule_print(c->kernels, kernel, out); return true;
  case DUMP_PROGRAM: program_list_text(c->blob.s, out); return true;
  default:
    return llvm_compile(c->kernels, &c->target, what == DUMP_LLVM ? LLVM_TEXT : LLVM_ASM, kernel, NULL, 0, c->diags,
                        out);
  }
}
