/**
 * Writes docs/crash-recovery.md from the flows themselves: `node tools/generate-crash-recovery.ts`. A test says when
 * the page is stale. What an undo does, and what is left for the user, is told here, flow by flow.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { CREATE_VM } from "#daemon/flows/create-flow.ts";
import { REMOVE_VM } from "#daemon/flows/remove-flow.ts";
import { FINALIZE_SNAPSHOT } from "#daemon/flows/finalize-flow.ts";
import { SET_POLICY } from "#daemon/flows/policy-flow.ts";
import { SNAPSHOT_VM } from "#daemon/flows/snapshot-flow.ts";
import { START_VM } from "#daemon/flows/start-flow.ts";
import { STOP_VM } from "#daemon/flows/stop-flow.ts";

export const CRASH_RECOVERY_DOC = join(import.meta.dirname, "../docs/crash-recovery.md");

/** The part of a flow that the page needs, whatever the flow works on. */
type ShownFlow = {
  readonly kind: string;
  readonly afterCrash: "unwind" | "finish";
  readonly steps: readonly {
    readonly name: string;
    readonly undo?: unknown;
    readonly undoLast?: true;
    readonly endsJournal?: true;
  }[];
};

type Chapter = {
  readonly flow: ShownFlow;
  readonly title: string;
  readonly about: string;
  /** Descriptions of each step's undo, for the steps that have one, in their order. */
  readonly undoes: readonly string[];
  readonly result: string;
};

export const CHAPTERS: readonly Chapter[] = [
  {
    flow: CREATE_VM,
    title: "Create a VM",
    about: "`create`, and the first half of `run`.",
    undoes: ["deletes the row", "deletes the directory, and the disk in it"],
    result: "The VM exists, as `created`, or nothing of it does.",
  },
  {
    flow: START_VM,
    title: "Start a VM",
    about: "`start`, `run`, `restart`, the resume of a suspended VM, and a fork's copies.",
    undoes: [
      "releases the cgroup, the owned files, the jail, the uid and the run directory",
      "deletes the disk, if this start has made it anew",
      "kills the VMM, and deletes its own copy of the memory",
    ],
    result:
      "The VM runs, or is in the state that it had before the start. Two exceptions: a VM that was to start with `--fresh` and has lost its disk already is `created`; a suspended VM whose disk is one file (Firecracker) may have run since its memory was saved, so it is `failed`, and its disk is as after a power cut.",
  },
  {
    flow: STOP_VM,
    title: "Stop a VM",
    about:
      "`stop`, `kill`, the end of `run`, and the second half of `suspend`, whose memory is saved already.",
    undoes: [],
    result:
      "The VM is `stopped`, or `suspended` if its memory was saved. A guest that had not confirmed is asked again, within the time that was given, and at most 30 s.",
  },
  {
    flow: REMOVE_VM,
    title: "Remove a VM",
    about: "`rm`, `run --rm`, and internal VMs.",
    undoes: [],
    result: "Nothing of the VM is left. The row is deleted last, so that each new hearthd can continue.",
  },
  {
    flow: SNAPSHOT_VM,
    title: "Create a snapshot",
    about: "`snapshot create`, templates, forks, and the first half of `suspend`.",
    undoes: [
      "deletes the row",
      "deletes the directory, and the files in it",
      "resumes the vCPUs and thaws the guest; a VM that was paused is paused again",
    ],
    result:
      "The snapshot is complete and listed, or nothing of it exists. The VM is as it was in both cases. A complete snapshot that only a fork needed, or a suspend whose VMM was not ended yet, is deleted all the same, and the VM is resumed.",
  },
  {
    flow: FINALIZE_SNAPSHOT,
    title: "Load a snapshot once",
    about: "A step of every snapshot with memory: an internal VM, whose guest never runs, loads it.",
    undoes: [
      "releases the cgroup, the owned files, the jail, the uid and the run directory",
      "kills the VMM",
    ],
    result: "Nothing of the internal VM is left. The snapshot's own flow is undone, too.",
  },
  {
    flow: SET_POLICY,
    title: "Change the network policy of a running VM",
    about: "`network set`. The row and all other changes of one request are stored together.",
    undoes: ["enforces the policy of the row"],
    result: "The policy of the row is in force, the old one or the new one.",
  },
];

