/* Inkstone's C API: compile a model and run it, in this process or as a program on disk. docs/c-api.md shows it at work.
 *
 *   ink_context   where errors are found     ink_model     a compiled program in memory
 *   ink_spec      what to compile            ink_session   a model's buffers and threads: what is trained
 *
 * Errors are values. A function returns an ink_status, or NULL instead of a handle, and the context keeps the diagnostics:
 * message, hint, and the place in the model file. They stay until the next call on the context, or on anything made from
 * it, that can fail; after an error everything can be used as before. Nothing is ever printed, and nothing exits but for
 * one case: a process that runs out of memory while it compiles is aborted. The memory of a session is asked for
 * beforehand and its lack is an error as any other.
 *
 * Ownership. What a function named _new, ink_compile or ink_dump returns is the caller's, to be freed by the function
 * named beside it: sessions before their model, models before their context. Texts and structs that are passed in are
 * only read during the call. Texts that are passed out belong to the model, or to the context until its next call.
 *
 * Threads. A context, and the models and sessions made from it, are used by one thread at a time. Different contexts may be
 * used by different threads at the same time: they share nothing that changes but a locked table of names. A session has
 * threads of its own, which sleep between calls; how many there are changes no result. Numbers are read as in the C locale,
 * whatever the process has set. The floating-point environment must be the default one (rounding to nearest, subnormals kept).
 *
 * Structs that cross this border begin with their size, so that a later version can append fields:
 *     ink_spec spec;
 *     INK_INIT(spec);       zeroes it and sets its size
 *     spec.path = "gpt2";
 * A field that is 0 or NULL means its default. */
#ifndef INKSTONE_H
#define INKSTONE_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__)
#define INK_API __attribute__((visibility("default")))
#else
#define INK_API
#endif

#define INKSTONE_VERSION "0.1.0"
/* Raised when a program compiled for an older one would no longer work; it is the number in the library's soname. */
#define INKSTONE_ABI 1
enum { INK_RANK = 8 }; /* most axes of a buffer */

#define INK_INIT(s) (memset(&(s), 0, sizeof(s)), (s).size = sizeof(s))

