/* Functions of whole vectors without the C library: NaN stays NaN, infinities give the limits. A lane's bits depend on
 * that lane alone. To 2.5 units in the last place; the two gelus to 2e-7 of the larger of 1 and |x|.
 *
 * exp, erf and tanh near zero are the polynomials of Cephes (netlib.org/cephes); log1p is that of FreeBSD's msun.
 */
#ifndef OFFRAMP_MATH_H
#define OFFRAMP_MATH_H

#include "vector.h"

/* c[0] x^(n-1) + ... + c[n-1]; n is a constant, so that the loop unrolls. */
INLINE Floats polynomial(Floats x, const float *c, int n) {
    Floats y = splat(c[0]);
    for (int i = 1; i < n; i++) y = multiply_add(y, x, splat(c[i]));
    return y;
}

/* x, or the limit it is beyond; NaN stays. */
INLINE Floats between(float least, Floats x, float most) {
#if defined(__AVX512F__)
    return _mm512_min_ps(splat(most), _mm512_max_ps(splat(least), x));
#else
    return smaller(splat(most), larger(splat(least), x));
#endif
}

/* y 2^n for n in -252..254, of 1.5 * 2^23 + n: a whole number added to that one stands in its low bits. */
INLINE Floats scaled(Floats y, Floats shifted) {
#if defined(__AVX512F__)
    return _mm512_scalef_ps(y, shifted - 12582912);
#else
    Ints n = (Ints)((Bits)shifted - 0x4b400000u), half = n >> 1; /* in halves: 2^n itself may not exist */
    Bits rest = (Bits)n - (Bits)half;
    return y * (Floats)(((Bits)half + 127u) << 23) * (Floats)((rest + 127u) << 23);
#endif
}

/* e^x = 2^n e^r with |r| <= ln(2) / 2. Beyond float's range 0 and infinity; between, also what is subnormal. */
INLINE Floats exp_v(Floats x) {
    static const float c[] = {1.9875691500e-4f, 1.3981999507e-3f, 8.3334519073e-3f,
                              4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f};
    const float big = 12582912; /* 1.5 * 2^23: adding it rounds to a whole number */
    x = between(-105, x, 89);
    Floats shifted = multiply_add(x, splat(1.44269504088896341f), splat(big)), n = shifted - big;
    Floats r = multiply_add(n, splat(-0.693359375f), x);
    r = multiply_add(n, splat(2.12194440e-4f), r);
    Floats y = multiply_add(polynomial(r, c, 6), r * r, r) + 1;
    return scaled(y, shifted);
}

/* log(1 + x) for x in 0..1. With s = x / (2 + x) it is x - (x^2 / 2 - s (x^2 / 2 + R(s))). */
INLINE Floats log1p_v(Floats x) {
    static const float c[] = {1.479819860511658591e-1f, 1.531383769920937332e-1f, 1.818357216161805012e-1f,
                              2.222219843214978396e-1f, 2.857142874366239149e-1f, 3.999999999940941908e-1f,
                              6.666666666666735130e-1f};
    Floats s = x / (x + 2), square = s * s, half = 0.5f * x * x;
    return x - (half - s * (half + square * polynomial(square, c, 7)));
}

/* log(1 + e^x) */
INLINE Floats softplus_v(Floats x) { return larger(splat(0), x) + log1p_v(exp_v(-absolute(x))); }

/* 1 / (1 + e^-x) */
INLINE Floats sigmoid_v(Floats x) { return 1 / (1 + exp_v(-x)); }

/* x sigmoid(x); 0 at -infinity */
INLINE Floats silu_v(Floats x) { return larger(splat(-3.4e38f), x) / (1 + exp_v(-x)); }

/* Near zero x + x^3 P(x^2), elsewhere 1 - 2 / (e^2x + 1). */
INLINE Floats tanh_v(Floats x) {
    static const float c[] = {-5.70498872745e-3f, 2.06390887954e-2f, -5.37397155531e-2f, 1.33314422036e-1f,
                              -3.33332819422e-1f};
    Floats size = absolute(x), square = x * x;
    Floats near = multiply_add(polynomial(square, c, 5) * square, x, x), far = 1 - 2 / (exp_v(2 * size) + 1);
    far = (Floats)((Bits)far | ((Bits)x & 0x80000000u));
    return choose(size < 0.625f, near, far);
}

/* erf(x) for |x| <= 1 */
INLINE Floats erf_near(Floats x) {
    static const float c[] = {7.853861353153693e-5f,  -8.010193625184903e-4f, 5.188327685732524e-3f,
                              -2.685381193529856e-2f, 1.128358514861418e-1f,  -3.761262582423300e-1f,
                              1.128379165726710e+0f};
    return x * polynomial(x * x, c, 7);
}

/* 1 - erf(x) for x >= 0: the Chebyshev fit of Numerical Recipes, to 1.2e-7 of the value. */
INLINE Floats erfc_far(Floats x) {
    static const float c[] = {0.17087277f, -0.82215223f, 1.48851587f, -1.13520398f, 0.27886807f,
                              -0.18628806f, 0.09678418f, 0.37409196f, 1.00002368f, -1.26551223f};
    Floats t = 1 / (1 + 0.5f * x);
    return t * exp_v(polynomial(t, c, 10) - x * x);
}

/* x (1 + erf(x / sqrt 2)) / 2 */
INLINE Floats gelu_v(Floats x) {
    Floats z = 0.70710678118654752f * x, size = absolute(z);
    Floats tail = 0.5f * erfc_far(size), below = choose(z < 0, tail, 1 - tail);
    Floats share = choose(size < 1, 0.5f + 0.5f * erf_near(z), below);
    return larger(splat(-3.4e38f), x) * share;
}

/* The same with erf by tanh, as GPT-2 has it: x sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3)) */
INLINE Floats gelu_tanh_v(Floats x) {
    Floats inner = 1.5957691216057308f * multiply_add(0.044715f * x * x, x, x);
    return larger(splat(-3.4e38f), x) / (1 + exp_v(-inner));
}

#endif
