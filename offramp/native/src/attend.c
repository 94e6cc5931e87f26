/* Attention of new tokens to the entries of their slots, up to each token's own, which was written in the step before.
 *
 * Scores are made block by block with a running maximum (online softmax), so that no length is too long for the
 * scratch. Blocks, lanes and sums are counted from the first entry that the query sees: its bits depend on what it sees
 * alone. Queries of one key-value head are taken together in tiles, so that keys and values come once for all of them,
 * and in groups whose sums stay in registers; each has its own sums, in the order it would have by itself. Entries that
 * a query does not see count for nothing, whatever lies there.
 *
 * Shapes: H query heads, G key-value heads (H = G * J), K head dim, L entries, S slots.
 */
#include "attend_block.h"
#include "columns.h"
#include "operand.h"
#include "rotate.h"

enum { WIDENED = 128 }; /* the largest head dim of which a block of bfloat16 is widened for all groups */

typedef struct {
    Columns q, out, rounded; /* [H K]; rounded: may be missing, or out again as a BF16 operand */
    Turns turns;
    const void *keys, *values; /* [S, G, K, L], [S, G, L, K] */
    const int64_t *positions;  /* [S, L] */
    double scale;
    int64_t format, groups, share, head, length, window, part; /* share: J; window 0: all entries are seen */
} Attention;

static int64_t within(int64_t x, int64_t most) { return x < 0 ? 0 : x < most ? x : most; }

/* A group of queries from j on mixes a block's values: those that all see together, of the last few each its own. */
static void mix_group(Tile *tile, const Block *block, const int64_t *seen, int64_t j, int64_t queries) {
    MIXES[block->format][queries - 1](tile, block, 0, seen[j], j);
    for (int64_t i = j + 1; i < j + queries; i++) MIXES[block->format][0](tile, block, seen[j], seen[i], i);
}

/* A block of entries; seen: how many of them each query sees. */
static void take_block(Tile *tile, const Block *block, const int64_t *seen) {
    for (int64_t j = 0; j < tile->queries; j += QUERIES) {
        int64_t queries = within(tile->queries - j, QUERIES);
        SCORES[block->format][queries - 1](tile, block, seen[j + queries - 1], j);
    }
    for (int64_t j = 0; j < tile->queries; j++) weigh(tile, j, seen[j]);
    for (int64_t j = 0; j < tile->queries; j += QUERIES)
        mix_group(tile, block, seen, j, within(tile->queries - j, QUERIES));
}

/* The same with a block's first `count` entries of bfloat16, which are widened once for all groups. */
static void take_widened(Tile *tile, const Block *block, const int64_t *seen, int64_t count) {
    float keys[WIDENED * BLOCK], values[BLOCK * WIDENED];
    for (int64_t d = 0; d < tile->head; d++)
        for (int64_t i = 0; i < count; i += LANES)
            store(keys + d * BLOCK + i, recall(block->keys, d * block->step + i, block->room - i, FORMAT_BF16));
    for (int64_t i = 0; i < count * tile->head; i += LANES) {
        int64_t n = count * tile->head - i;
        store_some(values + i, recall(block->values, i, n, FORMAT_BF16), n);
    }
    take_block(tile, &(Block){keys, values, BLOCK, BLOCK, FORMAT_F32}, seen);
}

/* All entries of a slot and a key-value head: `matrix` of them in memory. */
static void take_entries(const Attention *a, Tile *tile, int64_t matrix) {
    int64_t size = a->format == FORMAT_BF16 ? 2 : 4, last = tile->queries - 1, seen[TILE];
    const char *keys = (const char *)a->keys + matrix * a->head * a->length * size;
    const char *values = (const char *)a->values + matrix * a->head * a->length * size;
    for (int64_t begin = 0; begin < tile->seen[last]; begin += BLOCK) {
        int64_t entry = tile->first + begin;
        Block block = {keys + entry * size, values + entry * a->head * size, a->length, a->length - entry, a->format};
        for (int64_t j = 0; j <= last; j++) seen[j] = within(tile->seen[j] - begin, BLOCK);
        if (a->format == FORMAT_BF16 && tile->queries > QUERIES && a->head <= WIDENED)
            take_widened(tile, &block, seen, seen[last]);
        else
            take_block(tile, &block, seen);
    }
}