#ifdef __cplusplus
extern "C" {
#endif

INK_API int ink_abi_version(void);     /* INKSTONE_ABI of the library in use */
INK_API const char *ink_version(void); /* INKSTONE_VERSION of the library in use */

typedef enum ink_status {
  INK_OK = 0,
  INK_MISUSE = 1, /* the call was wrong: an unknown name, a wrong size or dtype, a NULL */
  INK_FAILED = 2  /* the model, a file or the machine was not up to it */
} ink_status;

/* ---- contexts and diagnostics */

typedef struct ink_context ink_context;
INK_API ink_context *ink_context_new(void); /* NULL: out of memory */
INK_API void ink_context_free(ink_context *c);

typedef struct ink_diagnostic {
  size_t size;
  const char *message;  /* "unknown dimension 'head'" */
  const char *hint;     /* "did you mean 'heads'?", or NULL */
  const char *path;     /* file, or name of a text, or NULL: no place */
  int32_t line, column; /* from 1; columns count bytes; 0: the file as a whole */
} ink_diagnostic;

/* The diagnostics of the last call, in the order in which they were found; at most 100. */
INK_API size_t ink_diagnostic_count(const ink_context *c);
INK_API ink_status ink_diagnostic_get(const ink_context *c, size_t index, ink_diagnostic *out);
/* All of them as a compiler shows them, by place, each with its line and a caret under it; "" without errors. */
INK_API const char *ink_diagnostic_text(ink_context *c);

/* ---- what to compile */

typedef struct ink_spec {
  size_t size;
  /* A model file, with a variant after a colon if it has some ("my/gpt2.yaml:350M"), or the name of a model that comes with
   * Inkstone ("gpt2"). With `text`: only the name that diagnostics show. */
  const char *path;
  const char *text; /* a model file's content. A variant is chosen by the override variant=NAME */
  /* With `text`: a folder in which its `base:` may lie. NULL: only the models that come with Inkstone are looked at. */
  const char *base_folder;
  const char *train_path, *train_text; /* training specification, file or content; both NULL: built-in values */
  const char *target;                  /* "cpu:native" (NULL), "cpu:x86-64-v3", "cpu:aarch64", ... as ink build takes */
  const char *const *overrides;        /* KEY=VALUE, as --set takes: "dims.layers=2", "lr=1e-3" */
  size_t override_count;
  int64_t batch;      /* sequences of a micro-batch; 0: micro_batch of the training specification */
  int64_t seq;        /* tokens of a sequence; 0: the training specification's, else the model's */
  const char *models; /* folder of the models that come with Inkstone; NULL: found from where this library lies */
} ink_spec;

/* To a program on disk, as `ink build` makes it. It needs a C compiler, which does the linking. */
typedef struct ink_linker {
  size_t size;
  const char *cc;      /* the compiler, by name or path; NULL: cc, for another architecture ARCH-linux-gnu-gcc.
                          The process must not ignore SIGCHLD */
  const char *runtime; /* libinkrt.a of the target; NULL: found from where this library lies */
} ink_linker;
INK_API ink_status ink_build(ink_context *c, const ink_spec *spec, const ink_linker *linker, const char *path);

/* What the compiler makes of the model on its way, as text. */
typedef enum ink_stage {
  INK_SOURCE = 0,  /* the specification after base, variant and overrides */
  INK_GRAPH = 1,   /* values and ops */
  INK_FUSED = 2,   /* regions, one for each kernel, and the calls that run them */
  INK_KERNELS = 3, /* loop nests over vectors */
  INK_PROGRAM = 4, /* step lists, buffers and their places in memory */
  INK_LLVM = 5,
  INK_ASM = 6
} ink_stage;
/* kernel: for INK_KERNELS, INK_LLVM and INK_ASM only that one; NULL: all. *text is to be freed by ink_text_free. */
INK_API ink_status ink_dump(ink_context *c, const ink_spec *spec, ink_stage stage, const char *kernel, char **text);
INK_API void ink_text_free(char *text);

/* ---- models: compiled programs in memory. A model never changes; several sessions may share it. */

typedef struct ink_model ink_model;
/* To machine code in this process: neither files nor a C compiler are needed. NULL after errors. */
INK_API ink_model *ink_compile(ink_context *c, const ink_spec *spec);
INK_API void ink_model_free(ink_model *m);

typedef struct ink_model_info {
  size_t size;
  const char *name, *target;
  const char *spec;       /* the effective model and training specifications, as YAML */
  int64_t batch, seq;     /* of a micro-batch; seq 0: the model has no tokens */
  int64_t parameters;     /* elements of all parameters */
  double flops;           /* of one micro-batch, forward and backward: 3 x (contractions + attention) */
  uint64_t session_bytes; /* memory of a session: its buffers, */
  uint64_t scratch_bytes; /* and this much for each of its threads */
} ink_model_info;
INK_API ink_status ink_model_get(const ink_model *m, ink_model_info *out);

typedef enum ink_dtype { INK_F32 = 0, INK_BF16 = 1, INK_F64 = 2, INK_I32 = 3, INK_I8 = 4, INK_F8E4M3 = 5 } ink_dtype;
typedef enum ink_kind {
  INK_DATA = 0,  /* inputs, scalars such as lr, and what a list leaves for its caller, such as next_logits */
  INK_PARAM = 1, /* parameters */
  INK_STATE = 2  /* what steps leave to later ones: grad.NAME, m.NAME, v.NAME of each parameter, loss_sum, grad_norm */
} ink_kind;

typedef struct ink_buffer {
  size_t size;
  const char *name;
  ink_dtype dtype;
  ink_kind kind;
  int32_t rank; /* 0: a scalar, one element */
  int64_t shape[INK_RANK];
  int64_t elements;   /* the product of the shape */
  const char *source; /* of inputs: "tokens", "targets", "images", "labels" or "positions"; else NULL */
  int64_t bound;      /* of INK_I32 inputs that index something: every value is below it; else 0 */
} ink_buffer;
INK_API size_t ink_model_buffers(const ink_model *m);
INK_API ink_status ink_model_buffer(const ink_model *m, size_t index, ink_buffer *out);

/* Lists are what can be run: micro, update, eval, sample (of models with tokens and logits), peak. */
INK_API size_t ink_model_lists(const ink_model *m);
INK_API const char *ink_model_list(const ink_model *m, size_t index); /* NULL past the last */

typedef struct ink_kernel {
  size_t size;
  const char *name; /* "contract.3" */
  const char
      *path; /* the model file or text it comes from; NULL: the optimizer's and other kernels that no line asked for */
  int32_t line;
  double flops, bytes; /* of one call: the model's arithmetic, and what has to be read and written at least */
} ink_kernel;
INK_API size_t ink_model_kernels(const ink_model *m);
INK_API ink_status ink_model_kernel(const ink_model *m, size_t index, ink_kernel *out);

/* ---- sessions */

typedef struct ink_session ink_session;
/* Takes the memory, all of it zero, and starts the threads; 0: as many as this process may use cores. NULL after errors: too
 * little memory, or a processor without the instructions of the model's target. */
INK_API ink_session *ink_session_new(ink_model *m, int threads);
INK_API void ink_session_free(ink_session *s);
INK_API int ink_session_threads(const ink_session *s);

/* A buffer's values in row-major order, all of them: `count` must be its number of elements, `dtype` its own. Integers are
 * checked against their bound (targets and labels may be -1: they do not count); if one is wrong nothing is written. */
INK_API ink_status ink_write(ink_session *s, const char *buffer, ink_dtype dtype, const void *values, size_t count);
INK_API ink_status ink_read(ink_session *s, const char *buffer, ink_dtype dtype, void *values, size_t count);

/* Parameters: initial values from a seed, the same as in the program that ink_build makes; or from a safetensors file or a
 * checkpoint's folder, under the checkpoint's own tensor names. Neither touches the optimizer's state. */
INK_API ink_status ink_init(ink_session *s, uint64_t seed);
INK_API ink_status ink_load(ink_session *s, const char *path);
/* Writes model.safetensors (or shards with an index) and the model's config.json to a folder, which is made if it is not
 * there. Files that are there already are an error. */
INK_API ink_status ink_save(ink_session *s, const char *folder);

/* Settings of the training specification that need no new build. Those that a step obeys are lr, schedule.*, steps (the
 * schedule's length), adamw.*, clip and seed (of dropout); what is about data, evaluations and checkpoints is the caller's own affair here. */
INK_API ink_status ink_set(ink_session *s, const char *key, const char *value);

/* Forward and backward of the micro-batch that stands in the input buffers. Gradients are added to the grad.NAME buffers.
 * targets: how many targets count in the whole step, of which this may be one micro-batch of several; 0: those of this
 * micro-batch alone, counted by the function. *loss (may be NULL) is this micro-batch's share of the step's mean loss: the
 * sum of its targets' losses in nats, divided by `targets`. A loss that is not a number is no error here.
 * Masks of dropout are those of the built program: of the setting `seed`, the step (the one behind the last ink_update; 0 before
 * the first) and how many calls it had before in this step. */
INK_API ink_status ink_gradients(ink_session *s, int64_t targets, double *loss);
/* The optimizer on those gradients, which it sets to zero. step: how many steps were done before; the learning rate follows
 * from it by the schedule, AdamW's bias correction too. *norm (may be NULL): the gradients' global norm before clipping. */
INK_API ink_status ink_update(ink_session *s, int64_t step, double *norm);
/* As ink_gradients, without gradients. */
INK_API ink_status ink_evaluate(ink_session *s, int64_t targets, double *loss);
/* Any list by its name. For `sample`: write the tokens and `position` (row-major among [batch, seq]), read next_logits. */
INK_API ink_status ink_run(ink_session *s, const char *list);

/* ---- where the time goes */

INK_API ink_status ink_profile(ink_session *s, int on); /* off at first; turning it on again goes on adding */
typedef struct ink_kernel_time {
  size_t size;
  int64_t calls;
  double seconds; /* as the calling thread saw it: the kernel and the wait for the slowest thread */
} ink_kernel_time;
/* By the index of ink_model_kernel; zeros when the profile was never on. */
INK_API ink_status ink_kernel_times(ink_session *s, size_t index, ink_kernel_time *out);
/* What this machine can do: FLOP/s of all threads together, on nothing but multiply-adds; takes about `seconds`. */
INK_API ink_status ink_peak(ink_session *s, double seconds, double *flops);

#ifdef __cplusplus
}
#endif
#endif
