/* oneDNN's matmul. Weights are laid out beforehand as the library asks for (format `any`), which is its fastest.
 * Compiled against version 2 (INK_ONEDNN, set by CMake where it is found); without it the peer only says that it is missing. */
#include "tests/bench/peer.h"
#include <stddef.h>

#ifdef INK_ONEDNN
#include <dlfcn.h>
#include <dnnl.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct Prepared {
  dnnl_primitive_t matmul;
  dnnl_memory_t a, c, *b;
  int copies;
} Prepared;

static dnnl_engine_t engine;
static dnnl_stream_t stream;

static dnnl_memory_desc_t matrix(int rows, int cols, DType dtype, dnnl_format_tag_t tag) {
  dnnl_memory_desc_t d;
  dnnl_data_type_t type = dtype == DT_bf16  ? dnnl_bf16
                          : dtype == DT_i8  ? dnnl_s8
                          : dtype == DT_i32 ? dnnl_s32
                                            : dnnl_f32;
  if (dnnl_memory_desc_init_by_tag(&d, 2, (dnnl_dims_t){rows, cols}, type, tag)) abort();
  return d;
}

/* What the library would do for a product. a, b, c: as the caller has them. false: it has nothing. */
static bool describe(const Product *p, dnnl_memory_desc_t *a, dnnl_memory_desc_t *b, dnnl_memory_desc_t *c,
                     dnnl_primitive_desc_t *pd) {
  *a = matrix(p->m, p->k, p->dtype, p->a_turned ? dnnl_ba : dnnl_ab),
  *c = matrix(p->m, p->n, p->dtype == DT_i8 ? DT_i32 : DT_f32, dnnl_ab);
  *b = matrix(p->k, p->n, p->dtype, p->b_turned ? dnnl_ba : dnnl_ab);
  dnnl_memory_desc_t asked = p->b_weights ? matrix(p->k, p->n, p->dtype, dnnl_format_tag_any) : *b;
  dnnl_matmul_desc_t op;
  return !dnnl_matmul_desc_init(&op, a, &asked, NULL, c) && !dnnl_primitive_desc_create(pd, &op, NULL, engine, NULL);
}

static const char *open_onednn(DType dtype, const char **version) {
  static char text[64];
  const dnnl_version_t *v = dnnl_version();
  snprintf(text, sizeof text, "%d.%d.%d", v->major, v->minor, v->patch);
  *version = text;
  if (dnnl_engine_create(&engine, dnnl_cpu, 0) || dnnl_stream_create(&stream, engine, dnnl_stream_default_flags))
    return "it has no engine for this CPU";
  dnnl_memory_desc_t a, b, c;
  dnnl_primitive_desc_t pd;
  if (!describe(&(Product){.m = 16, .n = 16, .k = 16, .dtype = dtype}, &a, &b, &c, &pd))
    return "it has no products of this dtype on this CPU";
  dnnl_primitive_desc_destroy(pd);
  return NULL;
}

static void release(void *prepared) {
  Prepared *r = prepared;
  if (!r) return;
  for (int i = 0; i < r->copies; i++) dnnl_memory_destroy(r->b[i]);
  dnnl_memory_destroy(r->a);
  dnnl_memory_destroy(r->c);
  dnnl_primitive_destroy(r->matmul);
  free(r->b), free(r);
}

/* One b from the caller's layout to the one that was asked for. */
static bool lay_out(Prepared *r, const dnnl_memory_desc_t *from, const dnnl_memory_desc_t *to, void *b) {
  dnnl_memory_t *mem = &r->b[r->copies], user = NULL;
  if (dnnl_memory_desc_equal(from, to)) {
    if (dnnl_memory_create(mem, from, engine, b)) return false;
    r->copies++;
    return true;
  }
  dnnl_primitive_desc_t pd = NULL;
  dnnl_primitive_t reorder = NULL;
  if (dnnl_memory_create(mem, to, engine, DNNL_MEMORY_ALLOCATE)) return false;
  r->copies++;
  bool ok =
      !dnnl_memory_create(&user, from, engine, b) &&
      !dnnl_reorder_primitive_desc_create(&pd, from, engine, to, engine, NULL) &&
      !dnnl_primitive_create(&reorder, pd) &&
      !dnnl_primitive_execute(reorder, stream, 2, (dnnl_exec_arg_t[]){{DNNL_ARG_FROM, user}, {DNNL_ARG_TO, *mem}}) &&
      !dnnl_stream_wait(stream);
  if (reorder) dnnl_primitive_destroy(reorder);
  if (pd) dnnl_primitive_desc_destroy(pd);
  if (user) dnnl_memory_destroy(user);
  return ok;
}

static void *prepare(const Product *p, int threads, void *const *b, int copies) {
  void (*set_threads)(int) = (void (*)(int))dlsym(RTLD_DEFAULT, "omp_set_num_threads");
  if (set_threads) set_threads(threads);
  Prepared *r = calloc(1, sizeof *r);
  if (!r || !(r->b = calloc((size_t)copies, sizeof *r->b))) abort();
  dnnl_memory_desc_t a, user, c;
  dnnl_primitive_desc_t pd = NULL;
  bool ok = set_threads && describe(p, &a, &user, &c, &pd) && !dnnl_primitive_create(&r->matmul, pd) &&
            !dnnl_memory_create(&r->a, &a, engine, DNNL_MEMORY_NONE) &&
            !dnnl_memory_create(&r->c, &c, engine, DNNL_MEMORY_NONE);
  const dnnl_memory_desc_t *laid = ok ? dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0) : NULL;
  for (int i = 0; i < copies && ok; i++) ok = lay_out(r, &user, laid, b[i]);
  if (pd) dnnl_primitive_desc_destroy(pd);
  if (ok) return r;
  release(r);
  return NULL;
}

static void run(void *prepared, const void *a, int copy, void *c) {
  Prepared *r = prepared;
  dnnl_memory_set_data_handle(r->a, (void *)a);
  dnnl_memory_set_data_handle(r->c, c);
  dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, r->a}, {DNNL_ARG_WEIGHTS, r->b[copy]}, {DNNL_ARG_DST, r->c}};
  if (dnnl_primitive_execute(r->matmul, stream, 3, args) || dnnl_stream_wait(stream)) abort();
}

const Peer peer_onednn = {"oneDNN", open_onednn, prepare, run, release};
#else
static const char *open_onednn(DType dtype, const char **version) {
  return "oneDNN 2 was not there when this was built (package libdnnl-dev)";
}

const Peer peer_onednn = {.name = "oneDNN", .open = open_onednn};
#endif
