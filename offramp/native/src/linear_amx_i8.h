/* Products with matrices of 8 and 4 bits: whole numbers within a block of 32 columns, then its scale. Several tokens by
 * tiles; a single one, for which those take as long as for 16, by vectors, with the same sums in the same order. */
#ifndef OFFRAMP_LINEAR_AMX_I8_H
#define OFFRAMP_LINEAR_AMX_I8_H

#include "amx.h"
#include "linear_i8.h"

/* Of a pair of blocks: where the rows' 64 numbers are, so many bytes apart. */
typedef struct {
    const int8_t *at;
    int64_t stride;
} Pair;

/* How a format has its numbers in memory: the raised ones of a row's pair of blocks, and by how much they are so; a pair
 * of all rows; and the fetching of what lies `ahead` of it. */
typedef struct {
    __m512i (*raised)(const Matrix *m, int64_t row, int64_t k);
    int surplus;
    Pair (*pair)(const Matrix *m, int64_t row, int64_t rows, int64_t k, int8_t *room);
    void (*fetch)(const Matrix *m, int64_t row, int64_t k, int64_t ahead);
} Numbers;

INLINE __m512i raised_i8(const Matrix *m, int64_t row, int64_t k) {
    return _mm512_xor_si512(_mm512_loadu_si512(place_i8(m, row, k)), _mm512_set1_epi8((char)128));
}

INLINE Pair pair_i8(const Matrix *m, int64_t row, int64_t rows, int64_t k, int8_t *room) {
    (void)rows, (void)room;
    return (Pair){place_i8(m, row, k), m->stride};
}

INLINE Pair pair_i4(const Matrix *m, int64_t row, int64_t rows, int64_t k, int8_t *room) {
    for (int64_t r = 0; r < rows; r++)
        _mm512_storeu_si512(room + 64 * r, _mm512_sub_epi8(raised_i4(m, row + r, k), _mm512_set1_epi8(8)));
    WRITTEN(room);
    return (Pair){room, 64};
}

INLINE void fetch_i8(const Matrix *m, int64_t row, int64_t k, int64_t ahead) {
    for (int r = 0; r < BLOCK; r++) fetch(place_i8(m, row + r, k), ahead);
}

/* Two pairs are a cache line. */
INLINE void fetch_i4(const Matrix *m, int64_t row, int64_t k, int64_t ahead) {
    if (k % 128 == 0)
        for (int r = 0; r < BLOCK; r++) fetch(place_i4(m, row + r, k), ahead);
}

/* Scales of neighbouring rows lie side by side: those of the next ones. */
INLINE void fetch_scales(const Matrix *m, int64_t row) {
    for (int64_t i = 0; i < BLOCK * m->stride / 16; i += 64) fetch(scales_of(m, row + BLOCK, 0), i);
}

/* Of a pair of blocks: each row's two scales. */
typedef struct {
    Floats first, second;
} Scales;

INLINE Scales scales_of_rows(const Matrix *m, int64_t row, int64_t rows, int64_t k) {
    const __m512i number = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i at = _mm512_mullo_epi32(number, _mm512_set1_epi32((int32_t)(m->stride / 32)));
    const __mmask16 some = (__mmask16)((1u << rows) - 1);
    __m512i both =
        _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), some, at, (const void *)scales_of(m, row, k), 2);
    return (Scales){(Floats)((Bits)both << 16), (Floats)((Bits)both & 0xffff0000u)};
}

INLINE Floats added(Floats total, __m512i sums, Floats scales) {
    return multiply_add(_mm512_cvtepi32_ps(sums), scales, total);
}

/* Of two vectors, each 128 bits by themselves: the sums of their first and third and of their second and fourth numbers,
 * taken in turn from a and b. */
INLINE __m512i half_sums(__m512i a, __m512i b) {
    return _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
}

