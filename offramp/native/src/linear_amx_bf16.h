/* Products with bfloat16 matrices by tiles. Every sum has four parts, of every fourth chunk of 32 columns, ascending:
 * a single one would wait for itself. */
#ifndef OFFRAMP_LINEAR_AMX_BF16_H
#define OFFRAMP_LINEAR_AMX_BF16_H

#include "amx.h"

typedef struct {
    const void *at;
    int64_t stride; /* bytes */
} Chunk;

INLINE const uint16_t *weight_at(const Matrix *m, int64_t row, int64_t k) {
    return (const uint16_t *)m->data + row * m->stride + k;
}

/* The last columns of some rows, which are no whole chunk, with zeros behind them. */
static Chunk last_chunk(const Matrix *m, int64_t row, int64_t rows, int64_t k, uint16_t *room) {
    memset(room, 0, BLOCK * 64);
    for (int64_t r = 0; r < rows; r++)
        memcpy(room + 32 * r, weight_at(m, row + r, k), (size_t)(m->columns - k) * sizeof *room);
    WRITTEN(room);
    return (Chunk){room, 64};
}

/* Behind 4 chunks of all rows. */
INLINE void fetch_chunks(const Matrix *m, int64_t row, int64_t k, int64_t ahead) {
    const uint16_t *at = weight_at(m, row, k);
    for (int r = 0; r < BLOCK; r++, at += m->stride)
        for (int chunk = 0; chunk < 4; chunk++) fetch(at + 32 * chunk, ahead);
}

/* y[t][r] of all the parts, stored one behind the other as [r][t]. */
static void add_parts(const float *parts, int64_t rows, int64_t tokens, float *y) {
    const int64_t size = rows * tokens;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t t = 0; t < tokens; t++) {
            const float *part = parts + r * tokens + t;
            y[t * BLOCK + r] = (part[0] + part[size]) + (part[2 * size] + part[3 * size]);
        }
}

#define CHUNK(c) ((c) < whole ? (Chunk){weight_at(m, row, 32 * (c)), 2 * m->stride} : last)
#define ADD(part, a, b, c)                              \
    do {                                                \
        Chunk chunk = CHUNK(c);                         \
        _tile_loadd(a, chunk.at, chunk.stride);         \
        _tile_loadd(b, x + (c) * 16 * tokens, 4 * tokens); \
        _tile_dpbf16ps(part, a, b);                     \
    } while (0)

static void block_bf16(const Matrix *m, int64_t row, int64_t rows, const float *x, int64_t stride, int64_t tokens,
                       int64_t ahead, Tiles *tiles, float *y) {
    uint16_t room[BLOCK * 32];
    float parts[4 * BLOCK * GROUP];
    const int64_t whole = m->columns / 32, all = (m->columns + 31) / 32, size = rows * tokens;
    int64_t c = 0;
    Chunk last = {NULL, 0};
    (void)stride;
    shape_tiles(tiles, rows, tokens, 64);
    if (whole < all) last = last_chunk(m, row, rows, 32 * whole, room);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (; c + 4 <= whole; c += 4) {
        fetch_chunks(m, row, 32 * c, ahead);
        ADD(0, 4, 6, c);
        ADD(1, 5, 7, c + 1);
        ADD(2, 4, 6, c + 2);
        ADD(3, 5, 7, c + 3);
    }
    if (c < all) ADD(0, 4, 6, c);
    if (c + 1 < all) ADD(1, 5, 7, c + 1);
    if (c + 2 < all) ADD(2, 4, 6, c + 2);
    if (c + 3 < all) ADD(3, 5, 7, c + 3);
    _tile_stored(0, parts, 4 * tokens);
    _tile_stored(1, parts + size, 4 * tokens);
    _tile_stored(2, parts + 2 * size, 4 * tokens);
    _tile_stored(3, parts + 3 * size, 4 * tokens);
    add_parts(parts, rows, tokens, y);
}

#undef CHUNK
#undef ADD

#endif
