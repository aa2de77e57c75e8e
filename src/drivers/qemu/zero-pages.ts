/**
 * Leaves pages of zeros out of a guest's memory as QEMU sends it. The QEMU that loads the stream has new memory, which
 * is zero already; it would read each such page to find that out, which takes some 10 µs a page: 5 s for a guest of 2
 * GiB that uses a tenth of it.
 *
 * The stream (QEMU's docs/devel/migration/main.rst, migration/savevm.c and migration/ram.c; all numbers are
 * big-endian):
 *
 *   START  id  "ram"  instance 0  version 4   total|MEM_SIZE  { name, length } per block   EOS  footer
 *   PART   id                                 records                                      EOS  footer     (repeated)
 *   END    id                                 records                                      EOS  footer
 *   the devices
 *
 * A record is 64 bits of a page's offset in its block and of flags, the block's name unless it is that of the record
 * before, and a page or the byte that fills it. What the filter does not know it keeps unchanged, with all that
 * follows: the sender is not trusted, and can only hurt its own guest.
 */

const PAGE_BYTES = 4096;
const SECTION = { start: 0x01, part: 0x02, end: 0x03, footer: 0x7e } as const;
const FLAG = { zero: 0x02, memSize: 0x04, page: 0x08, endOfSection: 0x10, sameBlock: 0x20 } as const;
const FLAGS = PAGE_BYTES - 1;
/** Follows a section's type and id: the name with its length, instance 0, version 4. */
const RAM = Buffer.from("\x03ram\0\0\0\0\0\0\0\x04", "latin1");
const SECTION_HEADER_BYTES = 5;
/** The most that precedes the memory: the header and the machine's configuration take some hundred bytes. */
const BEFORE_RAM_MAX_BYTES = 64 * 1024;

/** The element that comes next in the stream. */
type Expects = "ram" | "blocks" | "record" | "footer" | "section" | "anything";

/** Filters one stream: call `filter` with each piece in order, then `end`. */
export class ZeroPages {
  readonly #block: string;
  readonly #sizeBytes: number;
  #expects: Expects = "ram";
  /** The beginning of an element whose end has not arrived yet. */
  #pending: Buffer = Buffer.alloc(0);
  /** The rest of a page whose beginning has arrived. */
  #restBytes = 0;
  #sectionId = 0;
  #isLastSection = false;
  #blocksBytes = 0;
  /** The name of the block that records belong to. */
  #inBlock: string | undefined;
  /** A bit for each page of the block that was sent with other bytes than zeros: zeros that follow must arrive. */
  #sent = new Uint8Array(0);
  #droppedPages = 0;

  /**
   * @param block the name of the memory that is new, and zero, where the stream is loaded
   * @param sizeBytes its size, from a trusted source; a block of another size is kept whole
   */
  constructor(block: string, sizeBytes: number) {
    this.#block = block;
    this.#sizeBytes = sizeBytes;
  }

  get droppedPages(): number {
    return this.#droppedPages;
  }

  /** Returns what to keep of this piece, and of the unfinished rest of earlier pieces. */
  filter(piece: Buffer): Buffer {
    const data = this.#pending.length === 0 ? piece : Buffer.concat([this.#pending, piece]);
    this.#pending = Buffer.alloc(0);
    const kept: Buffer[] = [];
    let from = 0;
    let at = 0;
    const keep = (to: number): void => {
      if (to > from) kept.push(data.subarray(from, to));
    };
    while (at < data.length) {
      const step = this.#step(data, at);
      if (step === undefined) {
        keep(at);
        this.#pending = data.subarray(at);
        return joined(kept);
      }
      if (step.drop) {
        keep(at);
        from = at + step.bytes;
      }
      at += step.bytes;
    }
    keep(at);
    return joined(kept);
  }

  /** Returns the unfinished rest when the stream is over: the stream was cut off. */
  end(): Buffer {
    return this.#pending;
  }

  /** Reads one element. Undefined when more has to arrive first. */
  #step(data: Buffer, at: number): Step | undefined {
    if (this.#restBytes > 0) {
      const bytes = Math.min(this.#restBytes, data.length - at);
      this.#restBytes -= bytes;
      return { bytes };
    }
    switch (this.#expects) {
      case "ram":
        return this.#findRam(data, at);
      case "blocks":
        return this.#readBlocks(data, at);
      case "record":
        return this.#readRecord(data, at);
      case "section":
        return this.#readSection(data, at);
      case "footer":
        return this.#readFooter(data, at);
      default:
        return { bytes: data.length - at };
    }
  }

