// Random numbers and ways through them, for generators that draw from noise.
"use strict";

/** Return `count` standard normal numbers of a seed (mulberry32, then Box and Muller). */
function normalNumbers(seed, count) {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 2 ** 32;
  };
  return Float32Array.from({ length: count }, () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()));
}

/** Return the point a share of the way from one noise to another, along a great circle. */
function between(one, two, share) {
  const length = (v) => Math.sqrt(v.reduce((sum, x) => sum + x * x, 0));
  const cosine = one.reduce((sum, x, i) => sum + x * two[i], 0) / (length(one) * length(two) || 1);
  const angle = Math.acos(Math.min(1, Math.max(-1, cosine)));
  if (angle < 1e-4) return one.map((x, i) => x + share * (two[i] - x));
  const [a, b] = [Math.sin((1 - share) * angle), Math.sin(share * angle)].map((x) => x / Math.sin(angle));
  return one.map((x, i) => a * x + b * two[i]);
}

/** Return the coordinate of a noise along a unit vector. */
function along(z, direction) {
  return z.reduce((sum, x, i) => sum + x * direction[i], 0);
}

/** Return a noise whose coordinates along directions are the given ones. */
function withCoordinates(z, directions, coordinates) {
  const changed = Float32Array.from(z);
  directions.forEach((direction, k) => {
    const change = coordinates[k] - along(changed, direction);
    direction.forEach((x, i) => { changed[i] += change * x; });
  });
  return changed;
}
