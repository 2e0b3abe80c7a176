// Pixels as the generator takes and gives them, scaled as Pillow's bicubic filter scales them.
"use strict";

const FIXED_POINT = 2 ** 22; // Pillow rounds coefficients of images of 8 bits to multiples of this fraction

/** Return the bicubic filter (a = -0.5) at x. */
function bicubic(x) {
  const t = Math.abs(x);
  if (t < 1) return (1.5 * t - 2.5) * t * t + 1;
  return t < 2 ? ((-0.5 * t + 2.5) * t - 4) * t + 2 : 0;
}

/** Return [first, coefficients] of each of `to` pixels made of `from` pixels. */
function coefficients(from, to) {
  const scale = from / to;
  const stretch = Math.max(1, scale);
  return Array.from({ length: to }, (_, place) => {
    const centre = (place + 0.5) * scale;
    const first = Math.max(0, Math.floor(centre - 2 * stretch + 0.5));
    const end = Math.min(from, Math.floor(centre + 2 * stretch + 0.5));
    const raw = Array.from({ length: end - first }, (_, i) => bicubic((first + i - centre + 0.5) / stretch));
    const sum = raw.reduce((a, b) => a + b, 0);
    return [first, raw.map((value) => Math.round((value / sum) * FIXED_POINT))];
  });
}

/** Return pixels (RGBA, count lines of length `from`) with lines of length `to`; steps are between pixels and lines. */
function scaleLines(source, count, from, to, pixelStep, lineStep, outPixelStep, outLineStep) {
  const scaled = new Uint8ClampedArray(count * to * 4);
  const plan = coefficients(from, to);
  for (let line = 0; line < count; line++) {
    for (let place = 0; place < to; place++) {
      const [first, values] = plan[place];
      for (let channel = 0; channel < 4; channel++) {
        let sum = FIXED_POINT / 2;
        for (let i = 0; i < values.length; i++) {
          sum += values[i] * source[4 * (line * lineStep + (first + i) * pixelStep) + channel];
        }
        scaled[4 * (line * outLineStep + place * outPixelStep) + channel] = Math.floor(sum / FIXED_POINT);
      }
    }
  }
  return scaled;
}

/** Return an ImageData scaled to another size. */
function resize(image, width, height) {
  let { data } = image;
  if (width !== image.width) data = scaleLines(data, image.height, image.width, width, 1, image.width, 1, width);
  if (height !== image.height) data = scaleLines(data, width, image.height, height, width, 1, width, 1);
  return new ImageData(new Uint8ClampedArray(data), width, height);
}

/** Return an ImageData as a tensor (1, channels, height, width) in [-1, 1]; one channel is Pillow's grey. */
function toTensor({ data, width, height }, channels) {
  const area = width * height;
  const values = new Float32Array(channels * area);
  for (let i = 0; i < area; i++) {
    const [red, green, blue] = [data[4 * i], data[4 * i + 1], data[4 * i + 2]];
    const pixel = channels === 1 ? [(19595 * red + 38470 * green + 7471 * blue + 32768) >> 16] : [red, green, blue];
    for (let channel = 0; channel < channels; channel++) values[channel * area + i] = pixel[channel] / 127.5 - 1;
  }
  return { type: "float32", data: values, dims: [1, channels, height, width] };
}

/** Return image number n of a tensor (N, C, H, W) in [-1, 1] as ImageData. */
function toImage({ data, dims: [, channels, height, width] }, n = 0) {
  const area = width * height;
  const image = new ImageData(width, height);
  for (let i = 0; i < area; i++) {
    for (let channel = 0; channel < 3; channel++) {
      const value = data[(n * channels + Math.min(channel, channels - 1)) * area + i];
      image.data[4 * i + channel] = roundHalfToEven((value + 1) * 127.5);
    }
    image.data[4 * i + 3] = 255;
  }
  return image;
}

/** Round as torch does. */
function roundHalfToEven(value) {
  const below = Math.floor(value);
  if (value - below !== 0.5) return Math.round(value);
  return below % 2 ? below + 1 : below;
}

/** Return the pixels of a picture or video frame on white; limit: the longest side. */
function pixelsOf(source, width, height, limit = 4096) {
  const shrink = Math.min(1, limit / Math.max(width, height));
  const canvas = make("canvas", { width: Math.max(1, Math.round(width * shrink)), height: Math.max(1, Math.round(height * shrink)) });
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(source, 0, 0, canvas.width, canvas.height);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

/** Show an ImageData on a canvas, which takes its size. */
function showImage(canvas, image) {
  [canvas.width, canvas.height] = [image.width, image.height];
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** Return a button that calls action(event). */
function makeButton(text, action, attributes = {}) {
  const button = make("button", { type: "button", ...attributes }, text);
  button.addEventListener("click", action);
  return button;
}

/** Download a canvas as PNG. */
function savePng(canvas, name) {
  canvas.toBlob((blob) => {
    const link = make("a", { href: URL.createObjectURL(blob), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }, "image/png");
}
