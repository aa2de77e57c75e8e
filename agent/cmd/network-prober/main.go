// Command network-prober is a program of the tests; see package prober. No release has it.
package main

import (
	"fmt"
	"os"

	"hearth.dev/agent/internal/prober"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("usage: network-prober probe|serve ENDPOINT...|watch PLACE=NAMESPACE...")
	}
	switch args[0] {
	case "probe":
		return prober.Probe(os.Stdin, os.Stdout)
	case "serve":
		return prober.Serve(args[1:], os.Stdout)
	case "watch":
		return prober.Watch(args[1:], os.Stdin, os.Stdout)
	}
	return fmt.Errorf("%q is no verb", args[0])
}
