/* What libevent would else need of the C library that it was built with: glibc 2.36 has these two, and an artifact is to run from 2.34 on.
 * They stay inside the file they are linked into. package/older_glibc.c is the like for ink itself. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/random.h>

void arc4random_buf(void *out, size_t n) {
  unsigned char *at = out;
  while (n) {
    ssize_t got = getrandom(at, n < 256 ? n : 256, 0);
    if (got < 0 && errno != EINTR) abort();
    if (got > 0) at += got, n -= (size_t)got;
  }
}

uint32_t arc4random(void) {
  uint32_t v;
  arc4random_buf(&v, sizeof(v));
  return v;
}
