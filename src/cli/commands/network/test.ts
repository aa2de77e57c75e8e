import type { NetworkTest } from "#api/wire.ts";
import { HearthError } from "#base/error.ts";
import { parseVmName } from "#model/ids.ts";
import { describeRule } from "#model/policy-flags.ts";
import { command } from "#cli/command.ts";
import type { HearthVm } from "#sdk/hearth-vm.ts";

export default command({
  path: ["network", "test"],
  summary: "Test whether a VM reaches a TCP port",
  about:
    "Tells which part of the network policy decides, and opens a connection from inside of the guest. Exits " +
    "with 1 if the connection fails. A suspended VM is resumed first.",
  args: [
    { name: "VM", help: "Name or ID of the VM", completes: "vm" },
    { name: "HOST:PORT", help: "Name or IP address, IPv6 in brackets, and a TCP port" },
  ],
  flags: {},
  examples: [
    ["hearth network test web deb.debian.org:80", "Resolve the name in the guest, and connect"],
    ["hearth network test web 169.254.169.254:80", "Check that a cloud's metadata is denied"],
  ],
  async run({ args, out, hearth }) {
    const vm = (await hearth()).vm(parseVmName(args[0] ?? ""));
    const target = parseTarget(args[1] ?? "");
    const test = await vm.testNetwork(target);
    if (out.wantsJson) out.json(test);
    else {
      const shown = target.host === test.address ? test.address : `${target.host} (${test.address})`;
      const result = test.answered ? "accepts connections" : `does not answer: ${test.error ?? "closed"}`;
      out.line(`${test.action}: ${await reason(vm, test)}`);
      out.line(`${shown} port ${target.port} ${result}`);
    }
    return test.answered ? 0 : 1;
  },
});

function parseTarget(text: string): { host: string; port: number } {
  const [, name, address, port = ""] = /^(?:([^:]+)|\[([\da-f:.]+)\]):(\d{1,5})$/i.exec(text) ?? [];
  const host = name ?? address ?? "";
  if (Number(port) >= 1 && Number(port) <= 65535) return { host, port: Number(port) };
  throw new HearthError("input.invalid", `HOST:PORT: ${JSON.stringify(text)} is not a host and a port.`, {
    hint: "Write, for instance, deb.debian.org:80, 10.20.0.1:5432 or [2001:db8::1]:443.",
  });
}

async function reason(vm: HearthVm, { action, by, rule }: NetworkTest): Promise<string> {
  switch (by) {
    case "rule": {
      const found = (await vm.show()).policy?.rules[rule ?? 0];
      return `rule ${(rule ?? 0) + 1}${found === undefined ? "" : `, ${describeRule(found)}`}`;
    }
    case "private":
      return "a private network that the VM is on";
    case "special":
      return "private and other special networks";
    case "ipv6":
      return "IPv6, since the policy denies IPv4 networks and names none of IPv6";
    case "host":
      return action === "allow" ? "the resolver of the host" : "the host itself";
    case "vm":
      return "other VMs";
    case "default":
      return "the default of the policy";
  }
}
