/* Products of some rows of a matrix with some tokens, for one format: included once for each, with FORMAT its name.
 *
 * Of the format it takes CHUNK (columns a step), weights (those of a row's chunk), step (adds a chunk's products to
 * the lanes of a sum), place (where a row's weights lie) and whole (a sum from what its lanes add up to).
 *
 * Every sum has one vector, its chunks ascending, so that it is the same in a tile of any size. `ahead` bytes behind
 * what is multiplied lies what will be soon: it is fetched meanwhile.
 */
#define JOINED_(a, b) a##_##b
#define JOINED(a, b) JOINED_(a, b)
#define NAME(word) JOINED(word, FORMAT)

/* y[t][r] = sums of ROWS rows and TOKENS tokens; constants, so that sums stay in registers. */
INLINE void NAME(tile)(const int ROWS, const int TOKENS, const Matrix *m, int64_t row, const float *x,
                       int64_t stride, int64_t ahead, float *y) {
    Floats total[ROWS * TOKENS];
    const int64_t chunk = NAME(CHUNK), even = m->columns / chunk * chunk;
#pragma GCC unroll 32
    for (int i = 0; i < ROWS * TOKENS; i++) total[i] = splat(0);
    for (int64_t k = 0; k < even; k += chunk)
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; r++) {
            NAME(Weights) w = NAME(weights)(m, row + r, k, chunk);
            fetch(NAME(place)(m, row + r, k), ahead);
#pragma GCC unroll 8
            for (int t = 0; t < TOKENS; t++)
                total[r * TOKENS + t] = NAME(step)(total[r * TOKENS + t], w, x + t * stride, k, chunk);
        }
    if (even < m->columns)
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; r++) {
            NAME(Weights) w = NAME(weights)(m, row + r, even, m->columns - even);
#pragma GCC unroll 8
            for (int t = 0; t < TOKENS; t++)
                total[r * TOKENS + t] =
                    NAME(step)(total[r * TOKENS + t], w, x + t * stride, even, m->columns - even);
        }
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 8
        for (int t = 0; t < TOKENS; t++)
            y[t * BLOCK + r] = NAME(whole)(sum(total[r * TOKENS + t]), x + t * stride, m->columns);
}

/* The same of ROWS rows and any number of tokens. */
INLINE void NAME(tiles)(const int ROWS, const Matrix *m, int64_t row, const float *x, int64_t stride,
                        int64_t tokens, int64_t ahead, float *y) {
    for (; tokens >= 4; tokens -= 4, x += 4 * stride, y += 4 * BLOCK)
        NAME(tile)(ROWS, 4, m, row, x, stride, ahead, y);
    switch (tokens) {
    case 1: NAME(tile)(ROWS, 1, m, row, x, stride, ahead, y); break;
    case 2: NAME(tile)(ROWS, 2, m, row, x, stride, ahead, y); break;
    case 3: NAME(tile)(ROWS, 3, m, row, x, stride, ahead, y); break;
    }
}

/* The same of `rows` rows, at most BLOCK, and `tokens` tokens, in tiles of as many rows as the registers hold. */
static void NAME(block)(const Matrix *m, int64_t row, int64_t rows, const float *x, int64_t stride, int64_t tokens,
                        int64_t ahead, Tiles *tiles, float *y) {
    int64_t r = 0;
    (void)tiles;
    if (tokens == 1)
        for (; r + 8 <= rows; r += 8) NAME(tile)(8, 1, m, row + r, x, stride, ahead, y + r);
    if (tokens <= MOST_SUMS / 4 || MOST_SUMS == 16)
        for (; r + 4 <= rows; r += 4) NAME(tiles)(4, m, row + r, x, stride, tokens, ahead, y + r);
    for (; r + 2 <= rows; r += 2) NAME(tiles)(2, m, row + r, x, stride, tokens, ahead, y + r);
    for (; r < rows; r++) NAME(tiles)(1, m, row + r, x, stride, tokens, ahead, y + r);
}

#undef NAME
#undef JOINED
#undef JOINED_
#undef FORMAT
