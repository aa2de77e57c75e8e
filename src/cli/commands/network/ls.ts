import { command } from "#cli/command.ts";

export default command({
  path: ["network", "ls"],
  summary: "List the private networks of VMs",
  about: "A private network exists while a VM is on it, running or not: `hearth run --join NAME`.",
  args: [],
  flags: {},
  examples: [["hearth network ls", "List the networks and their VMs"]],
  async run({ out, hearth }) {
    const vms = await (await hearth()).vms.list();
    const names = [...new Set(vms.flatMap(({ networks }) => networks))].toSorted();
    const networks = names.map((name) => ({
      name,
      vms: vms.filter((vm) => vm.networks.includes(name)).map((vm) => vm.name),
    }));
    if (out.wantsJson) return out.json(networks);
    if (networks.length === 0)
      return out.note("There are no private networks. `hearth run --network nat --join dev` makes one.");
    return out.table(
      ["NETWORK", "VMS"],
      networks.map((network) => [network.name, network.vms.join(", ")]),
    );
  },
});
