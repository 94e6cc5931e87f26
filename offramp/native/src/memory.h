/* Numbers of a state tensor, which has the model's format: float32 or bfloat16. n of them from number i on. */
#ifndef OFFRAMP_MEMORY_H
#define OFFRAMP_MEMORY_H

#include "offramp.h"
#include "vector.h"

INLINE Floats recall(const void *memory, int64_t i, int64_t n, int64_t format) {
    if (format == FORMAT_BF16) return load_bf16_some((const uint16_t *)memory + i, n);
    return load_some((const float *)memory + i, n);
}

INLINE void memorise(void *memory, int64_t i, Floats x, int64_t n, int64_t format) {
    if (format == FORMAT_BF16)
        store_bf16_some((uint16_t *)memory + i, x, n);
    else
        store_some((float *)memory + i, x, n);
}

#endif