/* Of four vectors, each 128 bits by themselves: the sums of their four numbers. */
INLINE __m512i quarter_sums(const __m512i *x) {
    __m512i a = half_sums(x[0], x[1]), b = half_sums(x[2], x[3]);
    return _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
}

/* Of two vectors, each as four quarters: the sum of a's first two, that of its last two, then the same of b. */
INLINE __m512i pair_sums(__m512i a, __m512i b) {
    return _mm512_add_epi32(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xdd));
}

/* Sums of products of a pair of blocks of 16 rows with a token: a lane for each row. start: what takes the rows' surplus
 * away. */
INLINE void row_sums(const __m512i *raised, __m512i numbers, __m512i start, __m512i both[2]) {
    __m512i quarters[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        __m512i sums[4];
#pragma GCC unroll 4
        for (int r = 0; r < 4; r++) sums[r] = _mm512_dpbusd_epi32(start, raised[4 * i + r], numbers);
        quarters[i] = quarter_sums(sums);
    }
    __m512i upper = pair_sums(quarters[0], quarters[1]), lower = pair_sums(quarters[2], quarters[3]);
    both[0] = _mm512_shuffle_i32x4(upper, lower, 0x88);
    both[1] = _mm512_shuffle_i32x4(upper, lower, 0xdd);
}

/* A few tokens without tiles, a lane for each row. `rows` and TOKENS are constants, or the last rows of a matrix: behind
 * them the last one is read again. */
INLINE void block_of_few(Numbers format, const Matrix *m, int64_t row, int64_t rows, const float *x, const int TOKENS,
                         int64_t ahead, float *y) {
    const int64_t size = operand_size(m->columns) / 4;
    const __m512i none = _mm512_setzero_si512(), surplus = _mm512_set1_epi8((char)format.surplus);
    Floats total[FEW];
#pragma GCC unroll 4
    for (int t = 0; t < TOKENS; t++) total[t] = splat(0);
    for (int64_t k = 0; k < m->columns; k += 64) {
        __m512i raised[BLOCK], both[2];
        Scales scales = scales_of_rows(m, row, rows, k);
        format.fetch(m, row, k, ahead);
#pragma GCC unroll 16
        for (int r = 0; r < BLOCK; r++) raised[r] = format.raised(m, row + (r < rows ? r : rows - 1), k);
#pragma GCC unroll 4
        for (int t = 0; t < TOKENS; t++) {
            __m512i numbers = _mm512_loadu_si512(x + t * size + k / 4);
            row_sums(raised, numbers, _mm512_sub_epi32(none, _mm512_dpbusd_epi32(none, surplus, numbers)), both);
            total[t] = added(added(total[t], both[0], scales.first), both[1], scales.second);
        }
    }
#pragma GCC unroll 4
    for (int t = 0; t < TOKENS; t++) store(y + t * BLOCK, total[t] * x[size * TOKENS + t]);
}

INLINE void blocks_of_few(Numbers format, const Matrix *m, int64_t row, int64_t rows, const float *x, int64_t tokens,
                          int64_t ahead, float *y) {
    switch (tokens) {
    case 1: block_of_few(format, m, row, rows, x, 1, ahead, y); break;
    case 2: block_of_few(format, m, row, rows, x, 2, ahead, y); break;
    case 3: block_of_few(format, m, row, rows, x, 3, ahead, y); break;
    default: block_of_few(format, m, row, rows, x, 4, ahead, y);
    }
}

/* The products of a pair of blocks, whole numbers: [row][token], with room for GROUP tokens. Its sums are made in tiles
 * `first` and `second`: two pairs in turn, so that one need not wait for the other. */
