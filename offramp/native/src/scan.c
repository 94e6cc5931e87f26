/* Mamba-1's recurrence, the selective scan, over a row's tokens:
 *
 *     h = exp(dt A) h + dt u B    y = h C + D u
 *
 * Shapes: E channels, N state, R rows, T tokens of a row.
 */
#include "columns.h"
#include "math.h"
#include "operand.h"

enum { MOST = 16 }; /* tokens since the final state, as many as the rings hold */

/* What LANES neighbouring channels, or their first n, meet. Pointers are to the first token's; steps lead to the
 * next one's. */
typedef struct {
    const float *u, *dt, *B, *C, *z; /* dt after softplus; z NULL: y is not gated */
    int64_t u_step, B_step, C_step, z_step, y_step; /* dt has u's */
    const float *decay, *skip;       /* [n, N], [n]: A and D */
    const float *source;             /* [n, N] */
    float *target, *y;               /* y NULL: the states alone are wanted */
    int64_t tokens, state, n;
} Channels;

#if defined(__GNUC__) && !defined(__clang__)
/* Lanes whose number has the bit are b's, the others a's; each with the lane beside it, `bit` away, added. */
#define FOLD(a, b, bit)                                                                                   \
    (__builtin_shuffle(a, b, lane + (lane & (bit)) / (bit) * LANES) +                                     \
     __builtin_shuffle(a, b, (lane ^ (bit)) + (lane & (bit)) / (bit) * LANES))
#endif

/* The sums of LANES vectors, each in the order of `sum`. */
INLINE Floats sums(Floats *x) {
#if defined(FOLD)
#if LANES == 16
    const Ints lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    for (int i = 0; i < 8; i++) x[i] = FOLD(x[i], x[i + 8], 8);
#elif LANES == 8
    const Ints lane = {0, 1, 2, 3, 4, 5, 6, 7};
#else
    const Ints lane = {0, 1, 2, 3};
#endif
#if LANES >= 8
    for (int i = 0; i < 4; i++) x[i] = FOLD(x[i], x[i + 4], 4);
#endif
    for (int i = 0; i < 2; i++) x[i] = FOLD(x[i], x[i + 2], 2);
    return FOLD(x[0], x[1], 1);
#else
    float y[LANES];
    for (int i = 0; i < LANES; i++) y[i] = sum(x[i]);
    return load(y);
#endif
}

/* One channel takes in one token: n numbers of its state, from s on. Gives h C, by lanes, added to read. */
INLINE Floats update(const Channels *a, const float *from, int64_t channel, int64_t t, float dt, float dtu, int64_t s,
                     int64_t n, Floats read) {
    int64_t at = channel * a->state + s;
    Floats decay = exp_v(splat(dt) * load_some(a->decay + at, n));
    Floats added = splat(dtu) * load_some(a->B + t * a->B_step + s, n);
    Floats h = multiply_add(decay, load_some(from + at, n), added);
    store_some(a->target + at, h, n);
    return a->y ? multiply_add(h, load_some(a->C + t * a->C_step + s, n), read) : read;
}

INLINE void finish(const Channels *a, int64_t t, Floats u, Floats read) {
    Floats y = read + load_some(a->skip, a->n) * u;
    if (a->z) y = y * silu_v(load_some(a->z + t * a->z_step, a->n));
    store_some(a->y + t * a->y_step, y, a->n);
}

/* All tokens, so that the states stay in the nearest cache. By value: nothing that is written may be in there. */
static void walk(const Channels a) {
    int64_t whole = a.state / LANES * LANES;
    for (int64_t t = 0; t < a.tokens; t++) {
        const float *from = t ? a.target : a.source;
        Floats u = load_some(a.u + t * a.u_step, a.n), dt = load_some(a.dt + t * a.u_step, a.n), read[LANES];
        float dts[LANES], dtus[LANES];
        store(dts, dt);
        store(dtus, dt * u);
        for (int64_t i = 0; i < a.n; i++) {
            Floats hC = splat(0);
            for (int64_t s = 0; s < whole; s += LANES) hC = update(&a, from, i, t, dts[i], dtus[i], s, LANES, hC);
            if (whole < a.state) hC = update(&a, from, i, t, dts[i], dtus[i], whole, a.state - whole, hC);
            read[i] = hC;
        }
        for (int64_t i = a.n; i < LANES; i++) read[i] = splat(0);
        if (a.y) finish(&a, t, u, sums(read));
    }
}

typedef struct {
    Columns u, raw, B;                /* [E], dt before bias and softplus [E], [N]; no raw: all from the rings */
    Columns C, z, out;                /* [N], [E] or none, [E]; no out: the states alone are wanted */
    Columns rounded;                  /* may be missing: out again as a BF16 operand */
    const float *bias, *decay, *skip; /* dt's bias [E] or NULL, A [E, N], D [E] */
    float *states;                    /* [2 S, E, N] */
    float *ring_u, *ring_dt, *ring_B; /* [S, MOST, E], the same, [S, MOST, N] */
    int64_t channels, state, part;
} Scan;

