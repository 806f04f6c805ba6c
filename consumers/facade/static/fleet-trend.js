/** How available the fleet was in the last hour, and how many machines keep failing; hidden while nothing is known of it. */
import { Problem, request } from "./api.js";
import { attributeWriter, element, textWriter } from "./dom.js";

const EVERY_MS = 60_000;
const WIDTH = 72;
const HEIGHT = 16;
const NAMED = 10;

/** What to show of a history of the whole fleet; null when there is nothing. */
export function trendOf({ stats }) {
  const known = stats.filter(({ availability_percent: percent }) => percent !== null);
  if (known.length === 0) return null;
  const latest = stats.at(-1);
  const percents = known.map((each) => each.availability_percent);
  return {
    available: percentText(percents.at(-1)),
    points: pointsOf(percents),
    flapping: latest.flapping_total,
    names: namesOf(latest),
    lowest: percentText(Math.min(...percents)),
  };
}

/** One decimal, and never 100 for less. */
function percentText(percent) {
  const tenths = percent < 100 ? Math.min(Math.round(percent * 10), 999) : 1000;
  return `${(tenths / 10).toLocaleString()} %`;
}

/** Corners of the line, from the oldest at the left. Ten percent fill the height, or more if the fleet was that bad. */
function pointsOf(percents) {
  const bottom = Math.min(90, ...percents);
  const step = percents.length > 1 ? WIDTH / (percents.length - 1) : 0;
  const corners = percents.map((percent, index) => {
    const y = 1 + (HEIGHT - 2) * (1 - (percent - bottom) / (100 - bottom));
    return `${(index * step).toFixed(1)},${y.toFixed(1)}`;
  });
  return percents.length > 1 ? corners.join(" ") : `0,${corners[0].split(",")[1]} ${WIDTH},${corners[0].split(",")[1]}`;
}

function namesOf({ flapping, flapping_total: total }) {
  const names = flapping.slice(0, NAMED).map(({ id, changes }) => `${id} (${changes})`);
  if (total > names.length) names.push(`${total - names.length} more`);
  return names.join(", ");
}

class FleetTrend extends HTMLElement {
  #timer = null;
  #write = null;

  connectedCallback() {
    const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
    const chart = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    chart.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    chart.setAttribute("aria-hidden", "true");
    chart.append(line);
    const available = element("span", { class: "number" });
    const flapping = element("span", { class: "flapping" });
    this.replaceChildren(chart, element("span", {}, available, " available"), flapping);
    this.#write = {
      points: attributeWriter(line, "points"),
      available: textWriter(available),
      flapping: textWriter(flapping),
      names: attributeWriter(flapping, "title"),
      lowest: attributeWriter(this, "title"),
    };
  }

  /** Ask now, and then once a minute. */
  open() {
    this.close();
    this.#timer = setInterval(() => this.#ask(), EVERY_MS);
    this.#ask();
  }

  close() {
    clearInterval(this.#timer);
  }

  async #ask() {
    try {
      this.#show(trendOf(await request("GET", "/api/v1/fleet/stats/history")));
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      this.hidden = true; // the rest of the page says what is wrong
    }
  }

  #show(trend) {
    this.hidden = trend === null;
    if (trend === null) return;
    this.#write.points(trend.points);
    this.#write.available(trend.available);
    this.#write.lowest(`Machine-time in which tasks may run, by minute, in the last hour; at worst ${trend.lowest}`);
    this.#write.flapping(trend.flapping > 0 ? `${trend.flapping} flapping` : "");
    this.#write.names(trend.names === "" ? "" : `Keep failing and coming back: ${trend.names}`);
  }
}

customElements.define("fleet-trend", FleetTrend);
