// Command hearth-uplink holds the namespaces of a VM's network where hearthd is not root; see package uplink.
package main

import (
	"flag"
	"fmt"
	"os"

	"hearth.dev/agent/internal/uplink"
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
		return fmt.Errorf("hearth-uplink %s: there is no verb", version)
	}
	options := uplink.Options{}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.StringVar(&options.Owner, "owner", "", "directory of the VM, by which hearthd finds the process")
	flags.StringVar(&options.Card, "card", "", "TAP device of the guest")
	flags.StringVar(&options.Nft, "nft", "", "path of nft(8)")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if options.Owner == "" || options.Card == "" || options.Nft == "" {
		return fmt.Errorf("--owner, --card and --nft are required")
	}
	switch args[0] {
	case "start":
		return uplink.Start(options, args[1:])
	case uplink.HoldVerb:
		return uplink.Hold(options)
	}
	return fmt.Errorf("%q is no verb", args[0])
}
