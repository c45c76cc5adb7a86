/* The C API's view of a compiled program: what it is, its buffers, lists and kernels, by index. */
#include "api/api.h"

_Static_assert((int)INK_DATA == (int)BUF_DATA && (int)INK_PARAM == (int)BUF_PARAM && (int)INK_STATE == (int)BUF_STATE,
               "kinds are the program's");
_Static_assert((int)INK_F32 == (int)DTYPE_F32 && (int)INK_BF16 == (int)DTYPE_BF16 && (int)INK_F64 == (int)DTYPE_F64 &&
                   (int)INK_I32 == (int)DTYPE_I32 && (int)INK_I8 == (int)DTYPE_I8 &&
                   (int)INK_F8E4M3 == (int)DTYPE_F8E4M3,
               "dtypes are the program's");

ink_status ink_model_get(const ink_model *m, ink_model_info *out) {
  if (!m || !out) return INK_MISUSE;
  const Program *p = &m->program;
  const ProgramHeader *h = p->h;
  ink_model_info o = {.name = program_string(p, h->model),
                      .target = program_string(p, h->target),
                      .spec = program_string(p, h->spec),
                      .batch = h->batch,
                      .seq = h->time,
                      .parameters = (int64_t)h->model_params,
                      .flops = h->model_flops,
                      .session_bytes = h->persistent_bytes + h->arena_bytes,
                      .scratch_bytes = h->scratch_bytes};
  return struct_give(out, &o, sizeof o);
}

size_t ink_model_buffers(const ink_model *m) {
  return m ? (size_t)m->nbuffers : 0;
}

ink_status ink_model_buffer(const ink_model *m, size_t index, ink_buffer *out) {
  if (!m || !out || index >= (size_t)m->nbuffers) return INK_MISUSE;
  const Program *p = &m->program;
  const ProgramBuffer *b = &p->buffers[m->buffer[index]];
  ink_buffer o = {.name = program_string(p, b->name),
                  .dtype = (ink_dtype)b->dtype,
                  .kind = (ink_kind)b->kind,
                  .rank = b->rank,
                  .elements = buffer_elements(b),
                  .source = b->source ? program_string(p, b->source) : NULL,
                  .bound = b->bound};
  memcpy(o.shape, b->dim, b->rank * sizeof(int64_t));
  return struct_give(out, &o, sizeof o);
}

size_t ink_model_lists(const ink_model *m) {
  return m ? (size_t)m->program.nlists : 0;
}

const char *ink_model_list(const ink_model *m, size_t index) {
  if (!m || index >= (size_t)m->program.nlists) return NULL;
  return program_string(&m->program, m->program.lists[index].name);
}

size_t ink_model_kernels(const ink_model *m) {
  return m ? (size_t)m->program.nkernels : 0;
}

ink_status ink_model_kernel(const ink_model *m, size_t index, ink_kernel *out) {
  if (!m || !out || index >= (size_t)m->program.nkernels) return INK_MISUSE;
  const ProgramKernel *k = &m->program.kernel_info[index];
  const char *path = program_string(&m->program, k->file);
  ink_kernel o = {.name = program_string(&m->program, k->name),
                  .path = *path ? path : NULL,
                  .line = (int32_t)k->line,
                  .flops = k->flops,
                  .bytes = k->bytes};
  return struct_give(out, &o, sizeof o);
}
