/* pipeline.c: what pipelines need of the kernel: tee(2), and the bulk path of a plain pipeline. */
#include "internal.h"

#if FP_LINUX

#define FP__SPLICE_NONBLOCK 2

int64_t fp_tee(int from, int to, uint64_t size)
{
    return fp__sys4(SYS_tee, from, to, size, FP__SPLICE_NONBLOCK);
}

#else

int64_t fp_tee(int from, int to, uint64_t size)
{
    (void)from;
    (void)to;
    (void)size;
    return -ENOSYS;
}

#endif
