/** A program in a guest that writes and syncs, and what tells whether all that it ever synced is there. */

/** For bash: notes each file with its hash once it is on the disk, and the note is, too. */
export const WRITER = `mkdir -p /root/files; i=0; echo $$ > /run/writer
while :; do
  i=$((i + 1)); head -c 200000 /dev/urandom > /root/files/$i; sync /root/files/$i
  echo "$i $(sha256sum < /root/files/$i)" >> /root/synced; sync /root/synced
done`;

/** How many files were noted, 0 before the first. */
export const NOTED = "cat /root/synced 2>/dev/null | wc -l";

/** Prints each file that is not what was noted, and as the last line how many were. */
export const CHECK = `n=0; while read -r i sum rest; do n=$((n + 1))
  [ "$(sha256sum < /root/files/$i)" = "$sum  -" ] || echo "$i is wrong"; done < /root/synced; echo $n`;
