/* Products of matrices with all tokens: each weight is read from memory once, whatever the number of tokens.
 *
 * Threads take blocks of rows. Within one, a few rows stay in the nearest cache while all tokens pass them, and the block
 * that the thread takes next is fetched.
 */
#include "activation.h"
#include "columns.h"
#include "fetch.h"
#include "linear_bf16.h"
#include "linear_f32.h"
#include "linear_i8.h"
#include "turns.h"

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
    Columns rounded; /* may be missing: the first `width` of out, which are a BF16 operand */
    int64_t width;
    int64_t activation;
    int64_t add; /* 1: out += */
} Product;

/* Products in one step: their rows are shared out together. */
typedef struct {
    int64_t count;
    const Product *products;
} Linear;

/* A block: neighbouring rows, as a thread takes them. */
typedef struct {
    const Product *product;
    int64_t row, rows;
} Rows;

static int64_t blocks_of(const Product *p) { return (p->weight.rows + BLOCK - 1) / BLOCK; }

static int64_t all_blocks(const Linear *all) {
    int64_t blocks = 0;
    for (int64_t i = 0; i < all->count; i++) blocks += blocks_of(all->products + i);
    return blocks;
}

static Rows rows_at(const Linear *all, int64_t number) {
    const Product *p = all->products;
    for (; number >= blocks_of(p); p++) number -= blocks_of(p);
    int64_t row = number * BLOCK, left = p->weight.rows - row;
    return (Rows){p, row, left < BLOCK ? left : BLOCK};
}

static const char *row_at(const Matrix *m, int64_t row) {
    return (const char *)m->data + (row * m->stride * 4 >> m->format); /* F32 has 4 bytes, I4 an eighth of that */
}

/* Where the first weights lie that a block reads. */
static const char *begin_of(const Rows *block) {
    const Product *p = block->product;
    return row_at(p->gate.data ? &p->gate : &p->weight, block->row);
}

static int64_t distance(const char *from, const char *to) { return (int64_t)((uintptr_t)to - (uintptr_t)from); }

static void multiply(const Matrix *m, int64_t row, int64_t rows, const float *x, int64_t stride, int64_t tokens,
                     int64_t ahead, Tiles *tiles, float *y) {
    switch (m->format) {
    case FORMAT_F32: block_f32(m, row, rows, x, stride, tokens, ahead, tiles, y); break;
    case FORMAT_BF16: block_bf16(m, row, rows, x, stride, tokens, ahead, tiles, y); break;
    case FORMAT_I8: block_i8(m, row, rows, x, stride, tokens, ahead, tiles, y); break;
    default: block_i4(m, row, rows, x, stride, tokens, ahead, tiles, y);
    }
}

static Floats with_bias(const float *y, const float *bias, int64_t row, int64_t n) {
    Floats sums = load_some(y, n);
    return bias ? sums + load_some(bias + row, n) : sums;
}

/* One token's outputs of a block. gates: what the gate's rows gave. */
static void finish(const Rows *block, const Call *call, int64_t token, const float *y, const float *gates) {
    const Product *p = block->product;
    float *out = columns_of(call, &p->out, token) + block->row;
    for (int64_t r = 0; r < block->rows; r += LANES) {
        int64_t n = block->rows - r, row = block->row + r;
        Floats sums = with_bias(y + r, p->bias, row, n);
        if (p->gate.data)
            sums = activate(with_bias(gates + r, p->gate_bias, row, n), p->activation) * sums;
        else
            sums = activate(sums, p->activation);
        if (p->add) sums = load_some(out + r, n) + sums;
        store_some(out + r, sums, n);
        if (p->rounded.stride) put_rounded(&p->rounded, p->width, call, token, row, sums);
    }
}

/* next: where the weights lie that are read after these. */
static void compute(const Rows *block, const char *next, const Call *call, Tiles *tiles) {
    const Product *p = block->product;
    const char *weight = row_at(&p->weight, block->row);
    int64_t to_weight = p->gate.data ? distance(row_at(&p->gate, block->row), weight) : 0;
    float y[GROUP * BLOCK], gates[GROUP * BLOCK];
    for (int64_t first = 0; first < call->tokens; first += GROUP) {
        int64_t tokens = call->tokens - first < GROUP ? call->tokens - first : GROUP;
        const float *x = columns_of(call, &p->x, first);
        if (p->gate.data)
            multiply(&p->gate, block->row, block->rows, x, p->x.stride, tokens, to_weight, tiles, gates);
        multiply(&p->weight, block->row, block->rows, x, p->x.stride, tokens, distance(weight, next), tiles, y);
        for (int64_t t = 0; t < tokens; t++) finish(block, call, first + t, y + t * BLOCK, gates + t * BLOCK);
    }
}

static Span span_of(const Matrix *m, int64_t row, int64_t rows) {
    if (!m->data) return (Span){0};
    return (Span){row_at(m, row), rows * m->stride * 4 >> m->format};
}

/* A thread's first block: no other one has fetched it. */
static void fetch_first(const Rows *block) {
    const Product *p = block->product;
    Span first = span_of(p->gate.data ? &p->gate : &p->weight, block->row, block->rows);
    for (int64_t i = 0; i < first.bytes; i += 64) fetch(first.at, i);
}

Kernel linear;
void linear(const void *arguments, const Call *call, const Worker *worker) {
    const Linear *all = arguments;
    int64_t blocks = all_blocks(all);
    Turns turns = turns_of(blocks, worker);
    Tiles tiles = {0};
    int64_t now = take(&turns);
    if (now == blocks) return;
    Rows block = rows_at(all, now);
    fetch_first(&block);
    while (now < blocks) {
        now = take(&turns);
        Rows next = now < blocks ? rows_at(all, now) : block;
        compute(&block, begin_of(&next), call, &tiles);
        block = next;
    }
    release_tiles(&tiles);
}

/* The worker's share, as far as it lies in one product. */
Reads linear_reads;
void linear_reads(const void *arguments, const Call *call, const Worker *worker, Span places[PLACES]) {
    const Linear *all = arguments;
    Turns turns = turns_of(all_blocks(all), worker);
    (void)call;
    if (turns.next == turns.end) return;
    Rows block = rows_at(all, turns.next);
    const Product *p = block.product;
    int64_t rows = (turns.end - turns.next) * BLOCK, left = p->weight.rows - block.row;
    if (rows > left) rows = left;
    places[0] = span_of(&p->gate, block.row, rows);
    places[1] = span_of(&p->weight, block.row, rows);
}
