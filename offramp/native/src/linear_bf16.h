/* Products with bfloat16 matrices: both sides bfloat16, sums float32. */
#ifndef OFFRAMP_LINEAR_BF16_H
#define OFFRAMP_LINEAR_BF16_H

#include "operand.h"

INLINE const void *place_bf16(const Matrix *m, int64_t row, int64_t k) {
    return (const uint16_t *)m->data + row * m->stride + k;
}

#if defined(__AVX512BF16__)

#define CHUNK_bf16 32

typedef __m512i Weights_bf16;

INLINE Weights_bf16 weights_bf16(const Matrix *m, int64_t row, int64_t k, int64_t n) {
    const void *at = place_bf16(m, row, k);
    if (n >= CHUNK_bf16) return _mm512_loadu_si512(at);
    return _mm512_maskz_loadu_epi16((__mmask32)((1ull << n) - 1), at);
}

INLINE Floats step_bf16(Floats total, Weights_bf16 w, const float *x, int64_t k, int64_t n) {
    (void)n;
    __m512i numbers = _mm512_loadu_si512((const Rounded *)x + k);
    return _mm512_dpbf16_ps(total, (__m512bh)w, (__m512bh)numbers);
}

#else

#define CHUNK_bf16 LANES

typedef Floats Weights_bf16;

INLINE Weights_bf16 weights_bf16(const Matrix *m, int64_t row, int64_t k, int64_t n) {
    return load_bf16_some(place_bf16(m, row, k), n);
}

INLINE Floats step_bf16(Floats total, Weights_bf16 w, const float *x, int64_t k, int64_t n) {
    (void)n;
    return multiply_add(w, load(x + k), total);
}

#endif

INLINE float whole_bf16(float total, const float *x, int64_t columns) {
    (void)x, (void)columns;
    return total;
}

#endif
