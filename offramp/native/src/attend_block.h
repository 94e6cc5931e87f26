/* A tile of queries and a block of entries: scores, weights, and the weighted sums of values.
 *
 * The bits of a query are the same in any tile: it has sums of its own, in the order of entries. K: head dim.
 */
#ifndef OFFRAMP_ATTEND_BLOCK_H
#define OFFRAMP_ATTEND_BLOCK_H

#include "math.h"
#include "memory.h"

enum {
    TILE = 16,
    QUERIES = 4,                     /* queries whose sums stay in registers ... */
    VECTORS = LANES == 16 ? 4 : 2, /* ... with so many vectors: 16 sums in 32 registers, or 8 in 16 */
    BLOCK = 64,
    WIDEST = 256 /* head dim */
};

/* Queries that begin with the same entry, ascending, and what they have gathered. */
typedef struct {
    int64_t queries, head, first; /* head: K; first: the entry */
    int64_t seen[TILE];           /* entries, from the first on */
    float q[TILE][WIDEST];        /* turned and scaled */
    float weight[TILE][BLOCK];
    float mixed[TILE][WIDEST]; /* weighted values, to be divided by the weights' sum */
    float most[TILE];          /* the largest score so far */
    Floats total[TILE];        /* of the weights, by lanes */
} Tile;

/* Neighbouring entries of a slot and a key-value head. keys: of the first one; step: from a dimension to the next;
 * room: entries that are memory. values: [entries, K]. */
typedef struct {
    const void *keys, *values;
    int64_t step, room, format;
} Block;

/* Scores of `vectors` vectors of entries, from `at` on, for queries from j on; n: lanes that may be read. */
INLINE void score(Tile *tile, const Block *block, int64_t at, int64_t j, int64_t n, int queries, int vectors,
                  int64_t format) {
    Floats scores[QUERIES][VECTORS] = {{{0}}};
    for (int64_t d = 0; d < tile->head; d++)
        for (int v = 0; v < vectors; v++) {
            Floats key = recall(block->keys, d * block->step + at + v * LANES, n, format);
            for (int i = 0; i < queries; i++) scores[i][v] = multiply_add(splat(tile->q[j + i][d]), key, scores[i][v]);
        }
    for (int i = 0; i < queries; i++)
        for (int v = 0; v < vectors; v++) store(tile->weight[j + i] + at + v * LANES, scores[i][v]);
}

/* Scores of a block's first `count` entries. The last vector reads what follows them, if that is memory. */
INLINE void score_block(Tile *tile, const Block *block, int64_t count, int64_t j, int queries, int64_t format) {
    int64_t i = 0, span = VECTORS * LANES;
    for (; i + span <= count; i += span) score(tile, block, i, j, LANES, queries, VECTORS, format);
    for (; i < count; i += LANES) {
        if (block->room - i >= LANES)
            score(tile, block, i, j, LANES, queries, 1, format);
        else
            score(tile, block, i, j, block->room - i, queries, 1, format);
    }
}

/* A query's scores of the block's first `count` entries become weights, relative to the largest score so far. */
static void weigh(Tile *tile, int64_t j, int64_t count) {
    float *weight = tile->weight[j];
    Floats top = splat(-__builtin_inff());
    Ints lane;
    for (int i = 0; i < LANES; i++) lane[i] = i;
    for (int64_t i = 0; i < count; i += LANES) {
        Floats scores = choose(lane < splat_int((int32_t)(count - i)), load(weight + i), splat(-__builtin_inff()));
        store(weight + i, scores);
        top = larger(scores, top);
    }
    float most = largest(top);
    if (most > tile->most[j]) {
        Floats shrunk = exp_v(splat(tile->most[j] - most));
        for (int64_t d = 0; d < tile->head; d += LANES) store(tile->mixed[j] + d, load(tile->mixed[j] + d) * shrunk);
        tile->total[j] *= shrunk;
        tile->most[j] = most;
    }
    for (int64_t i = 0; i < count; i += LANES) {
        Floats weights = exp_v(load(weight + i) - tile->most[j]);
        store(weight + i, weights);
        tile->total[j] += weights;
    }
}

/* Values of the block's entries begin..end-1 for queries from j on: `vectors` vectors of columns from d on, n lanes. */
INLINE void mix(Tile *tile, const Block *block, int64_t begin, int64_t end, int64_t j, int64_t d, int64_t n,
                int queries, int vectors, int64_t format) {
    Floats mixed[QUERIES][VECTORS];
    for (int i = 0; i < queries; i++)
        for (int v = 0; v < vectors; v++) mixed[i][v] = load(tile->mixed[j + i] + d + v * LANES);
    for (int64_t e = begin; e < end; e++)
        for (int v = 0; v < vectors; v++) {
            Floats value = recall(block->values, e * tile->head + d + v * LANES, n, format);
            for (int i = 0; i < queries; i++)
                mixed[i][v] = multiply_add(splat(tile->weight[j + i][e]), value, mixed[i][v]);
        }
    for (int i = 0; i < queries; i++)
        for (int v = 0; v < vectors; v++) store(tile->mixed[j + i] + d + v * LANES, mixed[i][v]);
}

INLINE void mix_block(Tile *tile, const Block *block, int64_t begin, int64_t end, int64_t j, int queries,
                      int64_t format) {
    int64_t d = 0, span = VECTORS * LANES;
    for (; d + span <= tile->head; d += span) mix(tile, block, begin, end, j, d, LANES, queries, VECTORS, format);
    for (; d + LANES <= tile->head; d += LANES) mix(tile, block, begin, end, j, d, LANES, queries, 1, format);
    if (d < tile->head) mix(tile, block, begin, end, j, d, tile->head - d, queries, 1, format);
}

/* The two products for every number of queries and format, so that their sums stay in registers. */
typedef void Score(Tile *tile, const Block *block, int64_t count, int64_t j);
typedef void Mix(Tile *tile, const Block *block, int64_t begin, int64_t end, int64_t j);

#define PRODUCTS(format, queries)                                                                                   \
    static void score_##format##_##queries(Tile *tile, const Block *block, int64_t count, int64_t j) {              \
        score_block(tile, block, count, j, queries, FORMAT_##format);                                               \
    }                                                                                                               \
    static void mix_##format##_##queries(Tile *tile, const Block *block, int64_t begin, int64_t end, int64_t j) {   \
        mix_block(tile, block, begin, end, j, queries, FORMAT_##format);                                            \
    }
PRODUCTS(F32, 1)
PRODUCTS(F32, 2)
PRODUCTS(F32, 3)
PRODUCTS(F32, 4)
PRODUCTS(BF16, 1)
PRODUCTS(BF16, 2)
PRODUCTS(BF16, 3)
PRODUCTS(BF16, 4)

static Score *const SCORES[2][QUERIES] = {[FORMAT_F32] = {score_F32_1, score_F32_2, score_F32_3, score_F32_4},
                                       [FORMAT_BF16] = {score_BF16_1, score_BF16_2, score_BF16_3, score_BF16_4}};
static Mix *const MIXES[2][QUERIES] = {[FORMAT_F32] = {mix_F32_1, mix_F32_2, mix_F32_3, mix_F32_4},
                                    [FORMAT_BF16] = {mix_BF16_1, mix_BF16_2, mix_BF16_3, mix_BF16_4}};

#endif