/* The tokens' u and dt go into the rings, n channels from e on. */
static void fill_rings(const Scan *a, const Call *call, int64_t r, int64_t place, int64_t e, int64_t n) {
    for (int64_t t = 0; t < call->count[r]; t++) {
        int64_t token = call->first[r] + t, at = (place + t) * a->channels + e;
        Floats raw = load_some(columns_of(call, &a->raw, token) + e, n);
        if (a->bias) raw = raw + load_some(a->bias + e, n);
        store_some(a->ring_dt + at, softplus_v(raw), n);
        store_some(a->ring_u + at, load_some(columns_of(call, &a->u, token) + e, n), n);
    }
}

static void fill_ring_B(const Scan *a, const Call *call, int64_t r, int64_t place) {
    for (int64_t t = 0; t < call->count[r]; t++)
        memcpy(a->ring_B + (place + t) * a->state, columns_of(call, &a->B, call->first[r] + t),
               (size_t)a->state * sizeof(float));
}

static void round_outs(const Scan *a, const Call *call, int64_t r, int64_t e, int64_t n) {
    for (int64_t t = 0; t < call->count[r]; t++) {
        int64_t token = call->first[r] + t;
        put_rounded(&a->rounded, a->channels, call, token, e, load_some(columns_of(call, &a->out, token) + e, n));
    }
}

/* Channels e..e+n-1 of row r, n at most LANES. */
static void scan_row(const Scan *a, const Call *call, int64_t r, int64_t e, int64_t n) {
    Mark mark = marks_of(call, a->part)[r];
    int64_t place = call->slot[r] * MOST + mark.place, token = call->first[r], states = a->channels * a->state;
    int fresh = a->raw.stride > 0, reads = a->out.stride > 0;
    if (fresh) fill_rings(a, call, r, place, e, n);
    if (fresh && e == 0) fill_ring_B(a, call, r, place);
    walk((Channels){
        .u = a->ring_u + place * a->channels + e, .dt = a->ring_dt + place * a->channels + e, .u_step = a->channels,
        .B = fresh ? columns_of(call, &a->B, token) : a->ring_B + place * a->state,
        .B_step = fresh ? a->B.stride : a->state,
        .C = reads ? columns_of(call, &a->C, token) : NULL, .C_step = a->C.stride,
        .z = reads && a->z.stride ? columns_of(call, &a->z, token) + e : NULL, .z_step = a->z.stride,
        .y = reads ? columns_of(call, &a->out, token) + e : NULL, .y_step = a->out.stride,
        .decay = a->decay + e * a->state, .skip = a->skip + e,
        .source = a->states + mark.source * states + e * a->state,
        .target = a->states + mark.target * states + e * a->state,
        .tokens = call->count[r], .state = a->state, .n = n});
    if (a->rounded.stride) round_outs(a, call, r, e, n);
}

/* Threads share the channels. */
Kernel scan;
void scan(const void *arguments, const Call *call, const Worker *worker) {
    const Scan *a = arguments;
    int64_t begin, end;
    share(a->channels, LANES, worker, &begin, &end);
    for (int64_t r = 0; r < call->rows; r++)
        for (int64_t e = begin; e < end; e += LANES) scan_row(a, call, r, e, end - e < LANES ? end - e : LANES);
}

/* The same for prompts, over whole tensors, whatever the call holds. */
typedef struct {
    const float *u, *dt, *B, *C; /* [R, T, E], the same, [R, T, N], the same; dt after softplus */
    const float *decay, *skip;   /* A [E, N], D [E] */
    float *states;               /* [R, E, N]: before, and then after all tokens */
    float *y;                    /* [R, T, E] */
    int64_t rows, tokens, channels, state;
} Cells;

static void scan_cell(const Cells *a, int64_t r, int64_t e) {
    int64_t n = a->channels - e < LANES ? a->channels - e : LANES, first = r * a->tokens;
    float *states = a->states + (r * a->channels + e) * a->state;
    walk((Channels){
        .u = a->u + first * a->channels + e, .dt = a->dt + first * a->channels + e, .u_step = a->channels,
        .B = a->B + first * a->state, .B_step = a->state, .C = a->C + first * a->state, .C_step = a->state,
        .y = a->y + first * a->channels + e, .y_step = a->channels,
        .decay = a->decay + e * a->state, .skip = a->skip + e, .source = states, .target = states,
        .tokens = a->tokens, .state = a->state, .n = n});
}

/* Threads share the channels of all rows. */
Kernel scan_cells;
void scan_cells(const void *arguments, const Call *call, const Worker *worker) {
    const Cells *a = arguments;
    int64_t pieces = (a->channels + LANES - 1) / LANES, begin, end;
    (void)call;
    share(a->rows * pieces, 1, worker, &begin, &end);
    for (int64_t i = begin; i < end; i++) scan_cell(a, i / pieces, i % pieces * LANES);
}
