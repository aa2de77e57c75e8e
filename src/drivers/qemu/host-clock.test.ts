import assert from "node:assert/strict";
import { test } from "node:test";
import { parseTscKhz } from "#drivers/qemu/host-clock.ts";

const CASES: { title: string; base?: string; cpuinfo: string; khz: number | undefined }[] = [
  {
    title: "is the constant rate of cpufreq",
    base: "2600000\n",
    cpuinfo: "cpu MHz : 800.1",
    khz: 2_600_000,
  },
  {
    title: "is that in the CPU's name rather than the present one",
    cpuinfo: "model name\t: Intel(R) Xeon(R) CPU @ 2.60GHz\ncpu MHz\t\t: 3100.000\n",
    khz: 2_600_000,
  },
  {
    title: "is that of the bogomips rather than the present one, which may be a boost",
    cpuinfo: "model name\t: AMD Ryzen 9 7950X\ncpu MHz\t\t: 5412.113\nbogomips\t: 9000.46\n",
    khz: 4_500_230,
  },
  {
    title: "is the present rate otherwise",
    cpuinfo: "model name\t: AMD EPYC\ncpu MHz\t\t: 2445.426\n",
    khz: 2_445_426,
  },
  { title: "is undefined when nothing is known", cpuinfo: "processor : 0\n", khz: undefined },
  { title: "is undefined rather than 0", cpuinfo: "cpu MHz\t\t: 0.000\n", khz: undefined },
];
for (const { title, base, cpuinfo, khz } of CASES) {
  test(`the rate of the host's clock ${title}`, () => assert.equal(parseTscKhz(base, cpuinfo), khz));
}
