"use strict";
// Draws the figures in place of their still pictures, in the colours of the page; marks the chapter being read.
(() => {
  const INK = "#757678"; // the ink of analysis.show, replaced by the page's own
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const narrow = matchMedia("(max-width: 62rem)");
  const blocks = [...document.querySelectorAll("script.plot-data")];

  const figureOf = (block) => {
    const ink = getComputedStyle(document.body).getPropertyValue("--ink-soft").trim();
    const figure = JSON.parse(block.textContent.replaceAll(INK, ink));
    const small = narrow.matches && innerWidth < 600;
    Object.assign(figure.layout, { autosize: true, dragmode: false, width: undefined });
    if (small) {
      figure.layout.font = Object.assign({}, figure.layout.font, { size: 11 });
      figure.layout.margin = Object.assign({}, figure.layout.margin, { l: 40, r: 8 });
    }
    return figure;
  };

  const draw = async (block) => {
    const live = document.getElementById(block.dataset.plot);
    const picture = live.parentElement;
    const figure = figureOf(block);
    live.hidden = false;
    picture.classList.toggle("panelled", Boolean(figure.layout.xaxis2));
    live.style.height = `${figure.layout.height || figure.layout.template.layout.height}px`;
    try {
      await Plotly.react(live, figure.data, figure.layout, { responsive: true, displayModeBar: false, doubleClick: "reset" });
      picture.classList.add("drawn");
    } catch (error) {
      live.hidden = true; // the still picture stays
      picture.classList.add("not-drawn");
      console.warn(`${block.dataset.plot}: ${error.message}`);
    }
  };

  const drawAll = async () => {
    for (const block of blocks) {
      await draw(block);
      await new Promise((next) => setTimeout(next)); // the page stays usable while many figures are drawn
    }
    document.documentElement.dataset.figures = "drawn";
  };

  const contents = document.querySelector(".contents details");
  const links = new Map([...contents.querySelectorAll("a")].map((link) => [link.hash.slice(1), link]));
  const fold = () => { contents.open = !narrow.matches; };
  narrow.addEventListener("change", fold);
  fold();
  contents.addEventListener("click", (event) => {
    if (event.target.closest("a") && narrow.matches) contents.open = false;
  });

  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const link = links.get(entry.target.id);
      if (!link || !entry.isIntersecting) continue;
      for (const other of links.values()) other.removeAttribute("aria-current");
      link.setAttribute("aria-current", "location");
    }
  }, { rootMargin: "-10% 0px -80% 0px" });
  document.querySelectorAll("section.chapter").forEach((section) => watcher.observe(section));

  if (window.Plotly) {
    drawAll();
    dark.addEventListener("change", drawAll);
  } else {
    document.documentElement.dataset.figures = "drawn";
  }
})();
