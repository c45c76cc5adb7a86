/* OpenBLAS and BLIS by their C interface, in f32, opened at run time, each apart from the other (both define the same names). */
#include "tests/bench/peer.h"
#include <dlfcn.h>
#include <stdlib.h>

enum { ROW_MAJOR = 101, PLAIN = 111, TURNED = 112 };
typedef void Gemm(int order, int turn_a, int turn_b, int m, int n, int k, float alpha, const float *a, int lda,
                  const float *b, int ldb, float beta, float *c, int ldc);
typedef void Gemv(int order, int turn, int m, int n, float alpha, const float *a, int lda, const float *x, int incx,
                  float beta, float *y, int incy);

typedef struct Blas {
  Gemm *gemm;
  Gemv *gemv;
  void (*set_threads)(int n); /* OpenBLAS takes an int, BLIS a long: one register, and small */
} Blas;

typedef struct Prepared {
  const Blas *blas;
  Product p;
  void *const *b;
} Prepared;

static Blas openblas, blis;

static const char *open_blas(Blas *blas, DType dtype, const char *file, const char *missing, const char *set_threads,
                             const char *version_of, const char **version) {
  if (dtype != DT_f32) return "left out, its products are of f32";
  void *lib = dlopen(file, RTLD_NOW | RTLD_LOCAL);
  if (!lib) return missing;
  blas->gemm = (Gemm *)dlsym(lib, "cblas_sgemm");
  blas->gemv = (Gemv *)dlsym(lib, "cblas_sgemv");
  blas->set_threads = (void (*)(int))dlsym(lib, set_threads);
  const char *(*say)(void) = (const char *(*)(void))dlsym(lib, version_of);
  if (!blas->gemm || !blas->gemv || !blas->set_threads || !say) return "its library lacks functions";
  *version = say();
  return NULL;
}

static const char *open_openblas(DType dtype, const char **version) {
  return open_blas(&openblas, dtype, "libopenblas.so.0", "libopenblas.so.0 is missing (package libopenblas-dev)",
                   "openblas_set_num_threads", "openblas_get_config", version);
}

static const char *open_blis(DType dtype, const char **version) {
  return open_blas(&blis, dtype, "libblis.so.4", "libblis.so.4 is missing (package libblis-dev)",
                   "bli_thread_set_num_threads", "bli_info_get_version_str", version);
}

static void *prepare(const Blas *blas, const Product *p, int threads, void *const *b) {
  Prepared *r = malloc(sizeof *r);
  if (!r) return NULL;
  *r = (Prepared){blas, *p, b};
  blas->set_threads(threads);
  return r;
}

static void *prepare_openblas(const Product *p, int threads, void *const *b, int copies) {
  return prepare(&openblas, p, threads, b);
}

static void *prepare_blis(const Product *p, int threads, void *const *b, int copies) {
  return prepare(&blis, p, threads, b);
}

/* One row times a matrix has a function of its own, which is the faster one. */
static void run(void *prepared, const void *a, int copy, void *c) {
  const Prepared *r = prepared;
  const Product *p = &r->p;
  const float *b = r->b[copy];
  int ldb = p->b_turned ? p->k : p->n;
  if (p->m == 1)
    r->blas->gemv(ROW_MAJOR, p->b_turned ? PLAIN : TURNED, p->b_turned ? p->n : p->k, ldb, 1, b, ldb, a, 1, 0, c, 1);
  else
    r->blas->gemm(ROW_MAJOR, p->a_turned ? TURNED : PLAIN, p->b_turned ? TURNED : PLAIN, p->m, p->n, p->k, 1, a,
                  p->a_turned ? p->m : p->k, b, ldb, 0, c, p->n);
}

const Peer peer_openblas = {"OpenBLAS", open_openblas, prepare_openblas, run, free};
const Peer peer_blis = {"BLIS", open_blis, prepare_blis, run, free};
