/**
 * Deque: a double-ended queue in one array used as a ring; every operation is O(1), growth aside.
 *
 * `Array.prototype.shift` moves every element of a long array, which a backlog of 100,000 items would pay at each
 * dequeue. The ring's length is a power of two, doubles when full and halves when three quarters of it stand empty, so
 * a backlog that was worked off gives its memory back.
 */

const LENGTH_MIN = 16;

export class Deque<T> {
  #ring: (T | undefined)[] = new Array(LENGTH_MIN);
  #head = 0;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** The element that `popFront` would return. */
  get front(): T | undefined {
    return this.#ring[this.#head];
  }

  pushBack(element: T): void {
    this.#makeRoom();
    this.#ring[this.#at(this.#size)] = element;
    this.#size += 1;
  }

  pushFront(element: T): void {
    this.#makeRoom();
    this.#head = this.#at(-1);
    this.#ring[this.#head] = element;
    this.#size += 1;
  }

  at(index: number): T {
    return this.#ring[this.#at(index)] as T;
  }

  /** Puts an element where it has `index` others before it. Moves those on the shorter side of it. */
  insert(index: number, element: T): void {
    if (index < this.#size / 2) {
      this.pushFront(element);
      for (let i = 0; i < index; i += 1) this.#ring[this.#at(i)] = this.#ring[this.#at(i + 1)];
    } else {
      this.pushBack(element);
      for (let i = this.#size - 1; i > index; i -= 1) this.#ring[this.#at(i)] = this.#ring[this.#at(i - 1)];
    }
    this.#ring[this.#at(index)] = element;
  }

  popFront(): T | undefined {
    if (this.#size === 0) return undefined;
    const element = this.#ring[this.#head];
    this.#ring[this.#head] = undefined;
    this.#head = this.#at(1);
    this.#size -= 1;
    if (this.#ring.length > LENGTH_MIN && this.#size <= this.#ring.length / 4) this.#resize(this.#ring.length / 2);
    return element;
  }

  /** From front to back; the deque is not to be changed meanwhile. */
  *[Symbol.iterator](): Generator<T, void, void> {
    for (let i = 0; i < this.#size; i += 1) yield this.#ring[this.#at(i)] as T;
  }

  /** The element that was pushed back last. */
  get back(): T | undefined {
    return this.#size === 0 ? undefined : this.#ring[this.#at(this.#size - 1)];
  }

  #at(offset: number): number {
    return (this.#head + offset) & (this.#ring.length - 1);
  }

  #makeRoom(): void {
    if (this.#size === this.#ring.length) this.#resize(this.#ring.length * 2);
  }

  #resize(length: number): void {
    const ring = new Array<T | undefined>(length);
    for (let i = 0; i < this.#size; i += 1) ring[i] = this.#ring[this.#at(i)];
    this.#ring = ring;
    this.#head = 0;
  }
}
