// Package wire is the protocol between clients, the coordinator and workers: messages, their
// encoding, subjects, limits and error codes. It does no I/O. docs/protocol.md is the same thing
// in prose, for those who write a client in another language.
//
// A message is a frame: NATS headers and a body.
//
//	control   headers: Mfac-Protocol, Mfac-Type               body: msgpack map
//	bulk      headers: Mfac-Protocol, Mfac-Type, Mfac-Meta     body: raw little-endian numbers
//	          (Mfac-Meta is the msgpack map, in base64url without padding)
//
// so that the numbers of a chunk are never copied to be encoded. Decode goes in four steps:
//
//	scan      bounds: bytes, depth, items, each declared length against the bytes left
//	check     the fields' types and ranges, along the message's shape; unknown fields are skipped
//	msgpack   decodes what can't hurt or surprise it any more
//	Validate  sizes, offsets, dtypes and ranges, as far as the message alone can tell
//
// Every request is idempotent. It says its run, its epoch, its step or query, its shard and its
// columns; asking again is always safe.
package wire
