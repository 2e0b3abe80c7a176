// Mark at which sides a table that is scrolled sideways goes on.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  for (const frame of document.querySelectorAll(".scroll")) {
    const mark = () => {
      frame.classList.toggle("before", frame.scrollLeft > 1);
      frame.classList.toggle("after", frame.scrollWidth - frame.clientWidth - frame.scrollLeft > 1);
    };
    const sizes = new ResizeObserver(mark);  // the window's, and the table's: images come later
    for (const element of [frame, frame.firstElementChild]) sizes.observe(element);
    frame.addEventListener("scroll", mark, { passive: true });
  }
});
