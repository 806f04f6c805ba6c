/** Times: reading Go's, showing ages, and a clock that agrees with the server's. All numbers are milliseconds. */

export const SECOND = 1000;
export const MINUTE = 60 * SECOND;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

/** [unit, its name, how many of it make the next one] */
const UNITS = [
  [SECOND, "s", 60],
  [MINUTE, "m", 60],
  [HOUR, "h", 24],
  [DAY, "d", 7],
  [7 * DAY, "w", 52],
  [365 * DAY, "y", Infinity],
];

/** Since 1970; null for the zero time (year 1), which means "never", and for what is not a time. */
export function parseTime(text) {
  if (!text || text.startsWith("0001-")) return null;
  const moment = Date.parse(text);
  return Number.isNaN(moment) ? null : moment;
}

/** One unit, rounded: `2m`. What lies in the future (clocks differ) is `0s`. */
export function age(milliseconds) {
  const span = Math.max(0, milliseconds);
  for (const [unit, name, limit] of UNITS) {
    const count = Math.round(span / unit);
    if (count < limit) return `${count}${name}`;
  }
  return "";
}

/** Two units, cut off: `1d 4h`, `4h 12m`; below a minute, seconds. */
export function duration(milliseconds) {
  if (milliseconds < MINUTE) return `${Math.floor(milliseconds / SECOND)}s`;
  const days = Math.floor(milliseconds / DAY);
  const hours = Math.floor((milliseconds % DAY) / HOUR);
  const minutes = Math.floor((milliseconds % HOUR) / MINUTE);
  if (days > 0) return `${days}d ${hours}h`;
  return hours > 0 ? `${hours}h ${minutes}m` : `${minutes}m`;
}

const momentFormat = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

/** A moment in the reader's language and zone. */
export function moment(milliseconds) {
  return momentFormat.format(milliseconds);
}

const timeOfDayFormat = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

export function timeOfDay(milliseconds) {
  return timeOfDayFormat.format(milliseconds);
}

const ZULU = /\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z/g;

/** A text of the server's with its times in the reader's zone; today's without the date. */
export function withLocalTimes(text, now = Date.now()) {
  const today = new Date(now).toDateString();
  return text.replace(ZULU, (zulu) => {
    const time = parseTime(zulu);
    if (time === null) return zulu;
    return new Date(time).toDateString() === today ? timeOfDay(time) : moment(time);
  });
}

/**
 * The server's time. Ages compare it with times that the server wrote, so a browser whose clock is wrong still shows
 * them right. While the page hears nothing the clock stands still: then it shows how things were, not how they are.
 */
export class ServerClock {
  #skew = 0;
  #frozenAt = null;

  now() {
    return this.#frozenAt ?? Date.now() + this.#skew;
  }

  /** Takes a `Date` header. It has whole seconds, so a small difference is none. */
  sync(header) {
    const theirs = Date.parse(header ?? "");
    if (Number.isNaN(theirs)) return;
    const skew = theirs - Date.now();
    this.#skew = Math.abs(skew) > 2 * SECOND ? skew : 0;
  }

  freeze() {
    this.#frozenAt = this.now();
  }

  thaw() {
    this.#frozenAt = null;
  }
}
