import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { NO_ISOLATION } from "#drivers/boot-isolation.ts";
import { kernelCommandLine, qemuArguments, qemuFiles } from "#drivers/qemu/command-line.ts";
import type { QemuMachine } from "#drivers/qemu/command-line.ts";
import type { BootPlan } from "#drivers/vm-driver.ts";
import { parseVmName, vmIdFrom } from "#model/ids.ts";
import type { NicPlan } from "#model/nic.ts";

const firmware = { qboot: "/usr/share/qemu/qboot.rom", dataDirs: [] };
const EMULATED = { accel: "tcg", tscKhz: 2_445_426, firmware } as const;
const HARDWARE = { accel: "kvm", tscKhz: 2_445_426, firmware } as const;

function plan(more: Partial<BootPlan> = {}): BootPlan {
  return {
    id: vmIdFrom(new Uint8Array(12)),
    name: parseVmName("web"),
    stateDir: "/state/vms/one",
    runDir: "/run/vms/one",
    kernel: "/cache/vmlinuz",
    initramfs: "/cache/initramfs",
    kernelArgs: ["hearth.root=overlay"],
    disks: [],
    cpus: 2,
    memoryBytes: 512 * 1024 ** 2,
    nics: [],
    init: "agent",
    nested: false,
    isolation: NO_ISOLATION,
    ...more,
  };
}

/** Returns the values that follow an option, in order. */
function valuesOf(args: readonly string[], option: string): string[] {
  return args.flatMap((word, index) => (word === option ? [args[index + 1] ?? ""] : []));
}

