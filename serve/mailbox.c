/* A list under a mutex, and an eventfd that is written to when the list stops being empty. */
#include "serve/mailbox.h"

#include <errno.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

bool mailbox_init(Mailbox *b, bool waits) {
  *b = (Mailbox){.last = &b->first, .fd = eventfd(0, EFD_CLOEXEC | (waits ? 0 : EFD_NONBLOCK))};
  pthread_mutex_init(&b->lock, NULL);
  return b->fd >= 0;
}

void mailbox_free(Mailbox *b) {
  if (b->fd >= 0) close(b->fd);
  pthread_mutex_destroy(&b->lock);
}

void mailbox_post(Mailbox *b, Mail *m) {
  uint64_t one = 1;
  m->next = NULL;
  pthread_mutex_lock(&b->lock);
  bool wake = !b->first;
  *b->last = m;
  b->last = &m->next;
  pthread_mutex_unlock(&b->lock);
  while (wake && write(b->fd, &one, sizeof one) < 0 && errno == EINTR) {
  }
}

void mailbox_open_all(Mailbox *b) {
  uint64_t count;
  while (read(b->fd, &count, sizeof count) < 0 && errno == EINTR) {
  }
  pthread_mutex_lock(&b->lock);
  Mail *m = b->first;
  b->first = NULL;
  b->last = &b->first;
  pthread_mutex_unlock(&b->lock);
  for (Mail *next; m; m = next) {
    next = m->next;
    m->open(m);
  }
}
