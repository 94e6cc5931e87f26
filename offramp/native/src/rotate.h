/* Rotary positions in the half-split order: of a head's first `turned` numbers, i and i + turned / 2 are a pair. */
#ifndef OFFRAMP_ROTATE_H
#define OFFRAMP_ROTATE_H

#include "memory.h"

/* Tables [positions, turned] in the model's format, amplitudes included. A row's halves are the same. */
typedef struct {
    const void *cosines, *sines;
    int64_t turned; /* 0: nothing is */
    int64_t format;
} Turns;

/* out = x of one head, turned as at `position`. */
static inline void rotate(const Turns *turns, int64_t position, const float *x, int64_t head, float *out) {
    int64_t half = turns->turned / 2, row = position * turns->turned;
    for (int64_t i = 0; i < half; i += LANES) {
        int64_t n = half - i;
        Floats left = load_some(x + i, n), right = load_some(x + half + i, n);
        Floats cosine = recall(turns->cosines, row + i, n, turns->format);
        Floats sine = recall(turns->sines, row + i, n, turns->format);
        store_some(out + i, left * cosine - right * sine, n);
        store_some(out + half + i, right * cosine + left * sine, n);
    }
    memcpy(out + 2 * half, x + 2 * half, (size_t)(head - 2 * half) * sizeof *x);
}

#endif
