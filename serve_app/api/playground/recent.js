// The requests of this browser, in its own storage: never keys, never videos.

const PLACE = "birefnet.requests";
const RATES = "birefnet.rates";
const KEPT = 12;
const LONGEST_URL = 2048; // a data URI would be the video itself

function read(place, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(place)) ?? otherwise;
  } catch {
    return otherwise; // no storage, or not ours
  }
}

function write(place, value) {
  try {
    localStorage.setItem(place, JSON.stringify(value));
  } catch {
    // A browser without storage remembers nothing.
  }
}

/** Newest first: {id, at, name, state, input}. */
export const requests = () => read(PLACE, []);

export function remember(request) {
  const { video_url: url, ...settings } = request.input;
  const input = { ...settings, ...(url.length <= LONGEST_URL ? { video_url: url } : {}) };
  write(PLACE, [{ ...request, input }, ...requests().filter(({ id }) => id !== request.id)].slice(0, KEPT));
}

export const settle = (id, state) => write(PLACE, requests().map((one) => (one.id === id ? { ...one, state } : one)));

export const forget = () => [PLACE, RATES].forEach((place) => write(place, place === PLACE ? [] : {}));

// Frames per second depend on the network, its size and the refinement.
const speed = ({ model, operating_resolution: size, refine_foreground: refined }) => `${model} ${size} ${refined}`;

export const rateOf = (settings) => read(RATES, {})[speed(settings)];

export const measured = (settings, rate) => write(RATES, { ...read(RATES, {}), [speed(settings)]: rate });
