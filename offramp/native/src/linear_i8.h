/* Products with matrices of 8 or 4 bits in blocks of 32 weights, each block with its own scale (bfloat16).
 *
 * A row's numbers are whole pairs of blocks (its stride is a multiple of 64), zeros behind the last column. Four-bit
 * numbers stand 8 too high, those of a pair's first block in the low halves of 32 bytes, of its second in the high.
 * Sums within a block are whole numbers, the same on every processor; between blocks they are float32.
 */
#ifndef OFFRAMP_LINEAR_I8_H
#define OFFRAMP_LINEAR_I8_H

#include "operand.h"

#define CHUNK_i8 64
#define CHUNK_i4 64

INLINE const void *place_i8(const Matrix *m, int64_t row, int64_t k) {
    return (const int8_t *)m->data + row * m->stride + k;
}

INLINE const void *place_i4(const Matrix *m, int64_t row, int64_t k) {
    return (const uint8_t *)m->data + (row * m->stride + k) / 2;
}

INLINE const uint16_t *scales_of(const Matrix *m, int64_t row, int64_t k) {
    return (const uint16_t *)(const void *)m->scales + (row * m->stride + k) / 32;
}

INLINE float widened(uint16_t x) {
    uint32_t bits = (uint32_t)x << 16;
    float number;
    memcpy(&number, &bits, sizeof number);
    return number;
}

#if defined(__AVX512VNNI__)

typedef struct {
    __m512i raised; /* vpdpbusd wants one side unsigned */
    Floats scales;
} Weights_i8;

INLINE Weights_i8 with_scales(__m512i raised, const uint16_t *scales) {
    uint32_t pair;
    memcpy(&pair, scales, sizeof pair);
    /* the first scale's bytes into the upper halves of lanes 0-7, the second's of 8-15; -1 gives zeros */
    const __m512i upper = _mm512_inserti64x4(_mm512_set1_epi32(0x0100ffff), _mm256_set1_epi32(0x0302ffff), 1);
    return (Weights_i8){raised, (Floats)_mm512_shuffle_epi8(_mm512_set1_epi32((int32_t)pair), upper)};
}

INLINE Weights_i8 weights_i8(const Matrix *m, int64_t row, int64_t k, int64_t n) {
    (void)n;
    __m512i raised = _mm512_xor_si512(_mm512_loadu_si512(place_i8(m, row, k)), _mm512_set1_epi8((char)128));
    return with_scales(raised, scales_of(m, row, k));
}

/* A pair of blocks, 8 too high. */
INLINE __m512i raised_i4(const Matrix *m, int64_t row, int64_t k) {
    __m512i bytes = _mm512_broadcast_i64x4(_mm256_loadu_si256(place_i4(m, row, k)));
    const __m512i halves = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi16(4), 1);
    return _mm512_and_si512(_mm512_srlv_epi16(bytes, halves), _mm512_set1_epi8(15));
}

INLINE Weights_i8 weights_i4(const Matrix *m, int64_t row, int64_t k, int64_t n) {
    (void)n;
    return with_scales(raised_i4(m, row, k), scales_of(m, row, k));
}

/* Each sum of four products begins with what takes the weights' surplus away: it is the same for all rows. */
INLINE Floats step_raised(Floats total, Weights_i8 w, const float *x, int64_t k, int surplus) {
    __m512i numbers = _mm512_loadu_si512((const int8_t *)x + k), none = _mm512_setzero_si512();
    __m512i start = _mm512_sub_epi32(none, _mm512_dpbusd_epi32(none, _mm512_set1_epi8((char)surplus), numbers));
    return multiply_add(_mm512_cvtepi32_ps(_mm512_dpbusd_epi32(start, w.raised, numbers)), w.scales, total);
}

INLINE Floats step_i8(Floats total, Weights_i8 w, const float *x, int64_t k, int64_t n) {
    (void)n;
    return step_raised(total, w, x, k, 128);
}

INLINE Floats step_i4(Floats total, Weights_i8 w, const float *x, int64_t k, int64_t n) {
    (void)n;
    return step_raised(total, w, x, k, 8);
}

#else

#if defined(__AVX2__)
#define PARTS 1
#else
#define PARTS 2
#endif

/* A block's 32 numbers, in registers of at most the processor's size. */
typedef int8_t Part __attribute__((vector_size(32 / PARTS)));
typedef Part PartAt __attribute__((aligned(1), may_alias));

typedef struct {
    Part parts[PARTS];
} Block;

typedef struct {
    Block first, second;
    float scales[2];
} Weights_i8;

