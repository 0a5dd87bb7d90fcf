// Package agent is the process beside a Python program that speaks to the cluster for it: it holds the
// connection to NATS with package client, and serves the program over a Unix socket and shared memory.
// docs/agent.md has the messages.
//
// Run listens, and each connection is served by one goroutine that reads requests (conn.go); each request that
// may take long is a goroutine of its own, so replies come out of order. A request names the run that it is
// about by a handle, and where its numbers lie by a view of a buffer: memory that the program handed over by
// its descriptor (buffer.go). client reads gradients from there and writes results to there.
//
//	A1  a request is answered once, with its result or an error, unless its connection has ended
//	A2  a buffer is mapped once, and stays so while a call uses it, whatever is released
//	A3  memory that its owner could still cut short is never mapped, but read and written as a file
//	A4  when a connection has ended, nothing of it is left: calls, buffers, descriptors, NATS
//	A5  when Run returns, nothing is left of the agent: cluster, socket, folder
package agent
