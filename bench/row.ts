import type { VmShape } from "./bare-vm.ts";
import type { HearthHome } from "./hearth-home.ts";
import type { Line } from "./line.ts";

/**
 * The surroundings that every row is given: hearthd runs, the image is built, and one VM has been booted and removed
 * again.
 */
export type Bench = {
  readonly home: HearthHome;
  readonly shape: VmShape;
  /** How many pairs a median is taken of. */
  readonly pairs: number;
  /** An earlier checkout that is set up; undefined: none was given. */
  readonly before?: string | undefined;
  /** Says what is under way. */
  readonly say: (text: string) => void;
};

/** A measurement, or a family that shares its VMs. */
export type Row = {
  /** As given to `npm run bench`. */
  readonly name: string;
  readonly run: (bench: Bench) => Promise<readonly Line[]>;
};
