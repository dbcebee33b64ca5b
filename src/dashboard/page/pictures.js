/** Pictures of the run: the latest of each kind. */

const TITLES = { pairs: "Augmented pairs", neighbours: "Nearest neighbours" };

/** @param {readonly { step: number, picture: "pairs" | "neighbours", width: number, height: number, legend: string, alt: string }[]} pictures */
export function showPictures(pictures) {
  document.getElementById("pictures").hidden = pictures.length === 0;
  for (const kind of Object.keys(TITLES)) {
    const figure = document.getElementById(kind);
    const shown = pictures.find(({ picture }) => picture === kind);
    figure.hidden = shown === undefined;
    if (shown === undefined || figure.dataset.step === String(shown.step)) continue;
    figure.dataset.step = String(shown.step);
    show(figure, shown);
  }
}

function show(figure, { step, picture, width, height, legend, alt }) {
  if (figure.children.length === 0)
    figure.append(...["figcaption", "p", "img"].map((tag) => document.createElement(tag)));
  const [caption, said, image] = figure.children;
  caption.textContent = `${TITLES[picture]}, step ${step.toLocaleString("en")}`;
  said.textContent = legend;
  // Its place is kept free before it is there; whoever does not scroll to it does not load it.
  Object.assign(image, { loading: "lazy", decoding: "async", width, height, alt });
  image.src = `pictures/${picture}.png?step=${step}`;
}
