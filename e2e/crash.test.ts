/** hearthd is killed at every step of every flow, with a real VM. */
import { before, test } from "node:test";
import { CREATE_VM } from "#daemon/flows/create-flow.ts";
import type { Flow } from "#daemon/flows/flow.ts";
import { REMOVE_VM } from "#daemon/flows/remove-flow.ts";
import { START_VM } from "#daemon/flows/start-flow.ts";
import { STOP_VM } from "#daemon/flows/stop-flow.ts";
import { Bed } from "./bed.ts";
import { crashAndRecover, someMomentsOf } from "./crash-flow.ts";

before(async () => void (await new Bed().ok(["image", "build", "debian"])));

const FLOWS: readonly Flow<never>[] = [CREATE_VM, START_VM, STOP_VM, REMOVE_VM];

for (const point of FLOWS.flatMap(someMomentsOf)) {
  // A bed of its own: what one leaves when it fails is not in the way of the next.
  test(`after kill -9 of hearthd at ${point}, ls tells the truth and nothing is left over`, () =>
    crashAndRecover(new Bed(), point));
}
