// Command hearth-resolver answers the names that a VM asks for; see package resolver.
package main

import (
	"flag"
	"fmt"
	"math"
	"net/netip"
	"os"
	"strconv"

	"hearth.dev/agent/internal/resolver"
)

var version = "0.0.0"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("hearth-resolver %s: there is no verb", version)
	}
	switch args[0] {
	case "start":
		return start(args[1:])
	case resolver.GuardVerb:
		return guard(args[1:])
	case resolver.ParserVerb:
		return resolver.RunParser(len(args) == 2 && args[1] == resolver.ParserWithIPv6)
	}
	return fmt.Errorf("%q is no verb", args[0])
}

// guard reads what start gives a guard.
func guard(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("guard takes a link and a number of networks")
	}
	networks, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	return resolver.RunGuard(args[0], networks)
}

// start reads the options, all of which but --address6 are required.
func start(args []string) error {
	var options resolver.Options
	flags := flag.NewFlagSet("start", flag.ContinueOnError)
	flags.TextVar(&options.Address, "address", netip.Addr{}, "address of the guest's resolver")
	flags.TextVar(&options.Address6, "address6", netip.Addr{}, "its IPv6 address")
	flags.StringVar(&options.Control, "control", "", "path of the socket for the helper")
	flags.StringVar(&options.Networks, "networks", "", "directory of the private networks")
	flags.StringVar(&options.Link, "link", "", "name of the VM's link on the host")
	uid := flags.Uint64("uid", 0, "uid of the VM")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if !options.Address.IsValid() || options.Control == "" || *uid == 0 || *uid >= math.MaxUint32 ||
		options.Networks == "" || options.Link == "" {
		return fmt.Errorf("--address, --control, --networks, --link and --uid are required")
	}
	options.UID = uint32(*uid)
	return resolver.Start(options)
}
