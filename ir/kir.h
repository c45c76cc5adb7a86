/* Kernel IR: a kernel is a named loop nest over tiles, in SSA form with structured loops. (Being written.) */
#ifndef INK_IR_KIR_H
#define INK_IR_KIR_H
#include "ir/type.h"
typedef struct Kernel Kernel;
typedef struct KModule KModule;
KModule *kmodule_new(Arena *a, const char *name);
int kmodule_count(const KModule *km);
int kmodule_find(const KModule *km, const char *kernel); /* index or -1 */
void kmodule_print(const KModule *km, const char *only, Text *out);
#endif
