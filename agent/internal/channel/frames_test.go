package channel

import (
	"bytes"
	"testing"
)

func frame(payload int) []byte {
	header := []byte{byte(payload >> 16), byte(payload >> 8), byte(payload), 0, 0, 0, 0, 0, 1}
	return append(header, bytes.Repeat([]byte("H"), payload)...)
}

func TestAHelloAtTheEdgeOfAFrameEndsTheConnectionHoweverReadsAreCut(t *testing.T) {
	good := bytes.Join([][]byte{[]byte(preface), frame(0), frame(helloBytes), frame(frameMaxBytes)}, nil)
	hello := []byte(helloWord + "0123456789abcdef0123456789abcdef\n")
	for _, size := range []int{1, 7, 9, 4096, len(good) + len(hello)} {
		var f frames
		for all, at := append(append([]byte(nil), good...), hello...), 0; at < len(all); at += size {
			end := min(at+size, len(all))
			broken := f.brokenBy(all[at:end])
			if want := end >= len(good)+frameHeaderBytes; broken != want {
				t.Fatalf("reads of %d: at byte %d of %d broken is %v", size, end, len(good), broken)
			} else if broken {
				break
			}
		}
	}
}
