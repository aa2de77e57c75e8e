import { parseVmName } from "#model/ids.ts";
import type { VmName } from "#model/ids.ts";

const FIRST =
  "amber ashen brave bright calm cedar clear coral crisp dawn deep dusky eager early even fair fleet fond frosty gentle golden grand hazel humble indigo jolly keen kind late lively lucid mellow merry mild misty mossy noble olive pale plain polar proud quick quiet rapid rosy ruby rustic sandy sharp shy silent silver snowy sober solar spry stark steady still stout sunny swift tidy vivid warm wild wise".split(
    " ",
  );
const SECOND =
  "ash badger bay beacon birch bison brook canyon cliff cloud cove crane creek delta dove dune elm falcon fern field finch fjord flint forest fox glade glen grove harbor hare hawk heath heron hill island jay lagoon lake lark lynx maple marsh meadow mesa moor moss newt oak otter owl peak pine plover pond prairie quail raven reef ridge river robin shore slope sparrow spruce stone stream summit swan thrush tide trail vale valley wave willow wren".split(
    " ",
  );

/** Returns a name for a VM whose user gave none, such as `quiet-otter-4f2a`. `random` must have at least 4 bytes. */
export function vmNameFrom(random: Uint8Array): VmName {
  const [first = 0, second = 0] = random;
  const tail = Buffer.from(random.subarray(2, 4)).toString("hex");
  return parseVmName(`${FIRST[first % FIRST.length]}-${SECOND[second % SECOND.length]}-${tail}`);
}