#define MULTIPLY_PAIR(first, second, pair, x, tokens, sums) \
    do {                                                    \
        _tile_zero(first);                                  \
        _tile_zero(second);                                 \
        _tile_loadd(4, (pair).at, (pair).stride);           \
        _tile_loadd(6, x, 4 * (tokens));                    \
        _tile_dpbssd(first, 4, 6);                          \
        _tile_loadd(5, (pair).at + 32, (pair).stride);      \
        _tile_loadd(7, (x) + 8 * (tokens), 4 * (tokens));   \
        _tile_dpbssd(second, 5, 7);                         \
        _tile_stored(first, (sums)[0], 4 * GROUP);          \
        _tile_stored(second, (sums)[1], 4 * GROUP);         \
    } while (0)

typedef int32_t Sums[2][BLOCK * GROUP];

/* A pair's sums, times its scales, to those before. */
INLINE void add_pair(Floats *total, Sums sums, Scales scales) {
    float each[2][BLOCK];
    store(each[0], scales.first);
    store(each[1], scales.second);
#pragma GCC unroll 16
    for (int r = 0; r < BLOCK; r++) {
        total[r] = added(total[r], _mm512_loadu_si512(sums[0] + GROUP * r), splat(each[0][r]));
        total[r] = added(total[r], _mm512_loadu_si512(sums[1] + GROUP * r), splat(each[1][r]));
    }
}

/* More tokens: a lane for each. */
INLINE void block_of_group(Numbers format, const Matrix *m, int64_t row, int64_t rows, const float *x, int64_t tokens,
                           int64_t ahead, float *y) {
    Floats total[BLOCK];
    Sums sums[2] = {{{0}}};
    int8_t room[2][BLOCK * 64];
    for (int r = 0; r < BLOCK; r++) total[r] = splat(0);
    for (int64_t k = 0; k < m->columns; k += 128) {
        const int more = k + 64 < m->columns;
        const float *at = x + k / 4 * tokens;
        Pair first = format.pair(m, row, rows, k, room[0]);
        format.fetch(m, row, k, ahead);
        MULTIPLY_PAIR(0, 1, first, at, tokens, sums[0]);
        if (more) {
            Pair second = format.pair(m, row, rows, k + 64, room[1]);
            format.fetch(m, row, k + 64, ahead);
            MULTIPLY_PAIR(2, 3, second, at + 16 * tokens, tokens, sums[1]);
        }
        add_pair(total, sums[0], scales_of_rows(m, row, rows, k));
        if (more) add_pair(total, sums[1], scales_of_rows(m, row, rows, k + 64));
    }
    const float *worth = x + operand_size(m->columns) / 4 * tokens;
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t r = 0; r < rows; r++) y[t * BLOCK + r] = total[r][t] * worth[t];
}

INLINE void block_of_pairs(Numbers format, const Matrix *m, int64_t row, int64_t rows, const float *x, int64_t tokens,
                           int64_t ahead, Tiles *tiles, float *y) {
    fetch_scales(m, row);
    if (tokens > FEW) {
        shape_tiles(tiles, rows, tokens, 32);
        block_of_group(format, m, row, rows, x, tokens, ahead, y);
    } else if (rows < BLOCK) {
        blocks_of_few(format, m, row, rows, x, tokens, ahead, y);
    } else {
        blocks_of_few(format, m, row, BLOCK, x, tokens, ahead, y);
    }
}

static void block_i8(const Matrix *m, int64_t row, int64_t rows, const float *x, int64_t stride, int64_t tokens,
                     int64_t ahead, Tiles *tiles, float *y) {
    const Numbers format = {raised_i8, 128, pair_i8, fetch_i8};
    (void)stride;
    block_of_pairs(format, m, row, rows, x, tokens, ahead, tiles, y);
}

static void block_i4(const Matrix *m, int64_t row, int64_t rows, const float *x, int64_t stride, int64_t tokens,
                     int64_t ahead, Tiles *tiles, float *y) {
    const Numbers format = {raised_i4, 8, pair_i4, fetch_i4};
    (void)stride;
    block_of_pairs(format, m, row, rows, x, tokens, ahead, tiles, y);
}

#endif
