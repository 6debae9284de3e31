// What is wrong with the page that is open: a list of elements for each kind of fault.
(() => {
  const seen = (one) => one.checkVisibility();
  const all = [...document.querySelectorAll("body *")].filter(seen);
  const controls = all.filter((one) => one.matches("button, input, summary, a[href], [tabindex]"));
  const told = (one) => one.outerHTML.slice(0, 90);
  const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const pixel = (colour) => {
    pen.clearRect(0, 0, 1, 1);
    pen.fillStyle = colour;
    pen.fillRect(0, 0, 1, 1);
    return [...pen.getImageData(0, 0, 1, 1).data];
  };
  const luminance = (colour) => {
    const linear = colour.slice(0, 3).map((v) => v / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const behind = (one) => {
    for (let at = one; at; at = at.parentElement) {
      const colour = pixel(getComputedStyle(at).backgroundColor);
      if (colour[3] > 250) return colour;
    }
    return [255, 255, 255, 255];
  };
  const contrast = (one) => {
    const [a, b] = [luminance(pixel(getComputedStyle(one).color)), luminance(behind(one))].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  };
  const hasText = (one) => [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  const isNamed = (one) => one.getAttribute("aria-label") || one.innerText.trim()
    || (one.labels && one.labels[0] && one.labels[0].innerText.trim()) || (one.querySelector("img") || {}).alt;
  const isCut = (one) => one.scrollWidth > one.clientWidth + 1 && one.clientWidth > 0 && getComputedStyle(one).overflowX === "hidden"
    && !one.closest("[title]") && !one.querySelector("[title]");
  return {
    wider: all.filter((one) => !one.closest(".scroll") && one.getBoundingClientRect().right > innerWidth + 1).map(told),
    cut: all.filter(isCut).map(told), // and no title says the whole
    nameless: controls.filter((one) => !isNamed(one)).map(told),
    small: controls.filter((one) => one.matches("button, summary") && one.offsetHeight < 24).map(told),
    faint: all.filter((one) => hasText(one) && !one.disabled && contrast(one) < 4.5).map((one) => `${contrast(one).toFixed(2)} ${told(one)}`),
    dead: [...document.links].filter((link) => link.hash && !document.getElementById(link.hash.slice(1))).map(told),
  };
})()
