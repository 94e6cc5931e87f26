/* Tokens rounded for products with matrices that are not float32: see operand.h. */
#include "columns.h"
#include "operand.h"

typedef struct {
    Columns x, out;
    int64_t columns, format;
} Operand;

Kernel operand;
void operand(const void *arguments, const Call *call, const Worker *worker) {
    const Operand *o = arguments;
    int64_t begin, end;
    share(call->tokens, 1, worker, &begin, &end);
    for (int64_t token = begin; token < end; token++)
        round_operand(o->format, columns_of(call, &o->x, token), o->columns, &o->out, call, token);
}
