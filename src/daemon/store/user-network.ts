/**
 * The migration that replaces QEMU's user-mode network, which reached all that the host reaches, its loopback too. As
 * with every released migration, nothing in here changes with the code that it was written for.
 *
 * VMs and snapshots get the network `nat`, and a policy that allows every address. Those without a jail, with which a
 * VM has no such network, get none. The compatibility key of saved memory stays: it was saved with another card, and is
 * refused with that reason. JSON that is damaged stays as it is.
 */

const ALLOW_ALL =
  '{"default":"allow","rules":[{"action":"allow","to":"0.0.0.0/0"},{"action":"allow","to":"::/0"}]}';

function update(table: string, column: string, at: string): string {
  const jail = `coalesce(${column} ->> '${at}.isolation.jail', 1)`;
  return `
    UPDATE ${table} SET ${column} = CASE ${jail}
      WHEN 0 THEN json_set(${column}, '${at}.network', 'none')
      ELSE json_set(${column}, '${at}.network', 'nat', '${at}.policy', json('${ALLOW_ALL}')) END
    WHERE CASE WHEN json_valid(${column}) THEN ${column} ->> '${at}.network' END = 'user';`;
}

export const USER_NETWORK = [update("vms", "spec", "$"), update("snapshots", "record", "$.spec")].join("\n");
