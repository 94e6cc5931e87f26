/* Keys and values of new tokens go into their slots' memory, keys turned to their positions. */
#include "columns.h"
#include "memory.h"
#include "rotate.h"

enum { WIDEST = 256 }; /* head dimensions */

typedef struct {
    Columns k, v; /* [G K] */
    Turns turns;
    void *keys, *values; /* [S, G, K, L], [S, G, L, K] */
    int64_t *positions;  /* [S, L] */
    int64_t format, groups, head, length, part;
} Entries;

/* A token's entry of one key-value head. */
static void write_entry(const Entries *a, const float *k, const float *v, int64_t matrix, int64_t place,
                        int64_t position) {
    float turned[WIDEST];
    rotate(&a->turns, position, k, a->head, turned);
    int64_t key = matrix * a->head * a->length + place, value = (matrix * a->length + place) * a->head;
    for (int64_t d = 0; d < a->head; d++) memorise(a->keys, key + d * a->length, splat(turned[d]), 1, a->format);
    for (int64_t d = 0; d < a->head; d += LANES)
        memorise(a->values, value + d, load_some(v + d, a->head - d), a->head - d, a->format);
}

/* Threads share the key-value heads of all rows: one head's neighbouring entries lie in the same cache lines. */
Kernel entries;
void entries(const void *arguments, const Call *call, const Worker *worker) {
    const Entries *a = arguments;
    int64_t begin, end;
    share(call->rows * a->groups, 1, worker, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        int64_t r = i / a->groups, group = i % a->groups, slot = call->slot[r];
        Mark mark = marks_of(call, a->part)[r];
        for (int64_t t = 0; t < call->count[r]; t++) {
            int64_t token = call->first[r] + t, place = mark.place + t, position = mark.position + t;
            const float *k = columns_of(call, &a->k, token), *v = columns_of(call, &a->v, token);
            write_entry(a, k + group * a->head, v + group * a->head, slot * a->groups + group, place, position);
            if (group == 0) a->positions[slot * a->length + place] = position;
        }
    }
}
