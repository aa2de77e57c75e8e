package boot

import (
	"cmp"
	"encoding/binary"
	"reflect"
	"testing"
)

func TestTheCommandLineGivesOptions(t *testing.T) {
	for line, want := range map[string]Options{
		"":                                   {},
		"console=ttyS0 quiet -- x":           {},
		"a hearth.root=none hearth.vm=web-1": {Root: "none", VM: "web-1"},
		"hearth.channel=vsock hearth.off=restart hearth.modules=/dev/vdc": {Channel: "vsock", Off: "restart", Modules: "/dev/vdc"},
		"hearth.base=serial:base hearth.disk=/dev/vda hearth.modules=serial:modules": {
			Base: "serial:base", Disk: "/dev/vda", Modules: "serial:modules"},
		"systemd.machine_id=ab hearth.init=systemd": {Init: "systemd", MachineID: "ab"},
		"hearth.init=systemd\thearth.other=1":       {Init: "systemd"},
	} {
		want = orUsual(want)
		if got, err := ParseCommandLine(line); err != nil || got != want {
			t.Errorf("%q: got %+v, %v", line, got, err)
		}
	}
}

// orUsual fills in the defaults of a command line without Hearth's options.
func orUsual(o Options) Options {
	return Options{
		Root: cmp.Or(o.Root, "overlay"), Init: cmp.Or(o.Init, "agent"), VM: o.VM,
		Channel: cmp.Or(o.Channel, "port"), Off: cmp.Or(o.Off, "power"),
		Base: cmp.Or(o.Base, "/dev/vda"), Disk: cmp.Or(o.Disk, "/dev/vdb"), Modules: o.Modules,
		MachineID: o.MachineID,
	}
}

func TestUnknownWaysToBootAreRefused(t *testing.T) {
	for _, line := range []string{"hearth.root=nfs", "hearth.root=", "hearth.init=openrc", "hearth.channel=tcp", "hearth.off=never", "hearth.modules=vdc", "hearth.disk=", "hearth.base=serial:"} {
		if got, err := ParseCommandLine(line); err == nil {
			t.Errorf("%q: got %+v", line, got)
		}
	}
}

func TestTheModuleListKeepsItsOrder(t *testing.T) {
	got, err := ParseModuleList("# first\nvirtio.ko\n\n  kernel/drivers/virtio_blk.ko.xz\n")
	want := []string{"/mod/virtio.ko", "/mod/kernel/drivers/virtio_blk.ko.xz"}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestModulesOutsideOfTheirDirectoryAreRefused(t *testing.T) {
	for _, list := range []string{"/etc/evil.ko", "../evil.ko"} {
		if got, err := ParseModuleList(list); err == nil {
			t.Errorf("%q: got %v", list, got)
		}
	}
}

func TestTheSizeOfAnExt4IsReadFromItsSuperblock(t *testing.T) {
	super := make([]byte, 1024)
	binary.LittleEndian.PutUint16(super[0x38:], ext4Magic)
	binary.LittleEndian.PutUint32(super[0x4:], 7)
	binary.LittleEndian.PutUint32(super[0x18:], 2)
	binary.LittleEndian.PutUint32(super[0x150:], 1)
	if blocks, size, err := parseExt4Size(super); err != nil || blocks != 7 || size != 4096 {
		t.Errorf("got %d blocks of %d, %v", blocks, size, err)
	}
	binary.LittleEndian.PutUint32(super[0x60:], 0x80)
	if blocks, _, err := parseExt4Size(super); err != nil || blocks != 1<<32+7 {
		t.Errorf("got %d blocks, %v", blocks, err)
	}
	if _, _, err := parseExt4Size(make([]byte, 1024)); err == nil {
		t.Error("zeros passed for an ext4")
	}
}
