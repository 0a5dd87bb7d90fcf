// Package natsx connects to NATS as the services and clients of this module must, and runs a
// server inside the process for tests and demonstrations. It knows nothing of runs or shards.
//
// The main path is Connect; Embedded where no server is at hand. Who gets a connection closes it,
// who gets a Server shuts it down: nothing is left running then.
package natsx
