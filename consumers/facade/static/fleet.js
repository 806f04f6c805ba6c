/**
 * All machines, as the feed tells of them. Changes are gathered and announced once a frame, so what comes of 500 changes a
 * second is 60 announcements, and a machine that changed twice is one change. In a hidden tab there are no frames: what
 * gathers then is at most one Description a machine.
 */
import { STATES, toMachine } from "./machine.js";

/** Fires `change` with `detail: {changed: Set<id>, added: Set<id>, removed: Set<id>}` and `loaded` once all is there. */
export class Fleet extends EventTarget {
  /** Is this the whole fleet, or only what has arrived so far? */
  loaded = false;
  #machines = new Map();
  #counts = new Map(STATES.map((state) => [state, 0]));
  /** id → Description, or null for "deleted" */
  #pending = new Map();
  /** Not heard of since the last reset; null when no reset is under way. */
  #unconfirmed = null;
  #schedule;
  #scheduled = false;

  /** `schedule(callback)` calls back once, soon; by default with the next frame. */
  constructor(schedule = requestAnimationFrame.bind(globalThis)) {
    super();
    this.#schedule = schedule;
  }

  get size() {
    return this.#machines.size;
  }

  get(id) {
    return this.#machines.get(id);
  }

  ids() {
    return this.#machines.keys();
  }

  count(state) {
    return this.#counts.get(state);
  }

  /** A machine as it is now. What is older than what we have is ignored, unless everything is being told anew. */
  put(description) {
    const id = description.Dimensions?.id?.[0];
    if (!id) return;
    const known = this.#pending.get(id) ?? (this.#pending.has(id) ? undefined : this.#machines.get(id)?.description);
    const retold = this.#unconfirmed?.delete(id) ?? false;
    if (!retold && known && (description.RowVersion ?? 0) < (known.RowVersion ?? 0)) return;
    this.#pending.set(id, description);
    this.#flushSoon();
  }

  remove(id) {
    this.#unconfirmed?.delete(id);
    this.#pending.set(id, null);
    this.#flushSoon();
  }

  /** Everything is about to be told anew. What we have stays on the page until `synced`, so that nothing flickers. */
  reset() {
    this.flush();
    this.#unconfirmed = new Set(this.#machines.keys());
  }

  /** Everything has been told: what was not mentioned is gone. */
  synced() {
    for (const id of this.#unconfirmed ?? []) this.#pending.set(id, null);
    this.#unconfirmed = null;
    this.flush();
    this.loaded = true;
    this.dispatchEvent(new CustomEvent("loaded"));
  }

  /** Announce at once what has gathered. */
  flush() {
    this.#scheduled = false;
    if (this.#pending.size === 0) return;
    const batch = { changed: new Set(), added: new Set(), removed: new Set() };
    for (const [id, description] of this.#pending) {
      if (description === null) this.#forget(id, batch);
      else this.#take(id, toMachine(description), batch);
    }
    this.#pending.clear();
    this.dispatchEvent(new CustomEvent("change", { detail: batch }));
  }

  #flushSoon() {
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#schedule(() => this.#scheduled && this.flush());
  }

  #take(id, machine, batch) {
    const before = this.#machines.get(id);
    this.#machines.set(id, machine);
    this.#add(machine.state, 1);
    if (before) this.#add(before.state, -1);
    (before ? batch.changed : batch.added).add(id);
  }

  #forget(id, batch) {
    const before = this.#machines.get(id);
    if (!before) return;
    this.#machines.delete(id);
    this.#add(before.state, -1);
    batch.removed.add(id);
  }

  #add(state, difference) {
    this.#counts.set(state, this.#counts.get(state) + difference);
  }
}
