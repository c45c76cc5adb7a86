/* How a contract region is cut up: data, which the cost model guesses and a tuner may replace. By the numerical law no schedule
 * changes a result; it changes the time. */
#ifndef INK_CODEGEN_SCHEDULE_H
#define INK_CODEGEN_SCHEDULE_H
#include "ir/graph.h"
#include "ir/target.h"

/* Extents as the schedule sees them: all of M, the run of N along the lanes, all of K, at their bounds. panel: vectors of columns in
 * a panel of a packed weight, which is then the tile's width; 0: B is packed by the kernel. */
typedef struct ContractShape {
  int64_t m, n, k;
  int panel;
} ContractShape;

typedef struct Schedule { /* schedule.def says what each means */
#define FIELD(name, ...) int name;
#include "codegen/schedule.def"
} Schedule;

/* Where schedules come from, other than the cost model: Target.schedules. */
typedef struct ScheduleSource {
  bool (*find)(void *ctx, const Graph *region, const ContractShape *s, Schedule *out); /* false: it has none */
  void *ctx;
} ScheduleSource;

Schedule schedule_default(const Target *t, const ContractShape *s);
/* NULL, or what is wrong with it for this target and shape: what comes from a file is not trusted. */
const char *schedule_wrong(const Schedule *c, const Target *t, const ContractShape *s);
/* The target's source's, else the default. false: the source's is wrong; a diagnostic says how. */
bool schedule_find(const Target *t, const Graph *region, const ContractShape *s, Schedule *out);

/* ---- fields, by number */
enum {
#define FIELD(name, ...) SCHEDULE_##name,
#include "codegen/schedule.def"
  SCHEDULE_FIELDS
};
typedef struct ScheduleField {
  const char *name, *what;
  size_t at;         /* in a Schedule */
  const int *values; /* to try */
  int nvalues;
} ScheduleField;
extern const ScheduleField schedule_field[SCHEDULE_FIELDS];
int *schedule_at(Schedule *c, int field);
/* Rounds every field to its unit and cuts it at what makes sense. */
void schedule_fit(Schedule *c, const Target *t, const ContractShape *s);

/* ---- text: "nv=2 mr=14 kc=384 ...", every field once, in the order of schedule.def */
void schedule_print(const Schedule *c, Text *out);
const char *schedule_text(Arena *a, const Schedule *c);
const char *schedule_parse(const char *text, Schedule *out); /* NULL, or what is wrong with the text */
#endif
