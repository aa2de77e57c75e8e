import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { VmDriver } from "#drivers/vm-driver.ts";

/** `skip`: the driver says that it has no such part, and has none. */
export type ContractResult = "pass" | "fail" | "skip";

/** The result of one run of the contract's suite, as a file in JSON. */
export type ContractResults = {
  /** The tested driver, in the suite's words: a driver can be tested more than once, for instance in its jail. */
  readonly suite: string;
  readonly driver: string;
  readonly version?: string | undefined;
  readonly accel: "kvm" | "tcg";
  /** `lab` is a VM of Hearth, with KVM; `host` is any other. */
  readonly host: "host" | "lab";
  /** The results by promise. Promises whose test never began are missing. */
  readonly results: Readonly<Record<string, ContractResult>>;
};

/** Collects the result of each promise, and writes it to the directory in `HEARTH_CONTRACT_OUT`. */
export class ContractRecord {
  readonly #suite: string;
  readonly #results: Record<string, ContractResult> = {};
  #driver: VmDriver | undefined;

  constructor(suite: string) {
    this.#suite = suite;
  }

  /** It counts as failed until it is reported as kept. */
  began(title: string, driver: VmDriver): void {
    this.#results[title] = "fail";
    this.#driver = driver;
  }

  held(title: string, offered: boolean): void {
    this.#results[title] = offered ? "pass" : "skip";
  }

  async write(): Promise<void> {
    const dir = process.env["HEARTH_CONTRACT_OUT"];
    if (dir === undefined || this.#driver === undefined) return;
    const { version, accel } = await this.#driver.features(new AbortController().signal);
    const host = process.env["HEARTH_LAB"] === "1" ? "lab" : "host";
    const { name: driver } = this.#driver;
    const found: ContractResults = {
      suite: this.#suite,
      driver,
      version,
      accel,
      host,
      results: this.#results,
    };
    const words = `${this.#suite} ${accel} ${host}`.toLowerCase();
    mkdirSync(dir, { recursive: true });
    writeFileSync(join(dir, `${words.replaceAll(/[^a-z0-9]+/g, "-")}.json`), JSON.stringify(found, null, 2));
  }
}