/* The first entry of the slot within the window of a token, whose own entry is `own`. Positions grow at least as fast
 * as entries. */
static int64_t first_seen(const Attention *a, int64_t slot, int64_t own, int64_t position) {
    if (!a->window) return 0;
    int64_t low = own < a->window ? 0 : own - a->window + 1, high = own;
    const int64_t *positions = a->positions + slot * a->length;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (position - positions[middle] >= a->window)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* A query of a row and a key-value head: J of them a token. */
static int64_t first_of(const Attention *a, const Call *call, int64_t r, int64_t query) {
    Mark mark = marks_of(call, a->part)[r];
    int64_t t = query / a->share;
    return first_seen(a, call->slot[r], mark.place + t, mark.position + t);
}

/* How many of the row's queries from `query` on, at most so many, begin with the same entry. */
static int64_t alike(const Attention *a, const Call *call, int64_t r, int64_t query, int64_t most) {
    int64_t n = within(call->count[r] * a->share - query, most), first = first_of(a, call, r, query);
    while (first_of(a, call, r, query + n - 1) != first) n--;
    return n;
}

static void open_query(const Attention *a, const Call *call, int64_t r, int64_t query, int64_t group, Tile *tile,
                       int64_t j) {
    Mark mark = marks_of(call, a->part)[r];
    int64_t t = query / a->share, head = group * a->share + query % a->share;
    const float *q = columns_of(call, &a->q, call->first[r] + t) + head * a->head;
    rotate(&a->turns, mark.position + t, q, a->head, tile->q[j]);
    for (int64_t d = 0; d < a->head; d++) tile->q[j][d] *= (float)a->scale;
    for (int64_t d = 0; d < a->head; d += LANES) store(tile->mixed[j] + d, splat(0));
    tile->seen[j] = mark.place + t + 1 - tile->first;
    tile->most[j] = -__builtin_inff();
    tile->total[j] = splat(0);
}

static void attend_tile(const Attention *a, const Call *call, int64_t r, int64_t group, int64_t query,
                        int64_t queries) {
    const int64_t width = a->groups * a->share * a->head;
    Tile tile;
    tile.queries = queries;
    tile.head = a->head;
    tile.first = first_of(a, call, r, query);
    for (int64_t j = 0; j < queries; j++) open_query(a, call, r, query + j, group, &tile, j);
    take_entries(a, &tile, call->slot[r] * a->groups + group);
    for (int64_t j = 0; j < queries; j++) {
        int64_t token = call->first[r] + (query + j) / a->share, head = group * a->share + (query + j) % a->share;
        float *out = columns_of(call, &a->out, token) + head * a->head, total = sum(tile.total[j]);
        for (int64_t d = 0; d < a->head; d += LANES) {
            Floats mixed = load(tile.mixed[j] + d) / total;
            store_some(out + d, mixed, a->head - d);
            if (a->rounded.stride) put_rounded(&a->rounded, width, call, token, head * a->head + d, mixed);
        }
    }
}

/* Threads take tiles in turn, smaller ones where there are few. */
Kernel attend;
void attend(const void *arguments, const Call *call, const Worker *worker) {
    const Attention *a = arguments;
    int64_t most = within(call->tokens * a->groups * a->share / worker->count, TILE), turn = 0;
    if (most == 0) most = 1;
    for (int64_t r = 0; r < call->rows; r++)
        for (int64_t query = 0, n; query < call->count[r] * a->share; query += n) {
            n = alike(a, call, r, query, most);
            for (int64_t group = 0; group < a->groups; group++)
                if (turn++ % worker->count == worker->index) attend_tile(a, call, r, group, query, n);
        }
}
