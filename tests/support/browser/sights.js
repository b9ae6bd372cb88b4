// What one sees of a page at once: errors, and what does not fit.
() => {
  const visible = (element) => element.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true });
  const named = (element) => `${element.tagName.toLowerCase()}[${element.dataset.testid || element.className}]`;
  const all = (selector) => [...document.querySelectorAll(selector)].filter(visible);
  const main = document.querySelector("[data-testid=stMain]") || document.body;
  const wide = [document.documentElement, main].filter((box) => box.scrollWidth > box.clientWidth + 1);
  const cut = all("[data-testid=stVegaLiteChart], [data-testid=stImage], [data-testid=stMetric]").filter((box) => {
    const inner = [...box.querySelectorAll("svg, canvas, img")].map((mark) => mark.getBoundingClientRect().right);
    return Math.max(0, ...inner) > document.documentElement.clientWidth + 1;
  });
  const beyond = all("[data-testid=stVegaLiteChart] svg").flatMap((svg) => {
    const box = svg.getBoundingClientRect();
    return [...svg.querySelectorAll("text")].filter((text) => {
      const own = text.getBoundingClientRect();
      const line = parseFloat(getComputedStyle(text).fontSize) / 3; // letters fill less than their line
      return text.textContent.trim() && own.width > 0 && getComputedStyle(text).opacity !== "0" &&
        (own.left < box.left - line || own.right > box.right + line || own.top < box.top - line || own.bottom > box.bottom + line);
    }).map((text) => `${text.textContent} (in a chart)`);
  });
  // Vega leaves out what has no room: of numbers nothing is lost by that, of names the reader does not know what stands there.
  const unnamed = all("[data-testid=stVegaLiteChart] svg").flatMap((svg) =>
    [...svg.querySelectorAll(".role-axis-label text[opacity='0']")].map((text) => text.textContent)
      .filter((text) => text && !/^[−\d.,]+(e[−\d]+)?$/.test(text)).map((text) => `${text} (not shown, in a chart)`));
  const clipped = all("[data-testid=stMetricValue] *, [data-testid=stMetricLabel] *, button p").filter((text) =>
    text.scrollWidth > text.clientWidth + 1 && getComputedStyle(text).overflow !== "visible");
  return {
    exceptions: all("[data-testid=stException]").map((box) => box.innerText.slice(0, 500)),
    errors: all("[data-testid=stAlertContentError]").filter((box) => !box.closest("[data-testid=stException]")).map((box) => box.innerText.slice(0, 500)),
    wide: wide.map((box) => `${named(box)}: ${box.scrollWidth} px in ${box.clientWidth}`),
    cut: cut.map((box) => `${named(box)}: ${box.innerText.slice(0, 80)}`),
    clipped: [...clipped.map((text) => text.innerText.slice(0, 80)), ...new Set([...beyond, ...unnamed])],
  };
}
