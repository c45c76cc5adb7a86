#include "cli/compile.h"
static int run(Args *a) { (void)a; return 2; }
const Command cmd_diff = {.name = "diff", .usage = "", .summary = "", .doc = "", .run = run};
