/* Mamba-2's recurrence over a row's tokens:
 *
 *     dt = clamp(softplus(raw + bias))    h = exp(dt A) h + dt x B^T    y = h C + D x
 *
 * Shapes: H heads = G groups of J, P numbers of x a head, N state, T tokens of a row.
 */
#include "columns.h"
#include "math.h"
#include "turns.h"

enum {
    MOST = 16,                    /* tokens since the final state, as many as the ring holds */
    PIECE = 4,                    /* of x's numbers taken together: each has states of its own, B and C are the same */
    GRAIN = 16,                   /* of them that a thread takes at a time */
    VECTORS = LANES == 16 ? 4 : 1 /* of those states: 16 in 32 registers, or 4 in 16 */
};

typedef struct {
    Columns x;                       /* what the convolution gave: x [H P], B [G N], C [G N] */
    Columns raw;                     /* [H]; none: the steps are in the ring, as in a replay */
    Columns out;                     /* [H P]; none: the states alone are wanted */
    const float *bias, *decay, *skip; /* [H] each: dt's bias, A, D */
    double least, most;              /* of dt */
    float *states;                   /* [2 S, H, P, N] */
    float *ring;                     /* [S, MOST, H] dt */
    int64_t heads, size, groups, state, part;
} Ssm;

/* A head of a row: its tokens, how they drive its states, and where those are, [P, N]. */
typedef struct {
    int64_t row, head, tokens;
    float dt[MOST], decay[MOST];
    const float *x, *B, *C; /* the first token's; `step` to the next one's */
    int64_t step;
    const float *source;
    float *target;
} Head;

/* first: of the workers that share the head, the one that writes the ring. */
static Head open_head(const Ssm *a, const Call *call, int64_t r, int64_t h, int first) {
    Mark mark = marks_of(call, a->part)[r];
    int64_t count = call->count[r], inner = a->heads * a->size, states = inner * a->state, own = h * a->size * a->state;
    const float *packed = columns_of(call, &a->x, call->first[r]);
    Head head = {.row = r, .head = h, .tokens = count, .x = packed + h * a->size, .step = a->x.stride,
                 .B = packed + inner + h / (a->heads / a->groups) * a->state,
                 .source = a->states + mark.source * states + own, .target = a->states + mark.target * states + own};
    head.C = head.B + a->groups * a->state;
    float *ring = a->ring + (call->slot[r] * MOST + mark.place) * a->heads + h;
    for (int64_t t = 0; t < count; t++)
        head.dt[t] = a->raw.stride ? columns_of(call, &a->raw, call->first[r] + t)[h] : ring[t * a->heads];
    for (int64_t t = 0; t < MOST; t += LANES) {
        Floats dt = load(head.dt + t);
        if (a->raw.stride) {
            dt = between((float)a->least, softplus_v(dt + a->bias[h]), (float)a->most);
            store(head.dt + t, dt);
        }
        store(head.decay + t, exp_v(dt * a->decay[h]));
    }
    if (a->raw.stride && first)
        for (int64_t t = 0; t < count; t++) ring[t * a->heads] = head.dt[t];
    return head;
}

/* Of each token: x dt, and h C so far by lanes, of some of x's numbers. */
typedef struct {
    float driven[MOST][PIECE];
    Floats read[MOST][PIECE];
} Piece;

/* All tokens for `rows` of x's numbers from p on and `vectors` vectors of state from s on, the last of n lanes: states
 * stay in registers. */
