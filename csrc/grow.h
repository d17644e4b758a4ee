/* grow.h: an array that grows. */
#ifndef FASTPROC_GROW_H
#define FASTPROC_GROW_H

#include <stddef.h>
#include <stdlib.h>

#define FP__GROW_FIRST 64

/* Makes room for at least `wanted` items: at least twice the room as before. Returns the array, which may have moved,
 * and sets *room; or returns NULL where there is no memory, and changes nothing. */
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
