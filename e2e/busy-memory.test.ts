/** Holds each QEMU to copies that have all that a busy guest wrote before it was saved. */
import assert from "node:assert/strict";
import { before, test } from "node:test";
import { Bed } from "./bed.ts";
import { SMALL } from "./templates.ts";

const bed = new Bed();
const FORKS = 3;

/**
 * Counts in each of 8,000 pages, round after round, and notes a page that does not have what it got in the last round.
 * Its word is the round in which it leaves the first page out.
 */
const COUNTER = `
my ($forgets, $pages, $round) = ($ARGV[0] // 0, 8000, 0);
my $memory = "\\0" x ($pages * 4096);
sub note { my ($file, $text) = @_; open(my $to, ">", "$file.new"); print $to "$text\\n"; close $to; rename("$file.new", $file); }
note("/run/counter", $$);
while (1) {
  $round++;
  my $lost = 0;
  for (my $at = 0; $at < $pages * 4096; $at += 4096) {
    $lost++ if unpack("Q", substr($memory, $at, 8)) != $round - 1;
    substr($memory, $at, 8) = pack("Q", $round) unless $at == 0 && $round == $forgets;
  }
  note("/run/lost", $lost) if $lost > 0;
  note("/run/round", $round);
}
`;

/** Resolves when each page was looked at once more. */
async function twoRoundsOn(name: string): Promise<void> {
  const round = async (): Promise<number> => Number(await bed.sh(name, "cat /run/round || echo 0"));
  const first = await round();
  await bed.until(async () => (await round()) >= first + 2);
}

const lost = (name: string): Promise<string> => bed.sh(name, "cat /run/lost || echo none");

before(async () => {
  await bed.ok(["create", "--name", "web", ...SMALL, "debian"]);
  await bed.ok(["exec", "web", "--", "sh", "-c", "cat > /root/counter"], { stdin: COUNTER });
});

test("the counter notes a page that was not written", async () => {
  await bed.ok(["exec", "-d", "web", "--", "perl", "/root/counter", "3"]);
  await bed.until(async () => (await lost("web")) === "1\n");
  await bed.sh("web", "kill $(cat /run/counter) && rm /run/lost");
});

test("a copy has all that a process has written when it was made", async () => {
  await bed.ok(["exec", "-d", "web", "--", "perl", "/root/counter"]);
  for (let count = 1; count <= FORKS; count += 1) {
    await bed.ok(["fork", "--name", "copy", "web"]);
    await twoRoundsOn("copy");
    assert.equal(await lost("copy"), "none\n", `fork ${count}`);
    await bed.ok(["rm", "-f", "copy"]);
  }
  assert.equal(await lost("web"), "none\n");
});
