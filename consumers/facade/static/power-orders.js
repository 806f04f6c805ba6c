/** The power commands that were given on this page: when one has ended, `onEnd(machineId, record)` is told. */
import { Problem, request } from "./api.js";
import { COMMANDS_PATH, isPending } from "./power.js";

export class PowerOrders {
  #fleet;
  #onEnd;
  /** machine id → command id */
  #given = new Map();

  constructor(fleet, onEnd) {
    this.#fleet = fleet;
    this.#onEnd = onEnd;
  }

  add(machineId, record) {
    this.#given.set(machineId, record.command.id);
    this.#look(machineId);
  }

  /** These machines have changed. */
  heed(ids) {
    if (this.#given.size === 0) return;
    for (const id of ids) if (this.#given.has(id)) this.#look(id);
  }

  async #look(machineId) {
    const commandId = this.#given.get(machineId);
    if (this.#fleet.get(machineId)?.power.pending) return;
    try {
      const record = await request("GET", `${COMMANDS_PATH}/${commandId}`);
      if (isPending(record.status) || this.#given.get(machineId) !== commandId) return;
      this.#given.delete(machineId);
      this.#onEnd(machineId, record);
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem; // the next change asks again
    }
  }
}
