/* Products with matrices of 8 and 4 bits by tiles: whole numbers within a block of 32 columns, then its scale. */
#ifndef OFFRAMP_LINEAR_AMX_I8_H
#define OFFRAMP_LINEAR_AMX_I8_H

#include "amx.h"
#include "linear_i8.h"

/* Of a pair of blocks: where the rows' 64 numbers are, so many bytes apart. */
typedef struct {
    const int8_t *at;
    int64_t stride;
} Pair;

INLINE Pair pair_i8(const Matrix *m, int64_t row, int64_t rows, int64_t k, int8_t *room) {
    const int8_t *at = place_i8(m, row, k);
    (void)room;
    for (int64_t r = 0; r < rows; r++) fetch(at + r * m->stride + 128);
    return (Pair){at, m->stride};
}

INLINE Pair pair_i4(const Matrix *m, int64_t row, int64_t rows, int64_t k, int8_t *room) {
    for (int64_t r = 0; r < rows; r++) {
        fetch((const char *)place_i4(m, row + r, k) + 128);
        _mm512_storeu_si512(room + 64 * r, _mm512_sub_epi8(raised_i4(m, row + r, k), _mm512_set1_epi8(8)));
    }
    WRITTEN(room);
    return (Pair){room, 64};
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

INLINE Floats added(Floats total, const int32_t *sums, Floats scales) {
    return multiply_add(_mm512_cvtepi32_ps(_mm512_loadu_si512(sums)), scales, total);
}

/* The products of a pair of blocks, whole numbers: [row][token], of which there are `step` in memory. */
INLINE void multiply_pair(Pair pair, const float *x, int64_t tokens, int32_t sums[2][BLOCK * GROUP], int64_t step) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_loadd(4, pair.at, pair.stride);
    _tile_loadd(5, pair.at + 32, pair.stride);
    _tile_loadd(6, x, 4 * tokens);
    _tile_loadd(7, x + 8 * tokens, 4 * tokens);
    _tile_dpbssd(0, 4, 6);
    _tile_dpbssd(1, 5, 7);
    _tile_stored(0, sums[0], 4 * step);
    _tile_stored(1, sums[1], 4 * step);
}

typedef Pair PairOf(const Matrix *m, int64_t row, int64_t rows, int64_t k, int8_t *room);

/* One token: a lane for each row. Each sum is made as with more tokens. */
INLINE void block_of_one(PairOf pair_of, const Matrix *m, int64_t row, int64_t rows, const float *x, float *y) {
    Floats total = splat(0);
    int32_t sums[2][BLOCK * GROUP] = {{0}};
    int8_t room[BLOCK * 64];
    for (int64_t k = 0; k < m->columns; k += 64) {
        Scales scales = scales_of_rows(m, row, rows, k);
        multiply_pair(pair_of(m, row, rows, k, room), x + k / 4, 1, sums, 1);
        total = added(added(total, sums[0], scales.first), sums[1], scales.second);
    }
    store(y, total * x[operand_size(m->columns) / 4]);
}

/* A lane for each token. */
INLINE void block_of_group(PairOf pair_of, const Matrix *m, int64_t row, int64_t rows, const float *x, int64_t tokens,
                           float *y) {
    Floats total[BLOCK];
    int32_t sums[2][BLOCK * GROUP] = {{0}};
    int8_t room[BLOCK * 64];
    for (int r = 0; r < BLOCK; r++) total[r] = splat(0);
    for (int64_t k = 0; k < m->columns; k += 64) {
        Scales scales = scales_of_rows(m, row, rows, k);
        float each[2][BLOCK];
        multiply_pair(pair_of(m, row, rows, k, room), x + k / 4 * tokens, tokens, sums, GROUP);
        store(each[0], scales.first);
        store(each[1], scales.second);
#pragma GCC unroll 16
        for (int r = 0; r < BLOCK; r++) {
            total[r] = added(total[r], sums[0] + GROUP * r, splat(each[0][r]));
            total[r] = added(total[r], sums[1] + GROUP * r, splat(each[1][r]));
        }
    }
    const float *worth = x + operand_size(m->columns) / 4 * tokens;
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t r = 0; r < rows; r++) y[t * BLOCK + r] = total[r][t] * worth[t];
}

INLINE void block_of_pairs(PairOf pair_of, const Matrix *m, int64_t row, int64_t rows, const float *x, int64_t tokens,
                           Tiles *tiles, float *y) {
    shape_tiles(tiles, rows, tokens, 32);
    if (tokens == 1)
        block_of_one(pair_of, m, row, rows, x, y);
    else
        block_of_group(pair_of, m, row, rows, x, tokens, y);
}

static void block_i8(const Matrix *m, int64_t row, int64_t rows, const float *x, int64_t stride, int64_t tokens,
                     Tiles *tiles, float *y) {
    (void)stride;
    block_of_pairs(pair_i8, m, row, rows, x, tokens, tiles, y);
}

static void block_i4(const Matrix *m, int64_t row, int64_t rows, const float *x, int64_t stride, int64_t tokens,
                     Tiles *tiles, float *y) {
    (void)stride;
    block_of_pairs(pair_i4, m, row, rows, x, tokens, tiles, y);
}

#endif
