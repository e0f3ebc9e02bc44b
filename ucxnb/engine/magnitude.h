/* Buckets of histograms (histogram.py): each power of two has one, or four of equal width; 0 is for 0. */
#ifndef UCXNB_MAGNITUDE_H
#define UCXNB_MAGNITUDE_H

#include <stdint.h>

#define UCXNB_SIZES 65
#define UCXNB_LATENCIES (1 + 4 * 64)

static inline int ucxnb_size_bucket(uint64_t nbytes)
{
    return nbytes == 0 ? 0 : 64 - __builtin_clzll(nbytes);
}

static inline int ucxnb_latency_bucket(uint64_t ns)
{
    int power;

    if (ns == 0) {
        return 0;
    }
    power = 63 - __builtin_clzll(ns);
    return 1 + 4 * power + (int)((power < 2 ? ns << (2 - power) : ns >> (power - 2)) & 3);
}

#endif
