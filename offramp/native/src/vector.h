/* Vectors of as many floats as the instruction set holds in one register, and how they meet memory.
 *
 * A wider type than the register would live in memory, so LANES follows the instruction set. Nothing here may depend
 * on anything but its own lanes: a token's bits are the same wherever it lies.
 */
#ifndef OFFRAMP_VECTOR_H
#define OFFRAMP_VECTOR_H

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX2__)
#define LANES 8
#else
#define LANES 4
#endif

#define INLINE static inline __attribute__((always_inline, unused))

typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef uint32_t Bits __attribute__((vector_size(4 * LANES)));
typedef uint16_t Halves __attribute__((vector_size(2 * LANES))); /* bfloat16 numbers: a float's upper halves */

/* The same anywhere in memory. */
typedef Floats FloatsAt __attribute__((aligned(4), may_alias));
typedef Halves HalvesAt __attribute__((aligned(2), may_alias));

INLINE Floats splat(float x) { return x - (Floats){0}; }
INLINE Ints splat_int(int32_t x) { return x - (Ints){0}; }

INLINE Floats load(const float *at) { return *(const FloatsAt *)at; }
INLINE void store(float *at, Floats x) { *(FloatsAt *)at = x; }

/* The first n numbers, zeros behind them; memory behind them is not touched. */
INLINE Floats load_some(const float *at, int64_t n) {
    if (n >= LANES) return load(at);
#if defined(__AVX512F__)
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), at);
#else
    float x[LANES] = {0};
    memcpy(x, at, (size_t)n * sizeof *x);
    return load(x);
#endif
}

INLINE void store_some(float *at, Floats x, int64_t n) {
    if (n >= LANES) {
        store(at, x);
        return;
    }
#if defined(__AVX512F__)
    _mm512_mask_storeu_ps(at, (__mmask16)((1u << n) - 1), x);
#else
    memcpy(at, &x, (size_t)n * sizeof *at);
#endif
}

/* Lanes of a where the mask (-1 or 0, as comparisons give) is set, of b elsewhere. */
INLINE Floats choose(Ints mask, Floats a, Floats b) { return (Floats)((mask & (Ints)a) | (~mask & (Ints)b)); }
INLINE Floats larger(Floats a, Floats b) { return choose(a > b, a, b); }  /* b where either is NaN */
INLINE Floats smaller(Floats a, Floats b) { return choose(a < b, a, b); } /* b where either is NaN */
INLINE Floats absolute(Floats x) { return (Floats)((Bits)x & 0x7fffffffu); }

INLINE Floats widen(Halves x) { return (Floats)(__builtin_convertvector(x, Bits) << 16); }

/* To the nearest bfloat16, ties to even; NaN stays NaN. */
INLINE Halves narrow(Floats x) {
    Bits bits = (Bits)x, rounded = bits + 0x7fffu + ((bits >> 16) & 1u), quiet = bits | 0x400000u;
    Bits isnan = (Bits)(x != x);
    return __builtin_convertvector(((isnan & quiet) | (~isnan & rounded)) >> 16, Halves);
}

INLINE Floats load_bf16(const uint16_t *at) { return widen(*(const HalvesAt *)at); }
INLINE void store_bf16(uint16_t *at, Floats x) { *(HalvesAt *)at = narrow(x); }

INLINE Floats load_bf16_some(const uint16_t *at, int64_t n) {
    if (n >= LANES) return load_bf16(at);
    uint16_t x[LANES] = {0};
    memcpy(x, at, (size_t)n * sizeof *x);
    return load_bf16(x);
}

INLINE void store_bf16_some(uint16_t *at, Floats x, int64_t n) {
    Halves halves = narrow(x);
    memcpy(at, &halves, (size_t)(n < LANES ? n : LANES) * sizeof *at);
}

INLINE float square_root(float x) {
#if defined(__x86_64__)
    return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x)));
#else
    return __builtin_sqrtf(x);
#endif
}

/* a * b + c, rounded once where the processor can. Said here and not left to the compiler, which fuses as it likes. */
INLINE Floats multiply_add(Floats a, Floats b, Floats c) {
#if defined(__AVX512F__)
    return _mm512_fmadd_ps(a, b, c);
#elif defined(__FMA__) && defined(__AVX2__)
    return _mm256_fmadd_ps(a, b, c);
#elif defined(__ARM_NEON) && defined(__aarch64__)
    return vfmaq_f32(c, a, b);
#else
    return a * b + c;
#endif
}

/* All lanes, always halves onto halves: one order for every caller. */
INLINE float sum(Floats x) {
#if defined(__AVX512F__)
    __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(x), (__m256)_mm512_extractf64x4_pd((__m512d)x, 1));
#elif defined(__AVX2__)
    __m256 eight = x;
#endif
#if defined(__AVX2__)
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
#else
    return (x[0] + x[2]) + (x[1] + x[3]);
#endif
}

/* The largest lane that is not NaN; without one, some NaN. */
INLINE float largest(Floats x) {
    float most = x[0];
    for (int i = 1; i < LANES; i++)
        if (x[i] > most || most != most) most = x[i];
    return most;
}

#endif
