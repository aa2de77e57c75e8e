package rpc

import "sync"

// streams are those that the host has open. Where the stream between the two is a port, a new host ends those of the
// one before it. Over vsock they may outlive the guest's being restored for a moment, in which their commands
// would run in every copy.
type streams struct {
	mu   sync.Mutex
	last int
	ends map[int]func()
}

// add remembers what ends a stream until it is over.
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
