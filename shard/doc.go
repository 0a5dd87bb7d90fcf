// Package shard keeps the rows of one shard, slots × columns in float32, and computes
// with them in float64. It knows neither the network, nor the disk, nor the window: a
// row is a slot, and which slots count is the caller's Mask.
package shard
