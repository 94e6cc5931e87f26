/* Hints that memory is read soon. They cost nothing where the address means nothing. GCC takes its own builtin for a
 * write to any memory, and then keeps sums there. */
#ifndef OFFRAMP_FETCH_H
#define OFFRAMP_FETCH_H

#include <stdint.h>

/* So many bytes behind `at`, into the second cache. */
static inline __attribute__((always_inline, unused)) void fetch(const void *at, int64_t ahead) {
    const char *line = (const char *)((uintptr_t)at + (uintptr_t)ahead);
#if defined(__x86_64__) && !defined(__clang__)
    __asm__ volatile("prefetcht1 %a0" : : "p"(line));
#else
    __builtin_prefetch(line, 0, 2);
#endif
}

#endif