INLINE Block block_at(const void *at) {
    Block block;
    for (int i = 0; i < PARTS; i++) block.parts[i] = ((const PartAt *)at)[i];
    return block;
}

/* Sums of products, in as many parts as a vector has lanes. */
INLINE Ints part_sums(Part w, Part x) {
#if defined(__AVX512BW__)
    return (Ints)_mm512_madd_epi16(_mm512_cvtepi8_epi16((__m256i)w), _mm512_cvtepi8_epi16((__m256i)x));
#elif defined(__AVX2__)
    __m256i a = (__m256i)w, b = (__m256i)x;
    __m256i low = _mm256_madd_epi16(_mm256_cvtepi8_epi16(_mm256_castsi256_si128(a)),
                                    _mm256_cvtepi8_epi16(_mm256_castsi256_si128(b)));
    __m256i high = _mm256_madd_epi16(_mm256_cvtepi8_epi16(_mm256_extracti128_si256(a, 1)),
                                     _mm256_cvtepi8_epi16(_mm256_extracti128_si256(b, 1)));
    return (Ints)_mm256_add_epi32(low, high);
#elif defined(__x86_64__)
    __m128i a = (__m128i)w, b = (__m128i)x; /* each number twice in 16 bits, shifted down, has its sign */
    __m128i low = _mm_madd_epi16(_mm_srai_epi16(_mm_unpacklo_epi8(a, a), 8),
                                 _mm_srai_epi16(_mm_unpacklo_epi8(b, b), 8));
    __m128i high = _mm_madd_epi16(_mm_srai_epi16(_mm_unpackhi_epi8(a, a), 8),
                                  _mm_srai_epi16(_mm_unpackhi_epi8(b, b), 8));
    return (Ints)_mm_add_epi32(low, high);
#elif defined(__ARM_NEON) && defined(__aarch64__)
    int8x16_t a = (int8x16_t)w, b = (int8x16_t)x;
    return (Ints)vpadalq_s16(vpaddlq_s16(vmull_s8(vget_low_s8(a), vget_low_s8(b))), vmull_high_s8(a, b));
#else
    Ints sums = {0};
    for (int i = 0; i < 32 / PARTS; i++) sums[i % LANES] += w[i] * x[i];
    return sums;
#endif
}

INLINE Floats block_sums(Block w, const void *x) {
    Block numbers = block_at(x);
    Ints sums = part_sums(w.parts[0], numbers.parts[0]);
    for (int i = 1; i < PARTS; i++) sums += part_sums(w.parts[i], numbers.parts[i]);
    return __builtin_convertvector(sums, Floats);
}

INLINE Weights_i8 with_scales(Block first, Block second, const uint16_t *scales) {
    return (Weights_i8){first, second, {widened(scales[0]), widened(scales[1])}};
}

INLINE Weights_i8 weights_i8(const Matrix *m, int64_t row, int64_t k, int64_t n) {
    (void)n;
    const int8_t *at = place_i8(m, row, k);
    return with_scales(block_at(at), block_at(at + 32), scales_of(m, row, k));
}

INLINE Weights_i8 weights_i4(const Matrix *m, int64_t row, int64_t k, int64_t n) {
    (void)n;
    typedef uint8_t Raised __attribute__((vector_size(32 / PARTS)));
    Block bytes = block_at(place_i4(m, row, k)), first, second;
    for (int i = 0; i < PARTS; i++) {
        Raised both = (Raised)bytes.parts[i];
        first.parts[i] = (Part)((both & 15) - 8);
        second.parts[i] = (Part)((both >> 4) - 8);
    }
    return with_scales(first, second, scales_of(m, row, k));
}

INLINE Floats step_i8(Floats total, Weights_i8 w, const float *x, int64_t k, int64_t n) {
    (void)n;
    const int8_t *at = (const int8_t *)x + k;
    total = multiply_add(block_sums(w.first, at), splat(w.scales[0]), total);
    return multiply_add(block_sums(w.second, at + 32), splat(w.scales[1]), total);
}

INLINE Floats step_i4(Floats total, Weights_i8 w, const float *x, int64_t k, int64_t n) {
    return step_i8(total, w, x, k, n);
}

#endif

typedef Weights_i8 Weights_i4;

/* Times what one of the token's steps is worth. */
INLINE float whole_i8(float total, const float *x, int64_t columns) { return total * x[operand_size(columns)]; }
INLINE float whole_i4(float total, const float *x, int64_t columns) { return whole_i8(total, x, columns); }

#endif
