/* The best of a token's logits, greedily or with Gumbel noise, and what its log-probability takes.
 *
 * The vocabulary is cut into pieces, always the same ones, that threads share; then each row's pieces are joined in
 * order. Ties go to the lowest id.
 *
 * Noise is a function of the row's key and the token's id: SplitMix64, then -log(-log(u)) in double precision.
 */
#include "math.h"
#include "offramp.h"

enum { PIECE = 4096, FEW = 64 };

/* total: of exp((logit - largest) / heat); NaN where a logit is NaN. score: the best one's, with its noise. */
typedef struct {
    double largest, total, score, token;
} Best;

typedef struct {
    const float *logits; /* [rows, stride] */
    const double *heats; /* [rows]; 0: greedy */
    const int64_t *keys; /* [rows] */
    Best *pieces;        /* [rows, ceil(vocab / PIECE)] */
    Best *best;          /* [rows] */
    int64_t rows, vocab, stride;
} Choosing;

static int64_t pieces_of(const Choosing *a) { return (a->vocab + PIECE - 1) / PIECE; }

/* The first n numbers, `rest` behind them. */
INLINE Floats load_or(const float *x, int64_t n, float rest) {
    float some[LANES];
    if (n >= LANES) return load(x);
    for (int i = 0; i < LANES; i++) some[i] = i < n ? x[i] : rest;
    return load(some);
}

static float largest_of(const float *x, int64_t n) {
    Floats most = splat(-__builtin_inff());
    for (int64_t i = 0; i < n; i += LANES) most = larger(load_or(x + i, n - i, -__builtin_inff()), most);
    return largest(most);
}

static double total_of(const float *x, int64_t n, float most, float inverse) {
    Floats total = splat(0);
    if (most == -__builtin_inff()) most = 0; /* all are */
    for (int64_t i = 0; i < n; i += LANES)
        total = total + exp_v((load_or(x + i, n - i, -__builtin_inff()) - most) * inverse);
    return sum(total);
}

static int64_t first_of(const float *x, int64_t n, float wanted) {
    for (int64_t i = 0; i < n; i++)
        if (x[i] == wanted) return i;
    return 0; /* all are NaN */
}

/* log(x) of a positive normal number: FreeBSD's msun. */
static inline double log_of(double x) {
    uint64_t bits, half = 0x3fe6a09e667f3bcdu; /* sqrt(1/2): the mantissa is between it and sqrt(2) */
    memcpy(&bits, &x, sizeof bits);
    uint64_t shift = bits - half, high = 0x4330000000000000u | ((shift >> 52) ^ 0x800u); /* 2^52 + k + 2048 */
    double k, m;
    memcpy(&k, &high, sizeof k);
    k -= 4503599627370496.0 + 2048;
    bits -= shift & 0xfff0000000000000u;
    memcpy(&m, &bits, sizeof m);
    double f = m - 1, s = f / (2 + f), z = s * s, w = z * z;
    double even = w * (3.999999999940941908e-01 + w * (2.222219843214978396e-01 + w * 1.531383769920937332e-01));
    double odd = z * (6.666666666666735130e-01 +
                      w * (2.857142874366239149e-01 + w * (1.818357216161805012e-01 + w * 1.479819860511658591e-01)));
    double square = 0.5 * f * f;
    return k * 6.93147180369123816490e-01 -
           ((square - (s * (square + even + odd) + k * 1.90821492927058770002e-10)) - f);
}

static inline uint64_t mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

static inline double noise(uint64_t key, int64_t token) {
    uint64_t bits = mix((uint64_t)token * 0x9E3779B97F4A7C15u + key) >> 11;
    return -log_of(-log_of(((double)(int64_t)bits + 0.5) * 0x1p-53));
}

/* The best of x / heat + noise among n tokens from `begin` on. */
static void draw(const float *x, int64_t begin, int64_t n, double heat, uint64_t key, Best *best) {
    double score[FEW];
    best->score = -__builtin_inf();
    for (int64_t i = 0; i < n; i += FEW) {
        int64_t few = n - i < FEW ? n - i : FEW;
        for (int64_t j = 0; j < few; j++) score[j] = (double)x[i + j] / heat + noise(key, begin + i + j);
        for (int64_t j = 0; j < few; j++)
            if (score[j] > best->score) {
                best->score = score[j];
                best->token = (double)(begin + i + j);
            }
    }
}

static Best best_of(const Choosing *a, int64_t row, int64_t begin) {
    const float *x = a->logits + row * a->stride + begin;
    int64_t n = a->vocab - begin < PIECE ? a->vocab - begin : PIECE;
    double heat = a->heats[row];
    float most = largest_of(x, n);
    Best best = {.largest = most, .total = total_of(x, n, most, heat > 0 ? (float)(1 / heat) : 1), .score = most};
    best.token = (double)begin;
    if (heat > 0)
        draw(x, begin, n, heat, (uint64_t)a->keys[row], &best);
    else
        best.token += (double)first_of(x, n, most);
    return best;
}

Kernel best_pieces;
void best_pieces(const void *arguments, const Call *call, const Worker *worker) {
    const Choosing *a = arguments;
    int64_t begin, end, pieces = pieces_of(a);
    (void)call;
    share(a->rows * pieces, 1, worker, &begin, &end);
    for (int64_t i = begin; i < end; i++) a->pieces[i] = best_of(a, i / pieces, i % pieces * PIECE);
}

Kernel best_rows;
void best_rows(const void *arguments, const Call *call, const Worker *worker) {
    const Choosing *a = arguments;
    int64_t begin, end, pieces = pieces_of(a);
    (void)call;
    share(a->rows, 1, worker, &begin, &end);
    for (int64_t row = begin; row < end; row++) {
        const Best *piece = a->pieces + row * pieces;
        float inverse = a->heats[row] > 0 ? (float)(1 / a->heats[row]) : 1;
        Best best = piece[0];
        for (int64_t p = 1; p < pieces; p++) {
            if (piece[p].largest > best.largest) best.largest = piece[p].largest;
            if (piece[p].score > best.score) best.score = piece[p].score, best.token = piece[p].token;
        }
        best.total = 0;
        for (int64_t p = 0; p < pieces; p++)
            best.total += piece[p].total * exp_v(splat((float)(piece[p].largest - best.largest) * inverse))[0];
        a->best[row] = best;
    }
}
