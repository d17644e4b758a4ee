/* faults.c: the fault points that the tests use; empty in releases. The launcher has its own copy of the armed
 * fault. */
#include "internal.h"

#ifdef FP_FAULTS
struct fp__fault fp__fault;

int fp_fault_set(int point, int error, int nth)
{
    fp__fault = (struct fp__fault){.point = point, .error = error, .nth = nth, .hits = 0};
    return 0;
}

int fp_fault_call(int nr, int first, int error)
{
    fp__fault = (struct fp__fault){.point = FP_POINT_CALL, .error = error, .nth = nr, .first = first};
    return 0;
}

int fp_fault_also(int hit, int nr, int a, int b, int c)
{
    fp__fault.hit = hit;
    fp__fault.also = nr;
    fp__fault.arguments[0] = a;
    fp__fault.arguments[1] = b;
    fp__fault.arguments[2] = c;
    return 0;
}

int fp_fault_order(int stage, int other, int after)
{
    fp__fault = (struct fp__fault){.moved = stage, .other = other, .after = after};
    return 0;
}

int fp_fault_hits(void)
{
    return fp__fault.hits;
}

int fp__fault_check(int point)
{
    if (fp__fault.point != point || --fp__fault.nth != 0)
        return 0;
    fp__fault.hits++;
    return 1;
}
#endif
