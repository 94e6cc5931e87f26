/* Items of a step: a worker takes a share of its own, and then what is left in turns, so that nobody waits long for the
 * slowest. Who computes an item changes nothing in it. */
#ifndef OFFRAMP_TURNS_H
#define OFFRAMP_TURNS_H

#include "offramp.h"

typedef struct {
    int64_t items, shared; /* all; the first of them, which are shared out */
    int64_t next, end;     /* of the worker's share */
    int64_t *taken;        /* of those behind */
} Turns;

static inline Turns turns_of(int64_t items, const Worker *worker) {
    Turns turns = {.items = items, .shared = worker->count == 1 ? items : items * 3 / 4, .taken = worker->taken};
    share(turns.shared, 1, worker, &turns.next, &turns.end);
    return turns;
}

/* The next item, or `items`: all are taken. */
static inline int64_t take(Turns *turns) {
    if (turns->next < turns->end) return turns->next++;
    if (turns->shared == turns->items) return turns->items;
    int64_t item = turns->shared + __atomic_fetch_add(turns->taken, 1, __ATOMIC_RELAXED);
    return item < turns->items ? item : turns->items;
}

#endif
