import assert from "node:assert/strict";
import { test } from "node:test";
import { moduleName, planModuleOrder } from "#images/module-order.ts";

const DEP = `kernel/drivers/virtio/virtio_mmio.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio.ko: kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio_ring.ko:
kernel/drivers/char/hw_random/virtio-rng.ko.xz: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/fs/ext4/ext4.ko.xz: kernel/fs/jbd2/jbd2.ko.xz
kernel/fs/jbd2/jbd2.ko.xz:
kernel/arch/x86/crypto/crc32c-intel.ko.xz:
kernel/crypto/crc32c_generic.ko.xz:
`;
const index = { dep: DEP, softdep: "", alias: "" };

test("each module comes once, after all that it needs", () => {
  assert.deepEqual(planModuleOrder(["virtio_mmio", "virtio_rng"], index).map(moduleName), [
    "virtio_ring",
    "virtio",
    "virtio_mmio",
    "virtio_rng",
  ]);
});

test("modules that are built into the kernel are left out", () => {
  assert.deepEqual(planModuleOrder(["overlay", "virtio_ring"], index), [
    "kernel/drivers/virtio/virtio_ring.ko",
  ]);
});

test("modules that are requested by name at run time come first, in the form that works on every CPU", () => {
  const soft = {
    ...index,
    softdep: "# Soft dependencies\nsoftdep ext4 pre: crc32c\nsoftdep jbd2 pre: not-there post: other\n",
    alias: "alias crc32c crc32c_intel\nalias crypto-crc32c crc32c_intel\nalias crc32c crc32c_generic\n",
  };
  assert.deepEqual(planModuleOrder(["ext4"], soft).map(moduleName), ["crc32c_generic", "jbd2", "ext4"]);
});
