package boot

import (
	"encoding/binary"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// _IOW('f', 16, __u64): the new size in blocks.
const ext4ResizeFS = 0x40086610

const (
	superblockOffset = 1024
	ext4Magic        = 0xef53
)

// growDisk extends a mounted ext4 to the size of its device. The host grows a disk by extending its file.
func growDisk(device, mounted string) error {
	file, err := os.Open(device)
	if err != nil {
		return err
	}
	defer file.Close()
	deviceBytes, err := file.Seek(0, os.SEEK_END)
	if err != nil {
		return err
	}
	super := make([]byte, 1024)
	if _, err := file.ReadAt(super, superblockOffset); err != nil {
		return err
	}
	blocks, blockBytes, err := parseExt4Size(super)
	if err != nil {
		return err
	}
	wanted := uint64(deviceBytes) / blockBytes
	if wanted <= blocks {
		return nil
	}
	dir, err := os.Open(mounted)
	if err != nil {
		return err
	}
	defer dir.Close()
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, dir.Fd(), ext4ResizeFS, uintptr(unsafe.Pointer(&wanted)))
	if errno != 0 {
		return fmt.Errorf("grow ext4 to %d blocks: %w", wanted, errno)
	}
	return nil
}

func parseExt4Size(super []byte) (blocks, blockBytes uint64, err error) {
	if binary.LittleEndian.Uint16(super[0x38:]) != ext4Magic {
		return 0, 0, fmt.Errorf("there is no ext4 on the disk")
	}
	const incompat64Bit = 0x80
	blocks = uint64(binary.LittleEndian.Uint32(super[0x4:]))
	if binary.LittleEndian.Uint32(super[0x60:])&incompat64Bit != 0 {
		blocks |= uint64(binary.LittleEndian.Uint32(super[0x150:])) << 32
	}
	return blocks, 1024 << binary.LittleEndian.Uint32(super[0x18:]), nil
}
