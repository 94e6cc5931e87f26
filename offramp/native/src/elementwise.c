/* What is done to each number of a token by itself. Threads take pieces of tokens. */
#include "activation.h"
#include "columns.h"

#define PIECE 256

/* out = (out +) factor * activation(x) * y */
typedef struct {
    Columns x, y, out; /* y: may be missing */
    int64_t width, activation;
    int64_t add; /* 1: out += */
    double factor;
} Elementwise;

static void piece_of(const Elementwise *e, const Call *call, int64_t token, int64_t begin) {
    const float *x = columns_of(call, &e->x, token), *y = e->y.stride ? columns_of(call, &e->y, token) : NULL;
    float *out = columns_of(call, &e->out, token), factor = (float)e->factor;
    int64_t end = begin + PIECE < e->width ? begin + PIECE : e->width;
    for (int64_t i = begin; i < end; i += LANES) {
        Floats v = activate(load_some(x + i, end - i), e->activation) * factor;
        if (y) v = v * load_some(y + i, end - i);
        if (e->add) v = load_some(out + i, end - i) + v;
        store_some(out + i, v, end - i);
    }
}

Kernel elementwise;
void elementwise(const void *arguments, const Call *call, const Worker *worker) {
    const Elementwise *e = arguments;
    int64_t pieces = (e->width + PIECE - 1) / PIECE, begin, end;
    share(call->tokens * pieces, 1, worker, &begin, &end);
    for (int64_t i = begin; i < end; i++) piece_of(e, call, i / pieces, i % pieces * PIECE);
}

/* out += what was learned for the token's position: a row of a float32 or bfloat16 table, behind its end the last. */
typedef struct {
    Matrix table;
    Columns out;
    int64_t part;
} Positions;

static void add_row(const Matrix *table, int64_t row, float *out) {
    for (int64_t i = 0; i < table->columns; i += LANES) {
        int64_t n = table->columns - i, at = row * table->stride + i;
        Floats learned = table->format == FORMAT_BF16 ? load_bf16_some((const uint16_t *)table->data + at, n)
                                                      : load_some((const float *)table->data + at, n);
        store_some(out + i, load_some(out + i, n) + learned, n);
    }
}

Kernel positions;
void positions(const void *arguments, const Call *call, const Worker *worker) {
    const Positions *p = arguments;
    const Mark *marks = marks_of(call, p->part);
    int64_t begin, end;
    share(call->tokens, 1, worker, &begin, &end);
    for (int64_t token = begin; token < end; token++) {
        int64_t row = call->row[token], position = marks[row].position + token - call->first[row];
        int64_t last = p->table.rows - 1;
        add_row(&p->table, position < last ? position : last, columns_of(call, &p->out, token));
    }
}
