/* The runtime's own interface: an Engine runs the lists of a compiled program. The training loop uses it, and so can a
 * server, a tuner or a test.
 *
 * Ownership: the Engine owns the buffers' memory and the threads; it borrows the Program. All calls come from one thread.
 * Law: what a list computes does not depend on the number of threads. */
#ifndef RT_INKRT_H
#define RT_INKRT_H
#include "runtime/pool.h"
#include "runtime/program.h"

typedef struct Engine Engine;
struct NanCheck;
struct Profile;

/* Checks CPU features and memory, takes the memory (zeroed), starts the threads. NULL after errors. */
Engine *engine_new(const Program *p, int threads, Report *err);
/* The same with buffers in memory of the caller: given[buffer] is one's address, NULL for the engine's own. A program that serves
 * has its parameters and states there, all of them. The array is copied, the memory must outlive the engine. */
Engine *engine_new_given(const Program *p, int threads, void *const *given, Report *err);
void engine_free(Engine *e);

const Program *engine_program(const Engine *e);
Pool *engine_pool(Engine *e);
void *engine_buffer(Engine *e, int buffer);      /* address of a buffer by index; valid for the engine's life */
void *engine_named(Engine *e, const char *name); /* by name, or NULL */
bool engine_set_symbol(Engine *e, const char *name, int64_t value); /* false: unknown, negative or over its bound */

/* Writes the first element of a named DATA or STATE buffer (f32, f64 or i32); nothing when the program has none. */
void engine_set_scalar(Engine *e, const char *name, double value);
double engine_scalar(Engine *e, const char *name); /* first element as a double; 0 when there is none */

/* False only with a check on that found something: the list was left in its midst, and nan_tell says what it was. */
bool engine_run(Engine *e, int list);
/* From here on every step is checked; NULL: none is. The check stays the caller's. */
void engine_set_check(Engine *e, struct NanCheck *check);
struct NanCheck *engine_check(const Engine *e);

/* FLOP/s of all threads together on the `peak` list, the best of about `seconds`; 0 without such a list. */
double engine_peak(Engine *e, double seconds);

/* From here on the time of every step is noted; NULL: it is not. The profile stays the caller's. */
void engine_set_profile(Engine *e, struct Profile *profile);
#endif
