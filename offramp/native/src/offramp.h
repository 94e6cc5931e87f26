/* What every kernel is given, and what the shapes in comments mean.
 *
 * A program is an array of steps. All threads of the pool run a step, each its own part of the outputs, and wait for
 * each other before the next. A kernel never splits a sum between threads and sums in one fixed order whatever the
 * number of tokens, rows and threads is, so that a token's bits depend on its own sequence alone.
 *
 * Shapes: R rows (running sequences), N tokens of all rows, packed (a row's tokens follow those of the row before),
 * D width, S slots.
 */
#ifndef OFFRAMP_H
#define OFFRAMP_H

#include <stdint.h>

#define OFFRAMP_ABI 2 /* changes with any structure that Python fills: see structures.py */

/* The numbers of a matrix. Products with BF16 read their other side rounded to bfloat16; with I8 and I4 rounded to
 * 8 bits with a scale a token. Sums are float32. */
typedef enum { FORMAT_F32 = 0, FORMAT_BF16 = 1, FORMAT_I8 = 2, FORMAT_I4 = 3 } Format;

/* Weights as they lie in memory, row by row: one row an output. */
typedef struct {
    const void *data;
    const void *scales;  /* bfloat16 [rows, stride / 32] of I8 and I4, whose stride is a multiple of 64; else NULL */
    int64_t rows, columns;
    int64_t stride; /* numbers from a row's first to the next one's */
    int64_t format;
} Matrix;

/* Where one row stands in one part (a block's, gate's or bridge's state). */
typedef struct {
    int64_t place;    /* attention: of its first new entry in the slot's memory; recurrences: tokens on its tape already */
    int64_t position; /* of its first new token in the sequence */
    int64_t source;   /* recurrences: which of the 2 S states is read ... */
    int64_t target;   /* ... and which is written; they may be one */
} Mark;

typedef struct {
    int64_t rows, tokens;
    const int64_t *slot;       /* [R] ascending */
    const int64_t *count;      /* [R] tokens of the row, at least 1 */
    const int64_t *first;      /* [R] the place of its first token among the packed ones */
    const int64_t *row;        /* [N] whose a token is */
    const Mark *marks;         /* [parts, R] */
    float *const *registers;   /* by number: [N, width], never overlapping */
} Call;

typedef struct {
    int64_t index, count; /* this thread, of so many */
    int64_t *taken;       /* what all of them took of the step so far: see turns.h */
} Worker;

typedef void Kernel(const void *arguments, const Call *call, const Worker *worker);

typedef struct {
    const void *at;
    int64_t bytes;
} Span;

/* What a worker reads first in a step, in at most two places that are read side by side; those it leaves are empty. It
 * may be fetched before the step begins. */
enum { PLACES = 2 };
typedef void Reads(const void *arguments, const Call *call, const Worker *worker, Span places[PLACES]);

typedef struct {
    Kernel *kernel;
    const void *arguments;
    Reads *reads; /* NULL: not worth telling */
} Step;

static inline const Mark *marks_of(const Call *call, int64_t part) { return call->marks + part * call->rows; }

/* This worker's share of `items`, in whole grains. */
static inline void share(int64_t items, int64_t grain, const Worker *worker, int64_t *begin, int64_t *end) {
    int64_t grains = (items + grain - 1) / grain;
    *begin = grains * worker->index / worker->count * grain;
    *end = grains * (worker->index + 1) / worker->count * grain;
    if (*end > items) *end = items;
}

#endif
