package channel

const frameHeaderBytes = 9

// frames follows the edges of the HTTP/2 frames that a host sends. A hello at an edge reads as the header of a
// frame of 4 MiB. HTTP/2 itself would refuse that with a GOAWAY, and then wait a second for a host that is long
// gone; a host that came back would wait as well.
type frames struct {
	begun  bool
	left   int // Of the payload or the preface that is being read.
	header []byte
}

// brokenBy says whether a frame that the server would refuse begins in b.
func (f *frames) brokenBy(b []byte) bool {
	if !f.begun {
		f.begun, f.left = true, len(preface)
	}
	for len(b) > 0 {
		if f.left > 0 {
			n := min(f.left, len(b))
			f.left, b = f.left-n, b[n:]
			continue
		}
		n := min(frameHeaderBytes-len(f.header), len(b))
		f.header, b = append(f.header, b[:n]...), b[n:]
		if len(f.header) < frameHeaderBytes {
			return false
		}
		f.left = int(f.header[0])<<16 | int(f.header[1])<<8 | int(f.header[2])
		f.header = f.header[:0]
		if f.left > frameMaxBytes {
			return true
		}
	}
	return false
}