describe("QEMU's command line", () => {
  test("is a microvm with the devices that Debian's cloud kernel needs, and no others", () => {
    const args = qemuArguments(plan(), EMULATED);
    assert.match(valuesOf(args, "-M")[0] ?? "", /^microvm,acpi=on,pit=on,pic=on,rtc=on,memory-backend=mem,/);
    assert.deepEqual(valuesOf(args, "-accel"), ["tcg,thread=multi"]);
    assert.match(valuesOf(args, "-cpu")[0] ?? "", /^max,/);
    assert.deepEqual(valuesOf(args, "-smp"), ["2"]);
    assert.deepEqual(valuesOf(args, "-m"), ["size=536870912B"]);
    for (const flag of ["-nodefaults", "-no-user-config", "-no-reboot", "-S"])
      assert.ok(args.includes(flag), flag);
    assert.match(valuesOf(args, "-sandbox")[0] ?? "", /^on,.*spawn=deny/);
  });

  test("boots a microvm with qboot, which the jail shows, and a nested host with QEMU's default firmware", () => {
    const args = qemuArguments(plan(), EMULATED);
    assert.deepEqual(valuesOf(args, "-bios"), ["/usr/share/qemu/qboot.rom"]);
    assert.ok(
      qemuFiles(plan(), EMULATED).some(
        ({ path, access }) => path === "/usr/share/qemu/qboot.rom" && access === "read",
      ),
    );
    assert.deepEqual(valuesOf(qemuArguments(plan({ nested: true }), EMULATED), "-bios"), []);
  });

  test("names the data directories of a relocated QEMU, and snapshots do not depend on them", () => {
    const dataDirs = ["/opt/qemu/share/qemu", "/opt/qemu/share/seabios"];
    const other = { ...EMULATED, firmware: { qboot: "/opt/qemu/share/qemu/qboot.rom", dataDirs } };
    assert.deepEqual(valuesOf(qemuArguments(plan(), other), "-L"), dataDirs);
    assert.deepEqual(valuesOf(qemuArguments(plan(), EMULATED), "-L"), []);
  });

  test("uses the host's CPU where KVM works", () => {
    const args = qemuArguments(plan(), HARDWARE);
    assert.deepEqual(valuesOf(args, "-accel"), ["kvm"]);
    assert.match(valuesOf(args, "-cpu")[0] ?? "", /^host,/);
    assert.doesNotMatch(valuesOf(args, "-append")[0] ?? "", /tsc_early_khz/);
  });

  test("offers virtualization only to a guest with nested VMs", () => {
    for (const machine of [EMULATED, HARDWARE]) {
      const cpu = (nested: boolean): string =>
        valuesOf(qemuArguments(plan({ nested }), machine), "-cpu")[0] ?? "";
      assert.match(cpu(false), /,vmx=off,svm=off(,|$)/);
      assert.doesNotMatch(cpu(true), /off/);
    }
    assert.deepEqual(valuesOf(qemuArguments(plan({ nested: true }), HARDWARE), "-cpu"), ["host"]);
  });

  test("tells an emulated guest its address sizes, also without SVM", () => {
    assert.match(valuesOf(qemuArguments(plan(), EMULATED), "-cpu")[0] ?? "", /^max,.*,xlevel=0x80000008$/);
  });

  test("keeps guest memory out of the host's page merging and out of core dumps", () => {
    for (const nested of [false, true]) {
      const [machine = ""] = valuesOf(qemuArguments(plan({ nested }), HARDWARE), "-M");
      assert.match(machine, /,mem-merge=off,dump-guest-core=off$/);
    }
  });

  test("opens a shared guest memory file read-only, and the jail shows it read-only", () => {
    const machine = { ...EMULATED, memory: { path: "/saved/a,b", map: "shared" } } as const;
    const [, ...objects] = valuesOf(qemuArguments(plan(), machine), "-object").toReversed();
    assert.deepEqual(objects, [
      "memory-backend-file,id=mem,size=536870912B,mem-path=/saved/a,,b,share=off,readonly=on,rom=off",
    ]);
    assert.deepEqual(
      qemuFiles(plan(), machine).filter(({ path }) => path.startsWith("/saved")),
      [{ path: "/saved/a,b", access: "read" }],
    );
  });

  test("gives an older QEMU the VM's own copy of a guest memory file, and no other", () => {
    const machine = { ...EMULATED, memory: { path: "/state/vms/one/memory.own", map: "own" } } as const;
    assert.match(
      qemuArguments(plan(), machine).join(" "),
      /mem-path=\/state\/vms\/one\/memory\.own,share=off /,
    );
    assert.deepEqual(
      qemuFiles(plan(), machine).filter(({ path }) => path.includes("memory")),
      [{ path: "/state/vms/one/memory.own", access: "write" }],
    );
  });

  test("reads no kernel for a restored guest, except where the machine would differ without it", () => {
    const files = ["/cache/vmlinuz", "/cache/initramfs"];
    for (const [nested, incoming, booted] of [
      [false, undefined, true],
      [false, "/saved/state", false],
      [true, "/saved/state", true],
    ] as const) {
      const machine = { ...EMULATED, incoming };
      const args = qemuArguments(plan({ nested }), machine);
      assert.deepEqual(valuesOf(args, "-kernel"), booted ? ["/cache/vmlinuz"] : []);
      assert.equal(args.includes("-append"), booted);
      const shown = new Set(qemuFiles(plan({ nested }), machine).map(({ path }) => path));
      assert.deepEqual(
        files.filter((path) => shown.has(path)),
        booted ? files : [],
      );
    }
  });

  test("names the run directory, so that recovery finds a VMM that was not stored", () => {
    assert.ok(qemuArguments(plan(), EMULATED).some((word) => word.includes("/run/vms/one/")));
  });

  test("gives each disk its letter in the order of the plan, and its id as its serial", () => {
    const disks = [
      { id: "base", path: "/cache/base.ext4", format: "raw", readOnly: true },
      { id: "own", path: "/state/disk.qcow2", format: "qcow2", readOnly: false },
    ] as const;
    const nodes = valuesOf(qemuArguments(plan({ disks }), EMULATED), "-blockdev").map((text) =>
      JSON.parse(text),
    );
    assert.deepEqual(
      nodes.map((node) => [node["node-name"], node.driver, node["read-only"] ?? false, node.file.filename]),
      [
        ["disk0", "raw", true, "/cache/base.ext4"],
        ["disk1", "qcow2", false, "/state/disk.qcow2"],
      ],
    );
    const cards = valuesOf(qemuArguments(plan({ disks }), EMULATED), "-device");
    const serials = cards.flatMap((text) => /,serial=([^,]*),drive=(disk\d)/.exec(text)?.slice(1) ?? []);
    assert.deepEqual(serials, ["base", "disk0", "own", "disk1"]);
  });

  test("names every layer of a disk, so that no header decides what QEMU opens", () => {
    const nodeOf = (backing: readonly string[]) => {
      const disks = [
        { id: "own", path: "/vm/disk.qcow2", format: "qcow2", readOnly: false, backing },
      ] as const;
      return JSON.parse(valuesOf(qemuArguments(plan({ disks }), EMULATED), "-blockdev")[0] ?? "");
    };
    const readOnly = { "read-only": true };
    const file = (filename: string) => ({ driver: "file", filename, ...readOnly });
    assert.deepEqual(nodeOf(["/vm/layer-0.raw", "/vm/layer-1.qcow2"]).backing, {
      driver: "qcow2",
      ...readOnly,
      file: file("/vm/layer-1.qcow2"),
      backing: { driver: "raw", ...readOnly, file: file("/vm/layer-0.raw") },
    });
    assert.equal(nodeOf([]).backing, null, "a backing file in the header is not opened");
  });

  test("writes a guest's flush through the host's page cache", () => {
    const disks = [{ id: "own", path: "/disk", format: "raw", readOnly: false }] as const;
    const text = qemuArguments(plan({ disks }), EMULATED).join(" ");
    assert.doesNotMatch(text, /no-flush|cache=unsafe/);
  });

  test("has the NICs of the plan, each with its own address and TAP device", () => {
    assert.deepEqual(valuesOf(qemuArguments(plan(), EMULATED), "-netdev"), []);
    const nics = ["a", "b"].map((id, index): NicPlan => {
      return { id, mac: `02:00:00:00:00:0${index}`, attach: { kind: "tap", name: `tap-${id}` } };
    });
    const args = qemuArguments(plan({ nics }), EMULATED);
    assert.deepEqual(
      valuesOf(args, "-netdev"),
      ["a", "b"].map((id) => `tap,id=net-${id},ifname=tap-${id},script=no,downscript=no`),
    );
    const cards = valuesOf(args, "-device").filter((text) => text.startsWith("virtio-net"));
    assert.deepEqual(cards, [
      "virtio-net-device,id=nic-a,netdev=net-a,mac=02:00:00:00:00:00",
      "virtio-net-device,id=nic-b,netdev=net-b,mac=02:00:00:00:00:01",
    ]);
  });
});

