/* Hands things from threads to a thread, in order: any thread posts, one takes. Posting never waits but for a lock held for a few
 * instructions. The taker's descriptor is readable when something is there: an event loop watches it, a thread reads it. */
#ifndef SERVE_MAILBOX_H
#define SERVE_MAILBOX_H
#include <pthread.h>
#include <stdbool.h>

typedef struct Mail {
  struct Mail *next;
  void (*open)(struct Mail *m); /* called by the taker, whose it is from then on */
} Mail;

typedef struct Mailbox {
  pthread_mutex_t lock;
  Mail *first, **last;
  int fd;
} Mailbox;

bool mailbox_init(Mailbox *b, bool waits); /* waits: mailbox_open_all sleeps until something is there */
void mailbox_free(Mailbox *b);             /* must be empty */
void mailbox_post(Mailbox *b, Mail *m);
void mailbox_open_all(Mailbox *b); /* opens what was there when it was called */
#endif
