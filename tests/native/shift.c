/* A kernel whose result shows whether threads wait for each other: every step reads what others wrote in the one
 * before, and whether they take each item once. As a program of its own it is what sanitizers watch. */
#include "turns.h"

#include <stdlib.h>

typedef struct {
    const int64_t *from;
    int64_t *to;
    int64_t items;
    int64_t *times; /* of each item: how often it was taken */
} Shift;

Kernel shift;
Reads shift_reads;

/* to[i] = from[i + 1] + 1, the last one from the first */
void shift(const void *arguments, const Call *call, const Worker *worker) {
    const Shift *of = arguments;
    Turns turns = turns_of(of->items, worker);
    (void)call;
    for (int64_t i = take(&turns); i < of->items; i = take(&turns)) {
        of->to[i] = of->from[(i + 1) % of->items] + 1;
        of->times[i]++;
    }
}

void shift_reads(const void *arguments, const Call *call, const Worker *worker, Span places[PLACES]) {
    const Shift *of = arguments;
    (void)call, (void)worker;
    places[0] = (Span){of->from, of->items * 8};
}

#ifdef MAIN
typedef struct Pool Pool;
Pool *offramp_pool(int64_t threads);
void offramp_pool_free(Pool *pool);
void offramp_run(Pool *pool, const Step *steps, int64_t count, const Call *call);

enum { ITEMS = 24, RUNS = 2000 };

static int wrong(int64_t threads) {
    int64_t numbers[2][ITEMS] = {{0}}, times[ITEMS] = {0};
    const Shift there = {numbers[0], numbers[1], ITEMS, times}, back = {numbers[1], numbers[0], ITEMS, times};
    const Step steps[] = {{shift, &there, shift_reads}, {shift, &back, NULL}};
    const Call call = {0};
    Pool *pool = offramp_pool(threads);
    if (!pool) return 1;
    for (int64_t i = 0; i < ITEMS; i++) numbers[0][i] = i;
    for (int64_t i = 0; i < RUNS; i++) offramp_run(pool, steps, 2, &call);
    offramp_pool_free(pool);
    for (int64_t i = 0; i < ITEMS; i++) {
        if (numbers[0][i] != (i + 2 * RUNS) % ITEMS + 2 * RUNS || times[i] != 2 * RUNS) return 1;
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
