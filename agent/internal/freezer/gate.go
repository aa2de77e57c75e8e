package freezer

import (
	"context"
	"sync"
)

// gate prevents starting programs while the guest is frozen. A child that is forked into a frozen cgroup never reaches
// its exec, for which the agent waits in a vfork with all signals blocked: Go could not stop that thread to collect
// garbage, and the agent would hang together with the guest that it has to thaw.
type gate struct {
	mu       sync.Mutex
	starting int
	closed   bool
	changed  chan struct{} // Closed and replaced at each change.
}

func (g *gate) enter(ctx context.Context) error {
	return g.when(ctx, func() bool { return !g.closed }, func() { g.starting++ })
}

func (g *gate) leave() { g.change(func() { g.starting-- }) }

// close admits no more callers, and waits until those that were admitted have left.
func (g *gate) close(ctx context.Context) error {
	g.shut()
	return g.when(ctx, func() bool { return g.starting == 0 }, func() {})
}

// shut admits no more callers.
func (g *gate) shut() { g.change(func() { g.closed = true }) }

func (g *gate) open() { g.change(func() { g.closed = false }) }

func (g *gate) change(do func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	do()
	if g.changed != nil {
		close(g.changed)
		g.changed = nil
	}
}

// when waits for a condition and acts before it can change again.
func (g *gate) when(ctx context.Context, holds func() bool, act func()) error {
	for {
		g.mu.Lock()
		// A caller that is gone gets nothing, even if the condition became true just after it left.
		if err := ctx.Err(); err != nil {
			g.mu.Unlock()
			return context.Cause(ctx)
		}
		if holds() {
			act()
			g.mu.Unlock()
			return nil
		}
		if g.changed == nil {
			g.changed = make(chan struct{})
		}
		changed := g.changed
		g.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}
