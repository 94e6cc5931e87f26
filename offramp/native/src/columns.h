/* Some columns of a register: what one product gave may be several things side by side. */
#ifndef OFFRAMP_COLUMNS_H
#define OFFRAMP_COLUMNS_H

#include "offramp.h"

typedef struct {
    int64_t number; /* of the register */
    int64_t begin;  /* the first column */
    int64_t stride; /* the register's width; 0: there are no such columns */
} Columns;

/* A token's. */
static inline float *columns_of(const Call *call, const Columns *x, int64_t token) {
    return call->registers[x->number] + token * x->stride + x->begin;
}

#endif
