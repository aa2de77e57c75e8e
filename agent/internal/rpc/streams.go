package rpc

import "sync"

// streams are the streams that the host has open. On a port, a new host ends the streams of the one before it. Over
// vsock, streams could survive a restore for a moment, in which their commands would run in every copy.
type streams struct {
	mu   sync.Mutex
	last int
	ends map[int]func()
}

// add registers the function that ends a stream, until over is called.
func (s *streams) add(end func()) (over func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last++
	number := s.last
	if s.ends == nil {
		s.ends = map[int]func(){}
	}
	s.ends[number] = end
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.ends, number)
	}
}

// endAll returns when each end was called.
func (s *streams) endAll() {
	s.mu.Lock()
	ends := s.ends
	s.ends = nil
	s.mu.Unlock()
	for _, end := range ends {
		end()
	}
}
