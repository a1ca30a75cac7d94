"use strict";

// A window that follows the pointer over the slider of app.py: the same place of both pictures, four times as large.
const lens = document.createElement("div");
lens.id = "lens";
lens.append(document.createElement("div"), document.createElement("div"));

// Where a picture is drawn within its box, in which it is centred.
function placeOf(picture) {
  const box = picture.getBoundingClientRect();
  const zoom = Math.min(box.width / picture.naturalWidth, box.height / picture.naturalHeight);
  const [width, height] = [picture.naturalWidth * zoom, picture.naturalHeight * zoom];
  return { left: box.left + (box.width - width) / 2, top: box.top + (box.height - height) / 2, width, height };
}

addEventListener("pointermove", (event) => {
  const pictures = event.target.closest?.("#slider")?.querySelectorAll("img") ?? [];
  const place = pictures.length > 1 ? placeOf(pictures[0]) : null;
  const x = place && (event.clientX - place.left) / place.width, y = place && (event.clientY - place.top) / place.height;
  const inside = place && event.pointerType === "mouse" && x >= 0 && x <= 1 && y >= 0 && y <= 1;
  if (!lens.isConnected) document.body.append(lens);
  lens.classList.toggle("shown", Boolean(inside));
  if (!inside) return;
  [...lens.children].forEach((pane, number) => {
    const { src, naturalWidth, naturalHeight } = pictures[number];
    const [width, height] = [4 * naturalWidth, 4 * naturalHeight];
    Object.assign(pane.style, {
      backgroundImage: `url("${src}")`,
      backgroundSize: `${width}px ${height}px`,
      backgroundPosition: `${pane.clientWidth / 2 - x * width}px ${pane.clientHeight / 2 - y * height}px`,
    });
  });
  const { offsetWidth: width, offsetHeight: height } = lens;
  const left = event.clientX + 24 + width > innerWidth ? event.clientX - 24 - width : event.clientX + 24;
  lens.style.left = `${Math.max(0, left)}px`;
  lens.style.top = `${Math.max(0, Math.min(event.clientY - height / 2, innerHeight - height))}px`;
});
