/* Windows of convolutions as they are once the first of a row's tokens are final: tapes move so many inputs on. */
#include "offramp.h"

#include <string.h>

typedef struct {
    uint8_t *tape;      /* [S, inputs] */
    int64_t slot_bytes; /* from one slot's tape to the next one's */
    int64_t bytes;      /* of an input */
    int64_t window;     /* inputs before the first token that is not final */
} Window;

/* All windows of a program in one step. */
typedef struct {
    int64_t count;
    const Window *windows;
} Shift;

Kernel shift;
void shift(const void *arguments, const Call *call, const Worker *worker) {
    const Shift *a = arguments;
    int64_t begin, end;
    share(a->count * call->rows, 1, worker, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        const Window *w = a->windows + i / call->rows;
        int64_t r = i % call->rows;
        uint8_t *tape = w->tape + call->slot[r] * w->slot_bytes;
        memmove(tape, tape + call->count[r] * w->bytes, (size_t)(w->window * w->bytes));
    }
}
