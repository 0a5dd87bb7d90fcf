// Package npy reads and writes NumPy's .npy files as mfac takes them: little-endian float32 or
// float64, one vector (1-D) or a vector a row (2-D, C order). Vectors are read and written in
// pieces, so that a file need not fit in memory.
//
//	f, err := npy.Open("grads.npy")
//	row := npy.Row[float32](f, 3) // a client.Source
//	w, err := npy.Create("out.npy", npy.Float32, 10)
//	out := npy.Out[float32](w, 0) // a client.Sink
//	err = w.Commit()              // out.npy is there now, whole; without Commit it is as it was
//	err = w.Close()
//
// Numbers are converted on the way where the types differ: float64 is rounded once to float32,
// and what has no float32 is refused.
//
// What a file's header declares is held against the size of the file before anything is allocated.
package npy
