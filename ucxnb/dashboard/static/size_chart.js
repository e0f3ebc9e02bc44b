// What charts over message size share: texts, ticks, files for whoever looks at them.

const TIMES = ["ns", "µs", "ms", "s"];
const RATES = ["B/s", "kB/s", "MB/s", "GB/s", "TB/s"];
const COUNTS = ["/s", "k/s", "M/s", "G/s"];

function scaled(value, units) {
  if (value === null || value === undefined) return "not measured";
  let power = 0;
  while (power + 1 < units.length && value >= 999.5 * 1000 ** power) power += 1;
  return `${Number((value / 1000 ** power).toPrecision(4))} ${units[power]}`;
}

function sizeText(nbytes) {
  const units = ["B", "KiB", "MiB", "GiB"];
  let power = 0;
  while (power + 1 < units.length && nbytes >= 1024 ** (power + 1)) power += 1;
  return `${Number((nbytes / 1024 ** power).toPrecision(4))} ${units[power]}`;
}

// At most eight sizes, evenly apart and each a power of two.
function sizeTicks(sizes) {
  if (!sizes.length) return [];
  const first = Math.floor(Math.log2(Math.min(...sizes)));
  const last = Math.ceil(Math.log2(Math.max(...sizes)));
  const step = last - first <= 8 ? 1 : last - first <= 21 ? 3 : 5;
  const ticks = [];
  for (let power = Math.ceil(first / step) * step; power <= last; power += step)
    ticks.push(2 ** power);
  return ticks;
}

function save(name, url) {
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
