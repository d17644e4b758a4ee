/* features.c: what the probe found, and which mechanism is forced: two words that every file may read.
 *
 * The answer of the probe is one atomic word, not a struct under a lock: a fork could copy a lock in its locked
 * state. */
#include "internal.h"

static _Atomic int forced;

int fp_mechanism_force(int mechanism)
{
    if (mechanism < FP_MECHANISM_AUTO || mechanism > FP_MECHANISM_LAUNCHER)
        return -EINVAL;
    atomic_store(&forced, mechanism);
    return 0;
}

int fp__mechanism_forced(void)
{
    return atomic_load(&forced);
}

#if FP_LINUX

/* Bits 0 to 39: refused[1..5], eight bits each. Then one bit for each feature, then "the features are known". */
enum {
    BIT_PIDFD = 40,
    BIT_PIDFD_OPEN,
    BIT_PIDFD_SIGNAL,
    BIT_PIDFD_WAIT,
    BIT_PIDFD_INFO,
    BIT_CLOSE_RANGE,
    BIT_SHARED,
    BIT_KNOWN
};
static _Atomic uint64_t answer;

static struct fp_features unpack(uint64_t word)
{
    struct fp_features f = {.pidfd = (word >> BIT_PIDFD) & 1,
                            .pidfd_open = (word >> BIT_PIDFD_OPEN) & 1,
                            .pidfd_signal = (word >> BIT_PIDFD_SIGNAL) & 1,
                            .pidfd_wait = (word >> BIT_PIDFD_WAIT) & 1,
                            .pidfd_info = (word >> BIT_PIDFD_INFO) & 1,
                            .close_range = (word >> BIT_CLOSE_RANGE) & 1,
                            .shared_memory = (word >> BIT_SHARED) & 1};
    for (int m = 1; m <= 5; m++)
        f.refused[m] = (int32_t)((word >> (8 * (m - 1))) & 0xff);
    return f;
}

static uint64_t pack(const struct fp_features *f)
{
    uint64_t word = 1ULL << BIT_KNOWN | (uint64_t)f->pidfd << BIT_PIDFD | (uint64_t)f->pidfd_open << BIT_PIDFD_OPEN |
                    (uint64_t)f->pidfd_signal << BIT_PIDFD_SIGNAL | (uint64_t)f->pidfd_wait << BIT_PIDFD_WAIT |
                    (uint64_t)f->pidfd_info << BIT_PIDFD_INFO | (uint64_t)f->close_range << BIT_CLOSE_RANGE |
                    (uint64_t)f->shared_memory << BIT_SHARED;
    for (int m = 1; m <= 5; m++)
        word |= (uint64_t)f->refused[m] << (8 * (m - 1));
    return word;
}

/* Returns false, and writes nothing, before the first probe whose answer could be kept. */
bool fp__features_known(struct fp_features *ret_features)
{
    uint64_t word = atomic_load(&answer);
    if (!(word >> BIT_KNOWN & 1))
        return false;
    *ret_features = unpack(word);
    return true;
}

void fp__features_keep(const struct fp_features *features)
{
    atomic_store(&answer, pack(features));
}

/* False only where the probe found that the call is missing or kills the caller. */
bool fp__may_signal_by_pidfd(void)
{
    uint64_t word = atomic_load_explicit(&answer, memory_order_relaxed);
    return !(word >> BIT_KNOWN & 1) || (word >> BIT_PIDFD_SIGNAL & 1);
}

#endif
