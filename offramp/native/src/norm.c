/* Norms of each token's numbers, in groups by themselves: RMS, layer norm, and Mamba-2's gated RMS.
 *
 * Sums run over a group in order, in the lanes of one vector. Threads take groups.
 */
#include "columns.h"
#include "math.h"
#include "operand.h"

typedef struct {
    Columns x, out, z, rounded;  /* z, rounded: may be missing */
    const float *weight, *bias;  /* of a group's numbers, or NULL */
    int64_t groups, width;       /* of so many numbers each */
    int64_t shared;              /* 1: all groups have the same weight and bias */
    int64_t centred;             /* 1: less the mean */
    int64_t format;              /* of rounded: out again, as an operand (one group only) */
    double eps;
} Norm;

/* Zeros stand behind the last number, not their distance from the mean. */
INLINE Floats centred(const float *x, int64_t n, float mean) {
    Floats y = load_some(x, n) - mean;
    return n >= LANES ? y : load_some((const float *)&y, n);
}

static float mean_of(const float *x, int64_t width) {
    Floats total = splat(0);
    for (int64_t i = 0; i < width; i += LANES) total += load_some(x + i, width - i);
    return sum(total) / (float)width;
}

static float mean_square(const float *x, int64_t width, float mean) {
    Floats total = splat(0);
    for (int64_t i = 0; i < width; i += LANES) {
        Floats y = centred(x + i, width - i, mean);
        total = multiply_add(y, y, total);
    }
    return sum(total) / (float)width;
}

/* weight, bias: the group's, or NULL. */
static void norm_group(const Norm *norm, const float *x, const float *weight, const float *bias, float *out) {
    float mean = norm->centred ? mean_of(x, norm->width) : 0;
    float scale = 1 / square_root(mean_square(x, norm->width, mean) + (float)norm->eps);
    for (int64_t i = 0; i < norm->width; i += LANES) {
        int64_t n = norm->width - i;
        Floats y = (load_some(x + i, n) - mean) * scale;
        if (weight) y = y * load_some(weight + i, n);
        if (bias) y = y + load_some(bias + i, n);
        store_some(out + i, y, n);
    }
}

static void gate(const float *x, const float *z, int64_t width, float *out) {
    for (int64_t i = 0; i < width; i += LANES) {
        int64_t n = width - i;
        store_some(out + i, load_some(x + i, n) * silu_v(load_some(z + i, n)), n);
    }
}

static void norm_one(const Norm *norm, const Call *call, int64_t token, int64_t group) {
    int64_t at = group * norm->width, own = norm->shared ? 0 : at;
    const float *x = columns_of(call, &norm->x, token) + at;
    float *out = columns_of(call, &norm->out, token) + at;
    if (norm->z.stride) {
        gate(x, columns_of(call, &norm->z, token) + at, norm->width, out);
        x = out;
    }
    norm_group(norm, x, norm->weight ? norm->weight + own : NULL, norm->bias ? norm->bias + own : NULL, out);
    if (norm->rounded.stride) round_operand(norm->format, out, norm->width, &norm->rounded, call, token);
}

Kernel norm;
void norm(const void *arguments, const Call *call, const Worker *worker) {
    const Norm *n = arguments;
    int64_t begin, end;
    share(call->tokens * n->groups, 1, worker, &begin, &end);
    for (int64_t i = begin; i < end; i++) norm_one(n, call, i / n->groups, i % n->groups);
}