describe("paths on QEMU's command line", () => {
  const CASES = [
    { title: "with a comma", path: "/run/a,b" },
    { title: "with a blank and quotes", path: `/run/a 'b' "c"` },
    { title: "that look like a shell's words", path: "/run/$(id);`id`" },
    { title: "with an equals sign", path: "/run/a=b" },
    { title: "in another script", path: "/run/ведро" },
  ];
  for (const { title, path } of CASES) {
    test(`a directory ${title} is passed unchanged`, () => {
      const disks = [{ id: "own", path: `${path}/disk`, format: "raw", readOnly: false }] as const;
      const args = qemuArguments(plan({ runDir: path, disks }), EMULATED);
      const node = JSON.parse(valuesOf(args, "-blockdev")[0] ?? "");
      assert.equal(node.file.filename, `${path}/disk`);
      const sockets = valuesOf(args, "-chardev").map((value) => optionsOf(value).get("path"));
      assert.deepEqual(
        sockets,
        ["qmp.sock", "console.sock", "agent.sock"].map((name) => `${path}/${name}`),
      );
    });
  }
});

test("the user's arguments come last on the kernel's command line, so that they win", () => {
  const line = kernelCommandLine(plan({ kernelArgs: ["hearth.root=none", "loglevel=7"] }), EMULATED);
  assert.match(line, /^console=ttyS0 .*tsc_early_khz=2445426.* hearth\.root=none loglevel=7$/);
});

test("a host with an unknown clock rate leaves the measuring to the guest", () => {
  assert.doesNotMatch(kernelCommandLine(plan(), { ...EMULATED, tscKhz: undefined }), /tsc/);
});

test("an emulated guest takes its time from the host's counter, one with KVM from KVM's clock", () => {
  const words = (machine: QemuMachine, nested = false): string[] =>
    kernelCommandLine(plan({ nested }), machine).split(" ");
  assert.ok(words(EMULATED).includes("tsc=reliable"));
  assert.ok(!words(EMULATED, true).includes("highres=off"), "a host of VMs needs finer timers");
  assert.ok(!words(HARDWARE).includes("tsc=reliable"));
});

/** Reads an option as QEMU does: split at commas, doubled commas stand for one. */
function optionsOf(value: string): Map<string, string> {
  const parts = value.replaceAll(",,", "\0").split(",");
  return new Map(
    parts.map((part) => {
      const [key = "", ...rest] = part.replaceAll("\0", ",").split("=");
      return [key, rest.join("=")];
    }),
  );
}
