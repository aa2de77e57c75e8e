import type { ApiEvent } from "#api/events.ts";

type Listener = (event: ApiEvent) => void;

/** Passes each event to the current listeners. Events are not kept: a later listener reads the state instead. */
export class EventBus {
  readonly #listeners = new Set<Listener>();

  publish(event: ApiEvent): void {
    for (const listener of this.#listeners) listener(event);
  }

  subscribe(listener: Listener): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }
}
