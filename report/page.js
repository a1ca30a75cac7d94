"use strict";

// Sliders: the left image covers the right one up to the line, which pointer and arrow keys move.
for (const slider of document.querySelectorAll(".slider")) {
  const stage = slider.querySelector(".stage");
  const range = slider.querySelector("input");
  const panes = slider.querySelectorAll(".pane");
  const [left, right] = slider.querySelectorAll("select");
  const chosen = new Map([left, right].map((select) => [select, select.value]));

  let pressed = Infinity;
  const place = (percent) => stage.style.setProperty("--at", `${percent}%`);
  const follow = (event) => {
    const box = stage.getBoundingClientRect();
    const percent = Math.min(100, Math.max(0, ((event.clientX - box.left) / box.width) * 100));
    range.value = percent;
    place(percent);
  };
  range.addEventListener("input", () => place(range.value));
  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    stage.setPointerCapture(event.pointerId);
    if (event.pointerType === "touch") pressed = event.clientX; // a finger may be about to scroll the page
    else follow(event);
  });
  stage.addEventListener("pointermove", (event) => {
    if (!stage.hasPointerCapture(event.pointerId) || Math.abs(event.clientX - pressed) < 4) return;
    pressed = Infinity; // it moves sideways: from now on every step counts
    follow(event);
  });
  stage.addEventListener("pointerup", (event) => {
    if (event.button !== 0) return;
    follow(event);
    range.focus({ preventScroll: true });
  });

  const show = () => {
    panes.forEach((pane, number) => {
      pane.classList.toggle("left", number === Number(left.value));
      pane.classList.toggle("right", number === Number(right.value));
    });
  };
  for (const [select, other] of [[left, right], [right, left]]) {
    select.addEventListener("change", () => {
      if (other.value === select.value) other.value = chosen.get(select); // the two sides change places
      chosen.set(select, select.value).set(other, other.value);
      show();
    });
  }
}

// Figures: a click shows them as large as the window, on a narrow screen larger, to be pushed about; another closes.
const chinese = document.documentElement.lang.startsWith("zh");
const lightbox = document.body.appendChild(document.createElement("dialog"));
lightbox.className = "lightbox";
lightbox.setAttribute("aria-label", chinese ? "放大的图" : "enlarged figure");
lightbox.addEventListener("click", () => lightbox.close());
for (const button of document.querySelectorAll(".zoom")) {
  button.title = chinese ? "放大" : "enlarge";
  button.addEventListener("click", () => {
    const image = button.firstElementChild.cloneNode();
    const close = Object.assign(document.createElement("button"), { textContent: "×", className: "close" });
    close.setAttribute("aria-label", chinese ? "关闭" : "close");
    lightbox.replaceChildren(image, close);
    lightbox.showModal();
    lightbox.scrollTo((lightbox.scrollWidth - lightbox.clientWidth) / 2, 0);
  });
}

// Contents: folded where they would take the screen, and the section being read is marked beside the text.
const toc = document.querySelector(".toc");
const wide = matchMedia("(min-width: 70em)");
wide.addEventListener("change", () => { toc.open = wide.matches; });
toc.addEventListener("click", (event) => { if (event.target.closest("a") && !wide.matches) toc.open = false; });
const links = new Map([...toc.querySelectorAll("a")].map((link) => [decodeURIComponent(link.hash.slice(1)), link]));
const headings = [...links.keys()].map((id) => document.getElementById(id));
const mark = () => {
  const current = headings.findLast((heading) => heading.getBoundingClientRect().top < innerHeight / 5);
  for (const [id, link] of links) {
    if (id === current?.id) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
};
const reading = new IntersectionObserver(mark, { rootMargin: "0px 0px -80% 0px" });
for (const heading of headings) reading.observe(heading);
