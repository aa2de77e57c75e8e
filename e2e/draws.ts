/**
 * Runs a program in the guest that draws random numbers, each with the guest's host name at that moment: of a VM that
 * is saved and restored meanwhile, this shows what was drawn before and what after.
 */
import type { Bed } from "./bed.ts";

/** A draw of the program. Its host name was read before anything else. */
export type Draw = {
  readonly host: string;
  readonly monotonicS: number;
  readonly wallMs: number;
  /**
   * Random numbers of getrandom(2), of /dev/urandom that was open before, of one that was opened now, and a UUID of
   * the kernel's; or of one client's hello.
   */
  readonly randoms: readonly string[];
};

/** The source of a draw: the kernel, or a TLS library for a connection. */
export type Source = keyof typeof PROGRAMS;

const TLS_PID = "/run/draws-tls.pid";

/** Finds the first message of TLS that a client sends in a connection to itself: 32 random bytes behind 11 others. */
const TLS_PROGRAM = `
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC CLOCK_REALTIME);
use IO::Socket::INET;
open my $pid, ">", "${TLS_PID}" or die; print $pid $$; close $pid;
open my $out, ">>", "/run/draws-tls" or die; select $out; $| = 1;
my $server = IO::Socket::INET->new(LocalAddr => "127.0.0.1", Listen => 1) or die;
for (;;) {
  open my $in, "<", "/proc/sys/kernel/hostname" or die; my $host = <$in>; chomp $host;
  my ($monotonic, $wall) = (clock_gettime(CLOCK_MONOTONIC), clock_gettime(CLOCK_REALTIME));
  my $pid = fork();
  if ($pid == 0) {
    open STDIN, "<", "/dev/null"; open STDOUT, ">", "/dev/null"; open STDERR, ">", "/dev/null";
    exec "openssl", "s_client", "-connect", "127.0.0.1:" . $server->sockport or die;
  }
  my $client = $server->accept or die;
  read($client, my $hello, 43) == 43 or die;
  close $client; waitpid $pid, 0;
  printf "%s %.6f %.6f %s\\n", $host, $monotonic, $wall, unpack "H*", substr $hello, 11;
}`;

/** getrandom is system call 318 on x86-64. Pauses, so that it leaves the CPU to others. */
const KERNEL_PROGRAM = `
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC CLOCK_REALTIME usleep);
open my $out, ">>", "/run/draws-kernel" or die; select $out; $| = 1;
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

const PROGRAMS = { kernel: KERNEL_PROGRAM, tls: TLS_PROGRAM } as const;

/** Begins to draw in this VM, until it ends. */
export async function startDrawing(bed: Bed, name: string, source: Source = "kernel"): Promise<void> {
  await bed.ok(["exec", "-d", name, "--", "perl", "-e", PROGRAMS[source]]);
}

/** For those that start programs: they leave little of an emulated CPU to others. */
export async function stopDrawingTls(bed: Bed, name: string): Promise<void> {
  await bed.sh(name, `kill "$(cat ${TLS_PID})"`);
}

/** Returns all that was drawn in this VM, and in those it was restored from: at least `count` under its own name. */
export async function drawsOf(
  bed: Bed,
  name: string,
  count: number,
  source: Source = "kernel",
): Promise<Draw[]> {
  let draws: Draw[] = [];
  await bed.until(async () => {
    draws = parse(await bed.sh(name, `cat /run/draws-${source} 2>/dev/null || true`));
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
