// Label maps: a colour for each class on the easel, ids for the generator.
"use strict";

const colourKey = (data, i) => (data[i] << 16) | (data[i + 1] << 8) | data[i + 2];

/** Return {inputs(image), read(image), name(colour)} of classes: their ids in files and their colours [r, g, b]. */
function makeClasses(ids, colours) {
  const idOf = new Map(colours.map((colour, n) => [colourKey(colour, 0), ids[n]]));
  const colourOf = new Map(ids.map((id, n) => [id, colours[n]]));

  /** Return the ids of an ImageData in classes' colours, as the generator takes them; objects are areas of a class. */
  function inputs({ data, width, height }) {
    const values = new BigInt64Array(width * height);
    for (let i = 0; i < values.length; i++) values[i] = BigInt(idOf.get(colourKey(data, 4 * i)));
    const map = { type: "int64", data: values, dims: [1, height, width] };
    return { labels: map, instances: map };
  }

  /** Return a label map, in classes' colours or grey with their ids, in classes' colours; null for other pictures. */
  function read(image) {
    const { data } = image;
    let [areIds, areColours] = [true, true];
    for (let i = 0; i < data.length; i += 4) {
      areIds &&= data[i] === data[i + 1] && data[i] === data[i + 2] && colourOf.has(data[i]);
      areColours &&= idOf.has(colourKey(data, i));
    }
    if (!areIds) return areColours ? image : null;
    const shown = new ImageData(image.width, image.height);
    for (let i = 0; i < data.length; i += 4) shown.data.set([...colourOf.get(data[i]), 255], i);
    return shown;
  }

  return { inputs, read, name: (colour) => `Class ${idOf.get(colourKey(colour, 0))}` };
}

/** Return an ImageData of another size, made of its own pixels alone, as labels are scaled. */
function resizeNearest(image, width, height) {
  const scaled = new ImageData(width, height);
  const from = new Uint32Array(image.data.buffer, image.data.byteOffset, image.width * image.height);
  const to = new Uint32Array(scaled.data.buffer);
  const columns = Array.from({ length: width }, (_, x) => Math.floor(((x + 0.5) * image.width) / width));
  for (let y = 0; y < height; y++) {
    const row = Math.floor(((y + 0.5) * image.height) / height) * image.width;
    for (let x = 0; x < width; x++) to[y * width + x] = from[row + columns[x]];
  }
  return scaled;
}
