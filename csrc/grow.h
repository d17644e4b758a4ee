/* grow.h: the array that grows. */
#ifndef FASTPROC_GROW_H
#define FASTPROC_GROW_H

#include <stddef.h>
#include <stdlib.h>

#define FP__GROW_FIRST 64

/* Room for at least `wanted` items, twice as many as before when that is more: the array, moved or not, with *room set; NULL
 * without memory, and then all is as it was. */
static inline void *fp__grow(void *array, size_t *room, size_t wanted, size_t item)
{
    size_t bytes, next = *room * 2;
    if (wanted <= *room)
        return array;
    if (next < wanted)
        next = wanted;
    if (next < FP__GROW_FIRST)
        next = FP__GROW_FIRST;
    if (__builtin_mul_overflow(next, item, &bytes))
        return NULL;
    void *grown = realloc(array, bytes);
    if (grown != NULL)
        *room = next;
    return grown;
}

#endif
