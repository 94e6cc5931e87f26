/* Activations by number, as the emitters know them. */
#ifndef OFFRAMP_ACTIVATION_H
#define OFFRAMP_ACTIVATION_H

#include "math.h"

typedef enum { NONE, SILU, GELU, GELU_TANH, RELU, SIGMOID, SOFTPLUS, TANH } Activation;

INLINE Floats relu(Floats x) { return choose(x < 0, splat(0), x); } /* NaN stays */

INLINE Floats activate(Floats x, int64_t activation) {
    switch (activation) {
    case SILU: return silu_v(x);
    case GELU: return gelu_v(x);
    case GELU_TANH: return gelu_tanh_v(x);
    case RELU: return relu(x);
    case SIGMOID: return sigmoid_v(x);
    case SOFTPLUS: return softplus_v(x);
    case TANH: return tanh_v(x);
    default: return x;
    }
}

#endif
