/* Call sites. Kernels are shared by all places of a model that compute the same, so a kernel has as many lines and layers as
 * it has steps. A step's own place is the first of its places; the strings of a program are shared, so that equal ones have
 * equal offsets. */
#include "runtime/sites.h"
#include <inttypes.h>
#include <string.h>

static int64_t bound_of(const Program *p, const ProgramInt *i) {
  int64_t v = i->c + (i->sym ? i->mul * p->symbols[i->sym - 1].bound : 0);
  return i->max > 0 && v > i->max ? i->max : v;
}

void sites_count(const Program *p, int list, int64_t times, int64_t *calls) {
  if (list < 0 || times < 1) return;
  const ProgramList *l = &p->lists[list];
  for (uint32_t i = l->step; i < l->step + l->nsteps; i++) {
    const ProgramStep *s = &p->steps[i];
    if (s->kind == STEP_LIST)
      sites_count(p, s->kernel, times * bound_of(p, &p->ints[s->count]), calls);
    else
      calls[i] += times;
  }
}

static bool is_site(const Program *p, int step, int kernel, const int64_t *calls) {
  return calls[step] && p->steps[step].kind == STEP_CALL && p->steps[step].kernel == kernel;
}

static const ProgramPlace *place_of(const Program *p, int step) {
  return p->steps[step].nplaces ? &p->places[p->steps[step].place] : NULL;
}

int sites_number(const Program *p, int kernel, const int64_t *calls) {
  int n = 0;
  for (int i = 0; i < p->nsteps; i++) n += is_site(p, i, kernel, calls);
  return n;
}

void sites_lines(const Program *p, int kernel, const int64_t *calls, Text *out) {
  enum { TOLD = 4 };
  struct {
    uint32_t file, line;
  } at[TOLD];
  int n = 0, more = 0;
  for (int i = 0; i < p->nsteps; i++) {
    const ProgramPlace *a = is_site(p, i, kernel, calls) ? place_of(p, i) : NULL;
    bool known = !a || !a->line;
    for (int k = 0; k < n && !known; k++) known = at[k].file == a->file && at[k].line == a->line;
    if (known) continue;
    if (n == TOLD) {
      more = 1;
      continue;
    }
    at[n].file = a->file, at[n].line = a->line;
    n++;
  }
  for (int i = 0; i < n; i++)
    if (i && at[i].file == at[i - 1].file)
      text_add(out, ",%" PRIu32, at[i].line);
    else
      text_add(out, "%s%s:%" PRIu32, i ? " " : "", program_string(p, at[i].file), at[i].line);
  const ProgramKernel *own = &p->kernel_info[kernel];
  if (more) text_add(out, ",...");
  if (!n && own->line) text_add(out, "%s:%" PRIu32, program_string(p, own->file), own->line);
  if (!n && !own->line) text_add(out, "-");
}

void sites_layers(const Program *p, int kernel, const int64_t *calls, Text *out) {
  uint32_t first = 0, last = 0;
  int n = 0;
  for (int i = 0; i < p->nsteps; i++) {
    const ProgramPlace *a = is_site(p, i, kernel, calls) ? place_of(p, i) : NULL;
    bool known = !a || !a->in;
    for (int k = 0; k < i && !known; k++) {
      const ProgramPlace *b = is_site(p, k, kernel, calls) ? place_of(p, k) : NULL;
      known = b && b->in == a->in;
    }
    if (known) continue;
    if (!n++) first = a->in;
    last = a->in;
  }
  if (!n) text_add(out, "-");
  if (n) text_add(out, "%s", program_string(p, first));
  if (n > 1) text_add(out, " to %s (%d)", program_string(p, last), n);
}
