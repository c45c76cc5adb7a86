/* ink machine: what this machine is, what it can do at most, and whether it is quiet enough to measure on. */
#include "driver/machine.h"
#include "cli/cli.h"

enum { SECONDS = 5, SECONDS_MOST = 3600 }; /* of readings */

static int run(Args *a) {
  Diags *d = diags_new(a->arena);
  MachineReport r;
  int64_t seconds;
  if (!args_count(a, "--seconds", SECONDS_MOST, SECONDS, &seconds)) return EXIT_USAGE;
  if (!machine_measure(a->arena, d, (double)seconds, &r)) return cli_diags(d);
  Text out = {0};
  if (!args_get(a, "--json")) {
    machine_print(&r, &out);
  } else if (!machine_json(&r, &out)) {
    cli_error("machine: out of memory");
    return EXIT_FAILED;
  }
  bool ok = cli_write(NULL, out.s, out.n);
  text_free(&out);
  return ok ? EXIT_OK : EXIT_FAILED;
}

static const Option options[] = {
    {"--seconds", "N", false, "take readings for about so long (5); each figure is read five times at least"},
    {"--json", NULL, false, "for scripts: the same as JSON, in FLOP/s, OP/s, B/s and seconds"},
};

const Command cmd_machine = {
    .name = "machine",
    .usage = "[--seconds N] [--json]",
    .summary = "what this machine can do at most, and whether it is quiet enough to measure",
    .doc =
        "Measures for some seconds, in turns: multiply-adds in registers, reads of each cache and of memory, copies,\n"
        "the barrier between the threads of a program. Each figure is the median of its readings, what can be had\n"
        "now, and the best, what the machine can. Bytes of a copy are those read and those written.\n"
        "The last line says whether anything else was on the machine meanwhile: on one that is not quiet, times are\n"
        "worth something only as ratios of turns. 'kind' names machines on which what was measured here holds.",
    .options = options,
    .noptions = LEN(options),
    .run = run,
};
