import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { describe, test } from "node:test";
import type { TestContext } from "node:test";
import type { DoctorCheck } from "#api/wire.ts";
import { checkHost } from "#daemon/doctor/check-host.ts";
import { HostFiles } from "#daemon/doctor/host-files.ts";

type Tree = Readonly<Record<string, string | undefined>>;

const CPU = "/sys/devices/system/cpu";
const SWAPS = "Filename\tType\tSize\tUsed\tPriority\n";
const CGROUP2 = "30 20 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate,favordynmods";

/** Returns the files of a host as Firecracker's advice wants it. */
const GOOD: Tree = {
  "/sys/kernel/mm/ksm/run": "0",
  "/proc/swaps": SWAPS,
  [`${CPU}/smt/control`]: "forceoff",
  [`${CPU}/smt/active`]: "0",
  [`${CPU}/vulnerabilities/meltdown`]: "Not affected",
  [`${CPU}/vulnerabilities/itlb_multihit`]: "Not affected",
  [`${CPU}/vulnerabilities/spectre_v2`]: "Mitigation: Enhanced IBRS; IBPB: conditional",
  "/proc/cpuinfo": "processor\t: 0\nmicrocode\t: 0xd0003e7\nflags\t\t: fpu vmx\n",
  "/proc/cmdline": "root=/dev/sda1 quiet loglevel=1",
  "/proc/self/mountinfo": `21 1 8:1 / / rw - ext4 /dev/sda1 rw\n${CGROUP2}\n`,
  "/sys/module/kvm/parameters/nx_huge_pages": "never",
  "/proc/sys/kernel/osrelease": "6.12.9-amd64",
  "/proc/sys/kernel/printk": "1\t4\t1\t7",
  "/proc/consoles": "ttyS0                -W- (EC  p a)    4:64",
};

function check(t: TestContext, changes: Tree, production = false): Map<string, DoctorCheck> {
  const root = mkdtempSync(join(tmpdir(), "hearth-host-"));
  t.after(() => rmSync(root, { recursive: true }));
  for (const [path, text] of Object.entries({ ...GOOD, ...changes })) {
    if (text === undefined) continue;
    mkdirSync(join(root, dirname(path)), { recursive: true });
    writeFileSync(join(root, path), `${text}\n`);
  }
  return new Map(checkHost(production, new HostFiles(root)).map((one) => [one.name, one]));
}

const WARNED: readonly (readonly [what: string, name: string, changes: Tree, found: RegExp, fix: RegExp])[] =
  [
    ["KSM that runs", "ksm", { "/sys/kernel/mm/ksm/run": "1" }, /in the memory of other guests/, /ksm\/run/],
    [
      "swap on a disk",
      "swap",
      { "/proc/swaps": `${SWAPS}/dev/sda2 partition 9 0 -2` },
      /\/dev\/sda2/,
      /swapoff -a/,
    ],
    ["swap in a file", "swap", { "/proc/swaps": `${SWAPS}/swapfile file 9 0 -2` }, /\/swapfile/, /dm-crypt/],
    [
      "swap on a device that is mapped, not encrypted",
      "swap",
      { "/proc/swaps": `${SWAPS}/dev/dm-1 partition 9 0 -2`, "/sys/block/dm-1/dm/uuid": "LVM-abc" },
      /dm-1/,
      /swapoff/,
    ],
    [
      "compressed memory that spills to a disk",
      "swap",
      { "/proc/swaps": `${SWAPS}/dev/zram0 partition 9 0 -2`, "/sys/block/zram0/backing_dev": "/dev/sda3" },
      /zram0/,
      /swapoff/,
    ],
    [
      "two threads a core",
      "smt",
      { [`${CPU}/smt/control`]: "on", [`${CPU}/smt/active`]: "1" },
      /spy/,
      /nosmt=force/,
    ],
    [
      "microcode that the kernel knows to be old",
      "microcode",
      { [`${CPU}/vulnerabilities/old_microcode`]: "Vulnerable" },
      /0xd0003e7: the kernel knows a newer revision/,
      /intel-microcode/,
    ],
    [
      "microcode that a fix is missing in, on a guest",
      "microcode",
      {
        [`${CPU}/vulnerabilities/spec_rstack_overflow`]: "Vulnerable: Safe RET, no microcode",
        "/proc/cpuinfo": "microcode\t: 0x1000065\nflags\t\t: fpu hypervisor svm\n",
      },
      /too old for spec_rstack_overflow/,
      /the host below/,
    ],
    [
      "an open flaw",
      "cpu flaws",
      { [`${CPU}/vulnerabilities/mds`]: "Vulnerable" },
      /: mds$/,
      /upgrade kernel/,
    ],
    [
      "a flaw that is open between threads",
      "cpu flaws",
      { [`${CPU}/vulnerabilities/mds`]: "Mitigation: Clear CPU buffers; SMT vulnerable" },
      /: mds \(SMT\)$/,
      /microcode/,
    ],
    [
      "mitigations that are off",
      "cpu flaws",
      { [`${CPU}/vulnerabilities/mds`]: "Vulnerable", "/proc/cmdline": "quiet mitigations=off" },
      /mds/,
      /without mitigations=off/,
    ],
    [
      "slow creation of VMs",
      "vm creation",
      {
        "/sys/module/kvm/parameters/nx_huge_pages": "Y",
        "/proc/self/mountinfo": CGROUP2.replace(",favordynmods", ""),
      },
      /since Linux 6\.1/,
      /nx_huge_pages=never/,
    ],
    [
      "slow creation of VMs on a CPU with the flaw",
      "vm creation",
      {
        "/sys/module/kvm/parameters/nx_huge_pages": "Y",
        "/proc/self/mountinfo": CGROUP2.replace(",favordynmods", ""),
        [`${CPU}/vulnerabilities/itlb_multihit`]: "KVM: Mitigation: Split huge pages",
      },
      /since Linux 6\.1/,
      /remount,favordynmods/,
    ],
    [
      "a fix that is off on a CPU with the flaw",
      "vm creation",
      { [`${CPU}/vulnerabilities/itlb_multihit`]: "KVM: Vulnerable" },
      /leaves open/,
      /favordynmods/,
    ],
    [
      "a thousand mounts",
      "mounts",
      { "/proc/self/mountinfo": `${CGROUP2}\n`.repeat(1_000) },
      /^1000:/,
      /fewer/,
    ],
    [
      "a talkative serial console",
      "console log",
      { "/proc/sys/kernel/printk": "7 4 1 7" },
      /7 on ttyS0/,
      /loglevel=1/,
    ],
  ];

