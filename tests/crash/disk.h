/* A model of a file system as POSIX promises it and no better: what the programs see, what is surely on the disk, and what
 * may be there after the power went. See disk.c. */
#ifndef CRASH_DISK_H
#define CRASH_DISK_H
#include "tests/crash/state.h"
#include "tests/crash/trace.h"

typedef struct Disk Disk;

Disk *disk_new(const State *base); /* all of `base` is on the disk */
void disk_free(Disk *d);
/* Carries out one operation; an operation that cannot be true of this disk ends the program with a message. */
void disk_apply(Disk *d, const TraceOp *o);
bool disk_is_folder(const Disk *d, int handle); /* what is open there */
/* The step of the newest checkpoint that the program may call saved: step-N stood in a folder named `checkpoints` when
 * that folder was synced. -1: none. */
long disk_saved(const Disk *d);

typedef enum {
  CRASH_ALL,   /* everything reached the disk: a kill, and no power cut */
  CRASH_NONE,  /* nothing that was not synced did */
  CRASH_NAMES, /* all entries of folders did, no bytes of files */
  CRASH_BYTES, /* the other way round */
  CRASH_ORDERED, /* of each folder's changes a first part, of each file's writes a first part, the last sector by sector */
  CRASH_ANY,     /* of each folder's changes any, of each file's sectors any age, any size */
} CrashKind;
/* The state after a crash now; chance is drawn from `seed`. Sorted. */
State disk_crash(const Disk *d, CrashKind kind, uint64_t seed);
#endif
