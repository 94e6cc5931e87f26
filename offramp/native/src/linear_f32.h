/* Products with float32 matrices. */
#ifndef OFFRAMP_LINEAR_F32_H
#define OFFRAMP_LINEAR_F32_H

#include "offramp.h"
#include "vector.h"

#define CHUNK_f32 LANES

typedef Floats Weights_f32;

INLINE const void *place_f32(const Matrix *m, int64_t row, int64_t k) {
    return (const float *)m->data + row * m->stride + k;
}

INLINE Weights_f32 weights_f32(const Matrix *m, int64_t row, int64_t k, int64_t n) {
    return load_some(place_f32(m, row, k), n);
}

INLINE Floats step_f32(Floats total, Weights_f32 w, const float *x, int64_t k, int64_t n) {
    return multiply_add(w, load_some(x + k, n), total);
}

INLINE float whole_f32(float total, const float *x, int64_t columns) {
    (void)x, (void)columns;
    return total;
}

#endif