const PASSED: readonly (readonly [what: string, name: string, changes: Tree, found: RegExp])[] = [
  ["a kernel without KSM", "ksm", { "/sys/kernel/mm/ksm/run": undefined }, /not in this kernel/],
  ["KSM that was taken back", "ksm", { "/sys/kernel/mm/ksm/run": "2" }, /off/],
  [
    "encrypted swap",
    "swap",
    { "/proc/swaps": `${SWAPS}/dev/dm-0 partition 9 0 -2`, "/sys/block/dm-0/dm/uuid": "CRYPT-PLAIN-swap" },
    /encrypted.*dm-0/,
  ],
  [
    "swap in memory",
    "swap",
    { "/proc/swaps": `${SWAPS}/dev/zram0 partition 9 0 100` },
    /in memory: \/dev\/zram0/,
  ],
  ["a CPU without threads", "smt", { [`${CPU}/smt/control`]: "notsupported" }, /notsupported/],
  ["a CPU without microcode", "microcode", { "/proc/cpuinfo": "processor : 0" }, /not on this CPU/],
  [
    "an older kernel",
    "vm creation",
    {
      "/sys/module/kvm/parameters/nx_huge_pages": "Y",
      "/proc/self/mountinfo": CGROUP2.replace(",favordynmods", ""),
      "/proc/sys/kernel/osrelease": "5.10.0-30-amd64",
    },
    /before Linux 6\.1/,
  ],
  [
    "favordynmods on the kernel's command line",
    "vm creation",
    { "/sys/module/kvm/parameters/nx_huge_pages": "Y", "/proc/cmdline": "cgroup_favordynmods=true" },
    /favordynmods/,
  ],
  [
    "a host without KVM",
    "vm creation",
    { "/sys/module/kvm/parameters/nx_huge_pages": undefined },
    /not loaded/,
  ],
  [
    "a talkative kernel without a serial line",
    "console log",
    { "/proc/sys/kernel/printk": "7 4 1 7", "/proc/consoles": "tty0 -WU (EC p ) 4:7" },
    /no serial/,
  ],
];

describe("the checks of a host for production", () => {
  test("as Firecracker advises it, all is well", (t) => {
    const checks = [...check(t, {}).values()];
    assert.equal(checks.length, 8);
    assert.deepEqual(
      checks.filter(({ verdict }) => verdict !== "pass"),
      [],
    );
  });

  for (const [what, name, changes, found, fix] of WARNED) {
    test(`${what}: a warning with the reason and the fix, and nothing else changes`, (t) => {
      const checks = check(t, changes);
      const warned = checks.get(name);
      assert.equal(warned?.verdict, "warn");
      assert.match(warned.found, found);
      assert.match(warned.fix ?? "", fix);
      for (const [other, { verdict }] of checks)
        if (other !== name && !Object.keys(changes).some((path) => /vulnerab|mountinfo/.test(path)))
          assert.equal(verdict, "pass", other);
    });
  }

  for (const [what, name, changes, found] of PASSED) {
    test(`${what} is fine`, (t) => {
      const passed = check(t, changes).get(name);
      assert.equal(passed?.verdict, "pass");
      assert.match(passed.found, found);
    });
  }

  test("with --production a risk between guests fails, and what is only slow stays a warning", (t) => {
    const changes = { "/sys/kernel/mm/ksm/run": "1", "/proc/sys/kernel/printk": "7 4 1 7" };
    const checks = check(t, changes, true);
    assert.deepEqual([checks.get("ksm")?.verdict, checks.get("console log")?.verdict], ["fail", "warn"]);
  });

  test("a host without /proc and /sys is reported, and breaks nothing", () => {
    for (const { verdict, found } of checkHost(false, new HostFiles("/nowhere"))) {
      assert.notEqual(verdict, "fail");
      assert.notEqual(found, "");
    }
  });

  test("each line fits a terminal of 80 columns, or breaks once", (t) => {
    for (const [, name, changes] of WARNED) {
      const { found = "", fix = "" } = check(t, changes).get(name) ?? {};
      assert.ok(`warn  ${name}: ${found}`.length <= 150, found);
      assert.ok(`      fix: ${fix}`.length <= 150, fix);
    }
  });
});
