package vmnet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Remove removes a network, or what there is of it. The processes in the namespace have ended.
func Remove(ctx context.Context, network Made) error {
	if err := unpublish(network); err != nil {
		return err
	}
	var missing netlink.LinkNotFoundError
	link, err := netlink.LinkByName(network.Link)
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil && !errors.As(err, &missing) {
		return fmt.Errorf("delete the link %s: %w", network.Link, err)
	}
	if err := unmount(network.Path); err != nil {
		return err
	}
	locked, err := network.Host.lock(ctx)
	if err != nil {
		return err
	}
	defer locked.Close()
	if err := network.Host.leave(network.Link); err != nil {
		return err
	}
	if err := network.Host.restore(); err != nil {
		return err
	}
	// The last: it tells that there may be something to remove.
	return os.Remove(network.Path)
}

// unmount unmounts the namespace from its file, if it is mounted there.
func unmount(path string) error {
	err := unix.Unmount(path, unix.UMOUNT_NOFOLLOW)
	if err == nil || errors.Is(err, unix.EINVAL) {
		return nil
	}
	return fmt.Errorf("unmount %s: %w", path, err)
}

// unpublish deletes the tables of published ports, before the link with the switch goes.
func unpublish(network Made) error {
	value, err := os.ReadFile(loopbackSwitch(network.Link))
	if errors.Is(err, os.ErrNotExist) || strings.TrimSpace(string(value)) == "0" {
		return nil
	}
	if err != nil {
		return err
	}
	if err := deleteTable(nftables.TableFamilyIPv4, network.PublishTable); err != nil {
		return err
	}
	if hasIPv6, err := exists(conf6); !hasIPv6 || err != nil {
		return err
	}
	return deleteTable(nftables.TableFamilyIPv6, network.PublishTable)
}
