/**
 * What a program in the guest draws, with who it was at that moment: a VM that is saved and restored meanwhile shows
 * by it what was drawn before, and what after.
 */
import type { Bed } from "./bed.ts";

/** One look of the program. Its host name was read before anything else. */
export type Draw = {
  readonly host: string;
  readonly monotonicS: number;
  readonly wallMs: number;
  /** Of getrandom(2), of /dev/urandom that was open before, of one that was opened now, and a UUID of the kernel's. */
  readonly randoms: readonly string[];
};

const FILE = "/run/draws";

/** getrandom is system call 318 on x86-64. Pauses, so that it leaves the CPU to others. */
const PROGRAM = `
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC CLOCK_REALTIME usleep);
open my $out, ">>", "${FILE}" or die; select $out; $| = 1;
open my $old, "<:raw", "/dev/urandom" or die;
sub line { open my $in, "<", $_[0] or die; my $line = <$in>; chomp $line; $line }
for (;;) {
  my $host = line("/proc/sys/kernel/hostname");
  my ($monotonic, $wall) = (clock_gettime(CLOCK_MONOTONIC), clock_gettime(CLOCK_REALTIME));
  my $asked = "\\0" x 16;
  syscall(318, $asked, 16, 0) == 16 or die;
  sysread $old, my $before, 16;
  open my $new, "<:raw", "/dev/urandom" or die;
  sysread $new, my $now, 16;
  my @randoms = ((map { unpack "H*", $_ } $asked, $before, $now), line("/proc/sys/kernel/random/uuid"));
  printf "%s %.6f %.6f %s\\n", $host, $monotonic, $wall, join " ", @randoms;
  usleep 5000;
}`;

/** Begins to draw in this VM, until it ends. */
export async function startDrawing(bed: Bed, name: string): Promise<void> {
  await bed.ok(["exec", "-d", name, "--", "perl", "-e", PROGRAM]);
}

/** All that was drawn in this VM's life, and in those that it goes on from: at least `count` under its own name. */
export async function drawsOf(bed: Bed, name: string, count: number): Promise<Draw[]> {
  let draws: Draw[] = [];
  await bed.until(async () => {
    draws = parse(await bed.sh(name, `cat ${FILE} 2>/dev/null || true`));
    return draws.filter(({ host }) => host === name).length >= count;
  });
  return draws;
}

/** The last line may be one that is just being written. */
function parse(text: string): Draw[] {
  const lines = text.split("\n").slice(0, -1);
  return lines.map((line) => {
    const [host = "", monotonic, wall, ...randoms] = line.split(" ");
    return { host, monotonicS: Number(monotonic), wallMs: 1000 * Number(wall), randoms };
  });
}
