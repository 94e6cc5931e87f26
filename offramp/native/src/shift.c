/* Windows of convolutions as they are once the first of a row's tokens are final: tapes move so many inputs on. */
#include "offramp.h"

#include <string.h>

typedef struct {
    uint8_t *tape;      /* [S, inputs] */
    int64_t slot_bytes; /* from one slot's tape to the next one's */
    int64_t bytes;      /* of an input */
    int64_t window;     /* inputs before the first token that is not final */
} Shift;

Kernel shift;
void shift(const void *arguments, const Call *call, const Worker *worker) {
    const Shift *a = arguments;
    int64_t begin, end;
    share(call->rows, 1, worker, &begin, &end);
    for (int64_t r = begin; r < end; r++) {
        uint8_t *tape = a->tape + call->slot[r] * a->slot_bytes;
        memmove(tape, tape + call->count[r] * a->bytes, (size_t)(a->window * a->bytes));
    }
}
