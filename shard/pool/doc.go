// Package pool is the threads that the work of all shards of a process shares. It knows neither
// shards nor the network.
//
// A task is a number of units, carried out in any order by the pool's workers; the caller of Do
// waits. A unit is some 100 µs to some ms of work: it is what scheduling is made of, no unit is
// ever interrupted.
//
//	p := pool.Start(2)
//	defer p.Stop()
//	err := p.Do(pool.Spec{Class: pool.Step, Run: "digits"}, pool.All(n), work)
//
// Which unit a worker takes next:
//
//	class   of the highest class that has units left: a step goes before all queries
//	run     of the class' runs in turn, a unit each, so that none waits for another's task
//	task    of the run's tasks the first that came
//	unit    from its home range, [w·n/T, (w+1)·n/T) for worker w of T, from the front; when that is
//	        empty, the last one of the range that has most left
//
// So column ranges stay with workers, and a worker that is held up holds up no task by more than a
// unit. Where a machine's memory lies on several nodes, StartThreads keeps a range with a thread, and
// with the memory near it.
//
// A task may be short (Spec.Short): some 100 µs in all, where to wake threads and to be woken takes
// as long. Its caller takes the place of a worker that sleeps, by the same rules and until the task
// has no units left. A worker looks for another task for some 30 µs after a short one, which is
// what it takes to wake it, before it sleeps: all but one may, so that somebody else finds a core,
// and who looks in vain leaves out the next times. An idle pool takes no time at all.
//
// Between units:
//
//	P1  a unit is carried out once, or never where its task was cancelled or another unit panicked
//	P2  Do returns when no unit of its task is under way, or will be
//	P3  a panic in a unit is its task's error; the worker goes on
//	P4  no result may depend on which worker does what, or when
//
// Nothing is allocated for a unit, nor for a task once as many have been under way before.
package pool
