/* Tiles (AMX): products of 16 rows with up to 16 tokens take as long as with one.
 *
 * Tiles 0-3 hold sums [rows, tokens]; 4 and 5 weights, a row each; 6 and 7 tokens, of a row 4 bytes of each token.
 */
#ifndef OFFRAMP_AMX_H
#define OFFRAMP_AMX_H

#include "operand.h"

/* The shape that the processor's tiles have: to change it takes as long as a few products. depth: bytes of a weights'
 * row. */
typedef struct {
    int64_t rows, tokens, depth;
} Tiles;

/* The compiler does not know that tiles are loaded from memory. */
#define WRITTEN(x) __asm__ volatile("" : : "r"(x) : "memory")

static void shape_tiles(Tiles *tiles, int64_t rows, int64_t tokens, int64_t depth) {
    struct {
        uint8_t palette, start, zeros[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } shape = {.palette = 1};
    if (tiles->rows == rows && tiles->tokens == tokens && tiles->depth == depth) return;
    *tiles = (Tiles){rows, tokens, depth};
    for (int i = 0; i < 8; i++) {
        shape.rows[i] = (uint8_t)(i < 6 ? rows : depth / 4);
        shape.bytes[i] = (uint16_t)(i == 4 || i == 5 ? depth : 4 * tokens);
    }
    WRITTEN(&shape);
    _tile_loadconfig(&shape);
}

/* Without them the system has less to save. */
static void release_tiles(const Tiles *tiles) {
    if (tiles->rows) _tile_release();
}

#endif
