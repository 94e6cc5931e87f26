/* Products of matrices with all tokens: each weight is read from memory once, whatever the number of tokens.
 *
 * Threads take blocks of rows. Within one, a few rows stay in the nearest cache while all tokens pass them.
 */
#include "activation.h"
#include "columns.h"
#include "linear_bf16.h"
#include "linear_f32.h"
#include "linear_i8.h"

#define BLOCK 16 /* rows a thread takes at a time; all tokens of a GROUP pass them together */
#if defined(__AVX512F__) || defined(__ARM_NEON)
#define MOST_SUMS 16 /* at a time, of 32 registers */
#else
#define MOST_SUMS 8 /* of 16 */
#endif

#if defined(__AMX_TILE__)
#include "linear_amx_bf16.h"
#include "linear_amx_i8.h"
#else
typedef struct {
    int64_t none;
} Tiles;
static void release_tiles(const Tiles *tiles) { (void)tiles; }
#define FORMAT bf16
#include "linear_tile.h"
#define FORMAT i8
#include "linear_tile.h"
#define FORMAT i4
#include "linear_tile.h"
#endif
#define FORMAT f32
#include "linear_tile.h"

/* out = activation(gate x + gate_bias) * (weight x + bias), without a gate activation(weight x + bias). */
typedef struct {
    Matrix weight, gate;           /* gate.data NULL: none */
    const float *bias, *gate_bias; /* [rows] or NULL */
    Columns x;                     /* float32, or an operand of the weights' format: see operand.h */
    Columns out;
    int64_t activation;
    int64_t add; /* 1: out += */
} Product;

/* Products in one step: their rows are shared out together. */
typedef struct {
    int64_t count;
    const Product *products;
} Linear;

static void multiply(const Matrix *m, int64_t row, int64_t rows, const float *x, int64_t stride, int64_t tokens,
                     Tiles *tiles, float *y) {
    switch (m->format) {
    case FORMAT_F32: block_f32(m, row, rows, x, stride, tokens, tiles, y); break;
    case FORMAT_BF16: block_bf16(m, row, rows, x, stride, tokens, tiles, y); break;
    case FORMAT_I8: block_i8(m, row, rows, x, stride, tokens, tiles, y); break;
    default: block_i4(m, row, rows, x, stride, tokens, tiles, y);
    }
}

static Floats with_bias(const float *y, const float *bias, int64_t row, int64_t n) {
    Floats sums = load_some(y, n);
    return bias ? sums + load_some(bias + row, n) : sums;
}

/* One token's outputs of a block of rows. gates: what the gate's rows gave. */
static void finish(const Product *p, int64_t row, int64_t rows, const float *y, const float *gates, float *out) {
    for (int64_t r = 0; r < rows; r += LANES) {
        int64_t n = rows - r;
        Floats sums = with_bias(y + r, p->bias, row + r, n);
        if (p->gate.data)
            sums = activate(with_bias(gates + r, p->gate_bias, row + r, n), p->activation) * sums;
        else
            sums = activate(sums, p->activation);
        if (p->add) sums = load_some(out + row + r, n) + sums;
        store_some(out + row + r, sums, n);
    }
}

static void block_of(const Product *p, const Call *call, int64_t row, Tiles *tiles) {
    int64_t rows = p->weight.rows - row < BLOCK ? p->weight.rows - row : BLOCK;
    float y[GROUP * BLOCK], gates[GROUP * BLOCK];
    for (int64_t first = 0; first < call->tokens; first += GROUP) {
        int64_t tokens = call->tokens - first < GROUP ? call->tokens - first : GROUP;
        const float *x = columns_of(call, &p->x, first);
        if (p->gate.data) multiply(&p->gate, row, rows, x, p->x.stride, tokens, tiles, gates);
        multiply(&p->weight, row, rows, x, p->x.stride, tokens, tiles, y);
        for (int64_t t = 0; t < tokens; t++)
            finish(p, row, rows, y + t * BLOCK, gates + t * BLOCK, columns_of(call, &p->out, first + t));
    }
}

static int64_t blocks_of(const Product *p) { return (p->weight.rows + BLOCK - 1) / BLOCK; }

Kernel linear;
void linear(const void *arguments, const Call *call, const Worker *worker) {
    const Linear *all = arguments;
    int64_t blocks = 0, begin, end, before = 0;
    Tiles tiles = {0};
    for (int64_t i = 0; i < all->count; i++) blocks += blocks_of(all->products + i);
    share(blocks, 1, worker, &begin, &end);
    for (int64_t i = 0; i < all->count; before += blocks_of(all->products + i++)) {
        const Product *p = all->products + i;
        for (int64_t b = begin > before ? begin - before : 0; b < blocks_of(p) && b < end - before; b++)
            block_of(p, call, b * BLOCK, &tiles);
    }
    release_tiles(&tiles);
}
