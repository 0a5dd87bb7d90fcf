// Package shard keeps the rows of one shard, slots × columns in float32, and computes
// with them in float64. It knows neither the network, nor the disk, nor the window: a
// row is a slot, and which slots count is the caller's Mask.
//
// The main path is Write into a free slot, Products, then Dots and Solve (any vector) or
// Combine (a combination of rows) over the mask of the committed slots.
//
// The rows are one region of memory, cut into tiles of TileCols columns, each laid out as
// package kernel says; the last tile is as many lines as its columns need. From four slots on a tile
// begins an odd number of lines after the one before, so that memory takes a row at its full rate
// (docs/kernels.md); the line that this may take has nothing in it:
//
//	region = tile 0 | (line) | tile 1 | (line) | … | last tile
//	tile   = slots × 1,024 columns   (slots × the rest, up to a multiple of 16)
//
// Between calls:
//
//	S1  cells past the last column, up to the end of a line, are 0
//	S2  rows never move
//
// A pass goes over units of some tiles. They are carried out by a pool.Pool that all Stores of
// a process share, steps before queries (For), or by goroutines of the call.
//
// All sums are in one order, whatever the threads, the kernel, the number of vectors in a
// call and the order of the writes:
//
//   - a dot is kernel's dot of each tile, then the tiles pairwise: (0,1), (2,3), … then
//     those sums pairwise, and so on; an odd last one goes up as it is
//   - a combination adds the slots of the mask in slot order, in each column by itself
//
// Columns past the last one, up to the end of a line, take part in dots as zeros (they
// can only turn a lane's −0 into +0, which takes an underflow).
package shard