  /** @param at 0, because everything was kept so far */
  #findRam(data: Buffer, at: number): Step | undefined {
    const found = data.indexOf(RAM, at + SECTION_HEADER_BYTES);
    if (found === -1) return data.length - at < BEFORE_RAM_MAX_BYTES ? undefined : this.#abandon(data, at);
    const end = found + RAM.length;
    if (data.length < end + 8) return undefined;
    const section = found - SECTION_HEADER_BYTES;
    const total = data.readBigUInt64BE(end);
    if (data[section] !== SECTION.start || (Number(total) & FLAGS) !== FLAG.memSize)
      return this.#abandon(data, at);
    this.#sectionId = data.readUInt32BE(section + 1);
    this.#blocksBytes = Number(total) - FLAG.memSize;
    this.#expects = "blocks";
    return { bytes: end + 8 - at };
  }

  #readBlocks(data: Buffer, at: number): Step | undefined {
    if (this.#blocksBytes === 0) {
      this.#expects = "record";
      return { bytes: 0 };
    }
    const name = readName(data, at);
    if (name === undefined || data.length < name.end + 8) return undefined;
    const length = Number(data.readBigUInt64BE(name.end));
    if (length > this.#blocksBytes) return this.#abandon(data, at);
    this.#blocksBytes -= length;
    if (name.text === this.#block && length === this.#sizeBytes)
      this.#sent = new Uint8Array(Math.ceil(length / PAGE_BYTES / 8));
    return { bytes: name.end + 8 - at };
  }

  #readRecord(data: Buffer, at: number): Step | undefined {
    if (data.length < at + 8) return undefined;
    const low = data.readUInt32BE(at + 4);
    const flags = low & FLAGS;
    if (flags === FLAG.endOfSection) {
      this.#expects = "footer";
      return { bytes: 8 };
    }
    const page = (data.readUInt32BE(at) * 2 ** 32 + (low - flags)) / PAGE_BYTES;
    let end = at + 8;
    if ((flags & FLAG.sameBlock) === 0) {
      const name = readName(data, end);
      if (name === undefined) return undefined;
      this.#inBlock = name.text;
      end = name.end;
    }
    const kind = flags & ~FLAG.sameBlock;
    if (kind === FLAG.page) {
      this.#restBytes = PAGE_BYTES;
      this.#touch(page);
      return { bytes: end - at };
    }
    if (kind !== FLAG.zero) return this.#abandon(data, at);
    if (data.length <= end) return undefined;
    if (data[end] !== 0) this.#touch(page);
    // A record with a name stays: those that follow may refer to it.
    const drop = this.#isUntouched(page) && (flags & FLAG.sameBlock) !== 0;
    if (drop) this.#droppedPages += 1;
    return { bytes: end + 1 - at, drop };
  }

  #touch(page: number): void {
    const byte = this.#byteOf(page);
    if (byte !== undefined) this.#sent[page >> 3] = byte | (1 << (page & 7));
  }

  #isUntouched(page: number): boolean {
    const byte = this.#byteOf(page);
    return byte !== undefined && (byte & (1 << (page & 7))) === 0;
  }

  /** Returns undefined for a page of another block, and for one beyond the end. */
  #byteOf(page: number): number | undefined {
    return this.#inBlock === this.#block && page < this.#sent.length * 8 ? this.#sent[page >> 3] : undefined;
  }

  #readFooter(data: Buffer, at: number): Step | undefined {
    if (data.length < at + SECTION_HEADER_BYTES) return undefined;
    if (data[at] !== SECTION.footer || data.readUInt32BE(at + 1) !== this.#sectionId || this.#isLastSection)
      return this.#abandon(data, at);
    this.#expects = "section";
    return { bytes: SECTION_HEADER_BYTES };
  }

  #readSection(data: Buffer, at: number): Step | undefined {
    if (data.length < at + SECTION_HEADER_BYTES) return undefined;
    const type = data[at];
    const isRam =
      (type === SECTION.part || type === SECTION.end) && data.readUInt32BE(at + 1) === this.#sectionId;
    if (!isRam) return this.#abandon(data, at);
    this.#isLastSection = type === SECTION.end;
    this.#expects = "record";
    return { bytes: SECTION_HEADER_BYTES };
  }

  /** Keeps this and all that follows. */
  #abandon(data: Buffer, at: number): Step {
    this.#expects = "anything";
    return { bytes: data.length - at };
  }
}

function joined([first, ...others]: readonly Buffer[]): Buffer {
  if (first === undefined) return Buffer.alloc(0);
  return others.length === 0 ? first : Buffer.concat([first, ...others]);
}

type Step = { readonly bytes: number; readonly drop?: boolean };

function readName(data: Buffer, at: number): { readonly text: string; readonly end: number } | undefined {
  const length = data[at];
  if (length === undefined || data.length < at + 1 + length) return undefined;
  const end = at + 1 + length;
  return { text: data.toString("latin1", at + 1, end), end };
}
