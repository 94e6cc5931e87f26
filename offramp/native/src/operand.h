/* A token's side of a product with a matrix that is not float32: its numbers rounded to what the matrix is read with.
 *
 * A token has operand_size(columns) + 16 floats of room. Behind the columns its numbers are zeros up to operand_size,
 * so that no product needs to end within a vector; then comes its scale. For tiles (AMX) tokens lie in groups of GROUP
 * in the room of all of the group: of each 4 bytes what all of them have there, then of the next; then their scales.
 * Of a FEW tokens of 8 bits one's numbers lie behind the other's, for those are multiplied without tiles.
 */
#ifndef OFFRAMP_OPERAND_H
#define OFFRAMP_OPERAND_H

#include "columns.h"
#include "vector.h"

#define GROUP 16
#define PIECE 64
#define FEW 4

#if defined(__AVX512BF16__)
typedef uint16_t Rounded; /* bfloat16 */
#else
typedef float Rounded; /* a bfloat16 number as a float: no multiplication widens it again */
#endif

typedef uint8_t Bytes __attribute__((vector_size(LANES)));

static inline int64_t operand_size(int64_t columns) { return (columns + PIECE - 1) / PIECE * PIECE; }

/* The largest size in x; NaN where one is NaN or infinite. */
static inline float largest_size(const float *x, int64_t columns) {
    Floats most = splat(0), unsound = splat(0);
    for (int64_t i = 0; i < columns; i += LANES) {
        Floats v = load_some(x + i, columns - i);
        most = larger(absolute(v), most);
        unsound = unsound + (v - v);
    }
    return largest(most) + sum(unsound);
}

INLINE void store_rounded(Rounded *at, Floats x) {
#if defined(__AVX512BF16__)
    store_bf16(at, x);
#else
    store(at, widen(narrow(x)));
#endif
}

/* Whole numbers, the nearest to x in -127..127, ties to even: of the float whose last bit counts ones, the last byte. */
INLINE void store_steps(uint8_t *at, Floats x) {
    const Floats big = splat(12582912); /* 1.5 * 2^23 */
    Bytes bytes = __builtin_convertvector((Bits)(x + big) - (Bits)big, Bytes);
    memcpy(at, &bytes, sizeof bytes);
}

/* PIECE numbers, of which `left` are x and the others zeros; of 8 bits: times `inverse`. */
static inline void round_piece(int64_t format, const float *x, int64_t left, float inverse, void *out) {
    for (int64_t i = 0; i < PIECE; i += LANES) {
        Floats v = i < left ? load_some(x + i, left - i) : splat(0);
        if (format == FORMAT_BF16)
            store_rounded((Rounded *)out + i, v);
        else
            store_steps((uint8_t *)out + i, v * inverse);
    }
}

/* What one of a token's 127 steps on either side of zero is worth; NaN where a number is NaN or infinite. */
static inline float step_size(const float *x, int64_t columns, float *inverse) {
    float most = largest_size(x, columns);
    *inverse = most > 0 ? 127 / most : 0;
    if (*inverse <= 3e38f) return most / 127;
    *inverse = 0; /* so small that there is no float for it */
    return 0;
}

/* A token's x into its room in `out`. */
static inline void round_operand(int64_t format, const float *x, int64_t columns, const Columns *out, const Call *call,
                                 int64_t token) {
    const int64_t bytes = format == FORMAT_BF16 ? sizeof(Rounded) : 1, size = operand_size(columns);
    float inverse = 0, scale = format == FORMAT_BF16 ? 0 : step_size(x, columns, &inverse);
#if defined(__AMX_TILE__)
    const int64_t first = token / GROUP * GROUP, left = call->tokens - first, tokens = left < GROUP ? left : GROUP;
    const int few = format != FORMAT_BF16 && tokens <= FEW;
    const int64_t own = few ? size / 4 : 1, step = few ? 1 : tokens; /* from a token to the next, and from a word */
    float *group = columns_of(call, out, first), piece[PIECE / 2];
    for (int64_t i = 0; i < columns; i += PIECE) {
        round_piece(format, x + i, columns - i, inverse, piece);
        for (int64_t word = 0; word < PIECE * bytes / 4; word++)
            memcpy(group + (token - first) * own + (i * bytes / 4 + word) * step, piece + word, sizeof *group);
    }
    if (format != FORMAT_BF16) group[size / 4 * tokens + token - first] = scale;
#else
    float *room = columns_of(call, out, token);
    for (int64_t i = 0; i < columns; i += PIECE)
        round_piece(format, x + i, columns - i, inverse, (char *)room + i * bytes);
    room[size] = scale;
#endif
}

/* LANES numbers from column i on, a multiple of them, of a token's BF16 operand of so many columns: what makes a number
 * puts it there. Behind the last column they are zeros, and behind the operand nothing. */
INLINE void put_rounded(const Columns *out, int64_t columns, const Call *call, int64_t token, int64_t i, Floats x) {
    if (i >= operand_size(columns)) return;
    if (columns - i < LANES) x = columns > i ? load_some((const float *)&x, columns - i) : splat(0);
#if defined(__AMX_TILE__)
    const int64_t first = token / GROUP * GROUP, left = call->tokens - first, tokens = left < GROUP ? left : GROUP;
    float *group = columns_of(call, out, first) + (token - first), words[LANES / 2];
    store_rounded((Rounded *)words, x);
    for (int64_t word = 0; word < LANES / 2; word++) group[(i / 2 + word) * tokens] = words[word];
#else
    store_rounded((Rounded *)columns_of(call, out, token) + i, x);
#endif
}

#endif
