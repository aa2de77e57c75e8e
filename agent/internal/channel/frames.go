package channel

const frameHeaderBytes = 9

// frames tracks the boundaries of the host's HTTP/2 frames. A hello at a boundary reads as the header of a frame of 4
// MiB. The HTTP/2 server would refuse that with a GOAWAY and then wait for a second, for a host that is gone; the host
// that sent the hello would wait as well.
type frames struct {
	begun  bool
	left   int // The rest of the payload or preface that is being read.
	header []byte
}

// brokenBy tells whether a frame that the server would refuse begins in b.
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
