/** What a tour counts while it runs. */
import { printable } from './paths.js';

/** Problems kept word by word; the rest are only counted. */
const PROBLEMS_MAX = 100;

/**
 * Blobs told apart by the first 52 bits of their id, which fit a number: a quarter of the memory of the id's text, and
 * among a million blobs the odds that two look the same are 1 in 9,000.
 */
const ID_DIGITS = 13;

/** A Set holds 2^24 values. Past this many the dedupe ratio is not known. */
const DISTINCT_MAX = 10_000_000;

export class Tally {
  /** Regular files found, whatever became of them. */
  filesFound = 0;
  /** Of those: stored and queued by this run. */
  filesStored = 0;
  bytesStored = 0;
  /** Done by an earlier run, with the same size and time of change. */
  filesUnchanged = 0;
  /** Could not be read. */
  filesUnreadable = 0;
  symlinks = 0;
  specials = 0;
  ownData = 0;

  blobsNew = 0;
  blobsExisting = 0;

  /** Jobs found in the queue when the run began. */
  jobsResumed = 0;
  jobsQueued = 0;
  /** Jobs that are over, however they ended. */
  jobsEnded = 0;
  /** Jobs whose blob was the same as its file. */
  jobsDone = 0;
  bytesChecked = 0;
  /** Jobs whose file has another size or time by now. */
  jobsChanged = 0;
  jobsGone = 0;
  /** Jobs whose blob is missing, or not what the file holds. */
  jobsFailed = 0;

  /** Bytes of files read so far, to store or to compare, those of large files while they are read. */
  bytesRead = 0;

  /** Files that could not be read, and jobs that failed: the first {@link PROBLEMS_MAX}. */
  readonly problems: { readonly path: string; readonly reason: string }[] = [];
  problemsLeftOff = 0;

  readonly #distinct = new Set<number>();
  #distinctBytes = 0;
  #allBytes = 0;

  /** Notes a file's blob; true when it is the first with that content in this run. */
  blob(id: string, size: number): boolean {
    this.#allBytes += size;
    const before = this.#distinct.size;
    if (before < DISTINCT_MAX) this.#distinct.add(Number.parseInt(id.slice(0, ID_DIGITS), 16));
    if (this.#distinct.size === before) return false;
    this.#distinctBytes += size;
    return true;
  }

  /** Bytes of files over bytes of distinct blobs, unchanged files included; `null` when there is nothing to divide. */
  get dedupeRatio(): number | null {
    const known = this.#distinct.size < DISTINCT_MAX && this.#distinctBytes > 0;
    return known ? this.#allBytes / this.#distinctBytes : null;
  }

  problem(path: Buffer, reason: string): void {
    if (this.problems.length < PROBLEMS_MAX) this.problems.push({ path: printable(path), reason });
    else this.problemsLeftOff++;
  }
}
