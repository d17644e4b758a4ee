/* The part of the harness that is about the lock and the array of csrc/internal.h and csrc/grow.h. */
void check_parts(void);