const INTRODUCTION = `# Recovery after a crash

Made by \`node tools/generate-crash-recovery.ts\` from the flows (\`src/daemon/flows/\`); do not edit. The words are in [the glossary](glossary.md).

hearthd may be killed, or the host lose its power, at any moment. Each change of a VM is a flow. Before a step of it begins, its row in the journal ("began") is on the disk; after the step the journal has "done". The next hearthd finds the flows whose journal is still open, and does with each what the table of its kind says, before anything else is done to that VM:

- **undo**: the undo of each step that began, the last one first. A step that has no undo changes nothing that another undo does not remove.
- **finish**: the steps that are not done, in their order. A step that only began is repeated.
- **keep**: the result; only the journal is closed.

Undoing and finishing are themselves journalled and may be repeated, so hearthd may be killed again meanwhile. When an undo fails, the others run all the same, except one that is marked *last*, which deletes what shows that there is something to undo. The journal stays open then; a VM without a VMM is \`failed\` with \`vm.unclean\`, and its next start, or hearthd's, tries again. A VMM that runs and belongs to no flow is adopted.
`;

export function crashRecoveryPage(): string {
  return `${[INTRODUCTION, ...CHAPTERS.map(writeChapter)].join("\n")}`;
}

function writeChapter({ flow, title, about, undoes, result }: Chapter): string {
  const rows = flow.afterCrash === "unwind" ? unwindRows(flow) : finishRows(flow);
  return [
    `## ${title}\n`,
    `${about} Kind \`${flow.kind}\` in the journal.\n`,
    "| last in the journal | the next hearthd |",
    "|---|---|",
    ...rows.map(([last, action]) => `| ${last} | ${action} |`),
    "",
    ...writeUndos(flow, undoes),
    `${result}\n`,
  ].join("\n");
}

function writeUndos(flow: ShownFlow, undoes: readonly string[]): string[] {
  if (undoes.length === 0) return [];
  const steps = undoable(flow);
  if (steps.length !== undoes.length)
    throw new Error(`${flow.kind} has ${steps.length} steps with an undo, and ${undoes.length} are told.`);
  const lines = steps.map(
    ({ name, undoLast }, index) => `- Undo of *${name}*${undoLast ? " (last)" : ""}: ${undoes[index]}.`,
  );
  return [...lines, ""];
}

function unwindRows(flow: ShownFlow): [string, string][] {
  return flow.steps.flatMap((step, index): [string, string][] => {
    const names = undoable(flow, index + 1)
      .toReversed()
      .map(({ name }) => `*${name}*`);
    const action = names.length === 0 ? "undo: nothing to do" : `undo ${names.join(", ")}`;
    if (index < flow.steps.length - 1) return [[`*${step.name}* began or is done`, action]];
    const began: [string, string] = [`*${step.name}* began`, action];
    // A load has a result only within its snapshot.
    if (flow === FINALIZE_SNAPSHOT) return [[`*${step.name}* began or is done`, action]];
    const end = step.endsJournal ? "nothing: this step closes the journal together with its change" : "keep";
    return [began, [`*${step.name}* is done`, end]];
  });
}

function finishRows(flow: ShownFlow): [string, string][] {
  return flow.steps.flatMap((step, index): [string, string][] => {
    const next = flow.steps[index + 1];
    const end = step.endsJournal ? "nothing: this step closes the journal together with its change" : "keep";
    return [
      [`*${step.name}* began`, `finish, from *${step.name}* on`],
      [`*${step.name}* is done`, next === undefined ? end : `finish, from *${next.name}* on`],
    ];
  });
}

function undoable(flow: ShownFlow, count = flow.steps.length): ShownFlow["steps"] {
  return flow.steps.slice(0, count).filter(({ undo }) => undo !== undefined);
}

if (import.meta.main) writeFileSync(CRASH_RECOVERY_DOC, crashRecoveryPage());
