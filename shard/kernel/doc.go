// Package kernel computes with one column tile of a shard's rows.
package kernel
