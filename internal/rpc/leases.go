package rpc

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// metaIncarnation is the lease bucket's metadata key for its incarnation: random, made with the
// bucket. A bucket made anew starts its revisions at 1 again; this tells the two apart.
const metaIncarnation = "mfac_incarnation"

// Leases is the bucket of leases. TTL is that of the bucket, whatever was asked for.
type Leases struct {
	jetstream.KeyValue
	Incarnation uint64
	TTL         time.Duration
}

// CreateLeases makes the bucket of leases, or finds it.
func CreateLeases(ctx context.Context, js jetstream.JetStream, bucket string, ttl time.Duration, replicas int, incarnation uint64) (*Leases, error) {
	kv, err := js.KeyValue(ctx, bucket)
	if err != nil {
		kv, err = js.CreateKeyValue(ctx, jetstream.KeyValueConfig{
			Bucket: bucket, Description: "mfac: who owns which run", TTL: ttl, Replicas: replicas, History: 1,
			Metadata: map[string]string{metaIncarnation: strconv.FormatUint(incarnation, 16)},
		})
		if err != nil { // somebody else may have made it just now
			var again error
			if kv, again = js.KeyValue(ctx, bucket); again != nil {
				return nil, fmt.Errorf("make bucket %s: %w", bucket, err)
			}
		}
	}
	return leasesOf(ctx, kv)
}

// LeaseIncarnation reads the incarnation of the bucket of leases.
func LeaseIncarnation(ctx context.Context, js jetstream.JetStream, bucket string) (uint64, error) {
	kv, err := js.KeyValue(ctx, bucket)
	if err != nil {
		return 0, fmt.Errorf("bucket %s: %w", bucket, err)
	}
	return IncarnationOf(ctx, kv)
}

// IncarnationOf reads the incarnation that a bucket of leases has now: it may have been made anew.
func IncarnationOf(ctx context.Context, kv jetstream.KeyValue) (uint64, error) {
	l, err := leasesOf(ctx, kv)
	if err != nil {
		return 0, err
	}
	return l.Incarnation, nil
}

func leasesOf(ctx context.Context, kv jetstream.KeyValue) (*Leases, error) {
	st, err := kv.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("status of bucket %s: %w", kv.Bucket(), err)
	}
	inc, err := strconv.ParseUint(st.Metadata()[metaIncarnation], 16, 64)
	if err != nil || inc == 0 {
		return nil, fmt.Errorf("bucket %s was not made by mfac: its metadata has no %s", kv.Bucket(), metaIncarnation)
	}
	return &Leases{kv, inc, st.TTL()}, nil
}
