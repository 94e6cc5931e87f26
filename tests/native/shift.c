/* A kernel whose result shows whether threads wait for each other: every step reads what others wrote in the one
 * before. As a program of its own it is what sanitizers watch. */
#include "offramp.h"

#include <stdlib.h>

typedef struct {
    const int64_t *from;
    int64_t *to;
    int64_t items;
} Shift;

void shift(const void *arguments, const Call *call, const Worker *worker);

/* to[i] = from[i + 1] + 1, the last one from the first */
void shift(const void *arguments, const Call *call, const Worker *worker) {
    const Shift *of = arguments;
    int64_t begin, end;
    (void)call;
    share(of->items, 1, worker, &begin, &end);
    for (int64_t i = begin; i < end; i++) of->to[i] = of->from[(i + 1) % of->items] + 1;
}

#ifdef MAIN
typedef struct Pool Pool;
Pool *offramp_pool(int64_t threads);
void offramp_pool_free(Pool *pool);
void offramp_run(Pool *pool, const Step *steps, int64_t count, const Call *call);

enum { ITEMS = 24, RUNS = 2000 };

static int wrong(int64_t threads) {
    int64_t numbers[2][ITEMS] = {{0}};
    const Shift there = {numbers[0], numbers[1], ITEMS}, back = {numbers[1], numbers[0], ITEMS};
    const Step steps[] = {{shift, &there}, {shift, &back}};
    const Call call = {0};
    Pool *pool = offramp_pool(threads);
    if (!pool) return 1;
    for (int64_t i = 0; i < ITEMS; i++) numbers[0][i] = i;
    for (int64_t i = 0; i < RUNS; i++) offramp_run(pool, steps, 2, &call);
    offramp_pool_free(pool);
    for (int64_t i = 0; i < ITEMS; i++) {
        if (numbers[0][i] != (i + 2 * RUNS) % ITEMS + 2 * RUNS) return 1;
    }
    return 0;
}

int main(void) {
    for (int64_t threads = 1; threads <= 4; threads++) {
        if (wrong(threads)) return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}
#endif
