/** What happened to a machine, newest first, as the server's history tells it; older entries on demand. */
import { machinePath, Problem, request } from "./api.js";
import { element } from "./dom.js";
import { age, moment, parseTime, withLocalTimes } from "./time.js";

const PAGE = 8;

class MachineHistory extends HTMLElement {
  #clock;
  #machineId = null;
  #nextBefore = null;
  #list = element("ol", { class: "history" });
  #hint = element("p", { class: "hint" });
  #more = element("button", { type: "button", class: "plain" }, "Older");
  /** Answers to questions about another machine, or asked before the last one, are dropped. */
  #asked = 0;

  connect({ clock }) {
    this.#clock = clock;
    this.#more.addEventListener("click", () => this.#load({ older: true }));
    this.replaceChildren(this.#list, this.#hint, this.#more);
  }

  /** Show a machine's history, from its newest entry. */
  show(machineId) {
    if (machineId !== this.#machineId) this.#clear("Loading…");
    this.#machineId = machineId;
    this.#load({ older: false });
  }

  #clear(hint) {
    this.#list.replaceChildren();
    this.#hint.textContent = hint;
    this.#more.hidden = true;
  }

  async #load({ older }) {
    this.#asked += 1;
    const asked = this.#asked;
    const query = new URLSearchParams({ limit: PAGE });
    if (older) query.set("before", this.#nextBefore);
    try {
      const page = await request("GET", `${machinePath(this.#machineId, "history")}?${query}`);
      if (asked === this.#asked) this.#showPage(page, { older });
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      if (asked === this.#asked) this.#clear(`The history could not be read. ${problem.message}`);
    }
  }

  #showPage({ entries, next_before: nextBefore }, { older }) {
    const lines = entries.map((entry) => this.#lineOf(entry));
    if (older) this.#list.append(...lines);
    else this.#list.replaceChildren(...lines);
    this.#nextBefore = nextBefore;
    this.#more.hidden = nextBefore === null;
    this.#hint.textContent = this.#list.childElementCount === 0 ? "Nothing has happened yet." : "";
  }

  #lineOf({ at, kind, who, before, after, why }) {
    const time = parseTime(at);
    return element(
      "li",
      {},
      element("time", { datetime: at, title: moment(time) }, age(this.#clock.now() - time)),
      element(
        "div",
        {},
        element("span", { class: "kind" }, kind),
        element("span", { class: "who" }, who),
        element("p", { class: "change", dir: "auto" }, ...changeOf(before, after)),
        ...(why ? [element("p", { class: "why", dir: "auto" }, withLocalTimes(why))] : []),
      ),
    );
  }
}

function changeOf(before, after) {
  const old = before ? [element("del", {}, withLocalTimes(before))] : [];
  const arrow = before && after ? [" → "] : [];
  return [...old, ...arrow, ...(after ? [element("ins", {}, withLocalTimes(after))] : [])];
}

customElements.define("machine-history", MachineHistory);