INLINE void update(const Ssm *a, const Head *head, Piece *piece, int64_t p, int64_t s, int64_t n, int rows,
                   int vectors) {
    Floats h[PIECE][VECTORS], read[PIECE];
    int64_t tokens = head->tokens, step = head->step;
    const float *B = head->B + s, *C = head->C + s, *source = head->source + p * a->state + s;
    float *target = head->target + p * a->state + s;
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < vectors; v++) h[i][v] = load_some(source + i * a->state + v * LANES, n);
    for (int64_t t = 0; t < tokens; t++, B += step, C += step) {
        for (int i = 0; i < rows; i++) read[i] = piece->read[t][i];
        for (int v = 0; v < vectors; v++) {
            Floats b = load_some(B + v * LANES, n), c = load_some(C + v * LANES, n);
            for (int i = 0; i < rows; i++) {
                h[i][v] = multiply_add(splat(head->decay[t]), h[i][v], splat(piece->driven[t][i]) * b);
                read[i] = multiply_add(h[i][v], c, read[i]);
            }
        }
        for (int i = 0; i < rows; i++) piece->read[t][i] = read[i];
    }
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < vectors; v++) store_some(target + i * a->state + v * LANES, h[i][v], n);
}

INLINE void walk(const Ssm *a, const Call *call, const Head *head, int64_t p, int rows) {
    Piece piece;
    int64_t s = 0, span = VECTORS * LANES;
    for (int64_t t = 0; t < head->tokens; t++)
        for (int i = 0; i < rows; i++) {
            piece.driven[t][i] = head->dt[t] * head->x[t * head->step + p + i];
            piece.read[t][i] = splat(0);
        }
    for (; s + span <= a->state; s += span) update(a, head, &piece, p, s, LANES, rows, VECTORS);
    for (; s + LANES <= a->state; s += LANES) update(a, head, &piece, p, s, LANES, rows, 1);
    if (s < a->state) update(a, head, &piece, p, s, a->state - s, rows, 1);
    if (!a->out.stride) return;
    for (int64_t t = 0; t < head->tokens; t++) {
        float *y = columns_of(call, &a->out, call->first[head->row] + t) + head->head * a->size + p;
        for (int i = 0; i < rows; i++)
            y[i] = sum(piece.read[t][i]) + a->skip[head->head] * head->x[t * head->step + p + i];
    }
}

/* What a thread takes at a time: x's numbers p..end-1 of a row's head. */
typedef struct {
    int64_t row, head, p, end;
} Item;

static int64_t pieces_of(const Ssm *a) { return (a->size + GRAIN - 1) / GRAIN; }

static Item item_at(const Ssm *a, int64_t number) {
    int64_t pieces = pieces_of(a), head = number / pieces, p = number % pieces * GRAIN;
    return (Item){head / a->heads, head % a->heads, p, p + GRAIN < a->size ? p + GRAIN : a->size};
}

Kernel ssm;
void ssm(const void *arguments, const Call *call, const Worker *worker) {
    const Ssm *a = arguments;
    int64_t items = call->rows * a->heads * pieces_of(a);
    Turns turns = turns_of(items, worker);
    for (int64_t i = take(&turns); i < items; i = take(&turns)) {
        Item item = item_at(a, i);
        Head head = open_head(a, call, item.row, item.head, item.p == 0);
        int64_t p = item.p;
        for (; p + PIECE <= item.end; p += PIECE) walk(a, call, &head, p, PIECE);
        for (; p < item.end; p++) walk(a, call, &head, p, 1);
    }
}

/* The states of the worker's share, as far as they are the first row's: where they come from, and where they go. */
Reads ssm_reads;
void ssm_reads(const void *arguments, const Call *call, const Worker *worker, Span places[PLACES]) {
    const Ssm *a = arguments;
    Turns turns = turns_of(call->rows * a->heads * pieces_of(a), worker);
    int64_t numbers = a->size * a->state, states = a->heads * numbers;
    if (turns.next == turns.end) return;
    Item item = item_at(a, turns.next);
    Mark mark = marks_of(call, a->part)[item.row];
    int64_t begin = item.head * numbers + item.p * a->state, bytes = (turns.end - turns.next) * GRAIN * a->state * 4;
    if (bytes > (states - begin) * 4) bytes = (states - begin) * 4;
    places[0] = (Span){a->states + mark.source * states + begin, bytes};
    if (mark.target != mark.source) places[1] = (Span){a->states + mark.target * states + begin, bytes};
}
