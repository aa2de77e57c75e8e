/** The wire's types, without the schemas' code: what the SDK and the CLI import. */
import type { z } from "@hono/zod-openapi";
import type * as schemas from "#api/schemas.ts";
import type * as lostFound from "#api/lost-found-routes.ts";
import type * as snapshots from "#api/snapshot-schemas.ts";

export type CreateVm = z.infer<typeof schemas.createVmSchema>;
export type SetVm = z.infer<typeof schemas.setVmSchema>;
export type Vm = z.infer<typeof schemas.vmSchema>;
export type VmStats = z.infer<typeof schemas.vmStatsSchema>;
export type StopVm = z.infer<typeof schemas.stopSchema>;
export type KillVm = z.infer<typeof schemas.killSchema>;
export type Exec = z.infer<typeof schemas.execSchema>;
export type Run = z.infer<typeof schemas.runSchema>;
export type Image = z.infer<typeof schemas.imageSchema>;
export type CreateVolume = z.infer<typeof schemas.createVolumeSchema>;
export type AttachVolume = z.infer<typeof schemas.volumeMountSchema>;
export type Volume = z.infer<typeof schemas.volumeSchema>;
export type Kernel = z.infer<typeof schemas.kernelSchema>;
export type Firecracker = z.infer<typeof schemas.firecrackerSchema>;
export type Installation = z.infer<typeof schemas.installationSchema>;
export type Doctor = z.infer<typeof schemas.doctorSchema>;
export type DoctorCheck = Doctor["checks"][number];
export type DaemonStatus = z.infer<typeof schemas.daemonSchema>;
export type Snapshot = z.infer<typeof snapshots.snapshotSchema>;
export type CreateSnapshot = z.infer<typeof snapshots.createSnapshotSchema>;
export type ForkVm = z.infer<typeof schemas.forkSchema>;
export type LostEntry = z.infer<typeof lostFound.lostEntrySchema>;
export type RecoverVm = z.infer<typeof lostFound.recoverVmSchema>;
