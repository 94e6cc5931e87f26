/* Causal convolution along a row's tokens, every channel by itself, then silu.
 *
 * New inputs are written onto the slot's tape and read back from it, so that a replay from the tape alone sees the
 * same numbers. The tape is [window of taps - 1 inputs, inputs since]; token t of place p reads from p + t on.
 */
#include "columns.h"
#include "math.h"
#include "memory.h"
#include "operand.h"

enum { MOST_TAPS = 8, GRAIN = 32 }; /* GRAIN: of bfloat16 channels, a cache line */

typedef struct {
    Columns x;                  /* the tokens' inputs [C]; none: they are on the tape already */
    Columns out, rounded;       /* [C]; rounded: may be missing, or out again as a BF16 operand */
    const float *weight, *bias; /* [taps, C], [C] or NULL */
    void *tape;                 /* [S, length, C] */
    int64_t format, channels, taps, length, part;
    int64_t wanted; /* of out: the channels behind them go onto the tape alone */
} Convolution;

/* Channels c..c+n-1 of row r, n at most LANES. */
static void convolve_row(const Convolution *a, const Call *call, int64_t r, int64_t c, int64_t n) {
    Floats weight[MOST_TAPS], bias = a->bias ? load_some(a->bias + c, n) : splat(0);
    int64_t place = marks_of(call, a->part)[r].place;
    int64_t at = (call->slot[r] * a->length + place) * a->channels + c, newest = (a->taps - 1) * a->channels;
    for (int64_t w = 0; w < a->taps; w++) weight[w] = load_some(a->weight + w * a->channels + c, n);
    for (int64_t t = 0; t < call->count[r]; t++, at += a->channels) {
        int64_t token = call->first[r] + t;
        if (a->x.stride) memorise(a->tape, at + newest, load_some(columns_of(call, &a->x, token) + c, n), n, a->format);
        if (c >= a->wanted) continue;
        Floats y = bias;
        for (int64_t w = 0; w < a->taps; w++)
            y = multiply_add(weight[w], recall(a->tape, at + w * a->channels, n, a->format), y);
        y = silu_v(y);
        store_some(columns_of(call, &a->out, token) + c, y, n);
        if (a->rounded.stride) put_rounded(&a->rounded, a->channels, call, token, c, y);
    }
}

Kernel convolve;
void convolve(const void *arguments, const Call *call, const Worker *worker) {
    const Convolution *a = arguments;
    int64_t begin, end;
    share(a->channels, GRAIN, worker, &begin, &end);
    for (int64_t r = 0; r < call->rows; r++)
        for (int64_t c = begin; c < end; c += LANES) convolve_row(a, call, r, c, end - c < LANES ? end - c : LANES);
}
