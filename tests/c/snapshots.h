/* snapshots.h: snapshots of what is there, and of folders full of nonsense. */
#ifndef FASTPROC_TESTS_SNAPSHOTS_H
#define FASTPROC_TESTS_SNAPSHOTS_H

void check_snapshots(int rounds);

#endif
