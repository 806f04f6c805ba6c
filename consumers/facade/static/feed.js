/**
 * The server's stream of machines. The browser reconnects by itself after a lost connection and says where it had got to;
 * where it gives up (any answer but 200) this does the same, more and more slowly, for as long as the page is open.
 */

const FIRST_DELAY_MS = 1000;
const LONGEST_DELAY_MS = 30_000;

export class Feed {
  #url;
  #on;
  #source = null;
  #lastEventId = "";
  #delay = FIRST_DELAY_MS;
  #timer = null;

  /** `on`: functions `machine(description)`, `deleted(id)`, `reset()`, `synced()`, `live()`, `lost()`, `refused()`. */
  constructor(url, on) {
    this.#url = url;
    this.#on = on;
  }

  /** Connect, or connect afresh, behind the last event that was seen. */
  open() {
    this.close();
    const source = new EventSource(this.#address());
    this.#source = source;
    source.addEventListener("open", () => {
      this.#delay = FIRST_DELAY_MS;
      this.#on.live();
    });
    source.addEventListener("error", () => this.#failed(source));
    this.#listen(source, "machine", (description) => this.#on.machine(description));
    this.#listen(source, "deleted", ({ id }) => this.#on.deleted(id));
    this.#listen(source, "reset", () => this.#on.reset());
    this.#listen(source, "synced", () => this.#on.synced());
  }

  /** Whether there is a connection, or one is being tried. */
  get isOpen() {
    return this.#source !== null;
  }

  close() {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = null;
  }

  #address() {
    if (this.#lastEventId === "") return this.#url;
    return `${this.#url}?last_event_id=${encodeURIComponent(this.#lastEventId)}`;
  }

  #listen(source, name, handle) {
    source.addEventListener(name, (event) => {
      this.#lastEventId = event.lastEventId;
      handle(JSON.parse(event.data));
    });
  }

  #failed(source) {
    this.#on.lost();
    if (source.readyState !== EventSource.CLOSED) return;
    // Half of the delay is chance: when a server comes back, not all pages knock at once.
    const wait = this.#delay * (0.5 + Math.random() / 2);
    this.#delay = Math.min(2 * this.#delay, LONGEST_DELAY_MS);
    this.#timer = setTimeout(() => this.open(), wait);
    this.#on.refused();
  }
}
